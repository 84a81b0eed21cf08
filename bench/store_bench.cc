// The store in process against the bare file that it lies on. Needs root (loop, XFS) and a directory on a disk.
//
//   store_bench --dir /var/tmp/bench --seconds 3 --rounds 5
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "bare.h"
#include "base/log.h"
#include "base/prng.h"
#include "base/units.h"
#include "mount/pool_host.h"
#include "runtime/gate.h"
#include "runtime/random.h"
#include "store/pool.h"
#include "uring/uring_world.h"

namespace hf::bench {
namespace {

using nlohmann::json;
using Steady = std::chrono::steady_clock;

struct Args {
  std::string dir;
  double seconds = 2;
  int rounds = 5;
  uint64_t file_bytes = kGiB;
};

double since(Steady::time_point start) {
  return std::chrono::duration<double>(Steady::now() - start).count();
}

// Shared by the workers of one measured run.
struct Job {
  Replica* replica = nullptr;
  uint64_t span_bytes = 0, block_bytes = 0;
  bool write = false, sequential = false;
  Steady::time_point end;
  Prng prng{1};
  uint64_t next_block = 0;
  uint64_t* sequence = nullptr;
  uint64_t operations = 0;
  double worst_us = 0;

  uint64_t next_offset() {
    const uint64_t blocks = span_bytes / block_bytes;
    return (sequential ? next_block++ % blocks : prng.below(blocks)) * block_bytes;
  }
};

Task<void> worker(Job& job) {
  AlignedBuffer buffer = AlignedBuffer::zeroed(job.block_bytes);
  for (size_t i = 0; i < buffer.size(); i += 8) {
    const uint64_t word = job.prng.next();
    std::memcpy(buffer.data() + i, &word, 8);
  }
  while (Steady::now() < job.end) {
    const uint64_t offset = job.next_offset();
    const Steady::time_point one = Steady::now();
    if (job.write) {
      WriteHeader header;
      header.epoch = job.replica->promised_epoch();
      header.sequence = ++*job.sequence;
      Status done = co_await job.replica->write(header, offset, buffer.span());
      HF_ASSERT(done.ok(), "{}", done.error().to_string());
    } else {
      Status done = co_await job.replica->read(offset, buffer.span());
      HF_ASSERT(done.ok(), "{}", done.error().to_string());
    }
    job.worst_us = std::max(job.worst_us, since(one) * 1e6);
    ++job.operations;
  }
}

Task<Sample> run_store(Job& job, uint32_t depth, double seconds) {
  job.operations = 0;
  job.worst_us = 0;
  const double cpu = cpu_seconds_now();
  const Steady::time_point start = Steady::now();
  job.end = start + std::chrono::duration_cast<Steady::duration>(std::chrono::duration<double>(seconds));
  Gate gate;
  for (uint32_t i = 0; i < depth; ++i) spawn(gate, worker(job));
  co_await gate.close();
  Sample sample;
  sample.seconds = since(start);
  sample.cpu_seconds = cpu_seconds_now() - cpu;
  sample.operations = job.operations;
  sample.worst_us = job.worst_us;
  co_return sample;
}

struct Case {
  const char* name;
  uint64_t block_bytes;
  uint64_t bare_block_bytes;
  uint32_t depth;
  bool write, sequential;
};

// The bare side of a durable 4 KiB write at depth 1 is one journal record: header block and data block.
constexpr Case kCases[] = {
    {"write_4k_qd1", 4096, 8192, 1, true, false},
    {"write_4k_qd32", 4096, 4096, 32, true, false},
    {"read_4k_qd1", 4096, 4096, 1, false, false},
    {"read_4k_qd32", 4096, 4096, 32, false, false},
    {"write_128k_qd8", 131072, 131072, 8, true, true},
    {"read_128k_qd8", 131072, 131072, 8, false, true},
};

class Bench {
 public:
  Bench(World world, Args args) : world_(world), args_(std::move(args)), files_(world, args_.dir + "/run") {}

  Task<Status> run() {
    Status up = co_await set_up();
    HF_CO_TRY(up);
    for (const Case& one : kCases) {
      Status done = co_await run_case(one);
      HF_CO_TRY(done);
    }
    Status snapshots = co_await run_snapshots();
    HF_CO_TRY(snapshots);
    std::printf("%s\n", results_.dump(2).c_str());
    co_return co_await tear_down();
  }

 private:
  Task<Status> set_up() {
    for (const std::string& path : {args_.dir, args_.dir + "/run", args_.dir + "/pool"}) {
      if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) co_return Error::from_errno(errno, path);
    }
    make_bare_file(args_.dir + "/bare", args_.file_bytes);
    pool_id_ = new_id<PoolId>(world_.random);
    Result<mount::PoolStorage> storage =
        co_await files_.make(pool_id_, args_.dir + "/pool", args_.file_bytes * 8, false);
    HF_CO_TRY(storage);
    PoolConfig config;
    config.journal_dir = storage->journal_dir;
    config.data_dir = storage->data_dir;
    Result<std::unique_ptr<Pool>> pool = co_await Pool::create(world_, config);
    HF_CO_TRY(pool);
    pool_ = std::move(*pool);
    ReplicaSpec spec;
    spec.replica = new_id<ReplicaId>(world_.random);
    spec.volume = new_id<VolumeId>(world_.random);
    spec.size_bytes = 10 * kGiB;
    Result<std::shared_ptr<Replica>> replica = co_await pool_->create_replica(spec);
    HF_CO_TRY(replica);
    replica_ = *replica;
    // Reads measure media, not holes: the span is written once and drained.
    const uint64_t blocks = args_.file_bytes / 131072;
    AlignedBuffer buffer = AlignedBuffer::zeroed(131072);
    std::memset(buffer.data(), 0x77, buffer.size());
    for (uint64_t i = 0; i < blocks; ++i) {
      WriteHeader header;
      header.sequence = ++sequence_;
      Status written = co_await replica_->write(header, i * 131072, buffer.span());
      HF_CO_TRY(written);
    }
    co_return co_await pool_->wait_drained();
  }

  Job job(uint64_t block_bytes, bool write, bool sequential) {
    Job out;
    out.replica = replica_.get();
    out.span_bytes = args_.file_bytes;
    out.block_bytes = block_bytes;
    out.write = write;
    out.sequential = sequential;
    out.sequence = &sequence_;
    return out;
  }

  Task<Status> run_case(const Case& one) {
    std::vector<double> ratios, bare_rates, store_rates, bare_cpu, store_cpu;
    double bare_worst = 0, store_worst = 0;
    for (int round = 0; round < args_.rounds; ++round) {
      BareJob bare;
      bare.path = args_.dir + "/bare";
      bare.file_bytes = args_.file_bytes;
      bare.block_bytes = one.bare_block_bytes;
      bare.depth = one.depth;
      bare.write = one.write;
      bare.sequential = one.sequential;
      bare.seconds = args_.seconds;
      bare.seed = static_cast<uint64_t>(round) + 1;
      const Sample floor = run_bare(bare);
      Job work = job(one.block_bytes, one.write, one.sequential);
      work.prng = Prng(static_cast<uint64_t>(round) + 1);
      const Sample ours = co_await run_store(work, one.depth, args_.seconds);
      ratios.push_back(ours.rate() / floor.rate());
      bare_rates.push_back(floor.rate());
      store_rates.push_back(ours.rate());
      bare_cpu.push_back(floor.cpu_us_per_op());
      store_cpu.push_back(ours.cpu_us_per_op());
      bare_worst = std::max(bare_worst, floor.worst_us);
      store_worst = std::max(store_worst, ours.worst_us);
      Status drained = co_await pool_->wait_drained();
      HF_CO_TRY(drained);
    }
    results_[one.name] = {{"ratio", median(ratios)},
                          {"bare_per_second", median(bare_rates)},
                          {"store_per_second", median(store_rates)},
                          {"bare_cpu_us_per_op", median(bare_cpu)},
                          {"store_cpu_us_per_op", median(store_cpu)},
                          {"bare_worst_us", bare_worst},
                          {"store_worst_us", store_worst}};
    std::fprintf(stderr, "%-16s ratio %.2f  store %.0f/s  bare %.0f/s  cpu %.1f us/op  worst %.0f us\n", one.name,
                 median(ratios), median(store_rates), median(bare_rates), median(store_cpu), store_worst);
    co_return Status();
  }

  // A hundred snapshots under a random write load.
  Task<Status> run_snapshots() {
    Job before = job(4096, true, false);
    const Sample base = co_await run_store(before, 8, args_.seconds);
    std::vector<double> took_ms;
    double stall_us = 0, after_rate = 0;
    constexpr int kSnapshots = 100;
    for (int i = 0; i < kSnapshots; ++i) {
      Job load = job(4096, true, false);
      load.prng = Prng(static_cast<uint64_t>(i) + 100);
      load.end = Steady::now() + std::chrono::milliseconds(200);
      const Steady::time_point start = Steady::now();
      Gate gate;
      for (int w = 0; w < 8; ++w) spawn(gate, worker(load));
      WriteHeader header;
      header.epoch = replica_->promised_epoch();
      header.sequence = ++sequence_;
      const Steady::time_point cut = Steady::now();
      Result<SnapshotInfo> made = co_await replica_->snapshot(header, new_id<SnapshotId>(world_.random));
      HF_CO_TRY(made);
      took_ms.push_back(since(cut) * 1e3);
      co_await gate.close();
      stall_us = std::max(stall_us, load.worst_us);
      if (i == 0) after_rate = static_cast<double>(load.operations) / since(start);
    }
    results_["snapshots"] = {{"count", kSnapshots},
                             {"first_ms", took_ms.front()},
                             {"last_ms", took_ms.back()},
                             {"median_ms", median(took_ms)},
                             {"worst_ms", *std::ranges::max_element(took_ms)},
                             {"longest_write_stall_ms", stall_us / 1e3},
                             {"write_rate_before", base.rate()},
                             {"write_rate_after_first", after_rate},
                             {"ratio_after", after_rate / base.rate()}};
    co_return Status();
  }

  Task<Status> tear_down() {
    replica_.reset();
    Status stopped = co_await pool_->stop();
    HF_CO_TRY(stopped);
    pool_.reset();
    co_return co_await files_.close(pool_id_);
  }

  World world_;
  Args args_;
  mount::PoolHost files_;
  PoolId pool_id_;
  std::unique_ptr<Pool> pool_;
  std::shared_ptr<Replica> replica_;
  uint64_t sequence_ = 0;
  json results_ = json::object();
};

Task<void> run_all(Bench& bench, Status* result) { *result = co_await bench.run(); }

int main_with(int argc, char** argv) {
  Args args;
  CLI::App app("The store against the bare file it lies on.", "store_bench");
  app.add_option("--dir", args.dir, "a directory on a disk, made if absent")->required();
  app.add_option("--seconds", args.seconds, "of each measured run");
  app.add_option("--rounds", args.rounds, "alternating rounds");
  CLI11_PARSE(app, argc, argv);
  set_log_level(LogLevel::kWarn);
  Result<std::unique_ptr<UringWorld>> real = UringWorld::create(UringWorldOptions());
  HF_ASSERT(real.ok(), "{}", real.error().to_string());
  Status result;
  {
    Bench bench((*real)->world(), args);
    (*real)->loop().run_until(run_all(bench, &result));
  }
  if (result.ok()) return 0;
  std::fprintf(stderr, "store_bench: %s\n", result.error().to_string().c_str());
  return 1;
}

}  // namespace
}  // namespace hf::bench

int main(int argc, char** argv) { return hf::bench::main_with(argc, argv); }
