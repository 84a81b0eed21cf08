#include "replicate/coordinator.h"

#include <gtest/gtest.h>

#include "runtime/test_loop.h"

namespace hf {
namespace {

// Records what the coordinator sends; answers when told.
class RecordingReplica : public Replica {
 public:
  ReplicaId id() const override { return {}; }
  VolumeId volume() const override { return {}; }
  LineageId lineage() const override { return {}; }
  uint64_t size() const override { return kMiB; }
  uint64_t segment_bytes() const override { return kMiB; }
  uint64_t promised_epoch() const override { return promised; }
  const std::string& config() const override { return config_; }
  ReplicaStats stats() const override { return {}; }
  Task<Status> read(uint64_t, MutableByteSpan) override { co_return Status(); }
  Task<Status> write(WriteHeader header, uint64_t, ByteSpan) override {
    headers.push_back(header);
    co_await release.wait();
    if (header.epoch != promised) co_return make_error(ErrorCode::kFenced, "fenced");
    co_return Status();
  }
  Task<Status> write_zeroes(WriteHeader header, uint64_t, uint64_t) override {
    headers.push_back(header);
    co_return Status();
  }
  Task<Status> discard(WriteHeader header, uint64_t, uint64_t) override {
    headers.push_back(header);
    co_return Status();
  }
  Status flush() override { return {}; }
  Task<Result<std::vector<DataExtent>>> extents(uint64_t, uint64_t, size_t) override {
    co_return std::vector<DataExtent>();
  }
  Task<Result<SnapshotInfo>> snapshot(WriteHeader header, SnapshotId) override {
    headers.push_back(header);
    co_return SnapshotInfo();
  }
  Task<Status> delete_snapshot(SnapshotId) override { co_return Status(); }
  std::vector<SnapshotInfo> snapshots() const override { return {}; }
  Task<Status> read_snapshot(SnapshotId, uint64_t, MutableByteSpan) override { co_return Status(); }
  Task<Status> restore(WriteHeader, SnapshotId) override { co_return Status(); }
  Task<Status> resize(WriteHeader, uint64_t) override { co_return Status(); }
  Task<Status> promise(uint64_t epoch) override {
    if (epoch < promised) co_return make_error(ErrorCode::kFenced, "promised {}", promised);
    promised = epoch;
    co_return Status();
  }
  Task<Status> set_config(std::string) override { co_return Status(); }
  Stamp commit() const override { return committed; }
  void advance_commit(Stamp commit) override { committed = std::max(committed, commit); }
  Task<Status> settle_window(WriteHeader) override { co_return Status(); }
  Task<Result<std::vector<ByteRange>>> window(uint64_t, size_t) override {
    co_return std::vector<ByteRange>();
  }
  Task<Result<std::vector<ByteRange>>> dirty(uint32_t, uint64_t, size_t) override {
    co_return std::vector<ByteRange>();
  }
  Task<Result<uint64_t>> dirty_bytes(uint32_t) override { co_return uint64_t{0}; }
  Task<Status> mark_dirty(WriteHeader, SlotMask, std::vector<ByteRange>) override {
    co_return Status();
  }
  Task<Status> clear_dirty(WriteHeader, SlotMask) override { co_return Status(); }
  Task<Status> clear_dirty_range(WriteHeader, uint32_t, ByteRange) override { co_return Status(); }
  Task<Result<uint64_t>> allocated_bytes() override { co_return uint64_t{0}; }
  Task<Status> wait_drained() override { co_return Status(); }

  uint64_t promised = 0;
  Stamp committed;
  std::vector<WriteHeader> headers;
  Event release;

 private:
  std::string config_;
};

Task<void> open_into(std::shared_ptr<RecordingReplica> replica, uint64_t epoch,
                     std::unique_ptr<Coordinator>* out, ErrorCode* code) {
  Result<std::unique_ptr<Coordinator>> opened = co_await Coordinator::open(replica, epoch);
  *code = opened.code();
  if (opened.ok()) *out = std::move(*opened);
}

Task<void> write_one(Coordinator& coordinator, ErrorCode* code) {
  AlignedBuffer data = AlignedBuffer::zeroed(kBlockSize);
  Status done = co_await coordinator.write(0, data.span());
  *code = done.code();
}

Task<void> close_it(Coordinator& coordinator, bool* closed) {
  co_await coordinator.close();
  *closed = true;
}

class CoordinatorTest : public testing::Test {
 protected:
  std::unique_ptr<Coordinator> open(uint64_t epoch, ErrorCode expected = ErrorCode::kOk) {
    std::unique_ptr<Coordinator> coordinator;
    ErrorCode code = ErrorCode::kInternal;
    spawn(gate_, open_into(replica_, epoch, &coordinator, &code));
    loop_.run();
    EXPECT_EQ(code, expected);
    return coordinator;
  }
  TestLoop loop_;
  Gate gate_;
  std::shared_ptr<RecordingReplica> replica_ = std::make_shared<RecordingReplica>();
};

TEST_F(CoordinatorTest, PromisesBeforeItServesAndStampsInOrder) {
  auto coordinator = open(7);
  EXPECT_EQ(replica_->promised, 7u);
  replica_->release.set();
  ErrorCode first{}, second{};
  spawn(gate_, write_one(*coordinator, &first));
  spawn(gate_, write_one(*coordinator, &second));
  loop_.run();
  EXPECT_EQ(first, ErrorCode::kOk);
  EXPECT_EQ(second, ErrorCode::kOk);
  ASSERT_EQ(replica_->headers.size(), 2u);
  EXPECT_EQ(replica_->headers[0].epoch, 7u);
  EXPECT_EQ(replica_->headers[0].sequence + 1, replica_->headers[1].sequence);
}

TEST_F(CoordinatorTest, CommitsOnlyWhatHasBeenAnswered) {
  auto coordinator = open(7);
  ErrorCode first{}, second{}, third{};
  spawn(gate_, write_one(*coordinator, &first));
  spawn(gate_, write_one(*coordinator, &second));
  loop_.run();
  EXPECT_EQ(replica_->headers[1].commit, (Stamp{7, 0}));  // the first is in flight
  EXPECT_EQ(replica_->committed, Stamp());
  replica_->release.set();
  loop_.run();
  EXPECT_EQ(replica_->committed, (Stamp{7, 2}));
  spawn(gate_, write_one(*coordinator, &third));
  loop_.run();
  EXPECT_EQ(replica_->headers[2].commit, (Stamp{7, 2}));
}

TEST_F(CoordinatorTest, RefusesAnOldEpoch) {
  replica_->promised = 9;
  EXPECT_EQ(open(8, ErrorCode::kFenced), nullptr);
}

TEST_F(CoordinatorTest, OnceFencedNeverAcknowledgesAgain) {
  auto coordinator = open(1);
  replica_->release.set();
  replica_->promised = 2;  // another coordinator took over
  ErrorCode code{};
  spawn(gate_, write_one(*coordinator, &code));
  loop_.run();
  EXPECT_EQ(code, ErrorCode::kFenced);
  replica_->promised = 1;  // even if the replica would take it
  const size_t sent = replica_->headers.size();
  spawn(gate_, write_one(*coordinator, &code));
  loop_.run();
  EXPECT_EQ(code, ErrorCode::kFenced);
  EXPECT_EQ(replica_->headers.size(), sent);
}

TEST_F(CoordinatorTest, CloseWaitsForWritesInFlight) {
  auto coordinator = open(1);
  ErrorCode code{}, late{};
  bool closed = false;
  spawn(gate_, write_one(*coordinator, &code));
  spawn(gate_, close_it(*coordinator, &closed));
  loop_.run();
  EXPECT_FALSE(closed);
  spawn(gate_, write_one(*coordinator, &late));
  loop_.run();
  EXPECT_EQ(late, ErrorCode::kClosed);
  replica_->release.set();
  loop_.run();
  EXPECT_TRUE(closed);
  EXPECT_EQ(code, ErrorCode::kOk);
}

Task<void> change_members(Coordinator& coordinator, ErrorCode* added, ErrorCode* removed) {
  Status done = co_await coordinator.add_member(VolumeMember());
  *added = done.code();
  done = co_await coordinator.remove_member(ReplicaId());
  *removed = done.code();
}

TEST_F(CoordinatorTest, OfOneReplicaHasNoOtherMembers) {
  auto coordinator = open(1);
  ErrorCode added{}, removed{};
  spawn(gate_, change_members(*coordinator, &added, &removed));
  loop_.run();
  EXPECT_EQ(added, ErrorCode::kNotSupported);
  EXPECT_EQ(removed, ErrorCode::kNotSupported);
}

}  // namespace
}  // namespace hf
