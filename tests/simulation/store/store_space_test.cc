// A disk without room. Many snapshots and a disk that somebody else fills to the last block: no
// superblock may need space then. A pool at its watermark: what waits, what goes on, what is
// refused.
#include "format/superblock_format.h"
#include "one_pool.h"
#include "store/mutants.h"

namespace hf::store_sim {
namespace {

// What fits into the superblock's first blocks; the next one makes it grow.
constexpr size_t kFirstRows = 61;
static_assert(kSuperblockFixedBytes + kSuperblockMaxConfig + kFirstRows * kSnapshotRowBytes <=
              2 * kBlockSize);
static_assert(kSuperblockFixedBytes + kSuperblockMaxConfig + (kFirstRows + 1) * kSnapshotRowBytes >
              2 * kBlockSize);

class StoreSpace : public OnePool {};

TEST_F(StoreSpace, ASnapshotOnAFullDiskIsRefusedBeforeAnythingChanges) {
  for (size_t i = 0; i < kFirstRows; ++i) ASSERT_TRUE(cut().ok());
  ASSERT_TRUE(write(5).ok());
  ASSERT_TRUE(drained().ok());
  fill_disk();
  const uint64_t before = used();
  const Status refused = cut();
  EXPECT_EQ(refused.code(), ErrorCode::kNoSpace) << refused.error().to_string();
  EXPECT_EQ(replica()->snapshots().size(), kFirstRows);
  EXPECT_EQ(used(), before);
  EXPECT_TRUE(drained().ok());
  EXPECT_FALSE(pool_->stats().failed);
  // With room again it goes on.
  disk_.set_capacity(options_.capacity_bytes);
  EXPECT_TRUE(cut().ok());
  EXPECT_TRUE(drained().ok());
  EXPECT_EQ(replica()->snapshots().size(), kFirstRows + 1);
}

// The snapshot is acknowledged and in the journal; before its drain the disk fills up.
TEST_F(StoreSpace, AnAcknowledgedSnapshotNeedsNoSpaceForItsSuperblock) {
  for (size_t i = 0; i < kFirstRows; ++i) ASSERT_TRUE(cut().ok());
  ASSERT_TRUE(drained().ok());
  ASSERT_TRUE(cut().ok());
  fill_disk();
  EXPECT_TRUE(drained().ok());
  EXPECT_FALSE(pool_->stats().failed) << pool_->stats().failure;
}

TEST_F(StoreSpace, WithoutTheRoomTheWholePoolWouldFail) {
  t_store_mutant = StoreMutant::kRoomNotReserved;
  for (size_t i = 0; i < kFirstRows; ++i) ASSERT_TRUE(cut().ok());
  ASSERT_TRUE(drained().ok());
  ASSERT_TRUE(cut().ok());
  fill_disk();
  EXPECT_FALSE(drained().ok());
  EXPECT_TRUE(pool_->stats().failed);
  t_store_mutant = StoreMutant::kNone;
}

// The same over a crash: what made the room is as durable as the snapshot.
TEST_F(StoreSpace, TheRoomOfASnapshotSurvivesPowerLoss) {
  for (size_t i = 0; i < kFirstRows; ++i) ASSERT_TRUE(cut().ok());
  ASSERT_TRUE(drained().ok());
  ASSERT_TRUE(cut().ok());
  host_.power_loss();
  sim_.run(stop());
  host_.power_on();
  process_.restart();
  fill_disk();
  ASSERT_TRUE(opened().ok());
  EXPECT_TRUE(drained().ok());
  EXPECT_FALSE(pool_->stats().failed) << pool_->stats().failure;
  EXPECT_EQ(replica()->snapshots().size(), kFirstRows + 1);
}

// Everything else that writes a superblock, with no block free.
TEST_F(StoreSpace, PromisesAndDeletesNeedNoSpace) {
  std::vector<SnapshotId> ids(kFirstRows + 5);
  for (SnapshotId& id : ids) ASSERT_TRUE(cut(&id).ok());
  ASSERT_TRUE(drained().ok());
  fill_disk();
  Status promised, deleted;
  sim_.run(promise(3, &promised));
  EXPECT_TRUE(promised.ok());
  sim_.run(remove(ids[2], &deleted));
  EXPECT_TRUE(deleted.ok());
  EXPECT_FALSE(pool_->stats().failed) << pool_->stats().failure;
  EXPECT_EQ(replica()->snapshots().size(), ids.size() - 1);
}

TEST_F(StoreSpace, TheLimitOfSnapshotsIsNamed) {
  for (size_t i = 0; i < kMaxSnapshots; ++i) ASSERT_TRUE(cut().ok()) << i;
  const Status refused = cut();
  EXPECT_EQ(refused.code(), ErrorCode::kLimitExceeded);
  EXPECT_NE(refused.error().message().find("1024"), std::string::npos);
  EXPECT_TRUE(drained().ok());
  EXPECT_FALSE(pool_->stats().failed);
}

Task<void> make(Pool& pool, ReplicaSpec spec, ErrorCode* code) {
  Result<std::shared_ptr<Replica>> made = co_await pool.create_replica(std::move(spec));
  *code = made.code();
}

TEST_F(StoreSpace, ANewReplicaOnAFullDiskIsRefused) {
  fill_disk(512 * kKiB);  // less than the reserve
  ReplicaSpec spec;
  spec.replica = new_id<ReplicaId>(process_.world().random);
  spec.volume = new_id<VolumeId>(process_.world().random);
  spec.size_bytes = 1 * kMiB;
  const uint64_t before = used();
  ErrorCode code = ErrorCode::kOk;
  sim_.run(make(*pool_, spec, &code));
  EXPECT_EQ(code, ErrorCode::kNoSpace);
  EXPECT_EQ(used(), before);
  EXPECT_EQ(pool_->list().size(), 1u);
}

// --- a full pool: held back, let in, refused --------------------------------------------------------

class FullPool : public OnePool {
 protected:
  static constexpr uint64_t kLarge = 128 * kKiB;
  static constexpr uint64_t kReserve = 1 * kMiB;  // OnePool's
  static OnePoolOptions options() {
    OnePoolOptions options;
    options.size_bytes = 8 * kMiB;
    return options;
  }
  FullPool() : OnePool(options()) {}
  ~FullPool() override { t_store_mutant = StoreMutant::kNone; }

  struct Call {
    Status status;
    bool ended = false;
    Duration took{0};
  };
  Clock& clock() { return process_.world().clock; }
  Task<void> put(uint64_t offset, uint64_t length, uint64_t value, Call* call) {
    AlignedBuffer data(length);
    for (uint64_t b = 0; b < length / kBlockSize; ++b) {
      fill_block(data.span().subspan(b * kBlockSize, kBlockSize), value, offset / kBlockSize + b);
    }
    WriteHeader header;
    header.epoch = replica()->promised_epoch();
    const std::shared_ptr<Replica> to = replica();
    const MonoTime began = clock().now();
    call->status = co_await to->write(header, offset, data.span());
    call->took = clock().now() - began;
    call->ended = true;
  }
  Task<void> drop(uint64_t offset, uint64_t length, Call* call) {
    WriteHeader header;
    header.epoch = replica()->promised_epoch();
    const std::shared_ptr<Replica> to = replica();
    call->status = co_await to->discard(header, offset, length);
    call->ended = true;
  }
  Task<void> see(uint64_t block, uint64_t* value) {
    AlignedBuffer data(kBlockSize);
    Status got = co_await replica()->read(block * kBlockSize, data.span());
    EXPECT_TRUE(got.ok()) << got.error().to_string();
    *value = value_of_block(data.span(), block).value_or(UINT64_MAX);
  }
  uint64_t value_at(uint64_t block) {
    uint64_t value = 0;
    sim_.run(see(block, &value));
    return value;
  }
  Task<void> remove_replica(Status* status) { *status = co_await pool_->delete_replica(replica_); }
  Task<void> sleep(Duration duration) {
    Status slept = co_await clock().sleep_for(duration, CancelToken());
    EXPECT_TRUE(slept.ok());
  }
  void pass(Duration duration) { sim_.run(sleep(duration)); }
  // Starts it; it may end while others run.
  void begin(Task<void> task) {
    begun_.push_back(std::make_unique<Gate>());
    sim_.run(begin_in(*begun_.back(), std::move(task)));
  }
  Task<void> begin_in(Gate& gate, Task<void> task) {
    EXPECT_TRUE(spawn(gate, std::move(task)));
    co_return;
  }
  Call put_now(uint64_t offset, uint64_t length, uint64_t value) {
    Call call;
    sim_.run(put(offset, length, value, &call));
    return call;
  }
  Call drop_now(uint64_t offset, uint64_t length) {
    Call call;
    sim_.run(drop(offset, length, &call));
    return call;
  }
  // Something is written, and what is left above the reserve is not enough for a large write.
  void fill() {
    ASSERT_TRUE(put_now(0, 2 * kMiB, 1).status.ok());
    ASSERT_TRUE(drained().ok());
    fill_pool();
  }
  void fill_pool() {
    fill_disk(kReserve + 100 * kKiB);
    sim_.run(look());
  }
  Task<void> look() {
    Status looked = co_await pool_->refresh_space();
    EXPECT_TRUE(looked.ok());
  }
  void expand() { disk_.set_capacity(options_.capacity_bytes); }

  std::vector<std::unique_ptr<Gate>> begun_;
};

TEST_F(FullPool, DataWaitsForRoomAndGoesOnByItself) {
  fill();
  Call held;
  begin(put(2 * kMiB, kLarge, 7, &held));
  pass(20s);
  EXPECT_FALSE(held.ended);
  EXPECT_EQ(pool_->stats().held_writes, 1u);
  EXPECT_GT(pool_->stats().full_for, 18s);
  EXPECT_FALSE(pool_->stats().refuses_data);
  expand();  // and nobody says so
  pass(2s);
  ASSERT_TRUE(held.ended);
  EXPECT_TRUE(held.status.ok()) << held.status.error().to_string();
  EXPECT_EQ(value_at(2 * kMiB / kBlockSize), 7u);
  EXPECT_EQ(pool_->stats().held_writes, 0u);
  EXPECT_EQ(pool_->stats().full_for, 0s);
}

TEST_F(FullPool, AfterItsPatienceDataIsRefusedAndWhatAFileSystemNeedsIsNot) {
  fill();
  const Call refused = put_now(2 * kMiB, kLarge, 7);
  EXPECT_EQ(refused.status.code(), ErrorCode::kNoSpace);
  EXPECT_GE(refused.took, kDefaultFullPatience);
  EXPECT_LE(refused.took, kDefaultFullPatience + 3s);
  EXPECT_TRUE(pool_->stats().refuses_data);
  // The same episode: nobody waits for so long again.
  const Call again = put_now(2 * kMiB, kLarge, 7);
  EXPECT_EQ(again.status.code(), ErrorCode::kNoSpace);
  EXPECT_LE(again.took, 2s);
  EXPECT_EQ(value_at(2 * kMiB / kBlockSize), 0u);
  // Overwriting, and writing little, go on into the reserve.
  EXPECT_TRUE(put_now(0, 2 * kLarge, 8).status.ok());
  EXPECT_TRUE(put_now(3 * kMiB, kBlockSize, 9).status.ok());
  EXPECT_EQ(value_at(0), 8u);
  // A little room is for what fits into it; the rest need not wait all of its patience again.
  EXPECT_TRUE(drop_now(256 * kKiB, 512 * kKiB).status.ok());
  EXPECT_TRUE(drained().ok());
  EXPECT_TRUE(put_now(2 * kMiB, kLarge, 7).status.ok());
  EXPECT_TRUE(pool_->stats().refuses_data);
  EXPECT_LE(put_now(4 * kMiB, 8 * kLarge, 7).took, 2s);
}

TEST_F(FullPool, RoomEndsTheEpisodeThoughNobodyWrites) {
  fill();
  EXPECT_EQ(put_now(2 * kMiB, kLarge, 7).status.code(), ErrorCode::kNoSpace);
  pass(60min);
  EXPECT_TRUE(pool_->stats().refuses_data);
  EXPECT_GT(pool_->stats().full_for, 60min);
  expand();
  pass(2s);
  EXPECT_FALSE(pool_->stats().refuses_data);
  EXPECT_EQ(pool_->stats().full_for, 0s);
  // The next episode has its own patience.
  fill_pool();
  const Call again = put_now(2 * kMiB, kLarge, 7);
  EXPECT_EQ(again.status.code(), ErrorCode::kNoSpace);
  EXPECT_GE(again.took, kDefaultFullPatience);
}

// A coordinator that takes over fences, and must not wait for the room that the writes of another wait for.
TEST_F(FullPool, APromiseEndsTheWait) {
  fill();
  for (const uint64_t more : {0, 1}) {
    Call held, behind;
    begin(put(2 * kMiB, kLarge, 7, &held));
    pass(1s);
    begin(drop(2 * kMiB, kBlockSize, &behind));
    Status promised;
    const MonoTime began = clock().now();
    sim_.run(promise(replica()->promised_epoch() + more, &promised));
    EXPECT_TRUE(promised.ok());
    pass(10ms);
    EXPECT_LT(clock().now() - began, 100ms);
    EXPECT_TRUE(held.ended && behind.ended);
    const ErrorCode code = more == 0 ? ErrorCode::kConflict : ErrorCode::kFenced;
    EXPECT_EQ(held.status.code(), code);
    EXPECT_EQ(behind.status.code(), code);
    EXPECT_EQ(pool_->stats().held_writes, 0u);
  }
}

TEST_F(FullPool, SmallWritesWaitAsLongAsItTakes) {
  fill();
  std::vector<std::unique_ptr<Call>> calls;
  for (uint64_t i = 0; i < 60; ++i) {
    calls.push_back(std::make_unique<Call>());
    begin(put(2 * kMiB + i * 16 * kKiB, 16 * kKiB, 10 + i, calls.back().get()));
  }
  pass(10min);
  uint64_t ended = 0;
  for (const auto& call : calls) {
    ended += call->ended ? 1 : 0;
    EXPECT_TRUE(call->status.ok()) << call->status.error().to_string();
  }
  EXPECT_GT(ended, 0u);
  EXPECT_LT(ended, calls.size());
  EXPECT_EQ(pool_->stats().held_writes, calls.size() - ended);
  EXPECT_FALSE(pool_->stats().failed);
  // The reserve is for all: an overwrite still finds its part of it.
  EXPECT_TRUE(put_now(0, kLarge, 8).status.ok());
  expand();
  pass(3s);
  for (uint64_t i = 0; i < calls.size(); ++i) {
    ASSERT_TRUE(calls[i]->ended && calls[i]->status.ok()) << i;
    EXPECT_EQ(value_at((2 * kMiB + i * 16 * kKiB) / kBlockSize), 10 + i);
  }
}

TEST_F(FullPool, WhoeverWaitsStopsNobodyElse) {
  SnapshotId snapshot;
  ASSERT_TRUE(put_now(0, kMiB, 1).status.ok());
  ASSERT_TRUE(cut(&snapshot).ok());
  ASSERT_TRUE(put_now(0, kMiB, 2).status.ok());
  ASSERT_TRUE(drained().ok());
  fill_pool();
  Call held;
  begin(put(2 * kMiB, kLarge, 7, &held));
  pass(1s);
  const MonoTime began = clock().now();
  EXPECT_EQ(value_at(1), 2u);
  EXPECT_TRUE(put_now(0, 4 * kBlockSize, 3).status.ok());
  EXPECT_TRUE(drop_now(64 * kKiB, 4 * kBlockSize).status.ok());
  EXPECT_LT(clock().now() - began, 500ms);
  EXPECT_FALSE(held.ended);
  Status removed;
  sim_.run(remove(snapshot, &removed));  // gives back what the snapshot alone had
  EXPECT_TRUE(removed.ok());
  pass(500ms);
  EXPECT_TRUE(held.ended && held.status.ok());
}

TEST_F(FullPool, CallsThatOverlapKeepTheirOrder) {
  fill();
  Call first, second, third, beside;
  begin(put(2 * kMiB, kLarge, 7, &first));
  pass(1s);
  begin(drop(2 * kMiB, kBlockSize, &second));
  begin(put(2 * kMiB + kBlockSize, kBlockSize, 9, &third));
  begin(put(3 * kMiB, kBlockSize, 10, &beside));
  pass(1s);
  EXPECT_FALSE(first.ended || second.ended || third.ended);
  EXPECT_TRUE(beside.ended);
  expand();
  pass(2s);
  EXPECT_TRUE(first.ended && second.ended && third.ended);
  EXPECT_EQ(value_at(2 * kMiB / kBlockSize), 0u);
  EXPECT_EQ(value_at(2 * kMiB / kBlockSize + 1), 9u);
  EXPECT_EQ(value_at(2 * kMiB / kBlockSize + 2), 7u);
}

TEST_F(FullPool, DeletingAndClosingEndTheWait) {
  fill();
  Call held;
  begin(put(2 * kMiB, kLarge, 7, &held));
  pass(2s);
  const MonoTime began = clock().now();
  sim_.run(stop());
  EXPECT_LT(clock().now() - began, 3s);
  EXPECT_TRUE(held.ended);
  EXPECT_EQ(held.status.code(), ErrorCode::kClosed);
  ASSERT_TRUE(opened().ok());
  Call other;
  begin(put(2 * kMiB, kLarge, 7, &other));
  pass(2s);
  EXPECT_FALSE(other.ended);
  Status gone;
  sim_.run(remove_replica(&gone));
  EXPECT_TRUE(gone.ok());
  EXPECT_TRUE(other.ended);
  EXPECT_EQ(other.status.code(), ErrorCode::kClosed);
}

TEST_F(FullPool, HeldForEverIsFound) {
  t_store_mutant = StoreMutant::kHeldForEver;
  fill();
  Call held;
  begin(put(2 * kMiB, kLarge, 7, &held));
  pass(5min);
  EXPECT_FALSE(held.ended) << "AfterItsPatienceDataIsRefused would not see it";
  expand();
  pass(2s);
  EXPECT_TRUE(held.ended);
}

}  // namespace
}  // namespace hf::store_sim
