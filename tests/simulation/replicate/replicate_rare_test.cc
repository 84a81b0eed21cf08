// Orders of events that random seeds meet too rarely, made by hand; where a deliberate bug is what
// they are about, with and without it.
#include "replicate/mutants.h"
#include "steps.h"

namespace hf::replicate_sim {
namespace {

class Rare : public Steps {
 protected:
  ~Rare() override {
    t_replicate_mutant = ReplicateMutant::kNone;
    drive(heal_and_stop());
    drive(pending_.close());
    EXPECT_EQ(cluster_->failure(), "");
    cluster_.reset();
  }
  void cut(size_t one, size_t other) {
    cluster_->sim().net().partition(node(one).host.name(), node(other).host.name());
  }
  void be_impatient() { cluster_->sim().plan().force("replicate.impatient", true); }
  // What a read that begins now returns within 300 ms; nothing: it waits, or was refused.
  std::optional<uint64_t> try_read(size_t number, uint64_t block) {
    if (node(number).daemon->attachment == nullptr) return std::nullopt;
    status_ = make_error(ErrorCode::kInternal, "not ended");
    (void)spawn(pending_, read_task(number, block, &status_, &value_));
    wait(300ms);
    if (!status_.ok()) return std::nullopt;
    return value_;
  }

  Gate pending_;
  Status status_;  // of what is pending
  uint64_t value_ = 0;
};

// Two members; the coordinator's node has one and is cut off, the other one restarts, and a third
// node takes over from that one alone.
class RestartedLease : public Rare {
 protected:
  std::optional<uint64_t> old_reads(ReplicateMutant which) {
    t_replicate_mutant = which;
    Shape shape = quiet();
    shape.members = 2;
    make(shape);
    be_impatient();
    EXPECT_TRUE(attach(1).ok());
    EXPECT_TRUE(in_sync(10s));
    EXPECT_TRUE(write(1, 0, 1).ok());
    wait(1s);
    kill(2);
    isolate(1);
    start(2);
    EXPECT_TRUE(attach(3).ok()) << attached_.error().to_string();
    EXPECT_TRUE(write(3, 0, 2).ok());
    return try_read(1, 0);
  }
};

TEST_F(RestartedLease, IsWaitedForAsIfItHadJustBeenGiven) {
  EXPECT_NE(old_reads(ReplicateMutant::kNone), 1u);
}
TEST_F(RestartedLease, Forgotten) {
  EXPECT_EQ(old_reads(ReplicateMutant::kRestartForgetsLease), 1u);
}

// A node without a descriptor left when others connect to it.
class NoDescriptors : public Rare {};

TEST_F(NoDescriptors, LeftAreWaitedFor) {
  make(quiet());
  EXPECT_TRUE(attach(1).ok());
  EXPECT_TRUE(in_sync(10s));
  kill(2);
  EXPECT_TRUE(write(1, 0, 1).ok());
  cluster_->sim().net().faults().accept_ppm = 1'000'000;
  start(2);
  EXPECT_FALSE(in_sync(3s));
  cluster_->sim().net().faults().accept_ppm = 0;
  EXPECT_TRUE(in_sync(30s));
}

// The coordinator has no replica of its own and reads from one that is cut off with it; the other
// one is enough for the next coordinator.
class RemoteRead : public Rare {
 protected:
  std::optional<uint64_t> old_reads(ReplicateMutant which) {
    t_replicate_mutant = which;
    Shape shape = quiet();
    shape.members = 2;
    shape.nodes = 4;
    make(shape);
    be_impatient();
    EXPECT_TRUE(attach(3).ok());
    EXPECT_TRUE(in_sync(10s));
    EXPECT_TRUE(write(3, 0, 1).ok());
    wait(1s);
    for (size_t ours : {1, 3}) {
      for (size_t theirs : {2, 4}) cut(ours, theirs);
    }
    EXPECT_TRUE(attach(4).ok()) << attached_.error().to_string();
    EXPECT_TRUE(write(4, 0, 2).ok());
    return try_read(3, 0);
  }
};

TEST_F(RemoteRead, NeedsTheLeasesOfTheOthers) {
  EXPECT_NE(old_reads(ReplicateMutant::kNone), 1u);
}
TEST_F(RemoteRead, WithoutThem) {
  EXPECT_EQ(old_reads(ReplicateMutant::kRemoteReadWithoutLease), 1u);
}

TEST_F(Rare, AMemberWhoseDiskHangsIsDroppedAndTheRestGoesOn) {
  make();
  ASSERT_TRUE(attach(1).ok());
  ASSERT_TRUE(write(1, 0, 1).ok());
  node(3).disk.hang_for(8s);
  EXPECT_LT(stall(1, 0, 2), 4.0);
  EXPECT_EQ(config().in_sync, 0b011);
  ASSERT_TRUE(in_sync(30s));
  drive(cluster_->compare_replicas());
}

// A host without power says nothing, and the new coordinator asks nobody for signs of life yet.
TEST_F(Rare, AMemberThatLosesItsPowerWhileItIsReconciledDoesNotHoldTheTakeover) {
  make();
  ASSERT_TRUE(attach(1).ok());
  ASSERT_TRUE(write(1, 0, 1).ok());  // nobody knows yet that all have it
  kill(1);
  bool once = false;
  cluster_->sim().plan().on_probe([&](const char* probe) {
    if (once || std::string_view(probe) != "replicate.reconciles") return;
    once = true;
    cluster_->sim().loop().after(Duration(),
                                 [&] { (void)spawn(pending_, cluster_->end(node(2), true)); });
  });
  const double before = now_s();
  ASSERT_TRUE(attach(3).ok()) << attached_.error().to_string();
  EXPECT_LT(now_s() - before, 6.0);
  EXPECT_TRUE(once);
  EXPECT_EQ(read(3, 0), 1u);
  EXPECT_EQ(config().in_sync, 0b100);
  cluster_->sim().plan().on_probe(nullptr);
}

// The last source is lost when the joiner has all blocks and knows nothing yet of what a third
// member lacks: it must not join, or it would later let that one in without its blocks.
TEST_F(Rare, WithNobodysWordOnTheMapsNobodyJoins) {
  make();
  ASSERT_TRUE(attach(1).ok());
  ASSERT_TRUE(write(1, 0, 1).ok());
  kill(3);
  ASSERT_TRUE(write(1, 100, 2).ok());
  kill(2);
  ASSERT_TRUE(write(1, 200, 3).ok());
  ASSERT_EQ(config().in_sync, 0b001);
  bool once = false;
  cluster_->sim().plan().on_probe([&](const char* probe) {
    if (once || std::string_view(probe) != "replicate.resync_chunk") return;
    const MemberStatus joiner = at(1).members()[1];
    if (joiner.resync_bytes_total - joiner.resync_bytes_done > kDirtyUnitBytes) return;
    once = true;  // this is the last chunk
    sim::ScriptedFault fault;
    fault.fault = sim::FaultKind::kSyncError;
    fault.path_part = "journal";
    node(1).disk.script(fault);
    cluster_->sim().loop().after(Duration(),
                                 [&] { (void)spawn(pending_, write_task(1, 300, 4, &status_)); });
  });
  start(2);
  wait(2s);
  EXPECT_TRUE(once);
  EXPECT_EQ(config().in_sync, 0b001);
  cluster_->sim().plan().on_probe(nullptr);
  kill(1, true);
  start(1);
  start(3);
  ASSERT_TRUE(attach(1).ok()) << attached_.error().to_string();
  ASSERT_TRUE(in_sync(10s));
  drive(cluster_->compare_replicas());
}

}  // namespace
}  // namespace hf::replicate_sim
