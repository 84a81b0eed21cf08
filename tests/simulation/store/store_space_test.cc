// Many snapshots and a disk that somebody else fills to the last block: no superblock may need
// space then.
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

}  // namespace
}  // namespace hf::store_sim
