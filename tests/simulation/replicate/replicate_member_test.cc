// Members that come and go, one thing at a time: what is copied, what is refused, who is never
// asked again.
#include "format/segment_format.h"
#include "replicate/decide.h"
#include "replicate/mutants.h"
#include "steps.h"

namespace hf::replicate_sim {
namespace {

class Members : public Steps {
 protected:
  ~Members() override {
    drive(heal_and_stop());
    drive(pending_.close());
    EXPECT_EQ(cluster_->failure(), "");
    cluster_.reset();
  }
  void make_with_spares(uint64_t members, uint64_t spares, uint64_t blocks = 512) {
    Shape shape = quiet();
    shape.nodes = members + spares;
    shape.members = members;
    shape.spares = spares;
    shape.blocks = blocks;
    make(shape);
  }
  VolumeMember member_on(size_t number) {
    VolumeMember member;
    member.node = node(number).id;
    member.replica = node(number).replica;
    member.slot = 77;  // of no importance
    return member;
  }
  Status add(size_t server, size_t number) {
    Status done;
    drive(keep(at(server).add_member(member_on(number)), &done));
    return done;
  }
  Status remove(size_t server, size_t number) {
    Status done;
    drive(keep(at(server).remove_member(node(number).replica), &done));
    return done;
  }
  // While the rest goes on.
  Task<void> remove_soon(size_t server, size_t number) {
    status_ = co_await at(server).remove_member(node(number).replica);
  }
  ReplicaStats stats(size_t number) { return node(number).daemon->service->replica().stats(); }
  Task<void> allocated_task(size_t number, uint64_t* out) {
    Replica& replica = node(number).daemon->service->replica();
    Result<std::vector<DataExtent>> all = co_await replica.extents(0, replica.size(), 100'000);
    HF_ASSERT(all.ok());
    for (const DataExtent& extent : *all) *out += extent.data ? extent.length : 0;
  }
  uint64_t allocated(size_t number) {
    uint64_t bytes = 0;
    drive(allocated_task(number, &bytes));
    return bytes;
  }
  uint8_t slot_of(size_t number) {
    const VolumeConfig now = config();
    const VolumeMember* member = find_member(now, node(number).replica);
    return member == nullptr ? kNobody : member->slot;
  }

  Gate pending_;
  Status status_;
};

// --- scrub

class Scrub : public Members {
 protected:
  Task<void> scrub_task(size_t server, uint64_t bytes_per_second) {
    ScrubOrder order;
    order.bytes_per_second = bytes_per_second;
    Result<ScrubReport> report = co_await at(server).scrub(std::move(order));
    HF_ASSERT(report.ok(), "{}", report.error().to_string());
    report_ = *report;
  }
  const ScrubReport& scrub(size_t server, uint64_t bytes_per_second = 0) {
    drive(scrub_task(server, bytes_per_second));
    return report_;
  }
  void rot(size_t number, uint64_t block) {
    Status done;
    drive(keep(node(number).daemon->pool->wait_drained(), &done));
    ASSERT_TRUE(done.ok());
    const std::string path = fmt::format("/pool/volumes/{}/seg/{}",
                                         node(number).replica.to_string(), segment_name(0, 1));
    ASSERT_TRUE(node(number).disk.rot(path, block * kBlockSize)) << path;
  }
  // With a checksum that is right.
  void replace(size_t number, uint64_t block, uint64_t value) {
    AlignedBuffer data(kBlockSize);
    store_sim::fill_block(data.span(), value, block);
    Replica& replica = node(number).daemon->service->replica();
    WriteHeader header;
    header.epoch = replica.promised_epoch();
    Status done;
    drive(keep(replica.write(header, block * kBlockSize, data.span()), &done));
    ASSERT_TRUE(done.ok());
  }
  uint64_t has(size_t number, uint64_t block) {
    AlignedBuffer data(kBlockSize);
    Status done;
    drive(
        keep(node(number).daemon->service->replica().read(block * kBlockSize, data.span()), &done));
    return done.ok() ? store_sim::value_of_block(data.span(), block).value_or(~uint64_t{0})
                     : ~uint64_t{0};
  }
  ~Scrub() override { t_replicate_mutant = ReplicateMutant::kNone; }
  ScrubReport report_;
};

TEST_F(Scrub, MendsWhatOneHasDamagedOnWhicheverMemberItLies) {
  make_with_spares(3, 0);
  ASSERT_TRUE(attach(1).ok());
  for (uint64_t i = 0; i < 200; ++i) ASSERT_TRUE(write(1, i, i + 1).ok());
  ASSERT_EQ(scrub(1).bytes_compared, 200 * kBlockSize);
  EXPECT_EQ(report_.mended_bytes, 0u);
  rot(1, 3);
  rot(2, 4);
  rot(3, 190);
  EXPECT_EQ(scrub(1).mended_bytes, 3 * kBlockSize);
  EXPECT_TRUE(report_.all_members);
  EXPECT_EQ(report_.undecided_bytes + report_.lost_bytes, 0u);
  drive(cluster_->compare_replicas());
  EXPECT_EQ(has(3, 190), 191u);
  EXPECT_EQ(scrub(1).mended_bytes, 0u);
}

TEST_F(Scrub, OfThreeTheMajorityDecides) {
  make_with_spares(3, 0);
  ASSERT_TRUE(attach(2).ok());
  for (uint64_t i = 0; i < 100; ++i) ASSERT_TRUE(write(2, i, i + 1).ok());
  replace(2, 7, 1000);
  replace(1, 300, 1001);  // where the others have nothing
  EXPECT_EQ(scrub(2).mended_bytes, 2 * kBlockSize);
  EXPECT_EQ(has(2, 7), 8u);
  EXPECT_EQ(has(1, 300), 0u);
}

class ScrubOfTwo : public Scrub {
 protected:
  void differ(ReplicateMutant which) {
    t_replicate_mutant = which;
    make_with_spares(2, 0);
    ASSERT_TRUE(attach(1).ok());
    for (uint64_t i = 0; i < 100; ++i) ASSERT_TRUE(write(1, i, i + 1).ok());
    replace(1, 7, 1000);
    replace(1, 8, 1001);
    (void)scrub(1);
  }
};

TEST_F(ScrubOfTwo, ThatDifferNothingIsGuessed) {
  differ(ReplicateMutant::kNone);
  EXPECT_EQ(report_.mended_bytes, 0u);
  ASSERT_EQ(report_.undecided.size(), 1u);
  EXPECT_EQ(report_.undecided[0].offset, 7 * kBlockSize);
  EXPECT_EQ(report_.undecided[0].length, 2 * kBlockSize);
  EXPECT_EQ(has(1, 7), 1000u);
  EXPECT_EQ(has(2, 7), 8u);
}
TEST_F(ScrubOfTwo, WithoutThatRule) {
  differ(ReplicateMutant::kScrubGuesses);
  EXPECT_EQ(has(2, 7), 1000u);
}

TEST_F(Scrub, IsAsSlowAsItIsTold) {
  make_with_spares(2, 0);
  ASSERT_TRUE(attach(1).ok());
  for (uint64_t i = 0; i < 256; ++i) ASSERT_TRUE(write(1, i, i + 1).ok());
  const double before = now_s();
  EXPECT_EQ(scrub(1, kMiB / 4).bytes_compared, kMiB);
  EXPECT_GE(now_s() - before, 4.0);
  EXPECT_LT(now_s() - before, 5.0);
}

// --- members

TEST_F(Members, OneThatIsAddedIsGivenWhatIsAllocatedAndNoMore) {
  make_with_spares(2, 1, 640 * kMiB / kBlockSize);
  ASSERT_TRUE(attach(1).ok());
  for (uint64_t i = 0; i < 300; ++i) ASSERT_TRUE(write(1, i * 545, i + 1).ok());
  ASSERT_TRUE(add(1, 3).ok());
  EXPECT_EQ(config().in_sync, 0b011);
  ASSERT_TRUE(in_sync(60s));
  EXPECT_EQ(config().in_sync, 0b111);
  const uint64_t bytes = allocated(1);
  std::printf(
      "of %llu MiB %llu KiB are allocated; written to the new one %llu KiB, read from it %llu\n",
      static_cast<unsigned long long>(at(1).size() / kMiB),
      static_cast<unsigned long long>(bytes / kKiB),
      static_cast<unsigned long long>(stats(3).written_bytes / kKiB),
      static_cast<unsigned long long>(stats(3).read_bytes / kKiB));
  EXPECT_EQ(allocated(3), bytes);
  EXPECT_EQ(stats(3).written_bytes, bytes);
  EXPECT_EQ(stats(3).read_bytes, 0u);
  EXPECT_FALSE(config().members.back().whole);
  kill(1);
  kill(2);
  ASSERT_TRUE(attach(3).ok()) << attached_.error().to_string();
  for (uint64_t i = 0; i < 300; ++i) EXPECT_EQ(read(3, i * 545), i + 1);
}

// What a former member still has is compared, both ways; what is the same is not written again.
TEST_F(Members, AFormerMemberIsComparedWithTheOthers) {
  make_with_spares(2, 1);
  ASSERT_TRUE(attach(1).ok());
  for (uint64_t i = 0; i < 100; ++i) ASSERT_TRUE(write(1, i, i + 1).ok());
  ASSERT_TRUE(write(1, 400, 400).ok());
  ASSERT_TRUE(remove(1, 2).ok());
  ASSERT_TRUE(write(1, 70, 1000).ok());
  ASSERT_TRUE(write(1, 300, 1001).ok());
  Status done;
  drive(keep(at(1).discard(400 * kBlockSize, kBlockSize), &done));
  ASSERT_TRUE(done.ok());
  const uint64_t before = stats(2).written_bytes;
  ASSERT_TRUE(add(1, 2).ok());
  ASSERT_TRUE(in_sync(10s));
  EXPECT_LE(stats(2).written_bytes - before, 256 * kKiB + 2 * kBlockSize);  // a chunk and a block
  drive(cluster_->compare_replicas());
}

TEST_F(Members, AreReplacedOneByOneWhileItIsWritten) {
  make_with_spares(3, 3);
  ASSERT_TRUE(attach(1).ok());
  ASSERT_TRUE(write(1, 3, 5).ok());
  for (size_t old = 1; old <= 3; ++old) {
    ASSERT_TRUE(add(1, old + 3).ok());
    ASSERT_TRUE(write(1, 100 + old, old).ok());
    ASSERT_TRUE(in_sync(10s));
    ASSERT_TRUE(remove(1, old).ok());
    ASSERT_TRUE(write(1, 200 + old, old).ok());
  }
  // The coordinator has no replica on its node any more.
  EXPECT_EQ(read(1, 3), 5u);
  EXPECT_EQ(config().members.size(), 3u);
  ASSERT_TRUE(detach(1).ok());
  for (size_t old = 1; old <= 3; ++old) kill(old);
  ASSERT_TRUE(attach(5).ok()) << attached_.error().to_string();
  EXPECT_EQ(read(5, 3), 5u);
  for (size_t old = 1; old <= 3; ++old) {
    EXPECT_EQ(read(5, 100 + old), old);
    EXPECT_EQ(read(5, 200 + old), old);
    start(old);
  }
  drive(cluster_->compare_replicas());
}

TEST_F(Members, WhoIsRemovedIsNotAskedByATakeover) {
  make_with_spares(2, 1);
  ASSERT_TRUE(attach(1).ok());
  ASSERT_TRUE(write(1, 0, 1).ok());
  ASSERT_TRUE(remove(1, 2).ok());
  EXPECT_EQ(config().in_sync, 0b001);
  EXPECT_EQ(at(1).members().size(), 1u);
  kill(1);
  EXPECT_EQ(attach(2).code(), ErrorCode::kUnavailable);
  start(1);
  ASSERT_TRUE(attach(2).ok()) << attached_.error().to_string();
  EXPECT_EQ(read(2, 0), 1u);
}

TEST_F(Members, TheLastThatCanBeReachedStays) {
  make_with_spares(2, 1);
  ASSERT_TRUE(attach(3).ok());
  ASSERT_TRUE(write(3, 0, 1).ok());
  freeze(2);
  ASSERT_TRUE(write(3, 0, 2).ok());  // without 2
  EXPECT_EQ(remove(3, 1).code(), ErrorCode::kFailedPrecondition);
  ASSERT_TRUE(add(3, 3).ok());
  thaw(2);
  ASSERT_TRUE(in_sync(20s));
  EXPECT_TRUE(remove(3, 1).ok());
  EXPECT_TRUE(remove(3, 2).ok());
  EXPECT_EQ(remove(3, 3).code(), ErrorCode::kFailedPrecondition);
  EXPECT_EQ(read(3, 0), 2u);
}

TEST_F(Members, AskedTwiceItHasHappenedOnce) {
  make_with_spares(2, 1);
  ASSERT_TRUE(attach(1).ok());
  ASSERT_TRUE(add(1, 3).ok());
  const uint64_t generation = config().generation;
  ASSERT_TRUE(add(1, 3).ok());
  EXPECT_GE(config().generation, generation);
  EXPECT_EQ(config().members.size(), 3u);
  ASSERT_TRUE(remove(1, 3).ok());
  ASSERT_TRUE(remove(1, 3).ok());
  EXPECT_EQ(config().members.size(), 2u);
}

TEST_F(Members, ThereAreEightAtMost) {
  make_with_spares(1, 1);
  ASSERT_TRUE(attach(1).ok());
  Status done;
  for (uint64_t i = 0; i < kMaxMembers; ++i) {
    VolumeMember member = member_on(2);
    member.replica = ReplicaId::from_random(i + 1, 5);  // there is none of these
    drive(keep(at(1).add_member(member), &done));
    EXPECT_EQ(done.code(), i + 1 < kMaxMembers ? ErrorCode::kOk : ErrorCode::kLimitExceeded);
  }
  EXPECT_TRUE(write(1, 0, 1).ok());
  drive(keep(at(1).remove_member(ReplicaId::from_random(3, 5)), &done));
  EXPECT_TRUE(done.ok());
  EXPECT_TRUE(add(1, 2).ok());
  EXPECT_EQ(slot_of(2), 3);
}

// The slot of the new one was that of a member that had been away: all others still have that one's
// map, and one of them is away itself meanwhile.
TEST_F(Members, TheMapOfAnEarlierOwnerOfTheSlotDoesNoHarm) {
  make_with_spares(3, 1);
  ASSERT_TRUE(attach(1).ok());
  for (uint64_t i = 0; i < 64; ++i) ASSERT_TRUE(write(1, i, i + 1).ok());
  kill(3);
  ASSERT_TRUE(write(1, 20, 1000).ok());  // 1 and 2 mark slot 2
  kill(2);
  ASSERT_TRUE(write(1, 40, 1001).ok());
  ASSERT_TRUE(remove(1, 3).ok());
  ASSERT_TRUE(add(1, 4).ok());
  EXPECT_EQ(slot_of(4), 2);
  wait(2s);
  EXPECT_EQ(config().in_sync, 0b101);
  start(2);  // with its old map of slot 2
  ASSERT_TRUE(in_sync(10s));
  kill(4);
  ASSERT_TRUE(write(1, 50, 1002).ok());
  kill(1);
  ASSERT_TRUE(attach(2).ok()) << attached_.error().to_string();
  start(4);
  start(1);
  ASSERT_TRUE(in_sync(10s));
  start(3);
  drive(cluster_->compare_replicas());
  EXPECT_EQ(read(2, 50), 1002u);
}

// Just as it is becoming mandatory, or while it is copied to: nothing waits for it afterwards.
TEST_F(Members, OneThatIsBeingCopiedToMayBeRemoved) {
  for (const char* moment : {"replicate.whole_copy", "replicate.resync_chunk",
                             "replicate.joiner_mandatory", "replicate.joined"}) {
    make_with_spares(2, 1);
    ASSERT_TRUE(attach(1).ok());
    for (uint64_t i = 0; i < 100; ++i) ASSERT_TRUE(write(1, i * 5, i + 1).ok());
    bool once = false;
    cluster_->sim().plan().on_probe([&](const char* probe) {
      if (once || std::string_view(probe) != moment) return;
      once = true;
      cluster_->sim().loop().after(Duration(), [&] { (void)spawn(pending_, remove_soon(1, 3)); });
    });
    ASSERT_TRUE(add(1, 3).ok());
    wait(3s);
    EXPECT_TRUE(once) << moment;
    EXPECT_TRUE(status_.ok()) << moment << ": " << status_.error().to_string();
    cluster_->sim().plan().on_probe(nullptr);
    EXPECT_EQ(config().in_sync, 0b011) << moment;
    EXPECT_EQ(config().members.size(), 2u) << moment;
    EXPECT_LT(stall(1, 7, 77), 0.1) << moment;
    ASSERT_TRUE(add(1, 3).ok());
    ASSERT_TRUE(in_sync(10s)) << moment;
    drive(cluster_->compare_replicas());
    drive(heal_and_stop());
    cluster_.reset();
  }
  make();
}

// A change that the state store did not confirm in time is settled by the next call, whatever that
// asks for.
TEST_F(Members, WithTheStateStoreAwayItIsNotKnownAndWritesGoOn) {
  make_with_spares(2, 1);
  ASSERT_TRUE(attach(1).ok());
  node(1).weather.away = true;
  (void)spawn(pending_, remove_soon(1, 2));
  wait(1s);
  EXPECT_LT(stall(1, 0, 1), 0.1);
  wait(15s);
  EXPECT_EQ(status_.code(), ErrorCode::kUnavailable);
  node(1).weather.away = false;
  ASSERT_TRUE(add(1, 2).ok());
  wait(5s);
  EXPECT_NE(slot_of(2), kNobody);
  ASSERT_TRUE(in_sync(10s));
  ASSERT_TRUE(write(1, 0, 2).ok());
  drive(cluster_->compare_replicas());
}

}  // namespace
}  // namespace hf::replicate_sim
