#include <algorithm>

#include "base/log.h"
#include "cluster/lost_device.h"
#include "cluster/mutants.h"
#include "cluster/plane.h"
#include "runtime/fault_point.h"

namespace hf::cluster {

// Volumes whose replica their pool does not have, although it is open: somebody put an older or
// another pool in its place. Told and refused; never made anew, since an empty volume in the place
// of a database is worse than none. Forgotten as soon as the replica is there again.
Task<bool> Plane::look_for_lost() {
  // The records first: a replica goes only after its record says so.
  Result<std::vector<KeptVolume>> volumes = co_await catalog_.volumes();
  if (!volumes.ok()) co_return false;
  std::map<PoolId, std::set<ReplicaId>> there;
  bool well = true;
  for (const PoolId& pool : std::vector<PoolId>(open_pools_.begin(), open_pools_.end())) {
    Result<std::vector<ReplicaId>> replicas = co_await ports_.host.list_replicas(pool);
    well = well && replicas.ok();
    if (!replicas.ok()) continue;
    std::set<ReplicaId>& known = there[pool];
    known.insert(replicas->begin(), replicas->end());
  }
  // After the volumes: a replica is recorded only in a pool that is.
  Result<std::vector<KeptPool>> pools = co_await catalog_.pools();
  if (!pools.ok()) co_return false;
  std::set<PoolId> recorded;
  for (const KeptPool& pool : pools.value()) recorded.insert(pool->id);
  removed_pools_.clear();
  for (const KeptVolume& volume : volumes.value()) {
    for (const MemberRecord& member : volume->members) {
      if (member.node == options_.node && !recorded.contains(member.pool)) removed_pools_.insert(member.pool);
    }
  }
  for (const KeptVolume& volume : volumes.value()) {
    if (volume->state != LifeState::kReady) continue;
    if (volume->replicated && volume->members.size() > 1) continue;  // the others have it: its coordinator tells
    bool missing = false;
    for (const MemberRecord& member : volume->members) {
      const auto pool = there.find(member.pool);
      missing = missing || (member.node == options_.node && removed_pools_.contains(member.pool));
      if (member.node != options_.node || pool == there.end()) continue;
      missing = missing || !pool->second.contains(member.replica);
    }
    if (!missing && lost_.contains(volume->id)) {
      Result<Section> section = co_await enter(volume->name);
      well = well && section.ok();
      // What was given up stays so until its device is gone: it serves no data any more.
      const auto served = served_.find(volume->id);
      if (served == served_.end() || !served->second.given_up) lost_.erase(volume->id);
    }
    if (!missing) continue;
    Result<bool> lost = co_await is_lost(volume->name, volume->id);
    well = well && lost.ok();
  }
  co_return well;
}

// Asked again with the right to work on the volume, since it may have been deleted meanwhile.
Task<Result<bool>> Plane::is_lost(std::string name, VolumeId id) {
  Result<Section> section = co_await enter(name);
  HF_CO_TRY(section);
  Result<std::optional<View>> view = co_await load(name);
  HF_CO_TRY(view);
  if (!view.value() || view.value()->volume->id != id) co_return false;
  const VolumeRecord& record = view.value()->volume.record;
  if (record.state != LifeState::kReady) co_return false;
  for (const MemberRecord& member : record.members) {
    if (member.node == options_.node && removed_pools_.contains(member.pool)) {
      lost_[id] = why_removed(name, member.pool);
      co_return true;
    }
    if (member.node != options_.node || !open_pools_.contains(member.pool)) continue;
    Result<ReplicaStats> stats = co_await ports_.host.replica_stats(member.pool, member.replica);
    if (stats.code() != ErrorCode::kNotFound) continue;
    HF_PROBE("cluster.lost_replica");
    if (mutant(ControlMutant::kLostMadeAnew)) {
      Status made = co_await make_replicas(record);
      HF_CO_TRY(made);
      co_return false;
    }
    if (!lost_.contains(id)) {
      HF_LOG(kError, "cluster", "replica_lost volume={} pool={} replica={}", name,
             member.pool.to_string(), member.replica.to_string());
    }
    lost_[id] = fmt::format(
        "volume {} is lost: pool {} is open and does not hold its replica {}. Put the pool's own "
        "directory or device back and restart holdfastd, or delete the volume and restore a copy",
        name, member.pool.to_string(), member.replica.to_string());
    co_return true;
  }
  co_return false;
}

bool Plane::is_without_data(const View& view) const {
  if (!view.attachment || view.attachment->record.node != options_.node) return false;
  if (!lost_.contains(view.volume->id)) return false;
  const auto served = served_.find(view.volume->id);
  return served == served_.end() || served->second.given_up;
}

// I/O of its users waits in the kernel, as for any volume that nobody serves: an operator may yet
// put the pool back. Only who asks for the volume to go (detach, delete, the last unmount) ends
// that.
bool Plane::waits_for_lost(const View& view) const {
  return is_without_data(view) && !served_.contains(view.volume->id);
}

// So that the kernel lets the device go: everything that waits for it, and everything that is asked
// of it from now on, fails with an I/O error instead of waiting for ever.
Task<Status> Plane::serve_to_let_go(View& view) {
  if (!waits_for_lost(view)) co_return co_await serve(view, ExportKind::kNone);
  const VolumeRecord& record = view.volume.record;
  Result<std::vector<ExportInfo>> orphans = co_await ports_.exporter.orphans();
  HF_CO_TRY(orphans);
  const bool in_kernel =
      std::any_of(orphans->begin(), orphans->end(),
                  [&](const ExportInfo& orphan) { return orphan.volume == record.id; });
  // Nothing waits for one that has left the kernel by itself.
  if (!in_kernel) co_return Status();
  HF_PROBE("cluster.lost_given_up");
  HF_LOG(kWarn, "cluster", "lost_given_up volume={}: I/O that waits for it fails now", record.name);
  std::shared_ptr<BlockDevice> nothing =
      std::make_shared<LostDevice>(record.name, record.size_bytes);
  Result<ExportInfo> exported =
      co_await ports_.exporter.attach(record.id, view.attachment->record.kind, nothing);
  HF_CO_TRY(exported);
  Served& served = served_[record.id];
  served.device = std::move(nothing);
  served.given_up = true;
  view.attachment->record.attached = true;
  view.attachment->record.kind = exported->kind;
  view.attachment->record.device = exported->device;
  co_return Status();
}

// Left as it is while somebody may still want its data; taken away once nobody is left. Where it was
// asked for to go, that is finished.
Task<Status> Plane::converge_lost(View& view) {
  if (waits_for_lost(view)) {
    Result<bool> wanted = co_await is_wanted(view);
    HF_CO_TRY(wanted);
    if (wanted.value()) co_return Status();
  } else {
    Result<std::vector<HolderRecord>> live = co_await live_holders(view, options_.docker_grace);
    HF_CO_TRY(live);
    if (!live->empty()) co_return Status();
  }
  Status served = co_await serve_to_let_go(view);
  HF_CO_TRY(served);
  Result<std::string> why = co_await release(view);
  HF_CO_TRY(why);
  co_return Status();
}

}  // namespace hf::cluster
