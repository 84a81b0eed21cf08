// The books of replication, one thing at a time: large volumes, damage, a coordinator that stays
// away, a full disk, what the offline tools say.
#include "format/dirty_map_format.h"
#include "one_pool.h"
#include "store/mutants.h"
#include "store/offline.h"

namespace hf::store_sim {
namespace {

constexpr uint64_t kUnit = kDirtyUnitBytes;
constexpr uint64_t kPageSpan = kUnitsPerPage * kUnit;

OnePoolOptions large_volume() {
  OnePoolOptions options;
  options.size_bytes = 8 * kTiB;
  options.capacity_bytes = 256 * kMiB;  // a full map is 34 MB
  return options;
}

class StoreBooks : public OnePool {
 protected:
  StoreBooks() : OnePool(large_volume()) {}

  WriteHeader header(uint64_t sequence, SlotMask absent = 0) {
    WriteHeader h;
    h.epoch = replica()->promised_epoch();
    h.sequence = sequence;
    h.absent = absent;
    return h;
  }
  Task<void> zero(WriteHeader h, uint64_t offset, uint64_t length, Status* status) {
    *status = co_await replica()->write_zeroes(h, offset, length);
  }
  void zero(WriteHeader h, uint64_t offset, uint64_t length) {
    Status status;
    sim_.run(zero(h, offset, length, &status));
    ASSERT_TRUE(status.ok()) << status.error().to_string();
  }
  Task<void> ask(int slot, uint64_t from, size_t max, std::vector<ByteRange>* out) {
    Result<std::vector<ByteRange>> ranges = std::vector<ByteRange>();
    if (slot < 0) {
      ranges = co_await replica()->window(from, max);
    } else {
      ranges = co_await replica()->dirty(static_cast<uint32_t>(slot), from, max);
    }
    HF_ASSERT(ranges.ok(), "{}", ranges.error().to_string());
    *out = std::move(*ranges);
  }
  std::vector<ByteRange> dirty(uint32_t slot, uint64_t from = 0, size_t max = 1000) {
    std::vector<ByteRange> out;
    sim_.run(ask(static_cast<int>(slot), from, max, &out));
    return out;
  }
  std::vector<ByteRange> window(uint64_t from = 0, size_t max = 1000) {
    std::vector<ByteRange> out;
    sim_.run(ask(-1, from, max, &out));
    return out;
  }
  Task<void> count(uint32_t slot, uint64_t* out) {
    Result<uint64_t> bytes = co_await replica()->dirty_bytes(slot);
    HF_ASSERT(bytes.ok());
    *out = *bytes;
  }
  uint64_t dirty_bytes(uint32_t slot) {
    uint64_t bytes = 0;
    sim_.run(count(slot, &bytes));
    return bytes;
  }
  Task<void> clear(WriteHeader h, SlotMask slots, Status* status) {
    *status = co_await replica()->clear_dirty(h, slots);
  }
  Task<void> clear_range(WriteHeader h, uint32_t slot, ByteRange range, Status* status) {
    *status = co_await replica()->clear_dirty_range(h, slot, range);
  }
  Task<void> mark(WriteHeader h, SlotMask slots, std::vector<ByteRange> ranges, Status* status) {
    *status = co_await replica()->mark_dirty(h, slots, std::move(ranges));
  }
  Task<void> settle(WriteHeader h, Status* status) {
    *status = co_await replica()->settle_window(h);
  }
  Status promised(uint64_t epoch) {
    Status status;
    sim_.run(promise(epoch, &status));
    return status;
  }
  Task<void> list(std::string path, std::vector<DirectoryEntry>* out) {
    Result<std::vector<DirectoryEntry>> entries = co_await process_.world().fs.list(path);
    HF_ASSERT(entries.ok());
    *out = std::move(*entries);
  }
  bool has_file(const std::string& name) {
    std::vector<DirectoryEntry> entries;
    sim_.run(list("/pool/volumes/" + replica_.to_string(), &entries));
    return std::any_of(entries.begin(), entries.end(),
                       [&](const DirectoryEntry& entry) { return entry.name == name; });
  }
  std::string map_path(uint32_t slot) const {
    return "/pool/volumes/" + replica_.to_string() + "/" + dirty_map_name(slot);
  }
  Task<void> unlink(std::string path) {
    Status gone = co_await process_.world().fs.unlink(path);
    HF_ASSERT(gone.ok());
  }
  Task<void> write_at(WriteHeader h, uint64_t offset, ByteSpan data, Status* status) {
    *status = co_await replica()->write(h, offset, data);
  }
  Task<void> restore(WriteHeader h, SnapshotId id, Status* status) {
    *status = co_await replica()->restore(h, id);
  }
  Task<void> resize(WriteHeader h, uint64_t bytes, Status* status) {
    *status = co_await replica()->resize(h, bytes);
  }
  Task<void> clone(Status* status) {
    ReplicaSpec spec;
    spec.replica = new_id<ReplicaId>(process_.world().random);
    spec.volume = new_id<VolumeId>(process_.world().random);
    Result<std::shared_ptr<Replica>> made =
        co_await pool_->clone_replica(replica_, SnapshotId(), spec);
    *status = made.ok() ? Status() : Status(made.error());
    replica_ = spec.replica;
  }
  Task<void> remove_replica(ReplicaId id, Status* status) {
    *status = co_await pool_->delete_replica(id);
  }
  Task<void> wait(Duration time) {
    Status slept = co_await process_.world().clock.sleep_for(time, CancelToken());
    (void)slept;
  }
  Task<void> verify(VerifyReport* out) {
    Result<VerifyReport> report = co_await verify_pool(process_.world(), config_);
    HF_ASSERT(report.ok(), "{}", report.error().to_string());
    *out = std::move(*report);
  }
  Task<void> inspect(PoolInspection* out) {
    Result<PoolInspection> found = co_await inspect_pool(process_.world(), config_);
    HF_ASSERT(found.ok(), "{}", found.error().to_string());
    *out = std::move(*found);
  }
  ReplicaBooks inspected() {
    PoolInspection found;
    sim_.run(inspect(&found));
    HF_ASSERT(found.books.size() == 1);
    return found.books[0];
  }
  VerifyReport verified() {
    VerifyReport report;
    sim_.run(verify(&report));
    return report;
  }
  void reopen() {
    kill();
    const Status again = opened();
    ASSERT_TRUE(again.ok()) << again.error().to_string();
  }
};

TEST_F(StoreBooks, MapsOfALargeVolumeAreSparseAndComeInPieces) {
  // Units on the borders of pages, far apart, and one range over a border.
  const uint64_t starts[] = {0, kPageSpan - kUnit, kPageSpan * 3 + 5 * kUnit, 7 * kTiB};
  uint64_t sequence = 0;
  for (const uint64_t at : starts) zero(header(++sequence, 0b100), at, kBlockSize);
  zero(header(++sequence, 0b100), kPageSpan * 2 - kUnit, 2 * kUnit);
  const std::vector<ByteRange> expected = {{0, kUnit},
                                           {kPageSpan - kUnit, kUnit},
                                           {kPageSpan * 2 - kUnit, 2 * kUnit},
                                           {kPageSpan * 3 + 5 * kUnit, kUnit},
                                           {7 * kTiB, kUnit}};
  EXPECT_EQ(dirty(2), expected);
  ASSERT_TRUE(drained().ok());
  EXPECT_TRUE(has_file("dirty-2.map"));
  EXPECT_FALSE(has_file("dirty-1.map"));
  EXPECT_EQ(dirty(2), expected);
  EXPECT_EQ(dirty_bytes(2), 6 * kUnit);
  reopen();
  EXPECT_EQ(dirty(2), expected);
  EXPECT_EQ(dirty(2, 0, 2), (std::vector<ByteRange>(expected.begin(), expected.begin() + 2)));
  EXPECT_EQ(dirty(2, expected[1].end(), 2),
            (std::vector<ByteRange>(expected.begin() + 2, expected.begin() + 4)));
  EXPECT_EQ(dirty(2, kUnit / 2, 1), (std::vector<ByteRange>{{kUnit / 2, kUnit / 2}}));
  EXPECT_TRUE(dirty(2, 7 * kTiB + kUnit, 9).empty());
  EXPECT_TRUE(dirty(1).empty());
  EXPECT_EQ(verified().findings_total, 0u);
}

// Nobody ever commits; the ring is written many times over.
TEST_F(StoreBooks, ACoordinatorThatStaysAwayDoesNotHoldTheRing) {
  Status status;
  ASSERT_TRUE(promised(3).ok());
  AlignedBuffer data = AlignedBuffer::zeroed(1 * kMiB);
  data.data()[0] = std::byte{1};
  const auto write = [&](uint64_t sequence, uint64_t offset) -> Status {
    Status written;
    sim_.run(write_at(header(sequence), offset, data.span(), &written));
    return written;
  };
  for (uint64_t n = 1; n <= 24; ++n) ASSERT_TRUE(write(n, n * 2 * kMiB).ok());
  EXPECT_GT(pool_->stats().drains, 0u);
  const std::vector<ByteRange> before = window();
  ASSERT_EQ(before.size(), 24u);
  for (uint64_t n = 1; n <= 24; ++n) EXPECT_EQ(before[n - 1], (ByteRange{n * 2 * kMiB, 1 * kMiB}));
  ASSERT_TRUE(drained().ok());
  EXPECT_TRUE(has_file("window.map"));
  reopen();
  EXPECT_EQ(window(), before);
  // The next coordinator makes the others like this one; then nothing is left, nor comes back.
  ASSERT_TRUE(promised(4).ok());
  WriteHeader h = header(0);
  h.commit = Stamp{4, 0};
  sim_.run(settle(h, &status));
  ASSERT_TRUE(status.ok());
  EXPECT_TRUE(window().empty());
  ASSERT_TRUE(drained().ok());
  EXPECT_FALSE(has_file("window.map"));
  reopen();
  EXPECT_TRUE(window().empty());
}

TEST_F(StoreBooks, ACommitTakesAWindowOfTheSameEpochOnlyUpToItself) {
  ASSERT_TRUE(promised(3).ok());
  zero(header(1), 0, kBlockSize);
  zero(header(2), kUnit, kBlockSize);
  ASSERT_TRUE(drained().ok());
  reopen();
  zero(header(3), 5 * kUnit + kBlockSize, kBlockSize);
  replica()->advance_commit({3, 1});
  EXPECT_EQ(window(),
            (std::vector<ByteRange>{{0, 2 * kUnit}, {5 * kUnit + kBlockSize, kBlockSize}}));
  replica()->advance_commit({3, 2});
  EXPECT_EQ(window(), (std::vector<ByteRange>{{5 * kUnit + kBlockSize, kBlockSize}}));
  replica()->advance_commit({3, 3});
  EXPECT_TRUE(window().empty());
}

TEST_F(StoreBooks, AClearForgetsWhatWasCalledBeforeAlsoInTheRing) {
  Status status;
  zero(header(1, 0b11), 0, kBlockSize);
  ASSERT_TRUE(drained().ok());
  zero(header(2, 0b11), kUnit, kBlockSize);
  sim_.run(clear(header(0), 0b01, &status));
  ASSERT_TRUE(status.ok());
  zero(header(3, 0b11), 9 * kUnit, kBlockSize);
  const std::vector<ByteRange> zeroth = {{9 * kUnit, kUnit}};
  const std::vector<ByteRange> first = {{0, 2 * kUnit}, {9 * kUnit, kUnit}};
  for (int life = 0; life < 2; ++life) {
    EXPECT_EQ(dirty(0), zeroth);
    EXPECT_EQ(dirty(1), first);
    reopen();
  }
  ASSERT_TRUE(drained().ok());
  EXPECT_EQ(dirty(0), zeroth);
  EXPECT_EQ(dirty(1), first);
  sim_.run(clear(header(0), 0b11, &status));
  ASSERT_TRUE(status.ok());
  sim_.run(clear(header(0), 0b11, &status));
  ASSERT_TRUE(status.ok());
  ASSERT_TRUE(drained().ok());
  EXPECT_FALSE(has_file("dirty-0.map"));
  EXPECT_FALSE(has_file("dirty-1.map"));
  reopen();
  EXPECT_TRUE(dirty(0).empty());
  EXPECT_TRUE(dirty(1).empty());
}

TEST_F(StoreBooks, PartsOfAMapAreClearedInWholeUnits) {
  Status status;
  std::vector<ByteRange> ranges = {{0, 10 * kUnit}, {8 * kTiB - kBlockSize, kBlockSize}};
  sim_.run(mark(header(0), 0b1, ranges, &status));
  ASSERT_TRUE(status.ok());
  ASSERT_TRUE(drained().ok());
  sim_.run(clear_range(header(0), 0, ByteRange{kUnit / 2, 3 * kUnit}, &status));
  ASSERT_TRUE(status.ok());
  sim_.run(clear_range(header(0), 0, ByteRange{8 * kTiB - kUnit, kUnit}, &status));
  ASSERT_TRUE(status.ok());
  const std::vector<ByteRange> left = {{0, kUnit}, {3 * kUnit, 7 * kUnit}};
  EXPECT_EQ(dirty(0), left);
  reopen();
  EXPECT_EQ(dirty(0), left);
  ASSERT_TRUE(drained().ok());
  EXPECT_EQ(dirty(0), left);
}

TEST_F(StoreBooks, RefusesWhatComesTooLateOrIsNotThere) {
  Status status;
  ASSERT_TRUE(promised(2).ok());
  WriteHeader old;
  old.epoch = 1;
  sim_.run(clear(old, 1, &status));
  EXPECT_EQ(status.code(), ErrorCode::kFenced);
  std::vector<ByteRange> ranges = {{0, kUnit}};
  sim_.run(mark(old, 1, ranges, &status));
  EXPECT_EQ(status.code(), ErrorCode::kFenced);
  sim_.run(settle(old, &status));
  EXPECT_EQ(status.code(), ErrorCode::kFenced);
  ranges[0].offset = 8 * kTiB;
  sim_.run(mark(header(0), 1, ranges, &status));
  EXPECT_EQ(status.code(), ErrorCode::kInvalidArgument);
  ranges.assign(kMaxRangesPerCall + 1, ByteRange{0, kUnit});
  sim_.run(mark(header(0), 1, ranges, &status));
  EXPECT_EQ(status.code(), ErrorCode::kLimitExceeded);
  sim_.run(clear_range(header(0), 8, ByteRange{0, kUnit}, &status));
  EXPECT_EQ(status.code(), ErrorCode::kInvalidArgument);
}

TEST_F(StoreBooks, InspectShowsWhatWouldBeCopied) {
  ASSERT_TRUE(promised(2).ok());
  WriteHeader first = header(1, 0b1000);
  first.commit = {1, 9};
  zero(first, 0, kBlockSize);
  ASSERT_TRUE(drained().ok());
  zero(header(2, 0b1000), 5 * kUnit, 2 * kUnit);
  zero(header(3), 5 * kUnit, kUnit);
  kill();
  const ReplicaBooks books = inspected();
  EXPECT_EQ(books.commit, (Stamp{1, 9}));  // with the superblock that names the map
  EXPECT_EQ(books.window_bytes, 3 * kUnit);
  EXPECT_EQ(books.dirty_bytes[3], 3 * kUnit);
  EXPECT_EQ(books.dirty_bytes[0], 0u);
  ASSERT_TRUE(opened().ok());
}

// --- damage
// -------------------------------------------------------------------------------------------

TEST_F(StoreBooks, OneBrokenCopyLosesNothingTwoLoseNoMark) {
  zero(header(1, 1), 0, kBlockSize);
  ASSERT_TRUE(drained().ok());
  zero(header(2, 1), 3 * kUnit, kBlockSize);
  ASSERT_TRUE(drained().ok());
  const std::vector<ByteRange> marked = {{0, kUnit}, {3 * kUnit, kUnit}};
  for (const uint32_t copy : {0u, 1u}) {
    ASSERT_TRUE(disk_.rot(map_path(0), dirty_map_offset(0, copy) + 200));
    EXPECT_EQ(dirty(0), marked) << copy;
    zero(header(3 + copy, 1), 0, kBlockSize);  // written anew, both
    ASSERT_TRUE(drained().ok());
    EXPECT_EQ(verified().findings_total, 0u);
  }
  for (const uint32_t copy : {0u, 1u})
    ASSERT_TRUE(disk_.rot(map_path(0), dirty_map_offset(0, copy) + 200));
  EXPECT_EQ(dirty(0), (std::vector<ByteRange>{{0, kPageSpan}}));
  EXPECT_EQ(verified().findings_total, 1u);
  zero(header(9, 1), 2 * kPageSpan, kBlockSize);
  zero(header(10, 1), 0, kBlockSize);
  ASSERT_TRUE(drained().ok());
  EXPECT_EQ(dirty(0), (std::vector<ByteRange>{{0, kPageSpan}, {2 * kPageSpan, kUnit}}));
  EXPECT_EQ(verified().findings_total, 0u);
  t_store_mutant = StoreMutant::kBrokenMapEmpty;
  for (const uint32_t copy : {0u, 1u})
    ASSERT_TRUE(disk_.rot(map_path(0), dirty_map_offset(0, copy) + 200));
  EXPECT_EQ(dirty(0).size(), 1u) << "the mutant shows";
  t_store_mutant = StoreMutant::kNone;
}

TEST_F(StoreBooks, AMapThatIsGoneCountsAsFull) {
  zero(header(1, 1), 0, kBlockSize);
  ASSERT_TRUE(drained().ok());
  kill();
  sim_.run(unlink(map_path(0)));
  EXPECT_EQ(verified().findings_total, 1u);
  ASSERT_TRUE(opened().ok());
  const std::vector<ByteRange> all = {{0, 8 * kTiB}};
  EXPECT_EQ(dirty(0), all);
  zero(header(2, 1), 0, kBlockSize);
  ASSERT_TRUE(drained().ok());
  EXPECT_EQ(dirty(0), all);
  EXPECT_EQ(verified().findings_total, 0u);
  Status status;
  sim_.run(clear(header(0), 1, &status));
  ASSERT_TRUE(status.ok());
  EXPECT_TRUE(dirty(0).empty());
}

TEST_F(StoreBooks, AWindowThatIsBrokenEndsWithTheNextEpoch) {
  ASSERT_TRUE(promised(2).ok());
  zero(header(7), 0, kBlockSize);
  ASSERT_TRUE(drained().ok());
  kill();
  for (const uint32_t copy : {0u, 1u})
    ASSERT_TRUE(disk_.rot(map_path(kWindowSlot), dirty_map_offset(0, copy) + 200));
  ASSERT_TRUE(opened().ok());
  EXPECT_EQ(window(), (std::vector<ByteRange>{{0, kPageSpan}}));
  replica()->advance_commit({2, 1000});
  EXPECT_EQ(window().size(), 1u);
  replica()->advance_commit({3, 0});
  EXPECT_TRUE(window().empty());
}

// --- space
// --------------------------------------------------------------------------------------------

TEST_F(StoreBooks, MarksWaitInTheRingUntilTheDiskHasRoom) {
  zero(header(1, 1), 0, kBlockSize);
  fill_disk();
  Status status;
  std::vector<ByteRange> ranges = {{5 * kTiB, kUnit}};
  sim_.run(mark(header(0), 1, ranges, &status));  // not refused by a full disk
  ASSERT_TRUE(status.ok()) << status.error().to_string();
  const std::vector<ByteRange> marked = {{0, kUnit}, {5 * kTiB, kUnit}};
  sim_.run(wait(150s));
  EXPECT_FALSE(pool_->stats().failed);
  EXPECT_EQ(dirty(0), marked);
  reopen();
  EXPECT_EQ(dirty(0), marked);
  disk_.set_capacity(256 * kMiB);
  ASSERT_TRUE(drained().ok());
  EXPECT_EQ(dirty(0), marked);
}

// --- other verbs
// --------------------------------------------------------------------------------------

TEST_F(StoreBooks, ARestoreIsAWriteToEverything) {
  Status status;
  SnapshotId snapshot;
  ASSERT_TRUE(promised(1).ok());
  ASSERT_TRUE(write(1).ok());
  ASSERT_TRUE(cut(&snapshot).ok());
  ASSERT_TRUE(write(2).ok());
  sim_.run(restore(header(5, 0b10), snapshot, &status));
  ASSERT_TRUE(status.ok()) << status.error().to_string();
  const std::vector<ByteRange> all = {{0, 8 * kTiB}};
  for (int life = 0; life < 2; ++life) {
    EXPECT_EQ(window(), all);
    EXPECT_EQ(dirty(1), all);
    EXPECT_TRUE(dirty(0).empty());
    reopen();
  }
  replica()->advance_commit({1, 5});
  EXPECT_TRUE(window().empty());
}

TEST_F(StoreBooks, ARestoreThatHasNoRoomForItsMapsIsRefused) {
  Status status;
  SnapshotId snapshot;
  ASSERT_TRUE(write(1).ok());
  ASSERT_TRUE(cut(&snapshot).ok());
  ASSERT_TRUE(drained().ok());
  fill_disk(40 * kMiB);
  sim_.run(restore(header(5, 0b10), snapshot, &status));
  EXPECT_EQ(status.code(), ErrorCode::kNoSpace);
  EXPECT_TRUE(dirty(1).empty());
  disk_.set_capacity(256 * kMiB);
  sim_.run(restore(header(6, 0b10), snapshot, &status));
  EXPECT_TRUE(status.ok());
}

TEST_F(StoreBooks, WhatWasCutOffStaysMarkedWhenTheVolumeGrowsAgain) {
  Status status;
  sim_.run(resize(header(1, 1), 1 * kTiB, &status));
  ASSERT_TRUE(status.ok()) << status.error().to_string();
  EXPECT_TRUE(dirty(0).empty());
  ASSERT_TRUE(drained().ok());
  sim_.run(resize(header(2, 1), 2 * kTiB, &status));
  ASSERT_TRUE(status.ok());
  EXPECT_EQ(dirty(0), (std::vector<ByteRange>{{1 * kTiB, 1 * kTiB}}));
}

TEST_F(StoreBooks, ACloneStartsWithEmptyBooksAndADeletedReplicaLeavesNone) {
  ASSERT_TRUE(promised(1).ok());
  zero(header(1, 1), 0, kBlockSize);
  ASSERT_TRUE(drained().ok());
  ASSERT_TRUE(has_file("dirty-0.map"));
  ASSERT_TRUE(has_file("window.map"));
  Status status;
  const ReplicaId source = replica_;
  sim_.run(clone(&status));
  ASSERT_TRUE(status.ok());
  EXPECT_TRUE(dirty(0).empty());
  EXPECT_TRUE(window().empty());
  sim_.run(remove_replica(source, &status));
  ASSERT_TRUE(status.ok()) << status.error().to_string();
  std::vector<DirectoryEntry> left;
  sim_.run(list("/pool/volumes", &left));
  EXPECT_EQ(left.size(), 1u);
}

}  // namespace
}  // namespace hf::store_sim
