// That the simulated disk keeps what it promises and loses what it may: kills, power loss, names,
// space.
#include <gtest/gtest.h>

#include <set>

#include "sim/disk_bench.h"

namespace hf::sim {
namespace {

constexpr uint64_t kSeeds = 200;

// --- power loss on content
// -----------------------------------------------------------------------------

struct Kept {
  size_t synced = 0, durable = 0, plain = 0;  // bytes of the new letter
};

Task<void> lose_power(DiskBench& bench, Kept* kept) {
  Result<std::unique_ptr<File>> file = co_await make_file(bench, "/f", 3, 'o');
  HF_CO_ASSERT_OK(file);
  AlignedBuffer fresh = block_of('n');
  Result<size_t> n = co_await (*file)->write_at(0, fresh.span());
  HF_CO_ASSERT_OK(n);
  n = co_await (*file)->sync_data();
  HF_CO_ASSERT_OK(n);
  n = co_await (*file)->write_durable_at(kBlockSize, fresh.span());
  HF_CO_ASSERT_OK(n);
  n = co_await (*file)->write_at(2 * kBlockSize, fresh.span());
  HF_CO_ASSERT_OK(n);
  bench.power_cycle();
  file = co_await reopen(bench, "/f", true);
  HF_CO_ASSERT_OK(file);
  AlignedBuffer back(3 * kBlockSize);
  n = co_await (*file)->read_at(0, back.span());
  HF_CO_ASSERT_OK(n);
  EXPECT_EQ(*n, back.size());
  EXPECT_EQ(count_of(back.span(), 'n') + count_of(back.span(), 'o'), back.size());
  kept->synced = count_of(back.span().first(kBlockSize), 'n');
  kept->durable = count_of(back.span().subspan(kBlockSize, kBlockSize), 'n');
  kept->plain = count_of(back.span().subspan(2 * kBlockSize), 'n');
}

TEST(PowerLoss, TakesWhatWasNotSyncedInAnyMixtureAndNothingElse) {
  std::set<size_t> outcomes;
  bool cut_within_a_sector = false;
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    DiskBench bench(seed);
    Kept kept;
    bench.sim.run(lose_power(bench, &kept));
    EXPECT_EQ(kept.synced, kBlockSize) << "seed " << seed;
    EXPECT_EQ(kept.durable, kBlockSize) << "seed " << seed;
    outcomes.insert(kept.plain);
    cut_within_a_sector |= kept.plain % kSectorSize != 0;
  }
  EXPECT_TRUE(outcomes.contains(0));
  EXPECT_TRUE(outcomes.contains(kBlockSize));
  EXPECT_GT(outcomes.size(), 6u);
  EXPECT_TRUE(cut_within_a_sector);
}

Task<void> unfinished_write(File& file, AlignedBuffer& data, ErrorCode* code) {
  Result<size_t> n = co_await file.write_durable_at(0, data.span());
  *code = n.code();
}

Task<void> die_under_way(DiskBench& bench, bool power, size_t* fresh_bytes) {
  Result<std::unique_ptr<File>> file = co_await make_file(bench, "/f", 2, 'o');
  HF_CO_ASSERT_OK(file);
  AlignedBuffer fresh = block_of('n', 2);
  ErrorCode code = ErrorCode::kOk;
  Gate gate;
  spawn(gate, unfinished_write(**file, fresh, &code));
  if (power) {
    bench.power_cycle();
  } else {
    bench.kill_and_restart();
  }
  co_await gate.close();
  EXPECT_EQ(code, ErrorCode::kCancelled);
  file = co_await reopen(bench, "/f", true);
  HF_CO_ASSERT_OK(file);
  AlignedBuffer back(2 * kBlockSize);
  Result<size_t> n = co_await (*file)->read_at(0, back.span());
  HF_CO_ASSERT_OK(n);
  *fresh_bytes = count_of(back.span(), 'n');
  EXPECT_EQ(*fresh_bytes + count_of(back.span(), 'o'), back.size());
}

TEST(PowerLoss, AWriteUnderWayHappensOrNotOrByHalves) {
  for (const bool power : {true, false}) {
    std::set<size_t> outcomes;
    for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
      DiskBench bench(seed);
      size_t fresh = 0;
      bench.sim.run(die_under_way(bench, power, &fresh));
      outcomes.insert(fresh);
    }
    EXPECT_TRUE(outcomes.contains(0)) << power;
    EXPECT_TRUE(outcomes.contains(2 * kBlockSize)) << power;
    EXPECT_GT(outcomes.size(), 4u) << power;
  }
}

Task<void> overwrite_twice(DiskBench& bench, size_t* middle_bytes) {
  Result<std::unique_ptr<File>> file = co_await make_file(bench, "/f", 1, 'o');
  HF_CO_ASSERT_OK(file);
  for (const char letter : {'m', 'n'}) {
    AlignedBuffer data = block_of(letter);
    Result<size_t> n = co_await (*file)->write_at(0, data.span());
    HF_CO_ASSERT_OK(n);
  }
  bench.power_cycle();
  file = co_await reopen(bench, "/f", true);
  HF_CO_ASSERT_OK(file);
  AlignedBuffer back(kBlockSize);
  Result<size_t> n = co_await (*file)->read_at(0, back.span());
  HF_CO_ASSERT_OK(n);
  *middle_bytes = count_of(back.span(), 'm');
}

TEST(PowerLoss, AnOldVersionMayHaveBeenWrittenBack) {
  size_t seen = 0;
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    DiskBench bench(seed);
    size_t middle = 0;
    bench.sim.run(overwrite_twice(bench, &middle));
    seen += middle > 0;
  }
  EXPECT_GT(seen, 0u);
  EXPECT_LT(seen, kSeeds / 2);
}

Task<void> grow_and_cut(DiskBench& bench, uint64_t* size, size_t* letters) {
  Result<std::unique_ptr<File>> file = co_await make_file(bench, "/f", 4, 'o');
  HF_CO_ASSERT_OK(file);
  Status cut = co_await (*file)->set_size(kBlockSize);
  HF_CO_ASSERT_OK(cut);
  AlignedBuffer fresh = block_of('n');
  Result<size_t> n = co_await (*file)->write_at(2 * kBlockSize, fresh.span());
  HF_CO_ASSERT_OK(n);
  bench.power_cycle();
  file = co_await reopen(bench, "/f", true);
  HF_CO_ASSERT_OK(file);
  *size = *(*file)->size();
  AlignedBuffer back(4 * kBlockSize);
  n = co_await (*file)->read_at(0, back.span());
  HF_CO_ASSERT_OK(n);
  EXPECT_EQ(*n, *size);
  *letters = count_of(back.span().first(*n), 'o');
  EXPECT_EQ(count_of(back.span().first(kBlockSize), 'o'), kBlockSize);
  // Either the cut was undone with all that followed, or what it cut is gone.
  const bool undone = *size == 4 * kBlockSize;
  EXPECT_EQ(*letters, undone ? 4 * kBlockSize : kBlockSize);
}

TEST(PowerLoss, ACutIsOldOrNewAndWhatFollowsItComesAfterIt) {
  std::set<uint64_t> sizes;
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    DiskBench bench(seed);
    uint64_t size = 0;
    size_t letters = 0;
    bench.sim.run(grow_and_cut(bench, &size, &letters));
    sizes.insert(size);
  }
  EXPECT_EQ(sizes, (std::set<uint64_t>{kBlockSize, 3 * kBlockSize, 4 * kBlockSize}));
}

// --- kill
// ------------------------------------------------------------------------------------------------

Task<void> killed_with_lock(DiskBench& bench) {
  OpenOptions options;
  options.write = options.create = true;
  Result<std::unique_ptr<File>> file = co_await bench.fs().open("/f", options);
  HF_CO_ASSERT_OK(file);
  Result<size_t> n = co_await (*file)->write_at(0, as_bytes("hello"));
  HF_CO_ASSERT_OK(n);
  Status locked = (*file)->try_lock();
  HF_CO_ASSERT_OK(locked);
  FileSystem& old_fs = bench.fs();
  bench.kill_and_restart();
  // The old world is dead.
  n = co_await (*file)->write_at(0, as_bytes("later"));
  EXPECT_EQ(n.code(), ErrorCode::kCancelled);
  Status made = co_await old_fs.make_directory("/d", 0700);
  EXPECT_EQ(made.code(), ErrorCode::kCancelled);
  EXPECT_FALSE((*file)->try_lock().ok());
  EXPECT_FALSE((*file)->size().ok());
  // The new one has all that was completed, and the lock is free although the old File lives.
  Result<std::unique_ptr<File>> again = co_await bench.fs().open("/f", options);
  HF_CO_ASSERT_OK(again);
  locked = (*again)->try_lock();
  HF_CO_ASSERT_OK(locked);
  Result<std::string> content = co_await bench.fs().read_file("/f", 100);
  HF_CO_ASSERT_OK(content);
  EXPECT_EQ(*content, "hello");
  Result<FileInfo> none = co_await bench.fs().stat("/d");
  EXPECT_EQ(none.code(), ErrorCode::kNotFound);
}

TEST(Kill, LosesNothingCompletedEndsLocksAndLeavesADeadWorld) {
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    DiskBench bench(seed);
    bench.sim.run(killed_with_lock(bench));
  }
}

// --- names
// -----------------------------------------------------------------------------------------------

struct NamesSeen {
  int created = 0, renamed = 0, unlinked = 0, made = 0;
};

Task<void> names_and_power(DiskBench& bench, NamesSeen* seen) {
  Status status = co_await bench.fs().write_file_atomic("/old", "old", 0600);
  HF_CO_ASSERT_OK(status);
  status = co_await bench.fs().write_file_atomic("/victim", "victim", 0600);
  HF_CO_ASSERT_OK(status);
  status = co_await bench.fs().write_file_atomic("/gone", "gone", 0600);
  HF_CO_ASSERT_OK(status);
  // From here on nothing is synced by name.
  Result<std::unique_ptr<File>> file = co_await make_synced(bench, "/new");
  HF_CO_ASSERT_OK(file);
  status = co_await bench.fs().rename("/old", "/victim");
  HF_CO_ASSERT_OK(status);
  status = co_await bench.fs().unlink("/gone");
  HF_CO_ASSERT_OK(status);
  status = co_await bench.fs().make_directory("/d", 0700);
  HF_CO_ASSERT_OK(status);
  bench.power_cycle();
  Result<FileInfo> created = co_await bench.fs().stat("/new");
  Result<FileInfo> gone = co_await bench.fs().stat("/gone");
  Result<FileInfo> old = co_await bench.fs().stat("/old");
  Result<FileInfo> made = co_await bench.fs().stat("/d");
  Result<std::string> victim = co_await bench.fs().read_file("/victim", 100);
  HF_CO_ASSERT_OK(victim);
  seen->created += created.ok();
  EXPECT_TRUE(!created.ok() || created->size == 4u);
  seen->renamed += !old.ok();
  seen->unlinked += !gone.ok();
  seen->made += made.ok();
  // Atomic: never both names, never neither.
  EXPECT_EQ(*victim, old.ok() ? "victim" : "old");
  // One directory: its changes are kept in order, up to some point.
  EXPECT_TRUE(created.ok() || old.ok());
  EXPECT_TRUE(!old.ok() || gone.ok());
  EXPECT_TRUE(!gone.ok() || !made.ok());
}

TEST(Names, UnsyncedOnesAreKeptOrLostInOrderAndRenamesAreAtomic) {
  NamesSeen seen;
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    DiskBench bench(seed);
    bench.sim.run(names_and_power(bench, &seen));
  }
  const int all = static_cast<int>(kSeeds);
  for (const int count : {seen.created, seen.renamed, seen.unlinked, seen.made}) {
    EXPECT_GT(count, all / 20);
    EXPECT_LT(count, all * 19 / 20);
  }
}

Task<void> synced_names(DiskBench& bench) {
  Status status = co_await bench.fs().make_directory("/d", 0700);
  HF_CO_ASSERT_OK(status);
  status = co_await bench.fs().sync_dir("/");
  HF_CO_ASSERT_OK(status);
  Result<std::unique_ptr<File>> file = co_await make_synced(bench, "/d/f");
  HF_CO_ASSERT_OK(file);
  status = co_await bench.fs().link("/d/f", "/g");
  HF_CO_ASSERT_OK(status);
  status = co_await bench.fs().unlink("/d/f");
  HF_CO_ASSERT_OK(status);
  // The unlink is durable, so the link before it is too: the file is never without a name.
  status = co_await bench.fs().sync_dir("/d");
  HF_CO_ASSERT_OK(status);
  bench.power_cycle();
  Result<FileInfo> gone = co_await bench.fs().stat("/d/f");
  EXPECT_EQ(gone.code(), ErrorCode::kNotFound);
  Result<std::string> content = co_await bench.fs().read_file("/g", 100);
  HF_CO_ASSERT_OK(content);
  EXPECT_EQ(*content, "data");
}

TEST(Names, SyncedOnesStayWithWhatTheyStandOn) {
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    DiskBench bench(seed);
    bench.sim.run(synced_names(bench));
  }
}

Task<void> circle_of_directories(DiskBench& bench) {
  for (const char* path : {"/a", "/a/b"}) {
    Status made = co_await bench.fs().make_directory(path, 0700);
    HF_CO_ASSERT_OK(made);
    Status synced = co_await bench.fs().sync_dir("/");
    HF_CO_ASSERT_OK(synced);
  }
  Status synced = co_await bench.fs().sync_dir("/a");
  HF_CO_ASSERT_OK(synced);
  Status moved = co_await bench.fs().rename("/a/b", "/b");
  HF_CO_ASSERT_OK(moved);
  moved = co_await bench.fs().rename("/a", "/b/a");
  HF_CO_ASSERT_OK(moved);
}

TEST(Names, ADirectoryMovedIntoItsFormerChildLeaksNothing) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    DiskBench bench(seed);
    bench.sim.run(circle_of_directories(bench));
    if (seed % 2 == 0) bench.power_cycle();
  }
}

// --- space
// -----------------------------------------------------------------------------------------------

Task<void> space_of_clones(DiskBench& bench) {
  PageSpace& space = bench.disk.space();
  Result<std::unique_ptr<File>> file = co_await make_file(bench, "/a", 100, 'a');
  HF_CO_ASSERT_OK(file);
  EXPECT_EQ(space.used(), 100u);
  Status cloned = co_await bench.fs().reflink("/a", "/b");
  HF_CO_ASSERT_OK(cloned);
  EXPECT_EQ(space.used(), 100u);
  AlignedBuffer data = block_of('b', 10);
  Result<std::unique_ptr<File>> clone = co_await reopen(bench, "/b", true);
  HF_CO_ASSERT_OK(clone);
  Result<size_t> n = co_await (*clone)->write_durable_at(0, data.span());
  HF_CO_ASSERT_OK(n);
  EXPECT_EQ(space.used(), 110u);
  n = co_await (*clone)->write_at(0, data.span());  // in place
  HF_CO_ASSERT_OK(n);
  EXPECT_EQ(space.used(), 110u);
  n = co_await (*file)->punch_hole(50 * kBlockSize, 50 * kBlockSize);  // still in the clone
  HF_CO_ASSERT_OK(n);
  EXPECT_EQ(space.used(), 110u);
  Status gone = co_await bench.fs().unlink("/b");
  HF_CO_ASSERT_OK(gone);
  EXPECT_EQ(space.used(), 110u) << "open";
  clone->reset();
  EXPECT_EQ(space.used(), 50u);
  n = co_await (*file)->allocate(0, 70 * kBlockSize);
  HF_CO_ASSERT_OK(n);
  EXPECT_EQ(space.used(), 70u);
  Status synced = co_await bench.fs().sync_dir("/");
  HF_CO_ASSERT_OK(synced);
  n = co_await (*file)->sync_data();
  HF_CO_ASSERT_OK(n);
  bench.power_cycle();
  EXPECT_EQ(space.used(), 70u);
}

TEST(Space, ClonesCostWhatDiffers) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    DiskBench bench(seed);
    bench.sim.run(space_of_clones(bench));
  }
}

Task<void> fill_up(DiskBench& bench) {
  Result<std::unique_ptr<File>> file = co_await make_file(bench, "/a", 90, 'a');
  HF_CO_ASSERT_OK(file);
  AlignedBuffer data = block_of('b', 20);
  Result<size_t> n = co_await (*file)->write_durable_at(90 * kBlockSize, data.span());
  EXPECT_EQ(n.code(), ErrorCode::kNoSpace);
  n = co_await (*file)->write_durable_at(0, data.span());  // in place needs none
  HF_CO_ASSERT_OK(n);
  Status cloned = co_await bench.fs().reflink("/a", "/b");
  EXPECT_EQ(cloned.code(), ErrorCode::kNoSpace) << "no room for an inode";
  n = co_await (*file)->punch_hole(60 * kBlockSize, 40 * kBlockSize);
  HF_CO_ASSERT_OK(n);
  cloned = co_await bench.fs().reflink("/a", "/b");
  HF_CO_ASSERT_OK(cloned);
  AlignedBuffer more = block_of('c', 60);
  n = co_await (*file)->write_durable_at(0, more.span());  // 40 free, 60 to be copied
  EXPECT_EQ(n.code(), ErrorCode::kNoSpace);
  Result<SpaceInfo> info = co_await bench.fs().space("/");
  HF_CO_ASSERT_OK(info);
  EXPECT_EQ(info->free_bytes, 0u);
  EXPECT_EQ(info->total_bytes, 100 * kBlockSize);
}

TEST(Space, AFullDiskRefusesAndInPlaceWritesStillWork) {
  DiskBench bench(1, small_disk(100 * kBlockSize));
  bench.sim.run(fill_up(bench));
}

// --- time
// ------------------------------------------------------------------------------------------------

Task<void> one_read(File& file, int number, std::vector<int>* order) {
  AlignedBuffer back(kBlockSize);
  Result<size_t> n = co_await file.read_at(0, back.span());
  EXPECT_TRUE(n.ok());
  order->push_back(number);
}

Task<void> race(DiskBench& bench, std::vector<int>* order) {
  Result<std::unique_ptr<File>> file = co_await make_file(bench, "/a", 1, 'a');
  HF_CO_ASSERT_OK(file);
  Gate gate;
  for (int i = 0; i < 8; ++i) spawn(gate, one_read(**file, i, order));
  co_await gate.close();
}

TEST(Time, OperationsInFlightCompleteInAnyOrder) {
  std::set<std::vector<int>> orders;
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    DiskBench bench(seed);
    std::vector<int> order;
    bench.sim.run(race(bench, &order));
    EXPECT_EQ(order.size(), 8u);
    orders.insert(order);
  }
  EXPECT_GT(orders.size(), 45u);
}

Task<void> wait_for_disk(DiskBench& bench) {
  Result<std::unique_ptr<File>> file = co_await make_file(bench, "/a", 1, 'a');
  HF_CO_ASSERT_OK(file);
  std::vector<int> order;
  SimLoop& loop = bench.sim.loop();
  SimTime before = loop.now();
  co_await one_read(**file, 0, &order);
  EXPECT_LT(loop.now() - before, 10'000'000);
  bench.disk.hang_for(30s);
  before = loop.now();
  co_await one_read(**file, 0, &order);
  EXPECT_GE(loop.now() - before, 30'000'000'000);
  bench.disk.set_slow(1000);
  before = loop.now();
  co_await one_read(**file, 0, &order);
  EXPECT_GE(loop.now() - before, 80'000'000);
  bench.disk.set_slow(1);
  bench.disk.set_offline(true);
  AlignedBuffer back(kBlockSize);
  Result<size_t> n = co_await (*file)->read_at(0, back.span());
  EXPECT_EQ(n.code(), ErrorCode::kIo);
  Result<FileInfo> info = co_await bench.fs().stat("/a");
  EXPECT_EQ(info.code(), ErrorCode::kIo);
  bench.disk.set_offline(false);
  n = co_await (*file)->read_at(0, back.span());
  EXPECT_TRUE(n.ok());
}

TEST(Time, DisksHangSlowDownAndGoAway) {
  DiskBench bench(1);
  bench.sim.run(wait_for_disk(bench));
  EXPECT_EQ(bench.disk.count(FaultKind::kHang), 1u);
}

}  // namespace
}  // namespace hf::sim
