#include "base/log.h"
#include "cluster/mutants.h"
#include "cluster/plane.h"
#include "runtime/fault_point.h"

namespace hf::cluster {

Task<Status> Plane::remove(const DeleteVolume& request) {
  Result<std::string> name = co_await name_of(request.name);
  HF_CO_TRY(name);
  Result<Section> section = co_await enter(name.value());
  HF_CO_TRY(section);
  Result<View> loaded = co_await load_settled(name.value());
  if (loaded.code() == ErrorCode::kNotFound && request.missing_ok) co_return Status();
  HF_CO_TRY(loaded);
  View view = std::move(loaded).value();
  VolumeRecord& record = view.volume.record;
  if (record.spec.sticky) {
    co_return make_error(ErrorCode::kFailedPrecondition,
                         "volume {} is sticky; first: holdfast volume update {} -o sticky=false",
                         record.name, record.name);
  }
  Result<std::vector<KeptSnapshot>> snapshots = co_await catalog_.snapshots_of(record.id);
  HF_CO_TRY(snapshots);
  size_t named = 0;
  for (const KeptSnapshot& snapshot : snapshots.value()) named += snapshot->name.empty() ? 0 : 1;
  if (named > 0 && !request.with_snapshots) {
    co_return make_error(ErrorCode::kInUse,
                         "volume {0} has {1} snapshot{2}; delete {3} first (holdfast snapshot list {0}), or all at once: "
                         "holdfast volume delete {0} --with-snapshots",
                         record.name, named, named == 1 ? "" : "s", named == 1 ? "it" : "them");
  }
  if (is_elsewhere(view)) {
    Status taken = co_await take_from_other(view, false);
    HF_CO_TRY(taken);
  }
  if (view.attachment) {
    if (view.attachment->record.pinned) {
      co_return make_error(ErrorCode::kInUse,
                           "volume {} is attached as {}; first: holdfast volume detach {}",
                           record.name, view.attachment->record.device, record.name);
    }
    Status released = co_await release_if_unused(view, options_.docker_grace);
    HF_CO_TRY(released);
  }
  const Status reachable = check_pools_open(record);
  HF_CO_TRY(reachable);
  record.state = LifeState::kDeleting;
  Status recorded = co_await put(view.volume);
  HF_CO_TRY(recorded);
  co_return co_await finish_delete(view);
}

// The volume is recorded as deleting and nothing is attached: takes away what it has, the record
// last.
Task<Status> Plane::finish_delete(View& view) {
  VolumeRecord& record = view.volume.record;
  HF_ASSERT(record.state == LifeState::kDeleting && !view.attachment, "{}", record.name);
  if (record.replicated && served_.contains(record.id)) {
    // What it left in this kernel when another node took it over.
    HF_PROBE("cluster.delete_after_taken_over");
    Result<std::string> kept = co_await expel(record, nullptr);
    HF_CO_TRY(kept);
    if (!kept->empty()) {
      co_return make_error(ErrorCode::kInUse, "volume {} was taken over from this node while it was in use here, and {}",
                           record.name, kept.value());
    }
  }
  const Status reachable = check_pools_open(record);
  HF_CO_TRY(reachable);
  Result<std::vector<KeptSnapshot>> snapshots = co_await catalog_.snapshots_of(record.id);
  HF_CO_TRY(snapshots);
  for (KeptSnapshot& snapshot : snapshots.value()) {
    Status dropped = co_await drop_snapshot(record, snapshot);
    HF_CO_TRY(dropped);
  }
  // Before its replicas: nobody can begin to serve it any more, and who does so now without users (care_for) notices.
  if (record.replicated) {
    Status uncared = co_await stop_caring(record);
    HF_CO_TRY(uncared);
    Status forgotten = co_await ports_.volumes->forget(record.id);
    HF_CO_TRY(forgotten);
  }
  if (!mutant(ControlMutant::kRecordGoneFirst)) {
    Status removed = co_await remove_replicas(record);
    HF_CO_TRY(removed);
  }
  const std::string key = Catalog::volume_name_key(record.name);
  Result<std::optional<KeptName>> name = co_await catalog_.name(key);
  HF_CO_TRY(name);
  Result<Group> group = co_await look_at_group(record);
  HF_CO_TRY(group);
  const std::optional<CloneSource> source = record.source;
  Batch batch(catalog_);
  batch.remove(view.volume);
  const bool named = name.value() && name.value()->record.id == record.id.to_string();
  if (named && !mutant(ControlMutant::kNameKept)) batch.free_name(*name.value(), key);
  const auto scrubbing = scrubs_.find(record.id);
  if (scrubbing != scrubs_.end()) scrubbing->second->cancel.cancel();
  Result<std::optional<KeptScrub>> scrub = co_await catalog_.scrub(record.id);
  HF_CO_TRY(scrub);
  if (scrub.value()) batch.remove(*scrub.value());
  const bool last_of_group = group->token && group->volumes.empty();
  if (last_of_group) batch.free_name(*group->token, group->key);
  Status gone = co_await catalog_.commit(std::move(batch));
  HF_CO_TRY(gone);
  if (mutant(ControlMutant::kRecordGoneFirst)) {
    Status removed = co_await remove_replicas(record);
    HF_CO_TRY(removed);
  }
  lost_.erase(record.id);
  troubles_.erase(record.id);
  if (source) {
    Status dropped = co_await drop_clone_source(*source);
    if (!dropped.ok())
      HF_LOG(kInfo, "cluster", "clone_source_left snapshot={}", source->snapshot.to_string());
  }
  co_return Status();
}

Task<Status> Plane::remove_replicas(const VolumeRecord& record) {
  MemberStep step = [this, &record](MemberRecord member) { return remove_replica(record, member); };
  co_return co_await on_members(record, std::move(step));
}

}  // namespace hf::cluster
