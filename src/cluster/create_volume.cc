#include "base/log.h"
#include "base/units.h"
#include "cluster/mutants.h"
#include "cluster/plane.h"
#include "runtime/fault_point.h"
#include "volume/spec/mount_options.h"
#include "volume/spec/reuse.h"
#include "volume/spec/validate.h"

namespace hf::cluster {

Task<Result<VolumeInfo>> Plane::create(const CreateVolume& request) {
  if (!spec::is_valid_name(request.name)) {
    co_return make_error(
        ErrorCode::kInvalidSpec,
        "{:?} is no volume name: 1 to {} of 0-9 A-Z a-z . _ - in segments with / between "
        "them, each starting with a letter or digit",
        request.name.substr(0, 64), spec::kMaxNameBytes);
  }
  if (!request.spec.parent.empty()) co_return co_await create_from_parent(request);
  Result<Section> section = co_await enter(request.name);
  HF_CO_TRY(section);
  Result<std::optional<View>> there = co_await load(request.name);
  HF_CO_TRY(there);
  if (there.value()) {
    Status settled = co_await settle(*there.value());
    if (settled.ok()) co_return co_await reuse(*there.value(), request);
    if (settled.code() != ErrorCode::kNotFound) co_return settled.error();
    HF_PROBE("cluster.create_after_unfinished_delete");
  }
  const Status supported = spec::check_support(request.spec, options_.capabilities);
  HF_CO_TRY(supported);
  const Status mountable = spec::check_mount_options(request.spec.fs, request.spec.mount_options);
  HF_CO_TRY(mountable);

  View view;
  VolumeRecord& record = view.volume.record;
  record.id = new_id<VolumeId>(ports_.random);
  record.name = request.name;
  record.spec = request.spec;
  record.spec.name = request.name;
  record.size_bytes = round_up(request.spec.size_bytes, kBlockSize);
  record.spec.size_bytes = record.size_bytes;
  const Status valid = spec::validate(record.spec);
  HF_CO_TRY(valid);
  record.created_spec = record.spec;
  record.created = now();
  record.lineage = new_id<LineageId>(ports_.random);
  record.fs.bytes = record.size_bytes;
  record.replicated = ports_.volumes != nullptr;
  Result<Group> group = co_await look_at_group(record);
  HF_CO_TRY(group);
  Status planned = co_await plan_members(record, group.value(), request.near);
  HF_CO_TRY(planned);
  Status begun = co_await begin_create(view.volume, group.value());
  HF_CO_TRY(begun);
  Status made = co_await finish_create(view);
  HF_CO_TRY(made);
  co_return co_await info(view);
}

// parent=volume or parent=volume@snapshot: a clone, whose other keys are those of its parent.
Task<Result<VolumeInfo>> Plane::create_from_parent(const CreateVolume& request) {
  CloneVolume clone_request;
  clone_request.name = request.name;
  const size_t at = request.spec.parent.find('@');
  clone_request.parent = request.spec.parent.substr(0, at);
  if (at != std::string::npos) clone_request.snapshot = request.spec.parent.substr(at + 1);
  clone_request.labels = request.spec.labels;
  Result<VolumeInfo> parent = co_await inspect(clone_request.parent);
  HF_CO_TRY(parent);
  VolumeSpec expected = parent->spec;
  expected.parent = request.spec.parent;
  expected.labels = request.spec.labels;
  const bool sized = request.spec.explicit_keys.contains(spec::SpecKey::kSize);
  if (sized) expected.size_bytes = request.spec.size_bytes;
  const Result<spec::SpecDecision> fits = spec::compare_for_reuse(expected, request.spec);
  if (!fits.ok()) co_return fits.error().with_context("a clone has the keys of its parent");
  Result<VolumeInfo> cloned = co_await clone(clone_request);
  HF_CO_TRY(cloned);
  if (!sized || request.spec.size_bytes == cloned->size_bytes) co_return std::move(cloned);
  co_return co_await resize(request.name, request.spec.size_bytes);
}

// The volume is there: the same one, or another that happens to have the name?
Task<Result<VolumeInfo>> Plane::reuse(View& view, const CreateVolume& request) {
  const VolumeRecord& record = view.volume.record;
  const Result<spec::SpecDecision> decision =
      spec::compare_for_reuse(record.created_spec, record.spec, request.spec);
  HF_CO_TRY(decision);
  if (decision->kind == spec::SpecDecision::Kind::kGrow) {
    Status grown = co_await grow_to(view, decision->grow_to_bytes);
    HF_CO_TRY(grown);
  }
  co_return co_await info(view);
}

// What the planner would place: the one who decides is asked.
Task<Result<uint64_t>> Plane::largest(const CreateVolume& request) {
  const Status supported = spec::check_support(request.spec, options_.capabilities);
  HF_CO_TRY(supported);
  VolumeRecord record;
  record.spec = request.spec;
  Result<Group> group = co_await look_at_group(record);
  HF_CO_TRY(group);
  Result<std::vector<PoolFacts>> facts = co_await pool_facts();
  HF_CO_TRY(facts);
  PlacementRequest asked = request_for(record, group.value());
  asked.asking = request.near.is_nil() ? options_.node : request.near;
  uint64_t fits = 0, too_large = spec::kMaxVolumeBytes / kBlockSize + 1;
  while (too_large - fits > 1) {
    const uint64_t middle = fits + (too_large - fits) / 2;
    asked.size_bytes = middle * kBlockSize;
    const bool placed = place_volume(asked, facts.value(), options_.limits).ok();
    (placed ? fits : too_large) = middle;
  }
  const uint64_t bytes = fits * kBlockSize;
  co_return bytes >= spec::min_volume_bytes(request.spec.fs) ? bytes : 0;
}

Task<Status> Plane::plan_members(VolumeRecord& record, const Group& group, NodeId near) {
  Result<std::vector<PoolFacts>> facts = co_await pool_facts();
  HF_CO_TRY(facts);
  PlacementRequest request = request_for(record, group);
  request.asking = near.is_nil() ? options_.node : near;
  Result<std::vector<PoolInfo>> pools = place_volume(request, facts.value(), options_.limits);
  if (!pools.ok() && ports_.peers != nullptr) {
    // What is known of the others may be a second old: of a pool that was just made, or has just got room.
    co_await ask_neighbours();
    facts = co_await pool_facts();
    HF_CO_TRY(facts);
    pools = place_volume(request, facts.value(), options_.limits);
  }
  if (!pools.ok()) co_return pools.error().with_context("volume " + record.name);
  for (const PoolInfo& pool : pools.value()) {
    MemberRecord member;
    member.node = pool.node;
    member.pool = pool.id;
    member.replica = new_id<ReplicaId>(ports_.random);
    record.members.push_back(member);
  }
  co_return Status();
}

Task<Status> Plane::begin_create(KeptVolume& volume, const Group& group) {
  volume->state = LifeState::kCreating;
  if (mutant(ControlMutant::kReplicaBeforeRecord) && !volume->source) {
    Status made = co_await make_replicas(volume.record);
    HF_CO_TRY(made);
  }
  // A pool that is being removed takes no more.
  std::vector<KeptPool> pools;
  for (const MemberRecord& member : volume->members) {
    Result<std::optional<KeptPool>> pool = co_await catalog_.pool(member.pool);
    HF_CO_TRY(pool);
    if (!pool.value() || pool.value()->record.state != LifeState::kReady) {
      co_return make_error(ErrorCode::kConflict, "pool {} was removed meanwhile", member.pool.to_string());
    }
    pools.push_back(std::move(*pool.value()));
  }
  Batch batch(catalog_);
  batch.put(volume);
  for (const KeptPool& pool : pools) batch.require(pool);
  batch.take_name(Catalog::volume_name_key(volume->name), volume->id.to_string());
  if (!group.key.empty() && !mutant(ControlMutant::kGroupNotGuarded)) {
    batch.place_in_group(group.key, group.token, volume->id.to_string());
  }
  Status begun = co_await catalog_.commit(std::move(batch));
  if (begun.code() == ErrorCode::kInvalidArgument) {
    co_return begun.error().with_context("volume " + volume->name + " does not fit a record");
  }
  co_return begun;
}

// Makes the replicas of a recorded volume. Refused by a port: undone, and the error given back.
Task<Status> Plane::finish_create(View& view) {
  VolumeRecord& record = view.volume.record;
  const Status reachable = check_pools_open(record);
  HF_CO_TRY(reachable);
  Status made = co_await make_replicas(record);
  if (!made.ok()) {
    if (is_refusal(made.code())) {
      HF_PROBE("cluster.create_undone");
      Status undone = co_await undo_create(view);
      if (!undone.ok()) {
        HF_LOG(kWarn, "cluster", "create_not_undone volume={} why={}", record.name,
               undone.error().to_string());
      }
    }
    co_return made.error().with_context("create volume " + record.name);
  }
  if (record.replicated) {
    Status configured = co_await configure(record);
    if (!configured.ok()) co_return configured.error().with_context("create volume " + record.name);
  }
  record.state = LifeState::kReady;
  record.in_sync.clear();
  for (const MemberRecord& member : record.members) record.in_sync.push_back(member.replica);
  const std::optional<CloneSource> source = record.source;
  record.source.reset();
  Status recorded = co_await put(view.volume);
  HF_CO_TRY(recorded);
  if (source) {
    // Left behind, it is found and removed by the reconciler.
    Status dropped = co_await drop_clone_source(*source);
    if (!dropped.ok()) HF_PROBE("cluster.clone_source_left");
  }
  co_return Status();
}

Task<Status> Plane::make_replicas(const VolumeRecord& record) {
  MemberStep step = [this, &record](MemberRecord member) { return make_replica(record, member); };
  co_return co_await on_members(record, std::move(step));
}

Task<Status> Plane::undo_create(View& view) {
  view.volume->state = LifeState::kDeleting;
  Status recorded = co_await put(view.volume);
  HF_CO_TRY(recorded);
  co_return co_await finish_delete(view);
}

}  // namespace hf::cluster
