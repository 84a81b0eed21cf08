#include "cluster/replicas.h"

#include <algorithm>
#include <cstdint>
#include <tuple>

namespace hf::cluster {
namespace {

bool is_overdue(const MemberRecord& member, WallTime now, Duration rebuild_after) {
  return member.away_since.ns != 0 && now.ns - member.away_since.ns >= rebuild_after.count();
}

}  // namespace

ReplicaPlan plan_replicas(const VolumeRecord& record, const std::vector<ReplicaFacts>& facts,
                          NodeId user, WallTime now, Duration rebuild_after) {
  HF_ASSERT(facts.size() == record.members.size());
  ReplicaPlan plan;
  const size_t wanted = record.spec.repl;
  std::vector<size_t> good, bad;
  size_t good_in_sync = 0, in_sync = 0;
  for (size_t i = 0; i < facts.size(); ++i) {
    const MemberRecord& member = record.members[i];
    if (member.state == MemberState::kLeaving) continue;
    const bool serves = facts[i].in_sync && facts[i].reachable;
    in_sync += serves ? 1 : 0;
    const bool is_bad =
        facts[i].gone || facts[i].draining || (!facts[i].reachable && is_overdue(member, now, rebuild_after));
    (is_bad ? bad : good).push_back(i);
    if (!is_bad && serves) ++good_in_sync;
  }
  if (good.size() < wanted) plan.join = static_cast<uint32_t>(wanted - good.size());
  for (const size_t i : bad) {
    // Nobody waits for a node that is gone, as long as somebody else has the data.
    const size_t others = in_sync - (facts[i].in_sync && facts[i].reachable ? 1 : 0);
    const bool forsaken = facts[i].gone && others > 0;
    if (good_in_sync >= wanted || forsaken) plan.leave.push_back(i);
  }
  plan.stay = good;
  if (good.size() <= wanted || good_in_sync == 0) return plan;
  // More than wanted: the best spread stays; else who has least to give goes first, who serves its user's node last.
  size_t serving = good_in_sync;
  while (plan.stay.size() > wanted) {
    const auto rank = [&](size_t i) {
      std::vector<Seat> others;
      for (const size_t other : plan.stay) {
        if (other != i) others.push_back(facts[other].seat);
      }
      const bool at_user = !user.is_nil() && record.members[i].node == user;
      const auto [strangers, zones, racks] = spread_of(others);
      return std::make_tuple(-strangers, SIZE_MAX - zones, SIZE_MAX - racks, facts[i].in_sync && facts[i].reachable, at_user,
                             SIZE_MAX - i);
    };
    const auto goes = std::min_element(plan.stay.begin(), plan.stay.end(),
                                       [&](size_t a, size_t b) { return rank(a) < rank(b); });
    const size_t i = *goes;
    const bool serves = facts[i].in_sync && facts[i].reachable;
    plan.stay.erase(goes);
    if (serves && serving <= wanted) continue;  // once another one has all writes
    if (serves) --serving;
    plan.leave.push_back(i);
  }
  return plan;
}

bool is_at_rest(const VolumeRecord& record, const std::vector<ReplicaFacts>& facts) {
  HF_ASSERT(facts.size() == record.members.size());
  for (size_t i = 0; i < facts.size(); ++i) {
    const ReplicaFacts& fact = facts[i];
    if (record.members[i].state != MemberState::kMember || !fact.in_config || !fact.in_sync) return false;
    if (fact.gone || fact.draining || !fact.reachable) return false;
  }
  return facts.size() == record.spec.repl;
}

bool note_absences(VolumeRecord& record, const std::vector<ReplicaFacts>& facts, WallTime now) {
  HF_ASSERT(facts.size() == record.members.size());
  bool changed = false;
  for (size_t i = 0; i < facts.size(); ++i) {
    WallTime& since = record.members[i].away_since;
    const bool away = !facts[i].reachable;
    if (away == (since.ns != 0)) continue;
    since = away ? now : WallTime();
    changed = true;
  }
  return changed;
}

bool needs_service(const VolumeRecord& record, const std::vector<ReplicaFacts>& facts) {
  HF_ASSERT(facts.size() == record.members.size());
  for (size_t i = 0; i < facts.size(); ++i) {
    const MemberState state = record.members[i].state;
    if (state == MemberState::kLeaving && facts[i].in_config) return true;
    if (state != MemberState::kLeaving && facts[i].reachable && !facts[i].in_sync) return true;
  }
  return false;
}

}  // namespace hf::cluster
