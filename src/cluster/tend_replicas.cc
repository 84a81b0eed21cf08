// Keeps each volume's replicas as they are wanted: as many as its spec says, on nodes that are there and
// stay. One pass does what can be done now; what takes time (a copy) is looked at again by the next.
#include <algorithm>

#include "base/log.h"
#include "cluster/plane.h"
#include "cluster/replicas.h"
#include "runtime/fault_point.h"

namespace hf::cluster {
namespace {

// After another node has taken a volume over from us that nobody uses: two nodes that do not see each
// other must not take it from each other all the time.
constexpr Duration kCareRest = std::chrono::seconds(60);
// Volumes whose replicas are moved only to stand better, at a time: a new zone is no reason to copy everything at once.
constexpr size_t kMovesAtOnce = 4;

bool is_settled(const VolumeRecord& record) {
  return record.state == LifeState::kReady && record.restoring.is_nil() && record.resizing_to_bytes == 0;
}

}  // namespace

// What the pass over all volumes looks at, read once.
Task<Result<Plane::Surroundings>> Plane::look_at_surroundings() {
  Surroundings out;
  Result<std::vector<PoolFacts>> pools = co_await pool_facts();
  HF_CO_TRY(pools);
  out.all_pools = std::move(pools).value();
  for (const PoolFacts& pool : out.all_pools) {
    out.pools[pool.pool.id] = &pool;
    out.kinds.add(pool.domain);
  }
  Result<std::map<VolumeId, std::vector<MemberInfo>>> members = co_await ports_.volumes->all_members();
  HF_CO_TRY(members);
  out.members = std::move(members).value();
  co_return std::move(out);
}

std::vector<ReplicaFacts> Plane::replica_facts(const VolumeRecord& record, const std::vector<MemberInfo>& told,
                                               const Surroundings& around) const {
  std::vector<ReplicaFacts> facts;
  for (const MemberRecord& member : record.members) {
    ReplicaFacts& fact = facts.emplace_back();
    fact.seat = seat_of(record, member);
    const auto pool = around.pools.find(member.pool);
    fact.gone = pool == around.pools.end();
    if (!fact.gone) {
      fact.draining = pool->second->node_draining;
      fact.reachable = pool->second->node_online && is_there(pool->second->pool);
    }
    for (const MemberInfo& info : told) {
      if (info.replica != member.replica) continue;
      fact.in_config = true;
      fact.in_sync = info.in_sync;
    }
  }
  return facts;
}

Task<Result<std::vector<ReplicaFacts>>> Plane::replica_facts_now(const VolumeRecord& record,
                                                                 const Surroundings& around) {
  Result<std::vector<MemberInfo>> told = co_await ports_.volumes->members(record.id);
  HF_CO_TRY(told);
  co_return replica_facts(record, told.value(), around);
}

// Whether a pass over this volume would do anything.
bool Plane::replicas_need_work(const VolumeRecord& record, const AttachmentRecord* attachment,
                               const Surroundings& around) const {
  if (!record.replicated || !is_settled(record)) return false;
  if (cared_for_.contains(record.id)) return true;
  if (!is_responsible(record, attachment)) return false;
  const auto told = around.members.find(record.id);
  if (told == around.members.end()) return false;
  const std::vector<ReplicaFacts> facts = replica_facts(record, told->second, around);
  VolumeRecord noted = record;
  if (note_absences(noted, facts, now())) return true;
  const NodeId user = attachment != nullptr ? attachment->node : NodeId();
  const ReplicaPlan plan = plan_replicas(record, facts, user, now(), options_.rebuild_after);
  if (plan.join != 0 || !plan.leave.empty()) return true;
  if (better_elsewhere(record, facts, around, user)) return true;
  const bool in_between = std::any_of(record.members.begin(), record.members.end(), [](const MemberRecord& member) {
    return member.state != MemberState::kMember;
  });
  return in_between || needs_service(record, facts);
}

// One pass, in the volume's section. Success: nothing is left, or time is what it needs
// (`unfinished_` says so). An error: what stands in the way.
Task<Status> Plane::tend_replicas(View& view, const Surroundings& around) {
  VolumeRecord& record = view.volume.record;
  unfinished_.erase(record.id);
  if (!record.replicated || !is_settled(record) || is_elsewhere(view)) co_return Status();
  Status decided = co_await decide_replicas(view, around);
  if (!decided.ok() && decided.code() != ErrorCode::kNoSpace && decided.code() != ErrorCode::kNotFound &&
      decided.code() != ErrorCode::kFailedPrecondition && decided.code() != ErrorCode::kUnavailable) {
    co_return decided;
  }
  Status acted = co_await act_on_replicas(view, around);
  HF_CO_TRY(acted);
  // That there is no place for another one keeps nothing else from being done.
  co_return decided;
}

// Into the record: who is away, who leaves, who joins.
Task<Status> Plane::decide_replicas(View& view, const Surroundings& around) {
  VolumeRecord& record = view.volume.record;
  Result<std::vector<ReplicaFacts>> seen = co_await replica_facts_now(record, around);
  HF_CO_TRY(seen);
  const std::vector<ReplicaFacts>& facts = seen.value();
  bool changed = note_absences(record, facts, now());
  const NodeId user = view.attachment ? view.attachment->record.node : NodeId();
  ReplicaPlan plan = plan_replicas(record, facts, user, now(), options_.rebuild_after);
  const std::optional<size_t> moved = better_elsewhere(record, facts, around, user);
  if (moved && plan.join == 0) {
    HF_PROBE("cluster.replica_moves_for_spread");
    plan.join = 1;
    std::erase(plan.stay, *moved);
  }
  for (const size_t leaving : plan.leave) {
    HF_PROBE("cluster.replica_leaves");
    record.members[leaving].state = MemberState::kLeaving;
    changed = true;
  }
  Group group;
  Status placed;
  if (plan.join > 0) {
    Result<Group> looked = co_await look_at_group(record);
    HF_CO_TRY(looked);
    group = std::move(looked).value();
    placed = place_joiners(record, facts, plan, around, group, user, &changed);
  }
  if (changed) {
    Batch batch(catalog_);
    batch.put(view.volume);
    if (!group.key.empty()) batch.place_in_group(group.key, group.token, record.id.to_string());
    Status recorded = co_await catalog_.commit(std::move(batch));
    HF_CO_TRY(recorded);
  }
  co_return placed;
}

// As many as there is room for: two copies are better than one.
Status Plane::place_joiners(VolumeRecord& record, const std::vector<ReplicaFacts>& facts, const ReplicaPlan& plan,
                            const Surroundings& around, const Group& group, NodeId user, bool* changed) {
  PlacementRequest request = request_for(record, group);
  request.asking = user.is_nil() ? options_.node : user;
  for (const size_t i : plan.stay) request.beside.push_back(facts[i].seat);
  for (const MemberRecord& member : record.members) request.without.push_back(member.node);
  Status placed;
  for (request.replicas = plan.join; request.replicas > 0; --request.replicas) {
    Result<std::vector<PoolInfo>> found = place_volume(request, around.all_pools, options_.limits);
    placed = found.ok() ? Status() : Status(found.error());
    if (!found.ok()) continue;
    for (const PoolInfo& pool : found.value()) {
      HF_PROBE("cluster.replica_joins");
      MemberRecord member;
      member.node = pool.node;
      member.pool = pool.id;
      member.replica = new_id<ReplicaId>(ports_.random);
      member.state = MemberState::kJoining;
      record.members.push_back(member);
      *changed = true;
    }
    break;
  }
  if (placed.ok()) return placed;
  return placed.error().with_context(
      fmt::format("volume {} wants {} replica{} more", record.name, plan.join, plan.join == 1 ? "" : "s"));
}

std::optional<size_t> Plane::better_elsewhere(const VolumeRecord& record, const std::vector<ReplicaFacts>& facts,
                                              const Surroundings& around, NodeId user) const {
  const bool busy = unfinished_.size() >= kMovesAtOnce && !unfinished_.contains(record.id);
  if (busy || !is_at_rest(record, facts)) return std::nullopt;
  std::vector<Seat> seats;
  for (const ReplicaFacts& fact : facts) seats.push_back(fact.seat);
  const Group no_group;
  return misplaced(seats, request_for(record, no_group), around.all_pools, around.kinds, options_.limits, user);
}

// Each member one step further, where one is due.
Task<Status> Plane::act_on_replicas(View& view, const Surroundings& around) {
  VolumeRecord& record = view.volume.record;
  Result<std::vector<ReplicaFacts>> seen = co_await replica_facts_now(record, around);
  HF_CO_TRY(seen);
  if (needs_service(record, seen.value())) {
    Status cared = co_await care_for(view);
    HF_CO_TRY(cared);
    seen = co_await replica_facts_now(record, around);
    HF_CO_TRY(seen);
  }
  const std::vector<ReplicaFacts>& facts = seen.value();
  Status trouble;
  bool changed = false, waits = false, soon = false;
  std::vector<MemberRecord> left;
  const std::vector<MemberRecord> members = record.members;
  for (size_t i = 0; i < members.size(); ++i) {
    MemberRecord member = members[i];
    bool removed = false;
    Status done;
    if (member.state == MemberState::kJoining) {
      done = co_await bring_in(record, member, facts[i]);
      if (done.ok() && facts[i].in_sync) {
        HF_PROBE("cluster.replica_joined");
        HF_LOG(kInfo, "cluster", "replica_joined volume={} node={}", record.name, node_name(member.node));
        member.state = MemberState::kMember;
        changed = true;
      } else {
        waits = true;
      }
    } else if (member.state == MemberState::kLeaving) {
      Result<bool> out = co_await take_out_replica(record, member, facts[i]);
      removed = out.ok() && out.value();
      if (!out.ok()) done = out.error();
      changed = changed || removed;
      waits = waits || !removed;
    } else if (facts[i].reachable && !facts[i].in_sync) {
      waits = true;
    } else if (member.away_since.ns != 0 && options_.rebuild_after < options_.reconcile_every) {
      soon = true;  // it is due before the next pass in any case
    }
    if (!done.ok()) trouble = done;
    if (!removed) left.push_back(member);
  }
  if (changed) {
    record.members = std::move(left);
    Status recorded = co_await put(view.volume);
    HF_CO_TRY(recorded);
  }
  if (waits || soon) unfinished_.insert(record.id);
  if (!waits && cared_for_.contains(record.id) && !scrubs_.contains(record.id)) {
    Status closed = co_await stop_caring(record);
    HF_CO_TRY(closed);
  }
  co_return trouble;
}

// Made on its node, then part of the configuration; the copy goes on by itself.
Task<Status> Plane::bring_in(const VolumeRecord& record, MemberRecord member, ReplicaFacts facts) {
  if (facts.in_config || !facts.reachable) co_return Status();
  Status made = co_await converge_on(record.id, member.node);
  HF_CO_TRY(made);
  MemberInfo info;
  info.replica = member.replica;
  info.node = member.node;
  info.pool = member.pool;
  co_return co_await ports_.volumes->add_member(record.id, info);
}

// Out of the configuration, then off its node. True: nothing is left of it that anybody waits for.
Task<Result<bool>> Plane::take_out_replica(const VolumeRecord& record, MemberRecord member, ReplicaFacts facts) {
  if (facts.in_config) {
    Status removed = co_await ports_.volumes->remove_member(record.id, member.replica);
    HF_CO_TRY(removed);
    HF_LOG(kInfo, "cluster", "replica_left volume={} node={}", record.name, node_name(member.node));
  }
  if (facts.gone) co_return true;
  if (!facts.reachable) co_return false;  // removed there when its node is back
  Status cleared = co_await converge_on(record.id, member.node);
  HF_CO_TRY(cleared);
  co_return true;
}

// The node's own replicas as the record says.
Task<Status> Plane::converge_on(VolumeId volume, NodeId node) {
  if (node == options_.node) co_return co_await converge_members(volume);
  Status done = co_await ports_.peers->node(node).converge(volume);
  if (!done.ok()) co_return done.error().with_context("node " + node_name(node));
  co_return Status();
}

// ---- Serving a volume that nobody uses, for as long as it is copied -------------------------------------------

bool Plane::is_served(VolumeId volume) const {
  const auto found = served_.find(volume);
  return found != served_.end() && !found->second.given_up;
}

Task<Status> Plane::care_for(View& view) {
  const VolumeId volume = view.volume->id;
  const bool open = ports_.volumes->is_open(volume) && !ports_.volumes->is_fenced(volume);
  if (open) co_return Status();
  if (view.attachment) {
    co_return make_error(ErrorCode::kUnavailable, "volume {} is attached here and not served yet", view.volume->name);
  }
  const auto rests = care_rests_.find(volume);
  if (rests != care_rests_.end() && ports_.clock.now() < rests->second) {
    co_return make_error(ErrorCode::kConflict, "another node tends volume {}", view.volume->name);
  }
  care_rests_.erase(volume);
  HF_PROBE("cluster.cares");
  const NodeId nobody;
  Result<std::shared_ptr<BlockDevice>> opened = co_await ports_.volumes->open(volume, nobody);
  HF_CO_TRY(opened);
  cared_for_.insert(volume);
  co_return Status();
}

// It is served by nobody afterwards, unless it is attached.
Task<Status> Plane::stop_caring(const VolumeRecord& record) {
  const VolumeId volume = record.id;
  if (cared_for_.erase(volume) == 0 || is_served(volume)) co_return Status();
  co_return co_await close_device(record);
}

// Another node has it now, or has deleted it: nothing of it is kept here.
Task<void> Plane::drop_fenced_cares() {
  const std::vector<VolumeId> all(cared_for_.begin(), cared_for_.end());
  for (const VolumeId& volume : all) {
    if (is_served(volume)) {
      cared_for_.erase(volume);
      continue;
    }
    bool over = ports_.volumes->is_fenced(volume);
    if (!over) {
      Result<std::optional<KeptVolume>> kept = co_await catalog_.volume(volume);
      if (!kept.ok()) co_return;
      over = !kept.value() || kept.value()->record.state == LifeState::kDeleting;
    }
    // It may have been attached here meanwhile.
    if (!over || !cared_for_.contains(volume) || is_served(volume)) continue;
    HF_PROBE("cluster.care_taken_over");
    cared_for_.erase(volume);
    care_rests_[volume] = ports_.clock.now() + kCareRest;
    co_await ports_.volumes->abandon(volume);
  }
}

// What was changed in the record is begun now, by whoever is to do it; it is found in any case.
Task<void> Plane::nudge(View& view) {
  VolumeRecord& record = view.volume.record;
  if (!record.replicated) co_return;
  const VolumeId volume = record.id;
  if (is_elsewhere(view)) {
    Status asked = co_await ports_.peers->node(view.attachment->record.node).settle(volume);
    if (!asked.ok()) HF_PROBE("cluster.nudge_lost");
    co_return;
  }
  const AttachmentRecord* attachment = view.attachment ? &view.attachment->record : nullptr;
  if (is_responsible(record, attachment) || cared_for_.contains(volume)) {
    Result<Surroundings> around = co_await look_at_surroundings();
    if (!around.ok()) co_return;
    Status tended = co_await tend_replicas(view, around.value());
    if (tended.ok()) troubles_.erase(volume);
    if (!tended.ok()) troubles_[volume] = tended.error().message();
    co_return;
  }
  for (const MemberRecord& member : record.members) {
    if (member.node == options_.node || !is_online(member.node)) continue;
    Status asked = co_await ports_.peers->node(member.node).settle(volume);
    if (!asked.ok()) HF_PROBE("cluster.nudge_lost");
    co_return;
  }
}

}  // namespace hf::cluster
