#include <algorithm>

#include "cluster/mutants.h"
#include "cluster/plane.h"
#include "volume/spec/validate.h"

namespace hf::cluster {

Task<Result<VolumeInfo>> Plane::clone(const CloneVolume& request) {
  if (!spec::is_valid_name(request.name)) {
    co_return make_error(ErrorCode::kInvalidSpec, "{:?} is no volume name",
                         request.name.substr(0, 64));
  }
  Result<std::string> parent_name = co_await name_of(request.parent);
  HF_CO_TRY(parent_name);
  if (parent_name.value() == request.name) {
    co_return make_error(ErrorCode::kInvalidArgument, "volume {} cannot be a clone of itself",
                         request.name);
  }
  // Always in the order of the names, so that two clones never wait for each other.
  const std::string low = std::min(parent_name.value(), request.name);
  const std::string high = std::max(parent_name.value(), request.name);
  Section section;
  section.first = co_await locks_.lock(low);
  section.second = co_await locks_.lock(high);
  co_await driving_.acquire();
  section.driving = SemaphoreUnits(driving_, 1);

  std::string origin = parent_name.value();
  if (!request.snapshot.empty()) origin += "@" + request.snapshot;
  Result<std::optional<View>> there = co_await load(request.name);
  HF_CO_TRY(there);
  if (there.value()) {
    Status settled = co_await settle(*there.value());
    const bool gone = settled.code() == ErrorCode::kNotFound;
    if (!settled.ok() && !gone) co_return settled.error();
    if (!gone && there.value()->volume->parent == origin) co_return co_await info(*there.value());
    if (!gone) {
      co_return make_error(ErrorCode::kAlreadyExists,
                           "there is a volume {} already, and it is no clone of {}", request.name,
                           origin);
    }
  }
  Result<View> parent = co_await load_usable(parent_name.value());
  HF_CO_TRY(parent);
  const VolumeRecord& from = parent->volume.record;
  Result<KeptSnapshot> origin_snapshot = co_await snapshot_to_clone(parent.value(), request.snapshot);
  HF_CO_TRY(origin_snapshot);
  KeptSnapshot snapshot = std::move(origin_snapshot).value();
  View view;
  VolumeRecord& record = view.volume.record;
  record.id = new_id<VolumeId>(ports_.random);
  record.name = request.name;
  record.spec = from.spec;
  record.spec.name = request.name;
  record.spec.sticky = false;
  record.spec.labels = request.labels;
  if (request.labels.empty()) record.spec.explicit_keys.erase(spec::SpecKey::kLabels);
  record.size_bytes = snapshot->size_bytes;
  record.spec.size_bytes = snapshot->size_bytes;
  record.spec.parent = origin;
  const Status valid = spec::validate(record.spec);
  HF_CO_TRY(valid);
  record.created_spec = record.spec;
  record.created = now();
  record.lineage = new_id<LineageId>(ports_.random);
  record.parent = origin;
  record.fs = snapshot->fs;
  if (mutant(ControlMutant::kCloneFsOfHead)) record.fs = from.fs;
  CloneSource source;
  source.volume = from.id;
  source.snapshot = snapshot->id;
  source.size_bytes = snapshot->size_bytes;
  record.replicated = from.replicated;
  Result<std::vector<MemberRecord>> origins = co_await clone_origins(from, snapshot->id);
  HF_CO_TRY(origins);
  source.replica = origins->front().replica;
  record.source = source;
  for (MemberRecord member : origins.value()) {  // blocks are shared within a pool
    member.replica = new_id<ReplicaId>(ports_.random);
    member.state = MemberState::kMember;
    record.members.push_back(member);
  }

  Result<std::vector<PoolInfo>> pools = co_await pool_infos();
  HF_CO_TRY(pools);
  for (const PoolInfo& pool : pools.value()) {
    const bool of_it = std::any_of(record.members.begin(), record.members.end(),
                                   [&](const MemberRecord& member) { return member.pool == pool.id; });
    if (!of_it) continue;
    const Status room = check_room(pool, record.size_bytes, options_.limits);
    if (!room.ok()) co_return room.error().with_context("clone " + request.name);
  }
  Result<Group> group = co_await look_at_group(record);
  HF_CO_TRY(group);
  Status begun = co_await begin_create(view.volume, group.value());
  HF_CO_TRY(begun);
  Status made = co_await finish_create(view);
  HF_CO_TRY(made);
  co_return co_await info(view);
}

// The one that is named, or an internal one of this moment.
Task<Result<KeptSnapshot>> Plane::snapshot_to_clone(View& parent, std::string name) {
  if (name.empty()) {
    const std::map<std::string, std::string> no_labels;
    co_return co_await cut_snapshot(parent, std::string(), no_labels, false);
  }
  const std::string volume = parent.volume->name;
  Result<std::optional<KeptSnapshot>> found = co_await find_snapshot(parent.volume.record, name);
  HF_CO_TRY(found);
  if (!found.value()) co_return make_error(ErrorCode::kNotFound, "volume {} has no snapshot {}", volume, name);
  co_return std::move(*found.value());
}

// The replicas that have the snapshot and answer. Where they are fewer than the clone wants, more are made of it later.
Task<Result<std::vector<MemberRecord>>> Plane::clone_origins(const VolumeRecord& from, SnapshotId snapshot) {
  std::vector<MemberRecord> origins;
  if (!from.replicated) {
    const Result<MemberRecord> member = local_member(from);
    HF_CO_TRY(member);
    origins.push_back(member.value());
    co_return std::move(origins);
  }
  const std::vector<MemberRecord> all = from.members;
  const std::string name = from.name;
  const VolumeId volume = from.id;
  Result<std::vector<MemberInfo>> members = co_await ports_.volumes->members(from.id);
  HF_CO_TRY(members);
  for (const MemberRecord& member : all) {
    for (const MemberInfo& info : members.value()) {
      const bool stays = member.state != MemberState::kLeaving;
      if (info.replica != member.replica || !info.in_sync || !stays) continue;
      Result<bool> has = co_await has_snapshot(volume, member, snapshot);
      if (has.ok() && has.value()) origins.push_back(member);
    }
  }
  if (origins.empty()) co_return make_error(ErrorCode::kUnavailable, "no replica of volume {} that has the snapshot answers and is in sync", name);
  co_return std::move(origins);
}

// An internal snapshot has done its duty once the clone shares its blocks.
Task<Status> Plane::drop_clone_source(const CloneSource& source) {
  Result<std::optional<KeptVolume>> parent = co_await catalog_.volume(source.volume);
  HF_CO_TRY(parent);
  if (!parent.value()) co_return Status();
  Result<std::vector<KeptSnapshot>> snapshots = co_await catalog_.snapshots_of(source.volume);
  HF_CO_TRY(snapshots);
  for (KeptSnapshot& snapshot : snapshots.value()) {
    if (snapshot->id != source.snapshot || !snapshot->name.empty()) continue;
    co_return co_await drop_snapshot(parent.value()->record, snapshot);
  }
  co_return Status();
}

}  // namespace hf::cluster
