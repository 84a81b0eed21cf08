#include "bare.h"

#include <fcntl.h>
#include <liburing.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>

#include "base/assert.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/prng.h"

namespace hf::bench {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

class Offsets {
 public:
  explicit Offsets(const BareJob& job) : job_(job), prng_(job.seed) {}
  uint64_t next() {
    const uint64_t blocks = job_.span_bytes / job_.block_bytes;
    return job_.start_bytes + (job_.sequential ? at_++ % blocks : prng_.below(blocks)) * job_.block_bytes;
  }

 private:
  const BareJob& job_;
  Prng prng_;
  uint64_t at_ = 0;
};

// The file of an offset, and the offset in it.
struct Files {
  std::vector<int> fds;
  uint64_t piece_bytes = 0;  // 0: one file
  std::pair<int, off_t> at(uint64_t offset) const {
    if (piece_bytes == 0) return {fds[0], static_cast<off_t>(offset)};
    return {fds[offset / piece_bytes], static_cast<off_t>(offset % piece_bytes)};
  }
};

uint32_t crc_of_blocks(ByteSpan data) {
  uint32_t mixed = 0;
  for (size_t at = 0; at < data.size(); at += kBlockSize) mixed ^= crc32c(data.subspan(at, kBlockSize));
  return mixed;
}

Sample run_depth_one(const BareJob& job, const Files& files) {
  AlignedBuffer buffer = AlignedBuffer::zeroed(job.block_bytes);
  std::memset(buffer.data(), 0x5a, buffer.size());
  Offsets offsets(job);
  Sample sample;
  const double cpu = cpu_seconds_now();
  const Clock::time_point start = Clock::now();
  while ((sample.seconds = seconds_since(start)) < job.seconds) {
    const auto [fd, offset] = files.at(offsets.next());
    const Clock::time_point one = Clock::now();
    const ssize_t n = job.write ? pwrite(fd, buffer.data(), buffer.size(), offset)
                                : pread(fd, buffer.data(), buffer.size(), offset);
    HF_ASSERT(n == static_cast<ssize_t>(buffer.size()), "{} {}", n, strerror(errno));
    if (job.check) sample.crcs ^= crc_of_blocks(buffer.span());
    sample.worst_us = std::max(sample.worst_us, seconds_since(one) * 1e6);
    ++sample.operations;
  }
  sample.cpu_seconds = cpu_seconds_now() - cpu;
  return sample;
}

Sample run_ring(const BareJob& job, const Files& files) {
  io_uring ring;
  HF_ASSERT(io_uring_queue_init(job.depth, &ring, 0) == 0);
  std::vector<AlignedBuffer> buffers;
  std::vector<Clock::time_point> started(job.depth);
  for (uint32_t i = 0; i < job.depth; ++i) buffers.push_back(AlignedBuffer::zeroed(job.block_bytes));
  Offsets offsets(job);
  Sample sample;
  const auto submit = [&](uint32_t slot) {
    io_uring_sqe* sqe = io_uring_get_sqe(&ring);
    auto* data = buffers[slot].data();
    const auto size = static_cast<unsigned>(buffers[slot].size());
    const auto [fd, offset] = files.at(offsets.next());
    if (job.write) io_uring_prep_write(sqe, fd, data, size, static_cast<uint64_t>(offset));
    else io_uring_prep_read(sqe, fd, data, size, static_cast<uint64_t>(offset));
    io_uring_sqe_set_data64(sqe, slot);
    started[slot] = Clock::now();
  };
  const double cpu = cpu_seconds_now();
  const Clock::time_point start = Clock::now();
  for (uint32_t i = 0; i < job.depth; ++i) submit(i);
  uint32_t in_flight = job.depth;
  while (in_flight > 0) {
    io_uring_submit_and_wait(&ring, 1);
    io_uring_cqe* cqe = nullptr;
    while (in_flight > 0 && io_uring_peek_cqe(&ring, &cqe) == 0) {
      const auto slot = static_cast<uint32_t>(io_uring_cqe_get_data64(cqe));
      HF_ASSERT(cqe->res == static_cast<int>(job.block_bytes), "{}", cqe->res);
      io_uring_cqe_seen(&ring, cqe);
      if (job.check) sample.crcs ^= crc_of_blocks(buffers[slot].span());
      sample.worst_us = std::max(sample.worst_us, seconds_since(started[slot]) * 1e6);
      ++sample.operations;
      --in_flight;
      if (seconds_since(start) < job.seconds) {
        submit(slot);
        ++in_flight;
      }
    }
  }
  sample.seconds = seconds_since(start);
  sample.cpu_seconds = cpu_seconds_now() - cpu;
  io_uring_queue_exit(&ring);
  return sample;
}

}  // namespace

namespace {

double cpu_seconds(int who) {
  rusage usage{};
  getrusage(who, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

}  // namespace

double cpu_seconds_now() { return cpu_seconds(RUSAGE_SELF); }
double thread_cpu_seconds_now() { return cpu_seconds(RUSAGE_THREAD); }

double median(std::vector<double> values) {
  HF_ASSERT(!values.empty());
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

void fill_bare_file(const std::string& path, uint64_t from, uint64_t to) {
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_DIRECT | O_CLOEXEC, 0600);
  HF_ASSERT(fd >= 0, "{}: {}", path, strerror(errno));
  AlignedBuffer chunk = AlignedBuffer::zeroed(kMiB);
  std::memset(chunk.data(), 0xa5, chunk.size());
  for (uint64_t at = from; at < to; at += chunk.size()) {
    const ssize_t n = pwrite(fd, chunk.data(), chunk.size(), static_cast<off_t>(at));
    HF_ASSERT(n == static_cast<ssize_t>(chunk.size()), "write {} at {}: {}", path, at, strerror(errno));
  }
  HF_ASSERT(fsync(fd) == 0);
  close(fd);
}

Sample run_bare(const BareJob& job) {
  Files files;
  files.piece_bytes = job.piece_bytes;
  const std::vector<std::string> one{job.path};
  for (const std::string& path : job.pieces.empty() ? one : job.pieces) {
    files.fds.push_back(open(path.c_str(), O_RDWR | O_DIRECT | O_CLOEXEC | (job.write ? O_DSYNC : 0)));
    HF_ASSERT(files.fds.back() >= 0, "{}: {}", path, strerror(errno));
  }
  const Sample sample = job.depth == 1 ? run_depth_one(job, files) : run_ring(job, files);
  for (const int fd : files.fds) close(fd);
  return sample;
}

}  // namespace hf::bench
