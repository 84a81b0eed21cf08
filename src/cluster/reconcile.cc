#include "cluster/reconcile.h"

#include <algorithm>

#include "base/log.h"
#include "cluster/mutants.h"
#include "cluster/plane.h"
#include "runtime/fault_point.h"

namespace hf::cluster {

bool needs_work(const VolumeRecord& volume, const AttachmentRecord* attachment,
                const VolumeFacts& facts, const NodeId& this_node, const std::string& boot) {
  if (volume.state != LifeState::kReady || !volume.restoring.is_nil() ||
      volume.resizing_to_bytes != 0) {
    return facts.responsible;
  }
  if (facts.unsettled_snapshot) return facts.responsible;
  if (facts.had_trouble) return true;
  if (attachment == nullptr) return false;
  if (attachment->node != this_node) return false;
  if (!facts.served_here || !attachment->attached || attachment->boot != boot) return true;
  if (attachment->freezing) return true;
  if (attachment->holders.empty() && !attachment->pinned) return true;
  return std::any_of(attachment->holders.begin(), attachment->holders.end(),
                     [](const HolderRecord& holder) { return holder.state != HolderState::kHeld; });
}

bool only_stale_docker(const AttachmentRecord& attachment, WallTime now, Duration grace) {
  if (attachment.pinned || attachment.holders.empty()) return false;
  return std::all_of(attachment.holders.begin(), attachment.holders.end(),
                     [&](const HolderRecord& holder) {
                       return holder.target.empty() && is_docker(holder.holder) &&
                              now.ns - holder.since.ns >= grace.count();
                     });
}

Task<Status> Plane::register_node() {
  Result<std::optional<KeptNode>> there = co_await catalog_.node(options_.node);
  HF_CO_TRY(there);
  KeptNode node;
  if (there.value()) node = std::move(*there.value());
  node->id = options_.node;
  node->name = options_.node_name;
  node->address = options_.address;
  node->version = options_.version;
  node->domain = options_.domain;
  node->started = now();
  Batch batch(catalog_);
  batch.put(node);
  co_return co_await catalog_.commit(std::move(batch));
}

Task<bool> Plane::reconcile(bool at_start) {
  bool pools = co_await converge_pools();
  // Before the volumes: one that is lost cannot be served, and is not tried.
  bool lost = co_await look_for_lost();
  bool volumes = co_await converge_volumes(at_start);
  findings_.clear();
  bool expelled = co_await look_for_expelled(false);
  bool left = co_await look_for_left_behind();
  bool orphans = co_await look_for_orphans();
  bool strays = co_await look_for_strays();
  co_return pools && lost && volumes && expelled && left && orphans && strays;
}

Task<bool> Plane::converge_pools() {
  Result<std::vector<KeptPool>> pools = co_await catalog_.pools();
  if (!pools.ok()) co_return false;
  bool well = true;
  for (KeptPool& pool : pools.value()) {
    const bool leaves = pool->state == LifeState::kDeleting;
    if (pool->node != options_.node || (open_pools_.contains(pool->id) && !leaves)) continue;
    Result<Section> section = co_await enter("/pools");
    if (!section.ok()) co_return false;
    Result<std::optional<KeptPool>> now_there = co_await catalog_.pool(pool->id);
    if (!now_there.ok()) co_return false;
    if (!now_there.value()) continue;
    if (now_there.value()->record.state == LifeState::kCreating) {
      Status done = co_await finish_pool(*now_there.value(), nullptr);
      well = well && (done.ok() || done.code() == ErrorCode::kNotFound);
      continue;
    }
    if (now_there.value()->record.state == LifeState::kDeleting) {
      Status gone = co_await finish_removal(*now_there.value());
      well = well && gone.ok();
      continue;
    }
    Result<PoolInfo> opened = co_await ports_.host.open_pool(pool->id, pool->path);
    if (opened.ok()) {
      open_pools_.insert(pool->id);
      closed_pools_.erase(pool->id);
      continue;
    }
    well = false;
    const bool told = closed_pools_.contains(pool->id);
    closed_pools_[pool->id] = opened.error().message();
    if (!told)
      HF_LOG(kError, "cluster", "pool_closed path={} why={}", pool->path,
             opened.error().to_string());
  }
  co_return well;
}

Task<bool> Plane::converge_volumes(bool at_start) {
  Result<std::vector<KeptVolume>> volumes = co_await catalog_.volumes();
  if (!volumes.ok()) co_return false;
  Result<std::vector<KeptAttachment>> attachments = co_await catalog_.attachments();
  if (!attachments.ok()) co_return false;
  Result<std::vector<KeptSnapshot>> snapshots = co_await catalog_.snapshots();
  if (!snapshots.ok()) co_return false;
  std::map<VolumeId, const AttachmentRecord*> attached;
  for (const KeptAttachment& kept : attachments.value()) attached[kept->volume] = &kept.record;
  std::set<VolumeId> unsettled;
  for (const KeptSnapshot& kept : snapshots.value()) {
    if (is_unsettled(kept.record)) unsettled.insert(kept->volume);
  }
  std::optional<Surroundings> around;
  if (ports_.volumes != nullptr) {
    Result<Surroundings> seen = co_await look_at_surroundings();
    if (!seen.ok()) co_return false;
    around = std::move(seen).value();
  }
  bool well = true;
  for (const KeptVolume& volume : volumes.value()) {
    const auto found = attached.find(volume->id);
    const AttachmentRecord* attachment = found == attached.end() ? nullptr : found->second;
    VolumeFacts facts;
    facts.served_here = served_.contains(volume->id);
    facts.unsettled_snapshot = unsettled.contains(volume->id);
    facts.had_trouble = troubles_.contains(volume->id);
    facts.responsible = is_responsible(volume.record, attachment);
    const bool replicas = around && replicas_need_work(volume.record, attachment, *around);
    if (!replicas && !needs_work(volume.record, attachment, facts, options_.node, options_.boot_id)) {
      if (attachment == nullptr || attachment->node != options_.node) continue;
      if (!only_stale_docker(*attachment, now(), options_.docker_grace_at_start)) continue;
      // Containers that run for long are the rule: looked at without taking the volume's turn.
      Result<bool> used = co_await ports_.mounter.mounted_elsewhere(attachment->device,
                                                                    primary_path(volume.record));
      if (!used.ok() || used.value()) continue;
    }
    const VolumeId id = volume->id;
    Status done = co_await converge(volume->name, at_start, around ? &*around : nullptr);
    if (done.ok()) {
      troubles_.erase(id);
      well = well && !unfinished_.contains(id);
      continue;
    }
    well = false;
    if (done.code() == ErrorCode::kConflict || done.code() == ErrorCode::kAmbiguous) continue;
    if (!troubles_.contains(id)) {
      HF_LOG(kWarn, "cluster", "not_converged volume={} why={}", volume->name,
             done.error().to_string());
    }
    troubles_[id] = done.error().message();
  }
  co_return well;
}

Task<Status> Plane::converge(std::string name, bool at_start, const Surroundings* around) {
  Result<Section> section = co_await enter(name);
  HF_CO_TRY(section);
  Result<View> view = co_await load_settled(name);
  if (view.code() == ErrorCode::kNotFound) co_return Status();  // deleted meanwhile, or just now
  HF_CO_TRY(view);
  Status snapshots = co_await settle_snapshots(view.value());
  HF_CO_TRY(snapshots);
  if (is_here(view.value())) {
    Status attached = co_await converge_attachment(view.value(), at_start);
    HF_CO_TRY(attached);
    if (around == nullptr || !view->volume->replicated) co_return Status();
    // It may have been detached.
    const VolumeId volume = view->volume->id;
    Result<std::optional<View>> again = co_await load(name);
    HF_CO_TRY(again);
    if (!again.value() || again.value()->volume->id != volume) co_return Status();
    co_return co_await tend_replicas(*again.value(), *around);
  }
  if (around == nullptr) co_return Status();
  co_return co_await tend_replicas(view.value(), *around);
}

// Serves it again, finishes what was begun on its mounts, puts back what is missing, drops who is
// gone, and takes it out of the kernel when nobody is left.
Task<Status> Plane::converge_attachment(View& view, bool at_start) {
  if (is_without_data(view)) co_return co_await converge_lost(view);
  Status served = co_await serve(view, ExportKind::kNone);
  HF_CO_TRY(served);
  Status finished = co_await finish_holders(view);
  HF_CO_TRY(finished);
  AttachmentRecord& attachment = view.attachment->record;
  if (at_start && !attachment.holders.empty()) {
    // A holder whose own place is no longer mounted is gone: we were not there when it was taken
    // away.
    Result<std::vector<HolderRecord>> live = co_await live_holders(view, Duration::max());
    HF_CO_TRY(live);
    if (live->size() != attachment.holders.size()) {
      HF_PROBE("cluster.gone_holders_dropped");
      attachment.holders = std::move(live).value();
      Status recorded = co_await put(*view.attachment);
      HF_CO_TRY(recorded);
    }
  }
  Result<bool> anybody = co_await is_wanted(view);
  HF_CO_TRY(anybody);
  if (!anybody.value()) {
    if (!attachment.holders.empty()) HF_PROBE("cluster.stale_docker_dropped");
    Result<std::string> why = co_await release(view);
    HF_CO_TRY(why);
    if (why->empty()) co_return Status();
  }
  const bool wanted = attachment.mounted || !attachment.holders.empty();
  if (wanted) co_return co_await ensure_primary(view, nullptr);
  // What a mount left that ended before it was recorded.
  Status cleared = co_await ports_.mounter.unmount(primary_path(view.volume.record));
  if (cleared.code() == ErrorCode::kInUse) co_return Status();
  co_return cleared;
}

// Whether the device is to stay although nobody asks for it: it was attached for itself, a holder is there for
// certain, or a process has it mounted. Only where looking from outside finds nobody is our own mount taken away
// (release), which then asks the kernel for the last word: never under a running container. A docker holder
// counts for longer here than where somebody asks for a detach: its container may be slow to start.
Task<Result<bool>> Plane::is_wanted(const View& view) {
  const AttachmentRecord& attachment = view.attachment->record;
  if (attachment.pinned) co_return true;
  Result<std::vector<HolderRecord>> live =
      co_await live_holders(view, options_.docker_grace_at_start);
  HF_CO_TRY(live);
  if (!live->empty()) co_return true;
  if (attachment.device.empty()) co_return false;
  co_return co_await ports_.mounter.mounted_elsewhere(attachment.device,
                                                      primary_path(view.volume.record));
}

// Kernel devices of ours that nobody serves and no attachment explains.
Task<bool> Plane::look_for_orphans() {
  Result<std::vector<ExportInfo>> orphans = co_await ports_.exporter.orphans();
  if (!orphans.ok()) co_return false;
  bool well = true;
  for (const ExportInfo& orphan : orphans.value()) {
    Result<std::optional<KeptAttachment>> attachment = co_await catalog_.attachment(orphan.volume);
    if (!attachment.ok()) co_return false;
    if (attachment.value() && attachment.value()->record.node == options_.node) continue;
    // Not while an operation on that volume may just be attaching it.
    if (served_.contains(orphan.volume)) continue;
    Status detached = co_await ports_.exporter.detach(orphan.volume);
    if (detached.ok()) {
      HF_PROBE("cluster.orphan_detached");
      HF_LOG(kInfo, "cluster", "orphan_detached device={}", orphan.device);
      continue;
    }
    if (detached.code() != ErrorCode::kInUse) well = false;
    findings_.push_back(
        fmt::format("{} is a block device of volume {}, which this cluster does not have attached; "
                    "it is kept, since "
                    "something uses it: {}",
                    orphan.device, orphan.volume.to_string(), detached.error().message()));
  }
  co_return well;
}

// What others took over from this node and what its kernel still has: all its I/O fails now, since nobody will ever serve
// it again; it goes when its users have. What the kernel has no more is struck off.
Task<bool> Plane::look_for_left_behind() {
  if (ports_.volumes == nullptr) co_return true;
  Result<std::map<VolumeId, KeptName>> left = co_await catalog_.left_behind(options_.node);
  if (!left.ok()) co_return false;
  bool well = true;
  for (const auto& [volume, note] : left.value()) {
    Result<bool> cleared = co_await clear_away(volume, note.record.id);
    well = well && cleared.ok() && cleared.value();
    if (!cleared.ok() || !cleared.value()) continue;
    Batch batch(catalog_);
    batch.free_name(note, Catalog::left_key(options_.node) + volume.to_string());
    Status struck_off = co_await catalog_.commit(std::move(batch));
    well = well && struck_off.ok();
  }
  co_return well;
}

Task<Result<bool>> Plane::clear_away(VolumeId volume, std::string name) {
  Result<Section> section = co_await enter(name);
  HF_CO_TRY(section);
  Result<std::optional<KeptVolume>> kept = co_await catalog_.volume(volume);
  HF_CO_TRY(kept);
  Result<std::optional<KeptAttachment>> attachment = co_await catalog_.attachment(volume);
  HF_CO_TRY(attachment);
  if (attachment.value() && attachment.value()->record.node == options_.node) co_return true;  // it is here again
  Result<std::vector<ExportInfo>> orphans = co_await ports_.exporter.orphans();
  HF_CO_TRY(orphans);
  const auto orphan = std::find_if(orphans->begin(), orphans->end(),
                                   [&](const ExportInfo& there) { return there.volume == volume; });
  VolumeRecord gone;
  gone.id = volume;
  gone.name = name;
  gone.size_bytes = spec::kMaxVolumeBytes;
  const VolumeRecord& record = kept.value() ? kept.value()->record : gone;
  Result<std::string> why = co_await expel(record, orphan == orphans->end() ? nullptr : &*orphan);
  HF_CO_TRY(why);
  co_return why->empty();
}

// Replicas that the catalog does not know: somebody's data, so they are told and kept.
Task<bool> Plane::look_for_strays() {
  bool well = true;
  std::map<PoolId, std::vector<ReplicaId>> there;
  for (const PoolId& pool : std::vector<PoolId>(open_pools_.begin(), open_pools_.end())) {
    Result<std::vector<ReplicaId>> replicas = co_await ports_.host.list_replicas(pool);
    if (replicas.ok()) {
      there[pool] = std::move(replicas).value();
    } else {
      well = false;
    }
  }
  // Read after the pools: a replica is recorded before it is made.
  Result<std::vector<KeptVolume>> volumes = co_await catalog_.volumes();
  if (!volumes.ok()) co_return false;
  std::set<ReplicaId> known;
  for (const KeptVolume& volume : volumes.value()) {
    for (const MemberRecord& member : volume->members) known.insert(member.replica);
  }
  for (const auto& [pool, replicas] : there) {
    for (const ReplicaId& replica : replicas) {
      if (known.contains(replica)) continue;
      HF_PROBE("cluster.stray_replica");
      if (mutant(ControlMutant::kStrayDeleted)) {
        Status removed = co_await ports_.host.delete_replica(pool, replica);
        HF_ASSERT(removed.ok());
        continue;
      }
      findings_.push_back(
          fmt::format("pool {} holds replica {}, which belongs to no volume of this cluster; it is "
                      "kept. holdfast pool "
                      "export saves its data",
                      pool.to_string(), replica.to_string()));
    }
  }
  co_return well;
}

}  // namespace hf::cluster
