// A volume's replicas on all their nodes, and its device over them.
#include <algorithm>

#include "base/log.h"
#include "cluster/lost_device.h"
#include "cluster/plane.h"
#include "runtime/fault_point.h"

namespace hf::cluster {
namespace {

// No volume's name begins with '/'.
std::string member_lock(VolumeId volume) {
  return "/members/" + volume.to_string();
}

// A daemon that is restarted in order refuses for a moment, and its users wait for it: not taken for
// dead before that is over.
constexpr Duration kRestartGrace = std::chrono::milliseconds(500);
constexpr Duration kRestartPause = std::chrono::milliseconds(100);

// Somebody took the volume over in the middle: the operation starts again from what is recorded by
// then.
Error as_conflict(const Error& error) {
  if (error.code() != ErrorCode::kFenced) return error;
  return Error(ErrorCode::kConflict, error.message());
}

}  // namespace

bool Plane::is_here(const View& view) const {
  return view.attachment && view.attachment->record.node == options_.node;
}

bool Plane::is_elsewhere(const View& view) const {
  return view.attachment && view.attachment->record.node != options_.node;
}

// Each replica in turn: `step` on this node's, the others' nodes act on the record, which says it
// already. Replicas of one volume are changed by one at a time on each node.
Task<Status> Plane::on_members(const VolumeRecord& record, MemberStep step) {
  const std::vector<MemberRecord> members = record.members;
  const VolumeId volume = record.id;
  const std::string name = record.name;
  for (const MemberRecord& member : members) {
    Status done;
    if (member.node == options_.node) {
      KeyedMutex::Guard guard = co_await locks_.lock(member_lock(volume));
      done = co_await step(member);
    } else if (ports_.peers != nullptr) {
      done = co_await ports_.peers->node(member.node).converge(volume);
      if (!done.ok()) {
        // Of a node that has left the cluster nothing is expected.
        Result<std::optional<KeptNode>> there = co_await catalog_.node(member.node);
        HF_CO_TRY(there);
        done = done.error().with_context("node " + node_name(member.node));
        if (!there.value()) done = Status();
      }
    } else {
      done = make_error(ErrorCode::kFailedPrecondition,
                        "volume {} has a replica on node {}, which this node does not know", name,
                        member.node.to_string());
    }
    HF_CO_TRY(done);
  }
  co_return Status();
}

// Asked by another node. The record may be gone by now, or say something else: that is done.
Task<Status> Plane::converge_members(VolumeId volume) {
  KeyedMutex::Guard guard = co_await locks_.lock(member_lock(volume));
  Result<std::optional<KeptVolume>> kept = co_await catalog_.volume(volume);
  HF_CO_TRY(kept);
  if (!kept.value()) co_return Status();
  const VolumeRecord& record = kept.value()->record;
  const Status reachable = check_pools_open(record);
  HF_CO_TRY(reachable);
  Result<std::vector<KeptSnapshot>> snapshots = co_await catalog_.snapshots_of(volume);
  HF_CO_TRY(snapshots);
  if (record.replicated && record.state == LifeState::kDeleting) {
    // Asked for something else a moment ago: who deletes it asks again, once nobody can serve it.
    if (cared_for_.erase(volume) > 0 && !is_served(volume)) co_await ports_.volumes->abandon(volume);
    Result<std::vector<MemberInfo>> served = co_await ports_.volumes->members(volume);
    if (served.ok()) co_return Status();
    if (served.code() != ErrorCode::kNotFound) co_return served.error();
  }
  for (const MemberRecord& member : record.members) {
    if (member.node != options_.node) continue;
    Status done;
    if (record.state == LifeState::kCreating) {
      done = co_await make_replica(record, member);
    } else if (record.state == LifeState::kDeleting) {
      done = co_await remove_replica(record, member);
    } else if (!record.restoring.is_nil()) {
      done = co_await restore_replica(record, member);
    }
    HF_CO_TRY(done);
    if (record.state != LifeState::kReady) continue;
    done = co_await move_replica(record, member);
    HF_CO_TRY(done);
    for (const KeptSnapshot& snapshot : snapshots.value()) {
      if (snapshot->state != LifeState::kDeleting) continue;
      done = co_await remove_cut(member, snapshot->id);
      HF_CO_TRY(done);
    }
  }
  co_return Status();
}

Task<Status> Plane::make_replica(const VolumeRecord& record, MemberRecord member) {
  ReplicaSpec replica;
  replica.replica = member.replica;
  replica.volume = record.id;
  replica.lineage = record.lineage;
  replica.size_bytes = record.source ? record.source->size_bytes : record.size_bytes;
  if (!record.source) co_return co_await ports_.host.create_replica(member.pool, replica);
  const CloneSource source = *record.source;
  ReplicaId from = source.replica;
  if (record.replicated) {
    // Of its origin's replicas, the one that shares its pool.
    Result<std::optional<KeptVolume>> origin = co_await catalog_.volume(source.volume);
    HF_CO_TRY(origin);
    if (!origin.value()) {
      co_return make_error(ErrorCode::kFailedPrecondition, "the volume that it is a clone of is gone");
    }
    for (const MemberRecord& other : origin.value()->record.members) {
      if (other.pool == member.pool) from = other.replica;
    }
  }
  co_return co_await ports_.host.clone_replica(member.pool, from, source.snapshot, replica);
}

Task<Status> Plane::remove_replica(const VolumeRecord& record, MemberRecord member) {
  const std::string what = "delete volume " + record.name;
  Status removed = co_await ports_.host.delete_replica(member.pool, member.replica);
  if (!removed.ok() && removed.code() != ErrorCode::kNotFound) co_return removed.error().with_context(what);
  co_return Status();
}

// One that joins is made, unless it is part of the configuration already: then it must be there, and one
// that is made anew would be taken for it. One that leaves is removed, once it is not part of it any more.
Task<Status> Plane::move_replica(const VolumeRecord& record, MemberRecord member) {
  if (member.state == MemberState::kMember || !record.restoring.is_nil()) co_return Status();
  const std::string name = record.name;
  Result<std::vector<MemberInfo>> told = co_await ports_.volumes->members(record.id);
  HF_CO_TRY(told);
  const bool in_config = std::any_of(told->begin(), told->end(),
                                     [&](const MemberInfo& info) { return info.replica == member.replica; });
  if (member.state == MemberState::kJoining) {
    if (in_config) co_return Status();
    co_return co_await make_replica(record, member);
  }
  if (!in_config) co_return co_await remove_replica(record, member);
  co_return make_error(ErrorCode::kConflict, "the replica of volume {} here is still part of it", name);
}

Task<Status> Plane::restore_replica(const VolumeRecord& record, MemberRecord member) {
  const std::string what = "restore volume " + record.name;
  const uint64_t size_bytes = record.size_bytes;
  Status restored =
      co_await ports_.host.restore_snapshot(member.pool, member.replica, record.restoring);
  if (!restored.ok()) co_return restored.error().with_context(what);
  Status sized = co_await ports_.host.resize_replica(member.pool, member.replica, size_bytes);
  if (!sized.ok()) co_return sized.error().with_context(what);
  co_return Status();
}

Task<Status> Plane::remove_cut(MemberRecord member, SnapshotId snapshot) {
  Status removed = co_await ports_.host.delete_snapshot(member.pool, member.replica, snapshot);
  if (removed.code() == ErrorCode::kNotFound) co_return Status();
  co_return removed;
}

// ---- The device ---------------------------------------------------------------------------------

Task<Result<std::shared_ptr<BlockDevice>>> Plane::open_device(const VolumeRecord& record,
                                                              uint64_t epoch, NodeId away) {
  if (record.replicated) {
    Result<std::shared_ptr<BlockDevice>> opened = co_await ports_.volumes->open(record.id, away);
    if (!opened.ok()) co_return as_conflict(opened.error());
    co_return std::move(opened);
  }
  const Result<MemberRecord> member = local_member(record);
  HF_CO_TRY(member);
  // An earlier attempt may have failed to close it.
  Status closed = co_await ports_.host.close_volume(member->pool, member->replica);
  HF_CO_TRY(closed);
  Result<std::shared_ptr<BlockDevice>> opened =
      co_await ports_.host.open_volume(member->pool, member->replica, epoch);
  if (opened.code() == ErrorCode::kNotFound) {
    // Of the replica, not of the volume: nobody may take it for a volume that is gone.
    co_return make_error(ErrorCode::kFailedPrecondition,
                         "its pool {} does not hold its replica {}: {}", member->pool.to_string(),
                         member->replica.to_string(), opened.error().message());
  }
  co_return std::move(opened);
}

Task<Status> Plane::close_device(const VolumeRecord& record) {
  if (record.replicated) {
    const std::string name = record.name;
    Status closed = co_await ports_.volumes->close(record.id);
    // It is closed. That the others do not know makes the next attach wait for the leases, no more.
    if (!closed.ok()) {
      HF_LOG(kInfo, "cluster", "not_released volume={} why=\"{}\"", name, closed.error().to_string());
    }
    co_return Status();
  }
  const Result<MemberRecord> member = local_member(record);
  HF_CO_TRY(member);
  co_return co_await ports_.host.close_volume(member->pool, member->replica);
}

// What is done to a replicated volume goes through who serves it; where nobody does, this node, for a
// moment.
Task<Status> Plane::through_device(const View& view, VolumeStep step) {
  const VolumeId volume = view.volume->id;
  const bool served = ports_.volumes->is_open(volume) && !ports_.volumes->is_fenced(volume);
  if (!served) {
    const NodeId nobody;
    Result<std::shared_ptr<BlockDevice>> opened = co_await ports_.volumes->open(volume, nobody);
    if (!opened.ok()) co_return as_conflict(opened.error());
  }
  Status done = co_await step(volume);
  if (!served) {
    HF_PROBE("cluster.served_for_a_moment");
    Status closed = co_await ports_.volumes->close(volume);
    if (!closed.ok()) HF_LOG(kInfo, "cluster", "not_released volume={}", view.volume->name);
  }
  if (!done.ok()) co_return as_conflict(done.error());
  co_return Status();
}

Task<Status> Plane::configure(const VolumeRecord& record) {
  std::vector<MemberInfo> members;
  for (const MemberRecord& member : record.members) {
    MemberInfo& info = members.emplace_back();
    info.replica = member.replica;
    info.node = member.node;
    info.pool = member.pool;
  }
  co_return co_await ports_.volumes->configure(record.id, record.lineage, members, record.epoch);
}

// ---- Who has it ---------------------------------------------------------------------------------

// One that refuses has died, unless it has given the volume back before: then it is being restarted.
Task<Status> Plane::ask_to_let_go(VolumeId volume, NodeId other) {
  const MonoTime give_up = ports_.clock.now() + kRestartGrace;
  while (true) {
    Status gone = co_await ports_.peers->node(other).let_go(volume);
    if (gone.code() != ErrorCode::kUnavailable || ports_.clock.now() >= give_up) co_return gone;
    Result<bool> released = co_await ports_.volumes->is_released(volume);
    if (!released.ok() || !released.value()) co_return gone;
    HF_PROBE("cluster.restart_waited_for");
    Status slept = co_await ports_.clock.sleep_for(kRestartPause, CancelToken());
    HF_CO_TRY(slept);
  }
}

// Attached on another node: asked to let go. It does unless somebody uses it there; a node that does
// not answer is not waited for, since it is fenced before anything is served here.
Task<Status> Plane::take_from_other(View& view, bool force) {
  VolumeRecord& record = view.volume.record;
  const NodeId other = view.attachment->record.node;
  const std::string where = "volume " + record.name + " is attached on node " + node_name(other);
  if (!record.replicated || ports_.peers == nullptr) {
    co_return make_error(ErrorCode::kInUse, "{}, which holds its only copy; detach it there first", where);
  }
  Status gone = co_await ask_to_let_go(record.id, other);
  const bool silent = gone.code() == ErrorCode::kUnavailable || gone.code() == ErrorCode::kTimeout ||
                      gone.code() == ErrorCode::kNotFound;
  if (gone.ok()) {
    HF_PROBE("cluster.handed_over");
    Result<std::optional<View>> again = co_await load(record.name);
    HF_CO_TRY(again);
    if (!again.value() || again.value()->volume->id != record.id || is_elsewhere(*again.value())) {
      co_return make_error(ErrorCode::kConflict, "{} again", where);
    }
    view = std::move(*again.value());
    co_return Status();
  }
  if (gone.code() == ErrorCode::kInUse && !force) {
    co_return make_error(ErrorCode::kInUse,
                         "{}: {}. Or take it from its users there: holdfast volume attach {} --force",
                         where, gone.error().message(), record.name);
  }
  if (!silent && gone.code() != ErrorCode::kInUse) co_return gone.error().with_context(where);
  HF_PROBE("cluster.taken_over");
  HF_LOG(kWarn, "cluster", "taken_over volume={} from_node={} why=\"{}\"", record.name, node_name(other),
         gone.error().message());
  // The record becomes ours with the epoch, in begin_serving().
  view.taken_from = other;
  if (silent) view.away = other;
  const Stamp stamp = view.attachment->record.stamp;
  view.attachment->record = own_attachment(record.id);
  view.attachment->record.stamp = stamp;
  co_return Status();
}

AttachmentRecord Plane::own_attachment(VolumeId volume) const {
  AttachmentRecord attachment;
  attachment.volume = volume;
  attachment.node = options_.node;
  attachment.boot = options_.boot_id;
  attachment.since = now();
  return attachment;
}

// Asked for by its id, with the right to work on it. Nothing where there is no such volume any more, or another one has its
// name by now.
Task<Result<std::optional<View>>> Plane::enter_by_id(VolumeId volume, Section* section) {
  std::optional<View> none;
  Result<std::optional<KeptVolume>> kept = co_await catalog_.volume(volume);
  HF_CO_TRY(kept);
  if (!kept.value()) co_return std::move(none);
  const std::string name = kept.value()->record.name;
  Result<Section> entered = co_await enter(name);
  HF_CO_TRY(entered);
  *section = std::move(entered).value();
  Result<View> view = co_await load_settled(name);
  if (view.code() == ErrorCode::kNotFound) co_return std::move(none);
  HF_CO_TRY(view);
  if (view->volume->id != volume) co_return std::move(none);
  co_return std::optional<View>(std::move(view).value());
}

// Asked by the node that wants the volume.
Task<Status> Plane::let_go(VolumeId volume) {
  Section section;
  Result<std::optional<View>> view = co_await enter_by_id(volume, &section);
  HF_CO_TRY(view);
  if (!view.value() || !is_here(*view.value())) co_return Status();
  const AttachmentRecord& attachment = view.value()->attachment->record;
  if (attachment.pinned) {
    co_return make_error(ErrorCode::kInUse, "somebody attached it there as {}", attachment.device);
  }
  co_return co_await release_if_unused(*view.value(), options_.docker_grace);
}

Task<Status> Plane::detach_here(VolumeId volume) {
  Section section;
  Result<std::optional<View>> view = co_await enter_by_id(volume, &section);
  HF_CO_TRY(view);
  if (!view.value() || !is_here(*view.value())) co_return Status();
  co_return co_await release_if_unused(*view.value(), options_.docker_grace);
}

Task<Status> Plane::settle_here(VolumeId volume) {
  Section section;
  Result<std::optional<View>> view = co_await enter_by_id(volume, &section);
  HF_CO_TRY(view);
  if (!view.value() || !view.value()->volume->replicated || is_elsewhere(*view.value())) co_return Status();
  Result<Surroundings> around = co_await look_at_surroundings();
  HF_CO_TRY(around);
  co_return co_await tend_replicas(*view.value(), around.value());
}

Task<Result<std::vector<MemberInfo>>> Plane::members_here(VolumeId volume) {
  if (ports_.volumes == nullptr) co_return Error(ErrorCode::kNotFound, "no replicated volumes here");
  co_return co_await ports_.volumes->members(volume);
}

Task<Result<std::vector<SnapshotId>>> Plane::snapshots_here(VolumeId volume) {
  Result<std::optional<KeptVolume>> kept = co_await catalog_.volume(volume);
  HF_CO_TRY(kept);
  if (!kept.value()) co_return make_error(ErrorCode::kNotFound, "there is no volume {}", volume.to_string());
  for (const MemberRecord& member : kept.value()->record.members) {
    if (member.node != options_.node) continue;
    co_return co_await ports_.host.list_snapshots(member.pool, member.replica);
  }
  co_return make_error(ErrorCode::kNotFound, "no replica of volume {} here", volume.to_string());
}

Task<Result<bool>> Plane::has_snapshot(VolumeId volume, MemberRecord member, SnapshotId snapshot) {
  Result<std::vector<SnapshotId>> there = Error(ErrorCode::kUnavailable, "");
  if (member.node == options_.node) {
    there = co_await ports_.host.list_snapshots(member.pool, member.replica);
  } else {
    there = co_await ports_.peers->node(member.node).snapshots(volume);
    if (!there.ok()) there = there.error().with_context("node " + node_name(member.node));
  }
  HF_CO_TRY(there);
  co_return std::find(there->begin(), there->end(), snapshot) != there->end();
}

// ---- What another node has taken over -----------------------------------------------------------

// Its device is in this kernel and belongs to nobody any more: all its I/O fails, so that its users can
// end, and it leaves the kernel as soon as they have. Empty: it is out; else who keeps it.
Task<Result<std::string>> Plane::expel(const VolumeRecord& record, const ExportInfo* orphan) {
  const VolumeId volume = record.id;
  const std::string whose = record.name;
  Result<std::string> why = co_await expel_device(record, orphan);
  expelled_.erase(volume);
  if (why.ok() && why->empty()) co_return std::move(why);
  expelled_[volume] = fmt::format("volume {} was taken from this node: its users here get I/O errors and have to end ({})", whose,
                                  why.ok() ? why.value() : why.error().message());
  co_return std::move(why);
}

Task<Result<std::string>> Plane::expel_device(const VolumeRecord& record, const ExportInfo* orphan) {
  const VolumeId volume = record.id;
  const std::string name = record.name;
  auto found = served_.find(volume);
  if (found == served_.end()) {
    if (orphan == nullptr) co_return std::string();
    std::shared_ptr<BlockDevice> nothing = std::make_shared<LostDevice>(name, record.size_bytes);
    Result<ExportInfo> exported = co_await ports_.exporter.attach(volume, orphan->kind, nothing);
    HF_CO_TRY(exported);
    Served& served = served_[volume];
    served.device = std::move(nothing);
    served.path = exported->device;
    served.given_up = true;
  } else if (!found->second.given_up) {
    HF_LOG(kWarn, "cluster", "expelled volume={}: another node has it; I/O on {} fails here from now on", name,
           found->second.path);
    if (ports_.volumes != nullptr) co_await ports_.volumes->abandon(volume);
    served_[volume].given_up = true;
  }
  HF_PROBE("cluster.expelled");
  const std::string device = served_[volume].path;
  std::string kept;
  if (!device.empty()) {
    Result<std::vector<std::string>> mounts = co_await ports_.mounter.mounts_of(device);
    HF_CO_TRY(mounts);
    std::sort(mounts->begin(), mounts->end());
    for (size_t i = mounts->size(); i-- > 0;) {
      Status down = co_await ports_.mounter.unmount((*mounts)[i]);
      if (!down.ok()) kept = "files below " + (*mounts)[i] + " are open";
    }
  }
  if (!kept.empty()) co_return kept;
  Status detached = co_await ports_.exporter.detach(volume);
  // What the kernel still had to write belongs to nobody; it says so once.
  if (detached.code() == ErrorCode::kIo) detached = co_await ports_.exporter.detach(volume);
  if (detached.code() == ErrorCode::kInUse) co_return "something has " + device + " open or mounted";
  HF_CO_TRY(detached);
  served_.erase(volume);
  co_return std::string();
}

// Every volume that this process serves and that is not attached here any more.
Task<bool> Plane::look_for_expelled(bool only_fenced) {
  if (ports_.volumes == nullptr) co_return true;
  bool well = true;
  std::vector<VolumeId> served;
  for (const auto& [volume, entry] : served_) {
    if (lost_.contains(volume)) continue;
    if (only_fenced && !entry.given_up && !ports_.volumes->is_fenced(volume)) continue;
    served.push_back(volume);
  }
  for (const VolumeId& volume : served) {
    Result<std::optional<KeptVolume>> kept = co_await catalog_.volume(volume);
    if (!kept.ok()) co_return false;
    if (!kept.value() || !kept.value()->record.replicated) continue;
    const std::string name = kept.value()->record.name;
    Result<Section> section = co_await enter(name);
    if (!section.ok()) co_return false;
    Result<std::optional<View>> view = co_await load(name);
    if (!view.ok()) co_return false;
    if (!view.value() || view.value()->volume->id != volume || is_here(*view.value())) continue;
    // Another node wants it and may never get it: until then it is served here.
    const bool wanted = view.value()->attachment && !view.value()->attachment->record.attached;
    const auto still = served_.find(volume);
    if (still == served_.end()) continue;
    if (wanted && !still->second.given_up && !ports_.volumes->is_fenced(volume)) continue;
    Result<std::string> why = co_await expel(view.value()->volume.record, nullptr);
    if (why.ok() && why->empty()) continue;
    well = false;
  }
  co_return well;
}

}  // namespace hf::cluster
