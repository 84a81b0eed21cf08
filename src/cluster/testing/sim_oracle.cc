#include "cluster/testing/sim_oracle.h"

#include <set>

namespace hf::cluster {
namespace {

size_t count_replicas(const SimNode& node) {
  size_t replicas = 0;
  for (const auto& [id, pool] : node.pools) replicas += pool.replicas.size();
  return replicas;
}

void check_mounts(SimRig& rig, const std::vector<VolumeInfo>& volumes, Wrongs& wrongs) {
  std::set<std::string> expected;
  for (const VolumeInfo& info : volumes) {
    if (!info.attachment) continue;
    if (!info.attachment->mount_path.empty()) expected.insert(info.attachment->mount_path);
    for (const MountInfo& mount : info.attachment->mounts) expected.insert(mount.path);
  }
  for (const auto& [path, device] : rig.node().mounts) {
    if (rig.node().export_of(device) == nullptr) wrongs.add(path + " is mounted from a dead device");
    if (expected.erase(path) == 0) wrongs.add(path + " is mounted, and nobody knows why");
  }
  for (const std::string& path : expected) wrongs.add(path + " is not mounted, as it is said to be");
}

}  // namespace

std::string Wrongs::text() const {
  std::string text;
  for (const std::string& what : all_) text += (text.empty() ? "" : "; ") + what;
  return text;
}

Task<std::vector<VolumeInfo>> look_at_rest(SimRig& rig, size_t strays, Wrongs& wrongs) {
  Result<ClusterStatus> status = co_await rig.control().status();
  if (!status.ok()) {
    wrongs.add("status: " + status.error().to_string());
  } else {
    size_t told = 0;
    for (const std::string& problem : status->problems) {
      if (problem.find("belongs to no volume") != std::string::npos && told < strays) {
        ++told;
      } else {
        wrongs.add("at rest: " + problem);
      }
    }
    if (told != strays) wrongs.add(fmt::format("{} of {} strays are told", told, strays));
  }
  Result<std::vector<VolumeInfo>> list = co_await rig.control().list_volumes();
  if (!list.ok()) wrongs.add("list: " + list.error().to_string());
  std::vector<VolumeInfo> volumes;
  if (list.ok()) volumes = std::move(list).value();
  co_return std::move(volumes);
}

void check_node_at_rest(SimRig& rig, const std::vector<VolumeInfo>& volumes, size_t strays,
                        Wrongs& wrongs) {
  const size_t replicas = count_replicas(rig.node());
  if (replicas != volumes.size() + strays) {
    wrongs.add(fmt::format("{} replicas for {} volumes and {} strays", replicas, volumes.size(),
                           strays));
  }
  size_t attached = 0;
  for (const VolumeInfo& info : volumes) {
    attached += info.attachment ? 1 : 0;
    if (info.state != VolumeState::kAttached && info.state != VolumeState::kDetached) {
      wrongs.add(fmt::format("{} is in state {}: {}", info.name, static_cast<int>(info.state),
                             info.message));
    }
    const SimReplica* replica =
        info.replicas.size() != 1 ? nullptr
                                  : rig.node().find(info.replicas[0].pool, info.replicas[0].id);
    if (replica == nullptr) {
      wrongs.add(info.name + " has no replica");
      continue;
    }
    if (replica->head.size != info.size_bytes) {
      wrongs.add(fmt::format("{} has {} bytes, its replica {}", info.name, info.size_bytes,
                             replica->head.size));
    }
    if (replica->snapshots.size() != info.snapshot_count) {
      wrongs.add(fmt::format("{} has {} snapshots, its replica {}", info.name, info.snapshot_count,
                             replica->snapshots.size()));
    }
  }
  if (attached != rig.node().exports.size()) {
    wrongs.add(fmt::format("{} devices for {} attached volumes", rig.node().exports.size(),
                           attached));
  }
  check_mounts(rig, volumes, wrongs);
  for (const auto& [device, until] : rig.node().frozen) {
    wrongs.add(device + " is frozen, and nobody thaws it");
  }
}

Task<void> take_all_down(SimRig& rig, const std::vector<VolumeInfo>& volumes, size_t strays,
                         Wrongs& wrongs) {
  rig.node().containers.clear();
  co_await rig.sleep(std::chrono::minutes(2));
  for (const VolumeInfo& info : volumes) {
    UnmountVolume unmount;
    unmount.name = info.name;
    unmount.target_path = "/t/" + info.name;
    Status down = co_await rig.control().unmount_volume(unmount);
    if (!down.ok()) wrongs.add("unmount at the end: " + down.error().to_string());
    Status detached = co_await rig.control().detach_volume(info.name);
    if (!detached.ok()) wrongs.add("detach at the end: " + detached.error().to_string());
    DeleteVolume request;
    request.name = info.name;
    request.with_snapshots = true;
    Status gone = co_await rig.control().delete_volume(request);
    if (!gone.ok()) wrongs.add("delete at the end: " + gone.error().to_string());
  }
  if (count_replicas(rig.node()) != strays) wrongs.add("a replica is left over, or a stray is gone");
  if (!rig.node().exports.empty()) wrongs.add("a device is left over");
  if (!rig.node().mounts.empty())
    wrongs.add("a mount is left over: " + rig.node().mounts.begin()->first);
  for (const auto& [key, entry] : rig.server().entries()) {
    const bool expected =
        key.starts_with("holdfast/v1/pools/") || key.starts_with("holdfast/v1/nodes/");
    if (!expected) wrongs.add("a record is left over: " + key);
  }
}

}  // namespace hf::cluster
