// NodePublishVolume, NodeUnpublishVolume: what is staged is shown where a container finds it, and no longer.
#include <algorithm>

#include "api/csi/access.h"
#include "api/csi/context.h"
#include "api/csi/node_parts.h"

namespace hf::api::csi_driver {
namespace {

using cluster::VolumeInfo;

// Where it is published, on this node.
Result<std::vector<std::string>> published_at(Context& context, const VolumeInfo& volume) {
  if (volume.spec.fs == spec::FsType::kNone) return shown_at(context, device_of(volume));
  std::vector<std::string> places;
  if (!is_here(volume)) return places;
  for (const cluster::MountInfo& mount : volume.attachment->mounts) {
    if (mount.holder.starts_with(kPublished)) places.push_back(mount.holder.substr(sizeof kPublished - 1));
  }
  return places;
}

Answer check_staged(const VolumeInfo& volume, const std::string& staging) {
  const bool block = volume.spec.fs == spec::FsType::kNone;
  if (block ? !device_of(volume).empty() : has_holder(volume, kStaged + staging)) return {};
  return make_error(ErrorCode::kFailedPrecondition, "volume {} is not staged at {} on this node; NodeStageVolume comes first",
                    volume.name, staging);
}

}  // namespace

Answer publish_volume(Context& context, const csi::NodePublishVolumeRequest& in) {
  if (!in.has_volume_capability()) return Error(ErrorCode::kInvalidArgument, "a volume_capability is needed");
  const Result<std::string> place = plain_place("target_path", in.target_path());
  if (!place.ok()) return place.error();
  const Result<Access> access = parse_access(in.volume_capability());
  if (!access.ok()) return access.error();
  if (access->block && in.readonly()) {
    return Error(ErrorCode::kInvalidArgument,
                 "readonly: a block device cannot be shown read-only; use a file system, or leave it out");
  }
  const Result<BusyNames::Hold> alone = context.busy.take("volume " + in.volume_id());
  if (!alone.ok()) return alone.error();
  const Result<VolumeInfo> volume = find_volume(context, in.volume_id());
  if (!volume.ok()) return volume.error();
  if (in.staging_target_path().empty()) {
    return Error(ErrorCode::kFailedPrecondition, "a staging_target_path is needed: this driver stages volumes");
  }
  const Result<std::string> staging = plain_place("staging_target_path", in.staging_target_path());
  if (!staging.ok()) return staging.error();
  if (*staging == *place) return Error(ErrorCode::kInvalidArgument, "target_path is the staging_target_path");
  HF_TRY(check_access(*access, *volume));
  Answer staged = check_staged(*volume, *staging);
  if (!staged.ok()) return staged;
  if (access->one_place) {
    const Result<std::vector<std::string>> others = published_at(context, *volume);
    if (!others.ok()) return others.error();
    for (const std::string& other : *others) {
      if (other == *place) continue;
      return make_error(ErrorCode::kFailedPrecondition, "volume {} is published at {} already, and its access mode allows "
                                                        "one place at a time",
                        volume->name, other);
    }
  }
  if (!access->block) {
    HF_TRY(mount_at(context, *volume, kPublished + *place, *place, access->read_only || in.readonly()));
    return {};
  }
  const std::string device = device_of(*volume), path = *place;
  HF_TRY(context.bridge.call<void>([&places = context.places, device, path] { return places.show_device(device, path); }));
  return {};
}

// Also of a volume that is gone: its place must go, or the container could never end.
Answer unpublish_volume(Context& context, const csi::NodeUnpublishVolumeRequest& in) {
  const Result<std::string> place = plain_place("target_path", in.target_path());
  if (!place.ok()) return place.error();
  const Result<BusyNames::Hold> alone = context.busy.take("volume " + in.volume_id());
  if (!alone.ok()) return alone.error();
  const Result<VolumeInfo> volume = find_volume(context, in.volume_id());
  if (!volume.ok() && volume.code() != ErrorCode::kNotFound) return volume.error();
  if (volume.ok() && volume->spec.fs != spec::FsType::kNone) {
    HF_TRY(unmount_at(context, *volume, kPublished + *place, *place));
  }
  const std::string path = *place, device = volume.ok() ? device_of(*volume) : std::string();
  HF_TRY(context.bridge.call<void>([&places = context.places, path, device] { return places.clear(path, device); }));
  return {};
}

}  // namespace hf::api::csi_driver
