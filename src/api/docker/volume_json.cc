#include "api/docker/volume_json.h"

#include "api/text.h"
#include "base/units.h"
#include "base/utc.h"

namespace hf::api {

using nlohmann::json;

std::string docker_mountpoint(const cluster::VolumeInfo& volume) {
  // Of another node's it would be a folder of this machine, and an empty one.
  return volume.attachment && volume.attachment->here ? volume.attachment->mount_path : std::string();
}

json docker_volume(const cluster::VolumeInfo& volume, const std::string& client_name) {
  json status = {
      {"id", volume.id.to_string()},
      {"state", to_string(volume.state)},
      {"size", format_size(volume.size_bytes)},
      {"used", format_size(volume.used_bytes)},
      {"fs", std::string(spec::to_string(volume.spec.fs))},
      {"replicas", fmt::format("{} of {} online", online_replicas(volume), volume.spec.repl)},
      {"snapshots", volume.snapshot_count},
  };
  if (!volume.message.empty()) status["message"] = volume.message;
  if (!volume.parent.empty()) status["parent"] = volume.parent;
  if (volume.name != client_name) status["name"] = volume.name;
  if (volume.attachment) {
    status["attached_on"] = volume.attachment->node_name;
    status["device"] = volume.attachment->device;
    status["export"] = to_string(volume.attachment->kind);
    json mounts = json::array();
    for (const cluster::MountInfo& mount : volume.attachment->mounts) {
      mounts.push_back(mount.holder);
    }
    status["mounted_by"] = std::move(mounts);
  }
  return {{"Name", client_name},
          {"Mountpoint", docker_mountpoint(volume)},
          {"CreatedAt", format_utc(volume.created.ns / 1'000'000'000)},
          {"Status", std::move(status)}};
}

}  // namespace hf::api
