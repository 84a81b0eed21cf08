// NodeStageVolume, NodeUnstageVolume: the volume comes to this node, and leaves it.
//
// Staged is what has a holder "csi-stage:<path>" (a file system), or what is attached here (a block device).
#include <algorithm>

#include "api/csi/access.h"
#include "api/csi/context.h"
#include "api/csi/node_parts.h"

namespace hf::api::csi_driver {

using cluster::VolumeInfo;

Result<std::string> plain_place(const char* what, const std::string& path) {
  std::string plain = path;
  while (plain.size() > 1 && plain.back() == '/') plain.pop_back();
  const bool sound = plain.size() > 1 && plain.size() <= kMaxPlaceBytes && plain[0] == '/' &&
                     plain.find('\0') == std::string::npos && (plain + "/").find("/../") == std::string::npos;
  if (sound) return plain;
  return make_error(ErrorCode::kInvalidArgument, "{} {:?}: an absolute path of at most {} bytes, without .., is needed",
                    what, path.substr(0, 128), kMaxPlaceBytes);
}

bool is_here(const VolumeInfo& volume) { return volume.attachment && volume.attachment->here; }

bool has_holder(const VolumeInfo& volume, const std::string& holder) {
  if (!is_here(volume)) return false;
  const std::vector<cluster::MountInfo>& mounts = volume.attachment->mounts;
  return std::any_of(mounts.begin(), mounts.end(), [&](const auto& mount) { return mount.holder == holder; });
}

std::string device_of(const VolumeInfo& volume) {
  return is_here(volume) && volume.attachment->device.starts_with('/') ? volume.attachment->device : std::string();
}

Result<std::vector<std::string>> shown_at(Context& context, const std::string& device) {
  if (device.empty()) return std::vector<std::string>();
  return context.bridge.call<std::vector<std::string>>(
      [&places = context.places, device] { return places.shown_at(device); });
}

Result<bool> is_shown(Context& context, const VolumeInfo& volume, const std::string& path) {
  const Result<std::string> place = plain_place("volume_path", path);
  HF_TRY(place);
  if (has_holder(volume, kPublished + *place) || has_holder(volume, kStaged + *place)) return true;
  if (volume.spec.fs != spec::FsType::kNone) return false;
  const Result<std::vector<std::string>> places = shown_at(context, device_of(volume));
  HF_TRY(places);
  return std::find(places->begin(), places->end(), *place) != places->end();
}

Status mount_at(Context& context, const VolumeInfo& volume, const std::string& holder, const std::string& place,
                bool read_only) {
  cluster::MountVolume request;
  request.name = volume.id.to_string();
  request.holder = holder;
  request.target_path = place;
  request.read_only = read_only;
  const Status made =
      context.bridge.call<void>([&places = context.places, place] { return places.make_directory(place); });
  HF_TRY(made);
  const Result<cluster::MountInfo> mounted = context.bridge.call<cluster::MountInfo>(
      [&control = context.control, request] { return control.mount_volume(request); });
  return mounted.ok() ? Status() : Status(mounted.error());
}

Status unmount_at(Context& context, const VolumeInfo& volume, const std::string& holder, const std::string& place) {
  cluster::UnmountVolume request;
  request.name = volume.id.to_string();
  request.holder = holder;
  request.target_path = place;
  return context.bridge.call<void>([&control = context.control, request] { return control.unmount_volume(request); });
}

Answer stage_volume(Context& context, const csi::NodeStageVolumeRequest& in) {
  if (!in.has_volume_capability()) return Error(ErrorCode::kInvalidArgument, "a volume_capability is needed");
  const Result<std::string> place = plain_place("staging_target_path", in.staging_target_path());
  if (!place.ok()) return place.error();
  const Result<Access> access = parse_access(in.volume_capability());
  if (!access.ok()) return access.error();
  const Result<BusyNames::Hold> alone = context.busy.take("volume " + in.volume_id());
  if (!alone.ok()) return alone.error();
  const Result<VolumeInfo> volume = find_volume(context, in.volume_id());
  if (!volume.ok()) return volume.error();
  HF_TRY(check_access(*access, *volume));
  // Publishing says who may write; what is staged is this node's own.
  if (!access->block) {
    HF_TRY(mount_at(context, *volume, kStaged + *place, *place, false));
    return {};
  }
  cluster::AttachVolume request;
  request.name = in.volume_id();
  const Result<VolumeInfo> attached = context.bridge.call<VolumeInfo>(
      [&control = context.control, request] { return control.attach_volume(request); });
  if (!attached.ok()) return attached.error();
  if (!device_of(*attached).empty()) return {};
  return make_error(ErrorCode::kFailedPrecondition, "volume {} is attached without a block device of this node ({}); end "
                                                    "that first",
                    volume->name, attached->attachment ? attached->attachment->device : "");
}

Answer unstage_volume(Context& context, const csi::NodeUnstageVolumeRequest& in) {
  const Result<std::string> place = plain_place("staging_target_path", in.staging_target_path());
  if (!place.ok()) return place.error();
  const Result<BusyNames::Hold> alone = context.busy.take("volume " + in.volume_id());
  if (!alone.ok()) return alone.error();
  const Result<VolumeInfo> volume = find_volume(context, in.volume_id());
  if (!volume.ok() && volume.code() != ErrorCode::kNotFound) return volume.error();
  if (volume.ok() && volume->spec.fs != spec::FsType::kNone) {
    HF_TRY(unmount_at(context, *volume, kStaged + *place, *place));
  } else if (volume.ok() && is_here(*volume)) {
    // What is still shown would be the next volume's device.
    const Result<std::vector<std::string>> shown = shown_at(context, device_of(*volume));
    if (!shown.ok()) return shown.error();
    if (!shown->empty()) {
      return make_error(ErrorCode::kInUse, "volume {} is published at {}; unpublish it first", volume->name, shown->front());
    }
    const std::string id = in.volume_id();
    HF_TRY(context.bridge.call<void>([&control = context.control, id] { return control.detach_volume(id); }));
  }
  // Success says that nothing is staged there: not that of a volume which is gone, either.
  const std::string path = *place;
  const Result<bool> mounted =
      context.bridge.call<bool>([&places = context.places, path] { return places.is_mounted(path); });
  if (!mounted.ok()) return mounted.error();
  if (!*mounted) return {};
  return make_error(ErrorCode::kInUse, "something that is not volume {:?} is mounted at {}; unmount it by hand",
                    in.volume_id().substr(0, kMaxTextBytes), path);
}

}  // namespace hf::api::csi_driver
