// CreateSnapshot, DeleteSnapshot.
#include "api/csi/context.h"
#include "api/csi/convert.h"

namespace hf::api::csi_driver {
namespace {

using cluster::SnapshotInfo;

// Their names are one space, unlike those that people give: each volume has its own.
constexpr char kLabel[] = "made-by";

Result<bool> read_freeze(const csi::CreateSnapshotRequest& in) {
  bool freeze = false;
  for (const auto& [key, value] : in.parameters()) {
    if (key.starts_with("csi.storage.k8s.io/")) continue;
    if (key != "freeze" || (value != "true" && value != "false")) {
      return make_error(ErrorCode::kInvalidArgument, "parameter {:?} = {:?}: a snapshot takes freeze=true or freeze=false",
                        key.substr(0, 64), value.substr(0, 64));
    }
    freeze = value == "true";
  }
  return freeze;
}

}  // namespace

Answer create_snapshot(Context& context, const csi::CreateSnapshotRequest& in, csi::CreateSnapshotResponse* out) {
  if (in.name().empty() || in.name().size() > kMaxTextBytes) {
    return make_error(ErrorCode::kInvalidArgument, "a snapshot name of 1 to {} bytes is needed", kMaxTextBytes);
  }
  const Result<bool> freeze = read_freeze(in);
  if (!freeze.ok()) return freeze.error();
  const Result<BusyNames::Hold> alone = context.busy.take("snapshot " + in.name());
  if (!alone.ok()) return alone.error();
  const Result<cluster::VolumeInfo> volume = find_volume(context, in.source_volume_id());
  if (!volume.ok()) return volume.error();
  const Result<std::vector<SnapshotInfo>> all = context.bridge.call<std::vector<SnapshotInfo>>(
      [&control = context.control] { return control.list_snapshots(std::string()); });
  if (!all.ok()) return all.error();
  for (const SnapshotInfo& other : *all) {
    if (other.name != in.name() || other.volume == volume->id || !other.labels.contains(kLabel)) continue;
    return make_error(ErrorCode::kAlreadyExists, "snapshot {} is of volume {}, and was asked for of volume {}", in.name(),
                      other.volume_name, volume->name);
  }
  cluster::CreateSnapshot request;
  request.volume = in.source_volume_id();
  request.name = in.name();
  request.labels[kLabel] = "csi";
  request.freeze = *freeze;
  const Result<SnapshotInfo> cut = context.bridge.call<SnapshotInfo>(
      [&control = context.control, request] { return control.create_snapshot(request); });
  if (!cut.ok()) return cut.error();
  fill_snapshot(*cut, out->mutable_snapshot());
  return {};
}

Answer delete_snapshot(Context& context, const csi::DeleteSnapshotRequest& in) {
  if (in.snapshot_id().empty() || in.snapshot_id().size() > kMaxTextBytes) {
    return make_error(ErrorCode::kInvalidArgument, "a snapshot_id of 1 to {} bytes is needed", kMaxTextBytes);
  }
  const Result<std::optional<SnapshotInfo>> there = find_snapshot(context, in.snapshot_id());
  if (!there.ok()) return there.error();
  if (!there->has_value()) return {};
  const std::string volume = (*there)->volume.to_string(), snapshot = (*there)->id.to_string();
  const Status gone = context.bridge.call<void>(
      [&control = context.control, volume, snapshot] { return control.delete_snapshot(volume, snapshot); });
  if (gone.ok() || gone.code() == ErrorCode::kNotFound) return {};
  return gone.error();
}

}  // namespace hf::api::csi_driver
