// What the room costs: 4 KiB reads and durable writes through File and UringLoop, and the same by a
// bare liburing loop, in one run. Compare the pairs; absolute figures are this machine's.
//
//   HF_BENCH_DIR=/some/dir build/src/uring/uring_bench
//
// CPU is the loop thread's; cpu_ns_per_op is what to look at. Kernel workers are not counted on
// either side.
#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <liburing.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cstdlib>

#include "base/prng.h"
#include "runtime/contract/contract_support.h"
#include "uring/uring_world.h"

namespace hf {
namespace {

constexpr uint64_t kFileBytes = 64 * kMiB;
constexpr uint64_t kBlocks = kFileBytes / kBlockSize;
constexpr int kOpsPerRound = 2048;

enum class Case { kCachedRead, kDirectRead, kDurableWrite };

// A preallocated, written file, gone at exit.
const std::string& test_file() {
  static const std::string path = [] {
    const char* dir = std::getenv("HF_BENCH_DIR");
    std::string name = std::string(dir != nullptr ? dir : "/tmp") + "/hf-bench-XXXXXX";
    const int fd = mkstemp(name.data());
    HF_ASSERT(fd >= 0, "{}", name);
    const std::vector<char> zeros(kMiB, 'x');
    for (uint64_t at = 0; at < kFileBytes; at += zeros.size()) {
      HF_ASSERT(write(fd, zeros.data(), zeros.size()) == static_cast<ssize_t>(zeros.size()));
    }
    HF_ASSERT(fsync(fd) == 0);
    close(fd);
    return name;
  }();
  static const struct Remove {
    ~Remove() { unlink(test_file().c_str()); }
  } remove_at_exit;
  return path;
}

double thread_cpu_ns() {
  timespec ts{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
  return static_cast<double>(ts.tv_sec) * 1e9 + static_cast<double>(ts.tv_nsec);
}

void report(benchmark::State& state, double cpu_ns) {
  const double ops = static_cast<double>(state.iterations()) * kOpsPerRound;
  state.SetItemsProcessed(static_cast<int64_t>(ops));
  state.counters["cpu_ns_per_op"] = cpu_ns / ops;
}

Task<void> worker(File& file, Case what, int ops, uint64_t seed) {
  Prng prng(seed);
  AlignedBuffer buffer = AlignedBuffer::zeroed(kBlockSize);
  for (int i = 0; i < ops; ++i) {
    const uint64_t at = prng.below(kBlocks) * kBlockSize;
    if (what == Case::kDurableWrite) {
      Result<size_t> n = co_await file.write_durable_at(at, buffer.span());
      HF_ASSERT(n.ok());
    } else {
      Result<size_t> n = co_await file.read_at(at, buffer.span());
      HF_ASSERT(n.ok());
    }
  }
}

Task<void> open_file(World& world, bool direct, std::unique_ptr<File>* out) {
  OpenOptions options;
  options.write = true;
  options.direct = direct;
  Result<std::unique_ptr<File>> file = co_await world.fs.open(test_file(), options);
  HF_ASSERT(file.ok(), "{}", file.error().to_string());
  *out = std::move(*file);
}

Task<void> round_of_workers(File& file, Case what, int depth) {
  Gate gate;
  for (int i = 0; i < depth; ++i) {
    spawn(gate, worker(file, what, kOpsPerRound / depth, static_cast<uint64_t>(i)));
  }
  co_await gate.close();
}

void holdfast(benchmark::State& state, Case what) {
  Result<std::unique_ptr<UringWorld>> real = UringWorld::create(UringWorldOptions());
  HF_ASSERT(real.ok());
  std::unique_ptr<File> file;
  UringLoop& loop = (*real)->loop();
  loop.run_until(open_file((*real)->world(), what != Case::kCachedRead, &file));
  const double before = thread_cpu_ns();
  for (auto _ : state) {
    loop.run_until(round_of_workers(*file, what, static_cast<int>(state.range(0))));
  }
  report(state, thread_cpu_ns() - before);
}

void bare(benchmark::State& state, Case what) {
  io_uring ring{};
  io_uring_params params{};
  params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN;
  HF_ASSERT(io_uring_queue_init_params(256, &ring, &params) == 0);
  (void)io_uring_register_ring_fd(&ring);
  const int direct = what != Case::kCachedRead ? O_DIRECT : 0;
  const int fd = ::open(test_file().c_str(), O_RDWR | O_CLOEXEC | direct);
  HF_ASSERT(fd >= 0);
  const int depth = static_cast<int>(state.range(0));
  std::vector<AlignedBuffer> buffers;
  for (int i = 0; i < depth; ++i) buffers.push_back(AlignedBuffer::zeroed(kBlockSize));
  Prng prng(1);
  const auto start = [&](int i) {
    io_uring_sqe* sqe = io_uring_get_sqe(&ring);
    AlignedBuffer& buffer = buffers[static_cast<size_t>(i)];
    const uint64_t at = prng.below(kBlocks) * kBlockSize;
    if (what == Case::kDurableWrite) {
      io_uring_prep_write(sqe, fd, buffer.data(), kBlockSize, at);
      sqe->rw_flags = RWF_DSYNC;
    } else {
      io_uring_prep_read(sqe, fd, buffer.data(), kBlockSize, at);
    }
    io_uring_sqe_set_data64(sqe, static_cast<uint64_t>(i));
  };
  const double before = thread_cpu_ns();
  for (auto _ : state) {
    int started = 0, ended = 0;
    for (; started < depth; ++started) start(started);
    while (ended < kOpsPerRound) {
      io_uring_submit_and_wait(&ring, 1);
      io_uring_cqe* cqe = nullptr;
      while (io_uring_cq_ready(&ring) > 0 && io_uring_peek_cqe(&ring, &cqe) == 0) {
        HF_ASSERT(cqe->res == static_cast<int>(kBlockSize), "{}", cqe->res);
        const int i = static_cast<int>(cqe->user_data);
        io_uring_cqe_seen(&ring, cqe);
        ++ended;
        if (started < kOpsPerRound) {
          start(i);
          ++started;
        }
      }
    }
  }
  report(state, thread_cpu_ns() - before);
  close(fd);
  io_uring_queue_exit(&ring);
}

void metadata_ring(benchmark::State& state) {
  Result<std::unique_ptr<UringWorld>> real = UringWorld::create(UringWorldOptions());
  HF_ASSERT(real.ok());
  std::unique_ptr<File> file;
  for (auto _ : state) {
    for (int i = 0; i < kOpsPerRound; ++i) {
      (*real)->loop().run_until(open_file((*real)->world(), false, &file));
    }
  }
  report(state, 0);
}

Task<void> stat_file(World& world) {
  Result<FileInfo> info = co_await world.fs.stat(test_file());
  HF_ASSERT(info.ok());
}
void metadata_pool(benchmark::State& state) {
  Result<std::unique_ptr<UringWorld>> real = UringWorld::create(UringWorldOptions());
  HF_ASSERT(real.ok());
  for (auto _ : state) {
    for (int i = 0; i < kOpsPerRound; ++i) (*real)->loop().run_until(stat_file((*real)->world()));
  }
  report(state, 0);
}

#define HF_PAIR(name, what)                                                          \
  BENCHMARK_CAPTURE(bare, name, what)->Arg(1)->Arg(32)->UseRealTime()->MinTime(0.3); \
  BENCHMARK_CAPTURE(holdfast, name, what)->Arg(1)->Arg(32)->UseRealTime()->MinTime(0.3)
HF_PAIR(cached_read, Case::kCachedRead);
HF_PAIR(direct_read, Case::kDirectRead);
HF_PAIR(durable_write, Case::kDurableWrite);
BENCHMARK(metadata_ring)->UseRealTime()->MinTime(0.3);
BENCHMARK(metadata_pool)->UseRealTime()->MinTime(0.3);

}  // namespace
}  // namespace hf

BENCHMARK_MAIN();
