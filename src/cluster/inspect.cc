#include <algorithm>

#include "base/units.h"
#include "cluster/plane.h"

namespace hf::cluster {
namespace {

VolumeState state_of(const View& view, bool lost, bool trouble) {
  if (view.volume->state == LifeState::kCreating) return VolumeState::kCreating;
  if (view.volume->state == LifeState::kDeleting) return VolumeState::kDeleting;
  if (lost) return VolumeState::kLost;
  if (trouble) return VolumeState::kError;
  const bool attached = view.attachment && view.attachment->record.attached;
  return attached ? VolumeState::kAttached : VolumeState::kDetached;
}

std::string_view shown(PoolState state) {
  switch (state) {
    case PoolState::kOnline:
      return "online";
    case PoolState::kOffline:
      return "offline";
    case PoolState::kFull:
      return "full";
    case PoolState::kFailed:
      return "out of service";
  }
  HF_UNREACHABLE("state {}", static_cast<int>(state));
}

}  // namespace

Task<Result<VolumeInfo>> Plane::inspect(std::string text) {
  Result<std::string> name = co_await name_of(std::move(text));
  HF_CO_TRY(name);
  Result<std::optional<View>> view = co_await load(name.value());
  HF_CO_TRY(view);
  if (!view.value()) co_return not_found(name.value());
  Result<VolumeInfo> seen = co_await info(*view.value());
  HF_CO_TRY(seen);
  Result<Group> group = co_await look_at_group(view.value()->volume.record);
  HF_CO_TRY(group);
  const std::string together = group_trouble(view.value()->volume.record, group.value());
  Result<std::optional<KeptScrub>> scrub = co_await catalog_.scrub(view.value()->volume->id);
  HF_CO_TRY(scrub);
  seen->scrub = scrub_info(view.value()->volume.record, scrub.value() ? &scrub.value()->record : nullptr);
  if (!together.empty()) seen->placement += (seen->placement.empty() ? "" : "; ") + together;
  co_return std::move(seen);
}

Task<Result<VolumeInfo>> Plane::info(const View& view) {
  Result<std::vector<KeptSnapshot>> snapshots = co_await catalog_.snapshots_of(view.volume->id);
  HF_CO_TRY(snapshots);
  uint32_t named = 0;
  for (const KeptSnapshot& snapshot : snapshots.value()) {
    named += snapshot->state == LifeState::kReady && !snapshot->name.empty() ? 1 : 0;
  }
  VolumeInfo result = co_await info_of(view, named, nullptr);
  co_return std::move(result);
}

Task<VolumeInfo> Plane::info_of(const View& view, uint32_t snapshots, const Told* all) {
  const VolumeRecord& record = view.volume.record;
  VolumeInfo info;
  info.id = record.id;
  info.name = record.name;
  info.spec = record.spec;
  info.size_bytes = record.size_bytes;
  info.parent = record.parent;
  info.created = record.created;
  info.snapshot_count = snapshots;
  info.placement = placement_trouble(record);
  if (record.fs.formatted) info.fs_bytes = record.fs.bytes;
  co_await describe_replicas(view, all, &info);
  if (view.attachment) {
    const AttachmentRecord& attachment = view.attachment->record;
    AttachmentInfo& out = info.attachment.emplace();
    out.node = attachment.node;
    out.here = attachment.node == options_.node;
    out.node_name = node_name(attachment.node);
    out.kind = attachment.kind;
    out.device = attachment.device;
    out.since = attachment.since;
    if (attachment.mounted) out.mount_path = primary_path(record);
    for (const HolderRecord& holder : attachment.holders) {
      if (holder.state != HolderState::kHeld) continue;
      MountInfo mount;
      mount.holder = holder.holder;
      mount.path = holder.target.empty() ? out.mount_path : holder.target;
      out.mounts.push_back(std::move(mount));
    }
    const std::vector<std::string> users = ports_.exporter.users(record.id);
    for (const std::string& user : users) {
      MountInfo use;
      use.holder = user;
      out.mounts.push_back(std::move(use));
    }
    if (attachment.holders.empty() && users.empty() && !attachment.pinned &&
        info.message.empty()) {
      info.message = "still in use without a mount of anybody; detached as soon as it is not";
    }
  }
  const bool behind = record.fs.formatted && record.fs.bytes < record.size_bytes;
  if (behind && view.attachment && view.attachment->record.mounted && info.message.empty()) {
    info.message = fmt::format("its file system still has {}; it grows to {} at the next mount",
                               format_size(record.fs.bytes), format_size(record.size_bytes));
  }
  const auto trouble = troubles_.find(record.id);
  if (trouble != troubles_.end()) info.message = trouble->second;
  const auto lost = lost_.find(record.id);
  if (lost != lost_.end()) info.message = lost->second;
  info.state = state_of(view, lost != lost_.end(), trouble != troubles_.end());
  co_return std::move(info);
}

// Replicas here are asked; of the others speaks who serves the volume, or the configuration.
Task<void> Plane::describe_replicas(const View& view, const Told* all, VolumeInfo* info) {
  const VolumeRecord& record = view.volume.record;
  std::map<ReplicaId, MemberInfo> told;
  if (all != nullptr) {
    const auto found = all->find(record.id);
    if (found != all->end()) {
      for (const MemberInfo& member : found->second) told[member.replica] = member;
    }
  } else if (record.replicated && record.state == LifeState::kReady) {
    Result<std::vector<MemberInfo>> members = co_await ports_.volumes->members(record.id);
    if (is_elsewhere(view) && is_online(view.attachment->record.node)) {
      Result<std::vector<MemberInfo>> live =
          co_await ports_.peers->node(view.attachment->record.node).members(record.id);
      if (live.ok()) members = std::move(live);
    }
    if (members.ok()) {
      for (MemberInfo& member : members.value()) told[member.replica] = std::move(member);
    } else {
      info->message = members.error().message();
    }
  }
  for (const MemberRecord& member : record.members) {
    ReplicaInfo replica;
    replica.id = member.replica;
    replica.node = member.node;
    replica.node_name = node_name(member.node);
    replica.pool = member.pool;
    if (member.node != options_.node) {
      replica.state = is_online(member.node) ? ReplicaState::kOnline : ReplicaState::kOffline;
      if (replica.state == ReplicaState::kOffline) replica.message = "node " + replica.node_name + " does not answer";
    } else if (record.state == LifeState::kReady) {
      Result<ReplicaStats> stats = co_await ports_.host.replica_stats(member.pool, member.replica);
      if (stats.ok()) {
        replica.state = ReplicaState::kOnline;
        info->used_bytes = std::max(info->used_bytes, stats->used_bytes);
        if (!stats->waits_for.empty()) info->message = stats->waits_for;
      } else {
        if (record.members.size() == 1) info->message = stats.error().message();
        replica.message = stats.error().message();
        if (stats.code() == ErrorCode::kFailedPool) replica.state = ReplicaState::kFailed;
        const bool missing = lost_.contains(record.id) || record.members.size() > 1;
        if (missing && stats.code() == ErrorCode::kNotFound && open_pools_.contains(member.pool)) {
          replica.state = ReplicaState::kLost;
        }
        if (removed_pools_.contains(member.pool)) {
          replica.state = ReplicaState::kLost;
          replica.message = "its pool was removed";
        }
      }
    }
    const auto as_told = told.find(member.replica);
    if (as_told != told.end()) {
      replica.in_sync = as_told->second.in_sync;
      replica.resync_bytes_total = as_told->second.resync_bytes_total;
      replica.resync_bytes_done = as_told->second.resync_bytes_done;
      if (replica.message.empty()) replica.message = as_told->second.trouble;
    } else if (!told.empty()) {
      replica.in_sync = false;
    }
    if (replica.message.empty() && member.state == MemberState::kJoining) {
      replica.message = as_told == told.end() ? "is being made" : "is being brought in sync";
    }
    if (replica.message.empty() && member.state == MemberState::kLeaving) replica.message = "leaves the volume";
    info->replicas.push_back(std::move(replica));
  }
}

Task<Result<std::vector<VolumeInfo>>> Plane::list() {
  Result<std::vector<KeptVolume>> volumes = co_await catalog_.volumes();
  HF_CO_TRY(volumes);
  Result<std::vector<KeptAttachment>> attachments = co_await catalog_.attachments();
  HF_CO_TRY(attachments);
  Result<std::vector<KeptSnapshot>> snapshots = co_await catalog_.snapshots();
  HF_CO_TRY(snapshots);
  std::map<VolumeId, KeptAttachment*> attached;
  for (KeptAttachment& attachment : attachments.value()) attached[attachment->volume] = &attachment;
  std::map<VolumeId, uint32_t> counts;
  for (const KeptSnapshot& snapshot : snapshots.value()) {
    if (snapshot->state == LifeState::kReady && !snapshot->name.empty()) ++counts[snapshot->volume];
  }
  Result<Told> told = co_await all_told();
  HF_CO_TRY(told);
  std::vector<VolumeInfo> infos;
  infos.reserve(volumes->size());
  for (KeptVolume& volume : volumes.value()) {
    View view;
    view.volume = std::move(volume);
    const auto attachment = attached.find(view.volume->id);
    if (attachment != attached.end()) view.attachment = std::move(*attachment->second);
    const uint32_t count = counts[view.volume->id];
    VolumeInfo info = co_await info_of(view, count, &told.value());
    infos.push_back(std::move(info));
  }
  std::sort(infos.begin(), infos.end(),
            [](const VolumeInfo& a, const VolumeInfo& b) { return a.name < b.name; });
  co_return std::move(infos);
}

Task<Result<std::vector<NodeInfo>>> Plane::list_nodes() {
  Result<std::vector<KeptNode>> nodes = co_await catalog_.nodes();
  HF_CO_TRY(nodes);
  Result<std::vector<PoolInfo>> pools = co_await pool_infos();
  HF_CO_TRY(pools);
  std::vector<NodeInfo> infos;
  for (const KeptNode& node : nodes.value()) {
    NodeInfo info;
    info.id = node->id;
    info.name = node->name;
    info.address = node->address;
    info.version = node->version;
    info.domain = node->domain;
    info.online = is_online(node->id);
    info.draining = node->draining;
    for (const PoolInfo& pool : pools.value()) {
      if (pool.node != node->id) continue;
      info.replicas += pool.replica_count;
      info.pools.push_back(pool);
    }
    const auto known = neighbours_.find(node->id);
    if (node->id == options_.node) info.exports = own_facts_without_pools().exports;
    if (info.online && known != neighbours_.end()) info.exports = known->second.facts.exports;
    infos.push_back(std::move(info));
  }
  co_return std::move(infos);
}

Task<Result<Plane::Told>> Plane::all_told() {
  if (ports_.volumes == nullptr) co_return Told();
  co_return co_await ports_.volumes->all_members();
}

// "": it has all its replicas.
std::string Plane::why_degraded(const VolumeRecord& record, const Told& told) const {
  if (!record.replicated || record.state != LifeState::kReady) return {};
  const auto found = told.find(record.id);
  if (found == told.end()) return {};
  const size_t wanted = record.spec.repl;
  size_t in_sync = 0;
  std::string why;
  for (const MemberInfo& member : found->second) {
    in_sync += member.in_sync ? 1 : 0;
    if (member.in_sync) continue;
    why += (why.empty() ? "" : ", ") + std::string("the one on node ") + node_name(member.node);
    if (member.resync_bytes_total > 0) {
      why += fmt::format(" is being brought up to date ({} of {})", format_size(member.resync_bytes_done),
                         format_size(member.resync_bytes_total));
    } else {
      why += is_online(member.node) ? " lacks the last writes" : " is away";
    }
  }
  if (in_sync >= wanted) return {};
  if (why.empty()) why = wanted - in_sync == 1 ? "one more is to be made" : "more are to be made";
  return fmt::format("volume {} has {} of {} replicas in sync: {}", record.name, in_sync, wanted, why);
}

Task<Result<ClusterStatus>> Plane::status() {
  ClusterStatus status;
  status.id = options_.cluster;
  status.state_store = ports_.store.describe();
  status.version = options_.version;
  Result<std::vector<NodeInfo>> nodes = co_await list_nodes();
  HF_CO_TRY(nodes);
  Result<std::vector<KeptVolume>> volumes = co_await catalog_.volumes();
  HF_CO_TRY(volumes);
  Result<std::vector<KeptAttachment>> attachments = co_await catalog_.attachments();
  HF_CO_TRY(attachments);
  for (const NodeInfo& node : nodes.value()) {
    ++status.nodes;
    status.nodes_online += node.online ? 1 : 0;
    if (node.draining) {
      status.problems.push_back(node.replicas > 0
                                    ? fmt::format("node {} is being drained: {} replicas are left on it", node.name, node.replicas)
                                    : fmt::format("node {} is drained; holdfast node decommission {}, or holdfast node drain {} "
                                                  "--undo", node.name, node.name, node.name));
    }
    if (node.online && node.pools.empty() && !node.draining) {
      status.problems.push_back("node " + node.name +
                                " has no pool; make one: holdfast pool add /var/lib/holdfast/pool");
    }
    for (const PoolInfo& pool : node.pools) {
      status.total_bytes += pool.total_bytes;
      status.used_bytes += pool.used_bytes;
      if (pool.state == PoolState::kOnline) continue;
      status.problems.push_back(fmt::format("pool {} ({}) is {}{}{}", pool.path,
                                            pool.id.to_string(), shown(pool.state),
                                            pool.message.empty() ? "" : ": ", pool.message));
    }
  }
  Result<Told> told = co_await all_told();
  HF_CO_TRY(told);
  status.volumes = static_cast<uint32_t>(volumes->size());
  status.volumes_attached = static_cast<uint32_t>(attachments->size());
  for (const NodeInfo& node : nodes.value()) {
    if (node.online) continue;
    const auto known = neighbours_.find(node.id);
    const std::string why = known == neighbours_.end() ? std::string() : known->second.why;
    status.problems.push_back(fmt::format("node {} ({}) does not answer{}{}", node.name, node.address,
                                          why.empty() ? "" : ": ", why));
  }
  Result<std::vector<KeptScrub>> scrubs = co_await catalog_.scrubs();
  HF_CO_TRY(scrubs);
  tell_scrubs(volumes.value(), scrubs.value(), &status.problems);
  tell_placement(volumes.value(), &status.problems);
  for (const KeptVolume& volume : volumes.value()) {
    std::string degraded = why_degraded(volume.record, told.value());
    if (!degraded.empty()) status.problems.push_back(std::move(degraded));
    const auto lost = lost_.find(volume->id);
    if (lost != lost_.end()) {
      status.problems.push_back(lost->second);
      continue;
    }
    const auto trouble = troubles_.find(volume->id);
    if (trouble == troubles_.end()) continue;
    status.problems.push_back(fmt::format("volume {}: {}", volume->name, trouble->second));
  }
  for (const auto& [volume, why] : expelled_) status.problems.push_back(why);
  for (const std::string& finding : findings_) status.problems.push_back(finding);
  for (std::string& problem : ports_.exporter.problems()) status.problems.push_back(std::move(problem));
  status.healthy = status.problems.empty();
  co_return std::move(status);
}

}  // namespace hf::cluster
