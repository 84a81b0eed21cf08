#include "api/text.h"

#include <fmt/ranges.h>

#include <algorithm>

namespace hf::api {

std::string to_string(cluster::VolumeState state) {
  switch (state) {
    case cluster::VolumeState::kCreating: return "creating";
    case cluster::VolumeState::kDetached: return "detached";
    case cluster::VolumeState::kAttached: return "attached";
    case cluster::VolumeState::kDeleting: return "deleting";
    case cluster::VolumeState::kError: return "error";
    case cluster::VolumeState::kLost: return "lost";
  }
  HF_UNREACHABLE();
}

std::string to_string(cluster::ReplicaState state) {
  switch (state) {
    case cluster::ReplicaState::kOnline: return "online";
    case cluster::ReplicaState::kOffline: return "offline";
    case cluster::ReplicaState::kFailed: return "failed";
    case cluster::ReplicaState::kLost: return "lost";
  }
  HF_UNREACHABLE();
}

std::string to_string(cluster::PoolState state) {
  switch (state) {
    case cluster::PoolState::kOnline: return "online";
    case cluster::PoolState::kOffline: return "offline";
    case cluster::PoolState::kFull: return "full";
    case cluster::PoolState::kFailed: return "failed";
  }
  HF_UNREACHABLE();
}

std::string to_string(cluster::ExportKind kind) {
  switch (kind) {
    case cluster::ExportKind::kNone: return "";
    case cluster::ExportKind::kUblk: return "ublk";
    case cluster::ExportKind::kNbd: return "nbd";
    case cluster::ExportKind::kFuseLoop: return "fuse";
    case cluster::ExportKind::kNbdServer: return "nbd-server";
  }
  HF_UNREACHABLE();
}

Result<cluster::ExportKind> parse_export_kind(const std::string& text) {
  for (const cluster::ExportKind kind : {cluster::ExportKind::kNone, cluster::ExportKind::kUblk,
                                         cluster::ExportKind::kNbd, cluster::ExportKind::kFuseLoop,
                                         cluster::ExportKind::kNbdServer}) {
    if (text == to_string(kind)) return kind;
  }
  return make_error(ErrorCode::kInvalidArgument,
                    "\"{}\" is no export; give ublk, nbd, fuse or nbd-server, or nothing for the best that this "
                    "kernel offers",
                    text.substr(0, 32));
}

uint32_t online_replicas(const cluster::VolumeInfo& volume) {
  return static_cast<uint32_t>(std::ranges::count(volume.replicas, cluster::ReplicaState::kOnline,
                                                  &cluster::ReplicaInfo::state));
}

Result<std::string> only_mount_path(const cluster::VolumeInfo& volume) {
  std::vector<std::string> paths;
  std::string others;
  if (volume.attachment) {
    for (const cluster::MountInfo& mount : volume.attachment->mounts) {
      if (mount.holder.starts_with("path:")) paths.push_back(mount.path);
      else others = mount.holder;
    }
  }
  if (paths.size() == 1) return paths.front();
  if (paths.size() > 1) {
    return make_error(ErrorCode::kInvalidArgument, "volume {} is mounted at {} places; say which: {}", volume.name,
                      paths.size(), fmt::join(paths, " "));
  }
  if (!others.empty()) {
    return make_error(ErrorCode::kInUse, "volume {} is mounted for {} only; stop that container", volume.name, others);
  }
  return make_error(ErrorCode::kNotAttached, "volume {} is not mounted", volume.name);
}

}  // namespace hf::api
