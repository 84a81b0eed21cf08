#include <algorithm>

#include "cluster/mutants.h"
#include "cluster/plane.h"
#include "runtime/fault_point.h"

namespace hf::cluster {

Task<Result<VolumeInfo>> Plane::restore(std::string volume, std::string snapshot) {
  Result<std::string> name = co_await name_of(std::move(volume));
  HF_CO_TRY(name);
  Result<Section> section = co_await enter(name.value());
  HF_CO_TRY(section);
  Result<View> loaded = co_await load_usable(name.value());
  HF_CO_TRY(loaded);
  View view = std::move(loaded).value();
  Result<std::optional<KeptSnapshot>> found = co_await find_snapshot(view.volume.record, snapshot);
  HF_CO_TRY(found);
  if (!found.value()) {
    co_return make_error(ErrorCode::kNotFound, "volume {} has no snapshot {}", name.value(),
                         snapshot);
  }
  if (is_elsewhere(view)) {
    Status taken = co_await take_from_other(view, false);
    HF_CO_TRY(taken);
  }
  Status whole = co_await check_all_in_sync(view.volume.record, found.value()->record);
  HF_CO_TRY(whole);
  if (view.attachment) {
    if (view.attachment->record.pinned) {
      co_return make_error(
          ErrorCode::kInUse,
          "volume {} is attached as {}; a restore changes it under its user: detach it first",
          name.value(), view.attachment->record.device);
    }
    Status released = co_await release_if_unused(view, options_.docker_grace);
    HF_CO_TRY(released);
  }
  view.volume->restoring = found.value()->record.id;
  if (!mutant(ControlMutant::kRestoreNotIntended)) {
    Status intended = co_await put(view.volume);
    HF_CO_TRY(intended);
  }
  Status restored = co_await finish_restore(view);
  HF_CO_TRY(restored);
  co_return co_await info(view);
}

// All or none: replicas of which some went back and some did not would differ and be called in sync. What a member
// lacks is counted from what the others had, and one that was made later, or was away at the cut, has no such snapshot.
Task<Status> Plane::check_all_in_sync(const VolumeRecord& record, const SnapshotRecord& snapshot) {
  if (!record.replicated) co_return Status();
  const std::string name = record.name;
  Result<std::vector<MemberInfo>> members = co_await ports_.volumes->members(record.id);
  HF_CO_TRY(members);
  const bool in_between = std::any_of(record.members.begin(), record.members.end(), [](const MemberRecord& member) {
    return member.state != MemberState::kMember;
  });
  if (in_between) {
    co_return make_error(ErrorCode::kFailedPrecondition,
                         "volume {} cannot be restored now: one of its replicas is being moved (holdfast volume inspect {}). "
                         "Wait until it is done, or clone the snapshot",
                         name, name);
  }
  for (const MemberInfo& member : members.value()) {
    if (member.in_sync) continue;
    co_return make_error(ErrorCode::kFailedPrecondition,
                         "volume {} cannot be restored now: its replica on node {} is not in sync. Attach the volume and "
                         "wait until it is, or clone the snapshot",
                         name, node_name(member.node));
  }
  const std::vector<MemberRecord> all = record.members;
  const VolumeId volume = record.id;
  const SnapshotId id = snapshot.id;
  const std::string cut = snapshot.name;
  for (const MemberRecord& member : all) {
    Result<bool> has = co_await has_snapshot(volume, member, id);
    HF_CO_TRY(has);
    if (has.value()) continue;
    HF_PROBE("cluster.restore_lacks_snapshot");
    co_return make_error(ErrorCode::kFailedPrecondition,
                         "volume {0} cannot be restored: its replica on node {1} was made, or was away, after snapshot {2} was "
                         "cut, and lacks it. Clone it instead: holdfast volume clone {0} {0}-restored --snapshot {2}",
                         name, node_name(member.node), cut);
  }
  co_return Status();
}

// Nothing is attached, and nothing attaches before this is done (settle comes first). The volume
// keeps its size: where it has grown since the snapshot, its file system grows at the next mount.
Task<Status> Plane::finish_restore(View& view) {
  VolumeRecord& record = view.volume.record;
  Result<std::vector<KeptSnapshot>> all = co_await catalog_.snapshots_of(record.id);
  HF_CO_TRY(all);
  Status uncared = co_await stop_caring(record);
  HF_CO_TRY(uncared);
  const auto snapshot = std::find_if(all->begin(), all->end(), [&](const KeptSnapshot& kept) {
    return kept->id == record.restoring;
  });
  HF_ASSERT(snapshot != all->end(), "volume {} restores a snapshot that is gone", record.name);
  MemberStep step = [this, &record](MemberRecord member) { return restore_replica(record, member); };
  Status restored = co_await on_members(record, std::move(step));
  HF_CO_TRY(restored);
  record.fs = (*snapshot)->fs;
  record.restoring = SnapshotId();
  co_return co_await put(view.volume);
}

}  // namespace hf::cluster
