#include "cluster/replicas.h"

#include <gtest/gtest.h>

namespace hf::cluster {
namespace {

constexpr Duration kAfter = std::chrono::minutes(30);
constexpr WallTime kNow{int64_t{1'000'000'000} * 1'000'000};

struct Case {
  VolumeRecord record;
  std::vector<ReplicaFacts> facts;
  ReplicaPlan plan(NodeId user = NodeId()) const { return plan_replicas(record, facts, user, kNow, kAfter); }
};

// All in sync, on nodes 1 … n.
Case volume_of(uint32_t wanted, size_t there) {
  Case c;
  c.record.spec.repl = wanted;
  for (size_t i = 0; i < there; ++i) {
    MemberRecord& member = c.record.members.emplace_back();
    member.node = NodeId::from_random(1, i + 1);
    ReplicaFacts& fact = c.facts.emplace_back();
    fact.reachable = fact.in_config = fact.in_sync = true;
  }
  return c;
}

void away_for(Case& c, size_t i, Duration how_long) {
  c.facts[i].reachable = false;
  c.record.members[i].away_since.ns = kNow.ns - how_long.count();
}

using Indices = std::vector<size_t>;

TEST(PlanReplicas, AsManyAsWantedIsLeftAlone) {
  const ReplicaPlan plan = volume_of(3, 3).plan();
  EXPECT_EQ(plan.join, 0u);
  EXPECT_TRUE(plan.leave.empty());
}

TEST(PlanReplicas, WhatIsWantedMoreJoins) {
  EXPECT_EQ(volume_of(3, 1).plan().join, 2u);
  Case c = volume_of(3, 3);
  c.record.members[2].state = MemberState::kLeaving;
  EXPECT_EQ(c.plan().join, 1u) << "one that leaves is none";
}

TEST(PlanReplicas, OneThatJoinsCountsBeforeItIsInSync) {
  Case c = volume_of(2, 2);
  c.record.members[1].state = MemberState::kJoining;
  c.facts[1].in_config = c.facts[1].in_sync = false;
  EXPECT_EQ(c.plan().join, 0u);
  EXPECT_TRUE(c.plan().leave.empty());
}

TEST(PlanReplicas, OfTooManyTheUserKeepsItsOwnAndWhoLacksWritesGoes) {
  Case c = volume_of(1, 3);
  EXPECT_EQ(c.plan(c.record.members[0].node).leave, (Indices{2, 1}));
  EXPECT_EQ(c.plan(c.record.members[2].node).leave, (Indices{1, 0}));
  c.facts[0].in_sync = false;
  EXPECT_EQ(c.plan(c.record.members[0].node).leave, (Indices{0, 2}));
}

TEST(PlanReplicas, WithNobodyInSyncNobodyLeaves) {
  Case c = volume_of(1, 2);
  for (ReplicaFacts& fact : c.facts) fact.in_sync = false;
  EXPECT_TRUE(c.plan().leave.empty());
}

TEST(PlanReplicas, WhoIsAwayForLongIsReplacedAndLeavesOnlyThen) {
  Case c = volume_of(3, 3);
  away_for(c, 1, kAfter - std::chrono::seconds(1));
  EXPECT_EQ(c.plan().join, 0u);
  away_for(c, 1, kAfter);
  EXPECT_EQ(c.plan().join, 1u);
  EXPECT_TRUE(c.plan().leave.empty());
  MemberRecord& member = c.record.members.emplace_back();
  member.node = NodeId::from_random(1, 9);
  member.state = MemberState::kJoining;
  ReplicaFacts& fact = c.facts.emplace_back();
  fact.reachable = fact.in_config = true;
  EXPECT_EQ(c.plan().join, 0u);
  EXPECT_TRUE(c.plan().leave.empty()) << "its successor is not in sync yet";
  fact.in_sync = true;
  EXPECT_EQ(c.plan().leave, (Indices{1}));
}

TEST(PlanReplicas, WhoReturnsBeforeItsSuccessorIsInSyncStays) {
  Case c = volume_of(2, 3);
  c.record.members[2].state = MemberState::kJoining;
  c.facts[2].in_sync = false;
  EXPECT_EQ(c.plan().leave, (Indices{2}));
}

TEST(PlanReplicas, ADrainedNodeKeepsItsReplicaUntilAnotherIsInSync) {
  Case c = volume_of(1, 1);
  c.facts[0].draining = true;
  EXPECT_EQ(c.plan().join, 1u);
  EXPECT_TRUE(c.plan().leave.empty());
}

TEST(PlanReplicas, ANodeThatLeftTheClusterIsNotWaitedFor) {
  Case c = volume_of(2, 2);
  c.facts[0].gone = true;
  c.facts[0].reachable = false;
  EXPECT_EQ(c.plan().join, 1u);
  EXPECT_EQ(c.plan().leave, (Indices{0}));
  c.facts[1].in_sync = false;
  EXPECT_TRUE(c.plan().leave.empty()) << "nobody else has the data";
}

void stands_in(Case& c, size_t i, const std::string& zone) {
  c.facts[i].seat.node = c.record.members[i].node;
  c.facts[i].seat.domain.zone = zone;
}

TEST(PlanReplicas, OfTooManyThoseStayThatAreSpreadBest) {
  Case c = volume_of(2, 3);
  stands_in(c, 0, "a");
  stands_in(c, 1, "a");
  stands_in(c, 2, "b");
  EXPECT_EQ(c.plan(c.record.members[0].node).leave, (Indices{1}));
  EXPECT_EQ(c.plan(c.record.members[1].node).leave, (Indices{0})) << "at its user's node";
  c.facts[2].in_sync = false;
  EXPECT_TRUE(c.plan().leave.empty()) << "not before the one in zone b has all writes";
  c.facts[1].in_sync = false;
  EXPECT_EQ(c.plan().leave, (Indices{1})) << "one that lacks writes is missed by nobody";
}

TEST(PlanReplicas, OneThatMayNotBeThereIsTheFirstToGo) {
  Case c = volume_of(2, 3);
  stands_in(c, 0, "a");
  stands_in(c, 1, "b");
  stands_in(c, 2, "a");
  c.facts[1].seat.admitted = false;
  EXPECT_EQ(c.plan().leave, (Indices{1}));
}

TEST(PlanReplicas, IsAtRestOnlyWithAllInSyncAndWhereTheyBelong) {
  Case c = volume_of(2, 2);
  EXPECT_TRUE(is_at_rest(c.record, c.facts));
  Case joining = c;
  joining.record.members[1].state = MemberState::kJoining;
  EXPECT_FALSE(is_at_rest(joining.record, joining.facts));
  Case behind = c;
  behind.facts[0].in_sync = false;
  EXPECT_FALSE(is_at_rest(behind.record, behind.facts));
  c.record.spec.repl = 3;
  EXPECT_FALSE(is_at_rest(c.record, c.facts)) << "one is missing";
}

TEST(NoteAbsences, BeginsAndEnds) {
  Case c = volume_of(2, 2);
  EXPECT_FALSE(note_absences(c.record, c.facts, kNow));
  c.facts[1].reachable = false;
  EXPECT_TRUE(note_absences(c.record, c.facts, kNow));
  EXPECT_EQ(c.record.members[1].away_since.ns, kNow.ns);
  EXPECT_FALSE(note_absences(c.record, c.facts, WallTime{kNow.ns + 5})) << "since when, not until when";
  c.facts[1].reachable = true;
  EXPECT_TRUE(note_absences(c.record, c.facts, kNow));
  EXPECT_EQ(c.record.members[1].away_since.ns, 0);
}

TEST(NeedsService, WhereThereIsSomethingToCopyOrToTakeOut) {
  Case c = volume_of(2, 2);
  EXPECT_FALSE(needs_service(c.record, c.facts));
  c.facts[1].in_sync = false;
  EXPECT_TRUE(needs_service(c.record, c.facts));
  c.facts[1].reachable = false;
  EXPECT_FALSE(needs_service(c.record, c.facts)) << "nothing can be copied to who is away";
  c.record.members[1].state = MemberState::kLeaving;
  EXPECT_TRUE(needs_service(c.record, c.facts));
  c.facts[1].in_config = false;
  EXPECT_FALSE(needs_service(c.record, c.facts));
}

}  // namespace
}  // namespace hf::cluster
