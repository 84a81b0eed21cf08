// The pure parts: decisions, sets of ranges, and the lock over ranges.
#include "replicate/decide.h"

#include <gtest/gtest.h>

#include "base/prng.h"
#include "base/units.h"
#include "replicate/range_lock.h"
#include "runtime/test_loop.h"

namespace hf {
namespace {

Answers answers(uint8_t required, uint8_t answered, uint8_t refused = 0, bool held = false) {
  Answers a;
  a.required = required;
  a.answered = answered;
  a.refused = refused;
  a.held = held;
  return a;
}

TEST(Decide, KnowsANewerCopyHoweverOftenTheOldOneWasClaimed) {
  VolumeConfig old;
  old.epoch = 7;
  old.generation = 20;
  VolumeConfig copy = old;  // one claim and its activation later
  ++copy.epoch;
  copy.generation += 2;
  for (uint64_t claims = 1; claims < 20; ++claims) {
    VolumeConfig now = old;
    now.epoch += claims;
    now.generation += claims;
    now.instance = 5;
    EXPECT_TRUE(is_newer(copy, now, lead_of(now))) << claims;
    EXPECT_FALSE(is_newer(old, now, lead_of(now))) << claims;
  }
  // In the history of the copy, nothing that follows it makes it look newer.
  VolumeConfig next = copy;
  ++next.epoch;
  ++next.generation;
  EXPECT_FALSE(is_newer(copy, next, lead_of(next)));
  // What a coordinator has written itself since is no surprise.
  VolumeConfig own = next;
  own.instance = next.instance = 9;
  own.generation += 3;
  EXPECT_FALSE(is_newer(own, next, lead_of(next)));
  own.instance = 8;
  EXPECT_TRUE(is_newer(own, next, lead_of(next)));
}

TEST(Decide, APromotionIsOfAnotherLineageAndNewerThanAllBefore) {
  VolumeConfig config;
  config.epoch = 4;
  config.generation = 9;
  config.lineage = LineageId::from_random(1, 1);
  config.in_sync = 0b001;
  for (uint8_t slot = 0; slot < 3; ++slot) {
    VolumeMember& member = config.members.emplace_back();
    member.replica = ReplicaId::from_random(2, slot);
    member.slot = slot;
    member.left_generation = slot;
  }
  config.members[2].whole = true;
  const LineageId lineage = LineageId::from_random(3, 3);
  EXPECT_EQ(promoted(config, ReplicaId::from_random(9, 9), lineage).code(), ErrorCode::kNotFound);
  EXPECT_EQ(promoted(config, config.members[2].replica, lineage).code(), ErrorCode::kFailedPrecondition);
  const Result<VolumeConfig> next = promoted(config, config.members[1].replica, lineage);
  ASSERT_TRUE(next.ok());
  EXPECT_EQ(next->in_sync, 0b010);
  EXPECT_EQ(next->lineage, lineage);
  EXPECT_TRUE(next->members[0].whole && !next->members[1].whole && next->members[2].whole);
  EXPECT_EQ(next->members[0].left_generation, 9u);
  EXPECT_EQ(next->epoch, 5u);
  // A store that is rolled back to before it is noticed, and the one that was lost is no reason for quarantine.
  VolumeConfig claimed = config;
  ++claimed.epoch;
  ++claimed.generation;
  claimed.instance = 77;
  EXPECT_TRUE(is_newer(*next, claimed, lead_of(claimed)));
  claimed = *next;
  ++claimed.epoch;
  ++claimed.generation;
  EXPECT_FALSE(is_newer(config, claimed, lead_of(claimed)));
}

TEST(Decide, AcknowledgesOnlyWhatAllHaveWhoMust) {
  EXPECT_EQ(judge(answers(0b111, 0b011)), Verdict::kWait);
  EXPECT_EQ(judge(answers(0b111, 0b111)), Verdict::kAcknowledge);
  EXPECT_EQ(judge(answers(0b011, 0b111)), Verdict::kAcknowledge);
  EXPECT_EQ(judge(answers(0b011, 0b011, 0, true)), Verdict::kWait);
  EXPECT_EQ(judge(answers(0b011, 0b001, 0b010)), Verdict::kDropRefusers);
  EXPECT_EQ(judge(answers(0b011, 0, 0b011)), Verdict::kRefuse);
  EXPECT_EQ(judge(answers(0b011, 0, 0b001)), Verdict::kWait);
}

TEST(Decide, NeverAcknowledgesWithoutEveryRequiredAnswer) {
  for (unsigned required = 1; required < 16; ++required) {
    for (unsigned answered = 0; answered < 16; ++answered) {
      for (unsigned refused = 0; refused < 16; ++refused) {
        const Verdict v =
            judge(answers(static_cast<uint8_t>(required), static_cast<uint8_t>(answered),
                          static_cast<uint8_t>(refused)));
        EXPECT_EQ(v == Verdict::kAcknowledge, (required & ~answered) == 0);
      }
    }
  }
}

TEST(Decide, SomebodyInSyncAndReachableStays) {
  for (unsigned in_sync = 1; in_sync < 8; ++in_sync) {
    for (unsigned reachable = 0; reachable < 8; ++reachable) {
      Attendance a;
      a.in_sync = static_cast<uint8_t>(in_sync);
      a.required = a.in_sync;
      a.reachable = static_cast<uint8_t>(reachable);
      a.overdue = 0b111;
      const uint8_t drop = to_drop(a);
      EXPECT_EQ(drop & reachable, 0u);
      EXPECT_TRUE(drop == 0 || (in_sync & ~drop & reachable) != 0);
    }
  }
}

VolumeMember member_of(uint64_t n) {
  VolumeMember member;
  member.replica = ReplicaId::from_random(n, n);
  return member;
}

TEST(Decide, ANewMemberGetsAFreeSlotAndIsNotInSync) {
  EXPECT_EQ(free_slot(0), 0);
  EXPECT_EQ(free_slot(0b1011), 2);
  EXPECT_EQ(free_slot(0xff), kNobody);
  VolumeConfig config;
  config.generation = 7;
  config.in_sync = 0b1;
  config.members.push_back(member_of(1));
  VolumeMember added = member_of(2);
  added.slot = 1;
  config = with_new(config, added);
  EXPECT_EQ(config.in_sync, 0b1);
  EXPECT_TRUE(find_member(config, added.replica)->whole);
  EXPECT_EQ(find_member(config, added.replica)->left_generation, 8u);
  config = with(config, 0b10);
  EXPECT_EQ(config.in_sync, 0b11);
  EXPECT_FALSE(find_member(config, added.replica)->whole);
  config = without_member(config, 0);
  EXPECT_EQ(config.in_sync, 0b10);
  EXPECT_EQ(find_member(config, member_of(1).replica), nullptr);
  EXPECT_EQ(config.member_mask(), 0b10);
}

TEST(Decide, ChunksStayInsideTheirRanges) {
  RangeSet set;
  set.add(10 * kBlockSize, 100 * kBlockSize);
  set.add(500 * kBlockSize, kBlockSize);
  RangeSet covered;
  for (const auto& [offset, length] : chunks_of(set, 64 * kKiB)) {
    EXPECT_LE(length, 64 * kKiB);
    EXPECT_TRUE(set.contains(offset, length));
    covered.add(offset, length);
  }
  EXPECT_EQ(covered, set);
}

TEST(RangeSet, AgreesWithABitmap) {
  Prng prng(7);
  for (int round = 0; round < 200; ++round) {
    RangeSet set;
    std::vector<bool> bits(64);
    for (int i = 0; i < 12; ++i) {
      const uint64_t begin = prng.below(64), length = prng.below(65 - begin);
      set.add(begin, length);
      for (uint64_t at = begin; at < begin + length; ++at) bits[at] = true;
    }
    const uint64_t cut = prng.between(1, 64);
    set.cut_at(cut);
    uint64_t sum = 0;
    for (uint64_t at = 0; at < 64; ++at) {
      if (at >= cut) bits[at] = false;
      sum += bits[at] ? 1 : 0;
      EXPECT_EQ(set.overlaps(at, 1), bits[at]);
      EXPECT_EQ(set.contains(at, 1), bits[at]);
    }
    EXPECT_EQ(set.bytes(), sum);
  }
}

Task<void> hold(RangeLock& lock, uint64_t begin, uint64_t end, std::string name, std::string* log,
                Event& release) {
  co_await lock.lock(begin, end, RangeLock::Use::kWrite);
  RangeHold held(lock, begin);
  *log += name;
  co_await release.wait();
}

Task<void> read(RangeLock& lock, uint64_t begin, uint64_t end, std::string* log) {
  co_await lock.wait_written(begin, end);
  *log += "r";
}

TEST(RangeLock, FirstComeFirstServed) {
  TestLoop loop;
  Gate gate;
  RangeLock lock;
  std::string log;
  Event a, b, c, d;
  spawn(gate, hold(lock, 0, 10, "a", &log, a));
  spawn(gate, hold(lock, 5, 15, "b", &log, b));   // behind a
  spawn(gate, hold(lock, 12, 20, "c", &log, c));  // free, and yet behind b
  spawn(gate, hold(lock, 30, 40, "d", &log, d));
  loop.run();
  EXPECT_EQ(log, "ad");
  a.set();
  loop.run();
  EXPECT_EQ(log, "adb");
  b.set();
  loop.run();
  EXPECT_EQ(log, "adbc");
  c.set();
  d.set();
  loop.run();
  EXPECT_EQ(lock.held(), 0u);
}

TEST(RangeLock, AReaderWaitsForTheWritesOfItsMomentOnly) {
  TestLoop loop;
  Gate gate;
  RangeLock lock;
  std::string log;
  Event a, b;
  spawn(gate, hold(lock, 0, 10, "a", &log, a));
  spawn(gate, read(lock, 5, 6, &log));
  spawn(gate, hold(lock, 0, 10, "b", &log, b));
  loop.run();
  EXPECT_EQ(log, "a");
  a.set();
  loop.run();
  EXPECT_TRUE(log == "abr" || log == "arb") << log;
  b.set();
  loop.run();
}

}  // namespace
}  // namespace hf
