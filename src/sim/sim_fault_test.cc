// That each fault really happens, is told or hidden as README.md says, and is in the ledger.
#include <gtest/gtest.h>

#include <set>

#include "base/crc32c.h"
#include "sim/disk_bench.h"

namespace hf::sim {
namespace {

constexpr uint64_t kSeeds = 100;

ScriptedFault on(FaultKind fault, IoKind kind, std::string path = "/f", uint32_t skip = 0) {
  ScriptedFault scripted;
  scripted.fault = fault;
  scripted.on = kind;
  scripted.path_part = std::move(path);
  scripted.skip = skip;
  return scripted;
}

// Reads block `i`; the error, or how many bytes are `letter` in *count.
Task<ErrorCode> read_block(File& file, uint64_t i, char letter, size_t* count) {
  AlignedBuffer back(kBlockSize);
  Result<size_t> n = co_await file.read_at(i * kBlockSize, back.span());
  if (!n.ok()) co_return n.code();
  *count = count_of(back.span().first(*n), letter);
  co_return ErrorCode::kOk;
}

// --- told
// ------------------------------------------------------------------------------------------------

Task<void> read_errors(DiskBench& bench) {
  Result<std::unique_ptr<File>> file = co_await make_file(bench, "/f", 2, 'a');
  HF_CO_ASSERT_OK(file);
  size_t count = 0;
  bench.disk.script(on(FaultKind::kReadError, IoKind::kRead));
  ErrorCode code = co_await read_block(**file, 0, 'a', &count);
  EXPECT_EQ(code, ErrorCode::kIo);
  code = co_await read_block(**file, 0, 'a', &count);
  EXPECT_EQ(code, ErrorCode::kOk);
  EXPECT_EQ(count, kBlockSize);
  // A latent one stays, through power loss too, until the sector is written.
  bench.disk.script(on(FaultKind::kLatentSector, IoKind::kRead));
  code = co_await read_block(**file, 0, 'a', &count);
  EXPECT_EQ(code, ErrorCode::kIo);
  bench.power_cycle();
  file = co_await reopen(bench, "/f", true);
  HF_CO_ASSERT_OK(file);
  code = co_await read_block(**file, 0, 'a', &count);
  EXPECT_EQ(code, ErrorCode::kIo);
  EXPECT_EQ(bench.disk.hits("/f", 0, kBlockSize), fault_bit(FaultKind::kLatentSector));
  code = co_await read_block(**file, 1, 'a', &count);
  EXPECT_EQ(code, ErrorCode::kOk);
  AlignedBuffer fresh = block_of('b');
  Result<size_t> n = co_await (*file)->write_durable_at(0, fresh.span());
  HF_CO_ASSERT_OK(n);
  code = co_await read_block(**file, 0, 'b', &count);
  EXPECT_EQ(code, ErrorCode::kOk);
  EXPECT_EQ(count, kBlockSize);
  EXPECT_EQ(bench.disk.hits("/f", 0, kBlockSize), 0u);
  EXPECT_TRUE(bench.disk.scripts_done());
}

TEST(Faults, ReadErrorsPassAndLatentSectorsStay) {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    DiskBench bench(seed);
    bench.sim.run(read_errors(bench));
  }
}

Task<void> write_error(DiskBench& bench, size_t* fresh_bytes) {
  Result<std::unique_ptr<File>> file = co_await make_file(bench, "/f", 1, 'a');
  HF_CO_ASSERT_OK(file);
  bench.disk.script(on(FaultKind::kWriteError, IoKind::kWriteDurable));
  AlignedBuffer fresh = block_of('b');
  Result<size_t> n = co_await (*file)->write_durable_at(0, fresh.span());
  EXPECT_EQ(n.code(), ErrorCode::kIo);
  ErrorCode code = co_await read_block(**file, 0, 'b', fresh_bytes);
  EXPECT_EQ(code, ErrorCode::kOk);
  bench.disk.script(on(FaultKind::kNoSpace, IoKind::kWrite));
  n = co_await (*file)->write_at(0, fresh.span());
  EXPECT_EQ(n.code(), ErrorCode::kNoSpace);
}

TEST(Faults, AFailedWriteLeavesAnyPartOfItself) {
  std::set<size_t> outcomes;
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    DiskBench bench(seed);
    size_t fresh = 0;
    bench.sim.run(write_error(bench, &fresh));
    outcomes.insert(fresh);
  }
  EXPECT_GT(outcomes.size(), 4u);
  EXPECT_TRUE(outcomes.contains(0));
}

// What people call fsyncgate: the second sync succeeds, the cache shows the data, the medium lacks
// it.
Task<void> failed_sync(DiskBench& bench, size_t* in_cache, size_t* on_medium) {
  Result<std::unique_ptr<File>> file = co_await make_file(bench, "/f", 1, 'a');
  HF_CO_ASSERT_OK(file);
  file = co_await reopen(bench, "/f", false);
  HF_CO_ASSERT_OK(file);
  AlignedBuffer fresh = block_of('b');
  Result<size_t> n = co_await (*file)->write_at(0, fresh.span());
  HF_CO_ASSERT_OK(n);
  bench.disk.script(on(FaultKind::kSyncError, IoKind::kSyncData));
  n = co_await (*file)->sync_data();
  EXPECT_EQ(n.code(), ErrorCode::kIo);
  n = co_await (*file)->sync_data();
  EXPECT_TRUE(n.ok());
  ErrorCode code = co_await read_block(**file, 0, 'b', in_cache);
  EXPECT_EQ(code, ErrorCode::kOk);
  bench.power_cycle();
  file = co_await reopen(bench, "/f", false);
  HF_CO_ASSERT_OK(file);
  code = co_await read_block(**file, 0, 'b', on_medium);
  EXPECT_EQ(code, ErrorCode::kOk);
}

TEST(Faults, AFailedSyncForgetsAndTheNextOneProvesNothing) {
  int lost = 0;
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    DiskBench bench(seed);
    size_t in_cache = 0, on_medium = 0;
    bench.sim.run(failed_sync(bench, &in_cache, &on_medium));
    EXPECT_EQ(in_cache, kBlockSize);
    lost += on_medium < kBlockSize;
  }
  EXPECT_GT(lost, static_cast<int>(kSeeds / 2));
}

// --- hidden
// ----------------------------------------------------------------------------------------------

Task<void> rot(DiskBench& bench) {
  Result<std::unique_ptr<File>> file = co_await make_file(bench, "/f", 2, 'a');
  HF_CO_ASSERT_OK(file);
  Status cloned = co_await bench.fs().reflink("/f", "/g");
  HF_CO_ASSERT_OK(cloned);
  Result<std::unique_ptr<File>> clone = co_await reopen(bench, "/g", true);
  HF_CO_ASSERT_OK(clone);
  bench.disk.script(on(FaultKind::kBitRot, IoKind::kRead));
  size_t count = 0;
  ErrorCode code = co_await read_block(**file, 1, 'a', &count);
  EXPECT_EQ(code, ErrorCode::kOk);
  EXPECT_EQ(count, kBlockSize - 1);
  code = co_await read_block(**clone, 1, 'a', &count);
  EXPECT_EQ(code, ErrorCode::kOk);
  EXPECT_EQ(count, kBlockSize - 1) << "a clone shares the medium";
  EXPECT_EQ(bench.disk.hits("/f", kBlockSize, kBlockSize), fault_bit(FaultKind::kBitRot));
  EXPECT_EQ(bench.disk.hits("/g", kBlockSize, kBlockSize), fault_bit(FaultKind::kBitRot));
  EXPECT_EQ(bench.disk.hits("/f", 0, kBlockSize), 0u);
  EXPECT_EQ(bench.disk.count(FaultKind::kBitRot), 2u);
  AlignedBuffer fresh = block_of('b');
  Result<size_t> n = co_await (*file)->write_durable_at(kBlockSize, fresh.span());
  HF_CO_ASSERT_OK(n);
  EXPECT_EQ(bench.disk.hits("/f", kBlockSize, kBlockSize), 0u);
  EXPECT_NE(bench.disk.hits("/g", kBlockSize, kBlockSize), 0u);
}

TEST(Faults, RotFlipsABitForAllWhoShareIt) {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    DiskBench bench(seed);
    bench.sim.run(rot(bench));
  }
}

Task<void> lost_write(DiskBench& bench, bool direct) {
  Result<std::unique_ptr<File>> file = co_await make_file(bench, "/f", 1, 'a');
  HF_CO_ASSERT_OK(file);
  file = co_await reopen(bench, "/f", direct);
  HF_CO_ASSERT_OK(file);
  bench.disk.script(on(FaultKind::kLostWrite, IoKind::kWriteDurable));
  AlignedBuffer fresh = block_of('b');
  Result<size_t> n = co_await (*file)->write_durable_at(0, fresh.span());
  EXPECT_TRUE(n.ok()) << "the device lies";
  size_t count = 0;
  ErrorCode code = co_await read_block(**file, 0, 'b', &count);
  EXPECT_EQ(code, ErrorCode::kOk);
  EXPECT_EQ(count, direct ? 0 : kBlockSize) << "a cached read shows the cache";
  (*file)->drop_cache();
  code = co_await read_block(**file, 0, 'b', &count);
  EXPECT_EQ(code, ErrorCode::kOk);
  EXPECT_EQ(count, 0u);
  EXPECT_EQ(bench.disk.hits("/f", 0, kBlockSize), fault_bit(FaultKind::kLostWrite));
}

TEST(Faults, ALostWriteIsAcknowledgedAndNotThere) {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    DiskBench bench(seed);
    bench.sim.run(lost_write(bench, seed % 2 == 0));
  }
}

Task<void> misdirected_write(DiskBench& bench, bool* found_victim) {
  Result<std::unique_ptr<File>> file = co_await make_file(bench, "/f", 1, 'a');
  HF_CO_ASSERT_OK(file);
  Result<std::unique_ptr<File>> other = co_await make_file(bench, "/other", 20, 'o');
  HF_CO_ASSERT_OK(other);
  bench.disk.script(on(FaultKind::kMisdirectedWrite, IoKind::kWriteDurable));
  AlignedBuffer fresh = block_of('b');
  Result<size_t> n = co_await (*file)->write_durable_at(0, fresh.span());
  EXPECT_TRUE(n.ok());
  size_t count = 0;
  ErrorCode code = co_await read_block(**file, 0, 'a', &count);
  EXPECT_EQ(code, ErrorCode::kOk);
  EXPECT_EQ(count, kBlockSize);
  EXPECT_EQ(bench.disk.hits("/f", 0, kBlockSize), fault_bit(FaultKind::kMisdirectedWrite));
  for (uint64_t i = 0; i < 20; ++i) {
    code = co_await read_block(**other, i, 'b', &count);
    EXPECT_EQ(code, ErrorCode::kOk);
    const FaultMask hits = bench.disk.hits("/other", i * kBlockSize, kBlockSize);
    EXPECT_EQ(hits, count > 0 ? fault_bit(FaultKind::kMisdirectVictim) : 0u);
    *found_victim |= count > 0;
  }
}

TEST(Faults, AMisdirectedWriteHitsSomebodyElse) {
  int victims = 0;
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    DiskBench bench(seed);
    bool found = false;
    bench.sim.run(misdirected_write(bench, &found));
    victims += found;
  }
  EXPECT_GT(victims, static_cast<int>(kSeeds * 8 / 10));
}

Task<void> lying_flush(DiskBench& bench, bool sync, size_t* fresh_bytes) {
  Result<std::unique_ptr<File>> file = co_await make_file(bench, "/f", 1, 'a');
  HF_CO_ASSERT_OK(file);
  const IoKind kind = sync ? IoKind::kSyncData : IoKind::kWriteDurable;
  bench.disk.script(on(FaultKind::kStaleSector, kind));
  AlignedBuffer fresh = block_of('b');
  Result<size_t> n(0);
  if (sync) {
    n = co_await (*file)->write_at(0, fresh.span());
    HF_CO_ASSERT_OK(n);
    n = co_await (*file)->sync_data();
  } else {
    n = co_await (*file)->write_durable_at(0, fresh.span());
  }
  HF_CO_ASSERT_OK(n);
  ErrorCode code = co_await read_block(**file, 0, 'b', fresh_bytes);
  EXPECT_EQ(code, ErrorCode::kOk);
  EXPECT_EQ(*fresh_bytes, kBlockSize) << "as long as there is power";
  EXPECT_EQ(bench.disk.hits("/f", 0, kBlockSize), 0u);
  bench.power_cycle();
  file = co_await reopen(bench, "/f", true);
  HF_CO_ASSERT_OK(file);
  code = co_await read_block(**file, 0, 'b', fresh_bytes);
  EXPECT_EQ(code, ErrorCode::kOk);
  const bool stale = *fresh_bytes < kBlockSize;
  EXPECT_EQ(bench.disk.hits("/f", 0, kBlockSize), stale ? fault_bit(FaultKind::kStaleSector) : 0u);
}

TEST(Faults, ALyingFlushShowsItselfAtPowerLoss) {
  int stale = 0;
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    DiskBench bench(seed);
    size_t fresh = 0;
    bench.sim.run(lying_flush(bench, seed % 2 == 0, &fresh));
    stale += fresh < kBlockSize;
  }
  EXPECT_GT(stale, static_cast<int>(kSeeds / 2));
}

// A disk that is mounted somewhere, faults on a file that was renamed, and only where they may be.
Task<void> elsewhere(World& world, SimDisk& disk) {
  OpenOptions options;
  options.write = options.create = options.direct = true;
  Result<std::unique_ptr<File>> file = co_await world.fs.open("/pool/f", options);
  HF_CO_ASSERT_OK(file);
  AlignedBuffer data = block_of('a');
  Result<size_t> n = co_await (*file)->write_durable_at(0, data.span());
  HF_CO_ASSERT_OK(n);
  Status renamed = co_await world.fs.rename("/pool/f", "/pool/g");
  HF_CO_ASSERT_OK(renamed);
  disk.script(on(FaultKind::kBitRot, IoKind::kRead));
  size_t count = 0;
  ErrorCode code = co_await read_block(**file, 0, 'a', &count);
  EXPECT_EQ(code, ErrorCode::kOk);
  EXPECT_EQ(count, kBlockSize - 1);
  EXPECT_EQ(disk.hits("/g", 0, kBlockSize), fault_bit(FaultKind::kBitRot));
  EXPECT_EQ(disk.ledger().size(), 1u);
  EXPECT_EQ(disk.ledger().front().path, "/g");
  disk.faults().read_error_ppm = 1'000'000;
  disk.faults().applies_to = [](const std::string& path) { return path != "/f"; };
  code = co_await read_block(**file, 0, 'a', &count);
  EXPECT_EQ(code, ErrorCode::kOk) << "opened as /f";
  file = co_await world.fs.open("/pool/g", options);
  HF_CO_ASSERT_OK(file);
  code = co_await read_block(**file, 0, 'a', &count);
  EXPECT_EQ(code, ErrorCode::kIo);
}

TEST(Faults, FindTheirFileWhereverTheDiskIsMounted) {
  Simulation sim(1);
  SimHost& host = sim.add_host("a");
  host.add_disk("/");
  SimDisk& disk = host.add_disk("/pool");
  SimProcess process(host);
  sim.run(elsewhere(process.world(), disk));
}

// --- all at once: the ledger explains everything
// ------------------------------------------------------------

// Blocks that carry their number, version and checksum; every read is judged with the ledger in
// hand.
class LedgerWorkload {
 public:
  explicit LedgerWorkload(uint64_t seed) : bench_(seed, faulty_disk()) {}
  void run() { bench_.sim.run(work()); }
  DiskBench& bench() { return bench_; }
  uint64_t excused() const { return excused_; }
  uint64_t damaged() const { return damaged_; }

 private:
  static constexpr uint64_t kBlocks = 64;
  static DiskConfig faulty_disk() {
    DiskConfig config = small_disk();
    config.faults = DiskFaults::all(3000);
    config.faults.sync_error_ppm = config.faults.no_space_ppm = 0;
    config.faults.hang_max = 1s;
    return config;
  }
  Task<void> work() {
    OpenOptions options;
    options.write = options.create = options.direct = true;
    Result<std::unique_ptr<File>> file = co_await bench_.fs().open("/f", options);
    HF_CO_ASSERT_OK(file);
    Status named = co_await bench_.fs().sync_dir("/");
    HF_CO_ASSERT_OK(named);
    for (int i = 0; i < 1500; ++i) {
      const uint64_t block = bench_.sim.prng().below(kBlocks);
      if (bench_.sim.prng().chance(1, 2)) {
        co_await write(**file, block);
      } else {
        co_await read(**file, block);
      }
      if (!bench_.sim.prng().chance(1, 300)) continue;
      bench_.power_cycle();
      file = co_await bench_.fs().open("/f", options);
      HF_CO_ASSERT_OK(file);
    }
  }
  Task<void> write(File& file, uint64_t block) {
    AlignedBuffer data(kBlockSize);
    const uint64_t version = ++versions_;
    ByteWriter writer(data.span());
    writer.put(uint64_t{0});
    writer.put(block);
    writer.put(version);
    writer.put_zeros(kBlockSize - 24);
    const auto crc = static_cast<uint64_t>(crc32c(data.span().subspan(8)));
    ByteWriter(data.span()).put(crc);
    Result<size_t> n = co_await file.write_durable_at(block * kBlockSize, data.span());
    sure_[block] = n.ok() ? version : 0;  // 0: anything may be there
  }
  Task<void> read(File& file, uint64_t block) {
    AlignedBuffer data = AlignedBuffer::zeroed(kBlockSize);
    Result<size_t> n = co_await file.read_at(block * kBlockSize, data.span());
    const FaultMask hits = bench_.disk.hits("/f", block * kBlockSize, kBlockSize);
    if (!n.ok()) {
      EXPECT_EQ(n.code(), ErrorCode::kIo);
      co_return;
    }
    if (!sure_.contains(block) || sure_[block] == 0) co_return;
    ByteReader reader(data.span());
    const auto crc = reader.get<uint64_t>();
    const auto number = reader.get<uint64_t>();
    const auto version = reader.get<uint64_t>();
    const bool good =
        crc == crc32c(data.span().subspan(8)) && number == block && version == sure_[block];
    damaged_ += !good;
    excused_ += !good && (hits & kContentFaults) != 0;
  }

  DiskBench bench_;
  uint64_t versions_ = 0;
  uint64_t excused_ = 0, damaged_ = 0;
  std::map<uint64_t, uint64_t> sure_;
};

TEST(Ledger, ExplainsEveryDamagedBlockAndEveryKindOccurs) {
  std::array<uint64_t, kFaultKinds> counts{};
  uint64_t damaged = 0;
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    LedgerWorkload workload(seed);
    workload.run();
    EXPECT_EQ(workload.damaged(), workload.excused()) << "seed " << seed;
    damaged += workload.damaged();
    for (size_t kind = 0; kind < kFaultKinds; ++kind) {
      counts[kind] += workload.bench().disk.count(static_cast<FaultKind>(kind));
    }
  }
  EXPECT_GT(damaged, 100u);
  for (size_t kind = 0; kind < kFaultKinds; ++kind) {
    const auto fault = static_cast<FaultKind>(kind);
    if (fault == FaultKind::kSyncError || fault == FaultKind::kNoSpace) continue;
    EXPECT_GT(counts[kind], 0u) << fault_name(fault);
  }
}

// Without hidden faults there is nothing to excuse: the same judge finds no damage.
TEST(Ledger, ASoundDiskNeedsNoExcuse) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    LedgerWorkload workload(seed);
    workload.bench().disk.faults() = DiskFaults();
    workload.run();
    EXPECT_EQ(workload.damaged(), 0u) << "seed " << seed;
    EXPECT_TRUE(workload.bench().disk.ledger().empty());
  }
}

}  // namespace
}  // namespace hf::sim
