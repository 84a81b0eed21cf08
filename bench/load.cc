#include "load.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "base/prng.h"
#include "runtime/gate.h"

namespace hf::bench {
namespace {

using Steady = std::chrono::steady_clock;

double since(Steady::time_point start) {
  return std::chrono::duration<double>(Steady::now() - start).count();
}

struct Shared {
  explicit Shared(const LoadJob& j) : job(j), prng(j.seed) {}
  const LoadJob job;
  Prng prng;
  uint64_t next_block = 0;
  uint64_t started = 0;
  Steady::time_point end;
  Sample sample;

  bool more() const {
    if (job.operations_max != 0) return started < job.operations_max;
    return Steady::now() < end;
  }
  uint64_t next_offset() {
    ++started;
    const uint64_t blocks = job.span_bytes / job.block_bytes;
    const uint64_t block = job.sequential ? next_block++ % blocks : prng.below(blocks);
    return job.start_bytes + block * job.block_bytes;
  }
};

Task<void> worker(Shared& shared) {
  const LoadJob& job = shared.job;
  AlignedBuffer buffer = AlignedBuffer::zeroed(job.block_bytes);
  for (size_t i = 0; i < buffer.size(); i += 8) {
    const uint64_t word = shared.prng.next();
    std::memcpy(buffer.data() + i, &word, 8);
  }
  while (shared.more()) {
    const uint64_t offset = shared.next_offset();
    const Steady::time_point one = Steady::now();
    Status done;
    if (job.write) {
      done = co_await job.device->write(offset, buffer.span());
    } else {
      done = co_await job.device->read(offset, buffer.span());
    }
    HF_ASSERT(done.ok(), "{}", done.error().to_string());
    const double took_us = since(one) * 1e6;
    shared.sample.worst_us = std::max(shared.sample.worst_us, took_us);
    shared.sample.slow += took_us > kSlowUs ? 1 : 0;
    ++shared.sample.operations;
  }
}

}  // namespace

Task<Sample> run_load(LoadJob job) {
  Shared shared(job);
  const double cpu = cpu_seconds_now();
  const Steady::time_point start = Steady::now();
  shared.end = start + std::chrono::duration_cast<Steady::duration>(
                           std::chrono::duration<double>(job.seconds));
  Gate gate;
  for (uint32_t i = 0; i < job.depth; ++i) spawn(gate, worker(shared));
  co_await gate.close();
  Sample sample = shared.sample;
  sample.seconds = since(start);
  sample.cpu_seconds = cpu_seconds_now() - cpu;
  co_return sample;
}

}  // namespace hf::bench
