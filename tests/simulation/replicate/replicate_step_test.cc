// One thing at a time: how long writes stall, what a resync copies, what is refused, and orders of
// events that random seeds meet too rarely.
#include "format/segment_format.h"
#include "replicate/decide.h"
#include "replicate/mutants.h"
#include "steps.h"

namespace hf::replicate_sim {
namespace {

TEST_F(Steps, AKilledReplicaStallsWritesForLessThanSixTenths) {
  double worst = 0;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    make(quiet(), seed);
    ASSERT_TRUE(attach(1).ok());
    ASSERT_TRUE(write(1, 0, 1).ok());
    wait(std::chrono::milliseconds(seed * 7));
    kill(3);
    worst = std::max(worst, stall(1, 0, 2));
    EXPECT_EQ(config().in_sync, 0b011);
    drive(heal_and_stop());
    cluster_.reset();
  }
  std::printf("worst of 20: %.3f s\n", worst);
  EXPECT_LT(worst, 0.6);
}

TEST_F(Steps, AFrozenOrCutOffReplicaStallsWritesForLessThanASecond) {
  double worst = 0;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    make(quiet(), seed);
    ASSERT_TRUE(attach(1).ok());
    ASSERT_TRUE(write(1, 0, 1).ok());
    wait(std::chrono::milliseconds(seed * 7));
    if (seed % 2 == 0) {
      freeze(3);
    } else {
      isolate(3);
    }
    worst = std::max(worst, stall(1, 0, 2));
    drive(heal_and_stop());
    cluster_.reset();
  }
  std::printf("worst of 20: %.3f s\n", worst);
  EXPECT_LT(worst, 1.0);
}

TEST_F(Steps, TheNodeOfTheContainerGoesAndAnotherOneWrites) {
  double killed = 0, frozen = 0;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    make(quiet(), seed);
    cluster_->sim().plan().force("replicate.impatient", false);
    ASSERT_TRUE(attach(1).ok());
    ASSERT_TRUE(write(1, 0, 1).ok());
    wait(std::chrono::milliseconds(1000 + seed * 7));
    const bool kills = seed % 2 == 0;
    if (kills) {
      kill(1);
    } else if (seed % 4 == 1) {
      freeze(1);
    } else {
      isolate(1);
    }
    const double before = now_s();
    // A killed one refuses, which is seen without being told; of the others somebody has to know.
    const NodeId away = kills && seed % 4 == 0 ? NodeId() : node(1).id;
    ASSERT_TRUE(attach(2, away).ok()) << attached_.error().to_string();
    ASSERT_TRUE(write(2, 0, 2).ok());
    EXPECT_EQ(config().in_sync, 0b110) << "who answers is not left out; seed " << seed;
    double& worst = kills ? killed : frozen;
    worst = std::max(worst, now_s() - before);
    if (seed % 4 == 1) {
      // The frozen one wakes up: nothing of it may arrive, and it says so.
      thaw(1);
      wait(1s);
      EXPECT_TRUE(node(1).daemon->attachment == nullptr || at(1).is_fenced());
      EXPECT_EQ(read(2, 0), 2u);
    }
    drive(heal_and_stop());
    cluster_.reset();
  }
  std::printf("killed: %.3f s, frozen or cut off: %.3f s\n", killed, frozen);
  EXPECT_LT(killed, 0.8);
  EXPECT_LT(frozen, 0.8);
}

// Nobody tells that a member is away, and it says nothing: it is waited for a second, not longer.
TEST_F(Steps, ASilentMemberIsWaitedForASecond) {
  make();
  cluster_->sim().plan().force("replicate.impatient", false);
  ASSERT_TRUE(attach(1).ok());
  ASSERT_TRUE(write(1, 0, 1).ok());
  ASSERT_TRUE(detach(1).ok());
  freeze(3);
  const double before = now_s();
  ASSERT_TRUE(attach(2).ok()) << attached_.error().to_string();
  EXPECT_GT(now_s() - before, 0.9);
  EXPECT_LT(now_s() - before, 1.5);
  EXPECT_EQ(config().in_sync, 0b011);
  thaw(3);
  EXPECT_TRUE(in_sync(10s));
}

// Whoever is taken for away and is the only one that is in sync is waited for all the same.
TEST_F(Steps, TheLastInSyncMemberIsNotGivenUpForBeingTakenForAway) {
  make();
  ASSERT_TRUE(attach(1).ok());
  kill(2);
  kill(3);
  ASSERT_TRUE(write(1, 0, 1).ok());
  ASSERT_EQ(config().in_sync, 0b001);
  start(2);
  start(3);
  ASSERT_TRUE(attach(2, node(1).id).ok()) << attached_.error().to_string();
  EXPECT_EQ(read(2, 0), 1u);
}

TEST_F(Steps, APlannedMoveIsShort) {
  make();
  ASSERT_TRUE(attach(1).ok());
  ASSERT_TRUE(write(1, 0, 1).ok());
  wait(2s);
  const double before = now_s();
  ASSERT_TRUE(detach(1).ok());
  EXPECT_EQ(config().phase, VolumePhase::kDetached);
  ASSERT_TRUE(attach(2).ok());
  ASSERT_TRUE(write(2, 0, 2).ok());
  const double pause = now_s() - before;
  std::printf("pause %.3f s\n", pause);
  EXPECT_LT(pause, 0.15);
  EXPECT_EQ(config().in_sync, 0b111);
}

TEST_F(Steps, WithTheStateStoreAwayWritesGoOnUntilAMemberIsLost) {
  make();
  ASSERT_TRUE(attach(1).ok());
  for (size_t i = 1; i <= 3; ++i) node(i).weather.away = true;
  for (uint64_t i = 0; i < 50; ++i) {
    EXPECT_LT(stall(1, i, i + 1), 0.1);
    wait(100ms);
  }
  kill(3);
  Status done = make_error(ErrorCode::kInternal, "not ended");
  Gate gate;
  (void)spawn(gate, write_task(1, 0, 77, &done));
  wait(5s);
  EXPECT_EQ(done.code(), ErrorCode::kInternal);  // suspended, not failed
  for (size_t i = 1; i <= 3; ++i) node(i).weather.away = false;
  wait(2s);
  EXPECT_TRUE(done.ok());
  EXPECT_EQ(read(1, 0), 77u);
}

TEST_F(Steps, APlannedEndDoesNotWaitForWritesThatWaitForEver) {
  make();
  ASSERT_TRUE(attach(1).ok());
  for (size_t i = 1; i <= 3; ++i) node(i).weather.away = true;
  kill(3);
  Status done = make_error(ErrorCode::kInternal, "not ended");
  Gate gate;
  (void)spawn(gate, write_task(1, 0, 77, &done));
  wait(1s);
  const double before = now_s();
  EXPECT_EQ(detach(1).code(), ErrorCode::kTimeout);
  EXPECT_LT(now_s() - before, 18.0);
  wait(1s);
  EXPECT_EQ(done.code(), ErrorCode::kClosed);
  for (size_t i = 1; i <= 3; ++i) node(i).weather.away = false;
  ASSERT_TRUE(attach(2).ok()) << attached_.error().to_string();
  EXPECT_TRUE(write(2, 0, 78).ok());
}

// What it waits for at most is a connection that is being opened.
TEST_F(Steps, ATakeoverThatIsGivenUpEndsAtOnce) {
  double worst = 0;
  for (const int64_t after_ms : {0, 1, 3, 20, 200, 900}) {
    make();
    ASSERT_TRUE(attach(1).ok());
    ASSERT_TRUE(write(1, 0, 1).ok());
    wait(1s);
    isolate(1);
    freeze(3);
    Gate gate;
    (void)spawn(gate, keep_attach(2, NodeId()));
    wait(std::chrono::milliseconds(after_ms));
    ASSERT_NE(node(2).daemon->attachment, nullptr) << after_ms;
    EXPECT_TRUE(detach(2).ok());
    const double before = now_s();
    while (node(2).daemon->attachment != nullptr && now_s() - before < 10) wait(1ms);
    worst = std::max(worst, now_s() - before);
    EXPECT_EQ(attached_.code(), ErrorCode::kClosed) << after_ms;
    cluster_->sim().net().heal_all();
    thaw(3);
    ASSERT_TRUE(attach(2).ok()) << attached_.error().to_string();
    EXPECT_EQ(read(2, 0), 1u);
    drive(heal_and_stop());
    drive(gate.close());
    cluster_.reset();
  }
  std::printf("worst: %.3f s\n", worst);
  EXPECT_LT(worst, 1.2);
}

TEST_F(Steps, AReturningMemberIsGivenWhatChangedAndNoMore) {
  make();
  ASSERT_TRUE(attach(1).ok());
  for (uint64_t i = 0; i < 200; ++i) ASSERT_TRUE(write(1, i, i + 1).ok());
  kill(3);
  ASSERT_TRUE(write(1, 20, 1000).ok());  // unit 1
  ASSERT_TRUE(write(1, 21, 1001).ok());
  ASSERT_TRUE(write(1, 100, 1002).ok());  // unit 6
  start(3);
  ASSERT_TRUE(in_sync(10s));
  const std::vector<MemberStatus> members = at(1).members();
  EXPECT_LE(members[2].resync_bytes_total, 3 * kDirtyUnitBytes);
  EXPECT_EQ(members[2].resync_bytes_done, members[2].resync_bytes_total);
  drive(cluster_->compare_replicas());
}

// Kill one, write, kill the other, start the first: it must not serve what it has.
TEST_F(Steps, TheOlderCopyIsNeverServed) {
  Shape shape = quiet();
  shape.members = 2;
  make(shape);
  ASSERT_TRUE(attach(3).ok());
  ASSERT_TRUE(write(3, 0, 1).ok());
  kill(1);
  ASSERT_TRUE(write(3, 0, 2).ok());
  kill(2);
  kill(3);
  start(1);
  start(3);
  EXPECT_EQ(attach(3).code(), ErrorCode::kUnavailable);
  EXPECT_NE(attached_.error().message().find("no in-sync member answers"), std::string::npos);
  start(2);
  ASSERT_TRUE(attach(3).ok()) << attached_.error().to_string();
  EXPECT_EQ(read(3, 0), 2u);
  ASSERT_TRUE(in_sync(10s));
  drive(cluster_->compare_replicas());
}

TEST_F(Steps, AStateStoreThatWasRolledBackPutsTheVolumeIntoQuarantine) {
  make();
  const auto key = ConfigStore::key_of(cluster_->volume());
  const std::string old = encode_config(config());
  ASSERT_TRUE(attach(1).ok());
  ASSERT_TRUE(detach(1).ok());
  ASSERT_TRUE(attach(2).ok());
  kill(2);
  cluster_->state().tamper(key, old);
  EXPECT_EQ(attach(1).code(), ErrorCode::kFailedPrecondition);
  EXPECT_NE(attached_.error().message().find("quarantine"), std::string::npos);
  // Asked again and again, as the control plane does: each time the epoch in the state store grows.
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(attach(1).code(), ErrorCode::kFailedPrecondition) << i;
    EXPECT_NE(attached_.error().message().find("quarantine"), std::string::npos) << attached_.error().message();
  }
}

TEST_F(Steps, AMutantThatComparesGenerationsBelievesItInTheEnd) {
  make();
  const auto key = ConfigStore::key_of(cluster_->volume());
  const std::string old = encode_config(config());
  ASSERT_TRUE(attach(1).ok());
  ASSERT_TRUE(detach(1).ok());
  cluster_->state().tamper(key, old);
  t_replicate_mutant = ReplicateMutant::kRollbackByGeneration;
  int refused = 0;
  while (refused < 10 && !attach(1).ok()) ++refused;
  t_replicate_mutant = ReplicateMutant::kNone;
  EXPECT_LT(refused, 10) << "the test of the rule would not notice its absence";
}

// The last one in sync is lost, an older one is promoted, and then the lost one is there after all.
TEST_F(Steps, AfterAPromotionTheLostOneIsMadeLikeTheOlder) {
  Shape shape = quiet();
  shape.members = 2;
  make(shape);
  ASSERT_TRUE(attach(3).ok());
  ASSERT_TRUE(write(3, 0, 1).ok());
  ASSERT_TRUE(in_sync(10s));
  kill(2);
  for (uint64_t block = 0; block < 20; ++block) ASSERT_TRUE(write(3, block, 2).ok());
  ASSERT_EQ(config().in_sync, 0b01);
  kill(1);
  kill(3);
  start(2);
  start(3);
  EXPECT_EQ(attach(3).code(), ErrorCode::kUnavailable);
  const Result<VolumeConfig> next = promoted(config(), node(2).replica, LineageId::from_random(7, 7));
  ASSERT_TRUE(next.ok()) << next.error().to_string();
  cluster_->state().tamper(ConfigStore::key_of(cluster_->volume()), encode_config(*next));
  ASSERT_TRUE(attach(3).ok()) << attached_.error().to_string();
  EXPECT_EQ(read(3, 0), 1u);
  EXPECT_EQ(read(3, 19), 0u) << "lost";
  ASSERT_TRUE(write(3, 5, 3).ok());
  start(1);
  ASSERT_TRUE(in_sync(20s));
  EXPECT_EQ(read(3, 0), 1u);
  drive(cluster_->compare_replicas());
}

// The last one in sync by the present order is out of it by the one that was restored: whoever serves by that must not copy
// over it what is older.
TEST_F(Steps, WhoKnowsMoreThanTheStateStoreIsNotOverwritten) {
  Shape shape = quiet();
  shape.members = 2;
  make(shape);
  const auto key = ConfigStore::key_of(cluster_->volume());
  ASSERT_TRUE(attach(3).ok());
  ASSERT_TRUE(write(3, 0, 1).ok());
  ASSERT_TRUE(in_sync(10s));
  kill(2);
  ASSERT_TRUE(write(3, 0, 2).ok());
  ASSERT_EQ(config().in_sync, 0b01);
  const std::string old = encode_config(config());  // the first alone
  start(2);
  ASSERT_TRUE(in_sync(10s));
  kill(1);
  ASSERT_TRUE(write(3, 0, 3).ok());
  ASSERT_EQ(config().in_sync, 0b10);
  kill(3);
  kill(2);
  start(1);
  start(3);
  cluster_->state().tamper(key, old);
  // Nobody who is there can know better.
  Status served = attach(3);
  start(2);
  wait(20s);
  EXPECT_EQ(config().in_sync & 0b10, 0) << "it has not been made like the older one";
  AlignedBuffer block(kBlockSize);
  Status read;
  drive(keep(node(2).daemon->service->replica().read(0, block.span()), &read));
  ASSERT_TRUE(read.ok());
  EXPECT_EQ(store_sim::value_of_block(block.span(), 0).value_or(0), 3u);
  if (served.ok()) {
    std::string told;
    for (const MemberStatus& member : at(3).members()) told += member.trouble + "; ";
    EXPECT_NE(told.find("quarantine"), std::string::npos) << told;
  }
}

TEST_F(Steps, AllMembersLostAndTheVolumeWaitsForThem) {
  make();
  ASSERT_TRUE(attach(1).ok());
  ASSERT_TRUE(write(1, 3, 5).ok());
  for (size_t i = 1; i <= 3; ++i) kill(i, true);
  for (size_t i = 1; i <= 3; ++i) start(i);
  ASSERT_TRUE(attach(2).ok()) << attached_.error().to_string();
  EXPECT_EQ(read(2, 3), 5u);
}

TEST_F(Steps, ResizeReachesEveryMemberAlsoOneThatWasAway) {
  make();
  ASSERT_TRUE(attach(1).ok());
  ASSERT_TRUE(write(1, 3, 5).ok());
  kill(2);
  Status done;
  drive(keep(at(1).resize(700 * kBlockSize), &done));
  ASSERT_TRUE(done.ok()) << done.error().to_string();
  ASSERT_TRUE(write(1, 650, 6).ok());
  start(2);
  ASSERT_TRUE(in_sync(10s));
  for (size_t i = 1; i <= 3; ++i)
    EXPECT_EQ(node(i).daemon->service->replica().size(), 700 * kBlockSize);
  ASSERT_TRUE(detach(1).ok());
  ASSERT_TRUE(attach(2).ok());
  EXPECT_EQ(at(2).size(), 700 * kBlockSize);
  EXPECT_EQ(read(2, 650), 6u);
}

TEST_F(Steps, WhatOneMemberHasDamagedIsReadElsewhereAndMended) {
  make();
  ASSERT_TRUE(attach(1).ok());
  ASSERT_TRUE(write(1, 3, 5).ok());
  Status done;
  drive(keep(node(1).daemon->pool->wait_drained(), &done));
  ASSERT_TRUE(done.ok());
  const std::string path =
      fmt::format("/pool/volumes/{}/seg/{}", node(1).replica.to_string(), segment_name(0, 1));
  ASSERT_TRUE(node(1).disk.rot(path, 3 * kBlockSize)) << path;
  EXPECT_EQ(read(1, 3), 5u);
  wait(1s);
  AlignedBuffer data(kBlockSize);
  drive(keep(node(1).daemon->service->replica().read(3 * kBlockSize, data.span()), &done));
  EXPECT_TRUE(done.ok()) << "not mended: " << done.error().to_string();
}

// --- the wire
// ---------------------------------------------------------------------------------------

class Wire : public Steps {
 protected:
  Task<void> garbage_task(std::vector<std::byte> bytes, bool* closed) {
    std::string address = fmt::format("tcp:{}:7000", node(2).host.ip());
    Result<std::unique_ptr<Stream>> stream =
        co_await node(1).daemon->world.net.connect(std::move(address), 1s);
    HF_ASSERT(stream.ok());
    Status sent = co_await (*stream)->write_bytes(bytes);
    (void)sent;
    std::byte in[64];
    while (true) {
      Result<size_t> got = co_await (*stream)->read_some(in);
      if (!got.ok() || *got == 0) break;
    }
    *closed = true;
    (*stream)->close();
  }
  Task<void> fence_task(PeerTarget target, ErrorCode* code) {
    Gate gate;
    std::string address = fmt::format("tcp:{}:7000", node(2).host.ip());
    Result<std::shared_ptr<PeerPort>> port =
        co_await PeerPort::connect(node(1).daemon->world.net, std::move(address), target, 1s, gate);
    HF_ASSERT(port.ok());
    Session session;
    session.epoch = session.number = 1;
    Result<FenceAnswer> answer = co_await (*port)->fence(session);
    *code = answer.code();
    (*port)->close();
    co_await gate.close();
  }
};

TEST_F(Wire, GarbageClosesTheConnectionAndNothingElse) {
  make();
  ASSERT_TRUE(attach(1).ok());
  Prng prng(5);
  for (int i = 0; i < 20; ++i) {
    std::vector<std::byte> bytes(prng.between(kPeerHeaderBytes, 300));
    for (std::byte& byte : bytes) byte = static_cast<std::byte>(prng.next());
    if (i % 2 == 0) std::memcpy(bytes.data(), "HFRP\1\0\1\0", 8);
    bool closed = false;
    drive(garbage_task(bytes, &closed));
    EXPECT_TRUE(closed);
  }
  EXPECT_TRUE(write(1, 0, 1).ok());
  EXPECT_EQ(config().in_sync, 0b111);
}

TEST_F(Wire, AnotherClusterOrReplicaIsRefusedByName) {
  make();
  PeerTarget target;
  target.cluster = cluster_->cluster();
  target.volume = cluster_->volume();
  target.replica = node(3).replica;  // another port's replica
  ErrorCode code{};
  drive(fence_task(target, &code));
  EXPECT_EQ(code, ErrorCode::kNotFound);
  target.replica = node(2).replica;
  target.cluster = ClusterId::from_random(1, 2);
  drive(fence_task(target, &code));
  EXPECT_EQ(code, ErrorCode::kWrongOwner);
  target.cluster = cluster_->cluster();
  drive(fence_task(target, &code));
  EXPECT_EQ(code, ErrorCode::kOk);
}

}  // namespace
}  // namespace hf::replicate_sim
