// How fast the simulator is, and that it stays so as things grow. The figures are printed; what is
// asserted is only that four times the work takes about four times the processor time (with much
// room for noise).
#include <gtest/gtest.h>

#include <ctime>

#include "sim/disk_bench.h"

namespace hf::sim {
namespace {

double cpu_seconds() {
  timespec ts;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
  return static_cast<double>(ts.tv_sec) + static_cast<double>(ts.tv_nsec) * 1e-9;
}

constexpr uint64_t kFileBlocks = 4096;  // 16 MiB

Task<void> reader_and_writer(DiskBench& bench, File& file, uint64_t seed, int operations) {
  Prng prng(seed);
  AlignedBuffer buffer = block_of('x');
  for (int i = 0; i < operations; ++i) {
    const uint64_t at = prng.below(kFileBlocks) * kBlockSize;
    Result<size_t> n(0);
    switch (i % 4) {
      case 0:
        n = co_await file.read_at(at, buffer.span());
        break;
      case 1:
        n = co_await file.write_at(at, buffer.span());
        break;
      default:
        n = co_await file.write_durable_at(at, buffer.span());
        break;
    }
    EXPECT_TRUE(n.ok());
    if (i % 100 == 99) {
      n = co_await file.sync_data();
      EXPECT_TRUE(n.ok());
    }
  }
  (void)bench;
}

Task<void> load(DiskBench& bench, int workers, int operations) {
  OpenOptions options;
  options.write = options.create = options.direct = true;
  Result<std::unique_ptr<File>> file = co_await bench.fs().open("/f", options);
  HF_CO_ASSERT_OK(file);
  Result<size_t> n = co_await (*file)->allocate(0, kFileBlocks * kBlockSize);
  HF_CO_ASSERT_OK(n);
  Gate gate;
  for (int w = 0; w < workers; ++w) {
    spawn(gate, reader_and_writer(bench, **file, static_cast<uint64_t>(w), operations));
  }
  co_await gate.close();
}

double seconds_of(int workers, int operations) {
  DiskBench bench(1);
  const double start = cpu_seconds();
  bench.sim.run(load(bench, workers, operations));
  const double took = cpu_seconds() - start;
  const double events = static_cast<double>(bench.sim.loop().steps());
  std::printf("%d workers, %d operations each: %.0f k operations/s, %.0f k steps/s\n", workers,
              operations, workers * operations / took / 1e3, events / took / 1e3);
  return took;
}

TEST(SimSpeed, DiskOperationsScaleLinearly) {
  (void)seconds_of(16, 200);
  const double small = seconds_of(32, 500);
  EXPECT_LT(seconds_of(32, 2000), small * 12);
  EXPECT_LT(seconds_of(128, 500), small * 12);
}

Task<void> clone_chain(DiskBench& bench, int clones) {
  Result<std::unique_ptr<File>> file = co_await make_file(bench, "/0", 256, 'a');
  HF_CO_ASSERT_OK(file);
  for (int i = 1; i <= clones; ++i) {
    const std::string to = fmt::format("/{}", i);
    Status cloned = co_await bench.fs().reflink(fmt::format("/{}", i - 1), to);
    HF_CO_ASSERT_OK(cloned);
    file = co_await reopen(bench, to, true);
    HF_CO_ASSERT_OK(file);
    AlignedBuffer data = block_of('b', 4);
    Result<size_t> n = co_await (*file)->write_durable_at(0, data.span());
    HF_CO_ASSERT_OK(n);
    n = co_await (*file)->sync_data();
    HF_CO_ASSERT_OK(n);
    Status named = co_await bench.fs().sync_dir("/");
    HF_CO_ASSERT_OK(named);
  }
}

double seconds_of_clones(int clones) {
  DiskBench bench(1, small_disk(kGiB));
  const double start = cpu_seconds();
  bench.sim.run(clone_chain(bench, clones));
  bench.power_cycle();
  const double took = cpu_seconds() - start;
  std::printf("%d clones of 1 MiB: %.0f us each\n", clones, took / clones * 1e6);
  return took;
}

TEST(SimSpeed, ClonesScaleLinearly) {
  const double small = seconds_of_clones(200);
  EXPECT_LT(seconds_of_clones(800), small * 12);
}

}  // namespace
}  // namespace hf::sim
