// ControllerExpandVolume, NodeExpandVolume: a volume grows with its device and its file system wherever it is used; the
// node's call makes sure that the file system has followed.
#include "api/csi/access.h"
#include "api/csi/context.h"
#include "api/csi/node_parts.h"
#include "base/units.h"

namespace hf::api::csi_driver {
namespace {

using cluster::VolumeInfo;

Answer read_size(const csi::CapacityRange& range, const VolumeInfo& volume, uint64_t* size_bytes) {
  if (range.required_bytes() < 0 || range.limit_bytes() < 0 ||
      (range.limit_bytes() != 0 && range.required_bytes() > range.limit_bytes())) {
    return make_error(ErrorCode::kInvalidArgument,
                      "capacity_range: required_bytes and limit_bytes may not be negative, nor required above limit");
  }
  const auto required = static_cast<uint64_t>(range.required_bytes());
  const auto limit = static_cast<uint64_t>(range.limit_bytes());
  if (required > spec::kMaxVolumeBytes) {
    return out_of_range(fmt::format("{} is above the largest volume, {}", format_size(required),
                                    format_size(spec::kMaxVolumeBytes)));
  }
  const uint64_t size = std::max(round_up(required, kBlockSize), volume.size_bytes);
  if (limit != 0 && size > limit) {
    return out_of_range(fmt::format("volume {} has {} and does not shrink, {} is asked for, and limit_bytes allows {}",
                                    volume.name, format_size(volume.size_bytes), format_size(required),
                                    format_size(limit)));
  }
  *size_bytes = size;
  return {};
}

Result<VolumeInfo> resize(Context& context, const std::string& volume_id, uint64_t size_bytes) {
  return context.bridge.call<VolumeInfo>(
      [&control = context.control, volume_id, size_bytes] { return control.resize_volume(volume_id, size_bytes); });
}

// kNotFound: the volume is not there, or not at the path.
Result<VolumeInfo> find_at(Context& context, const std::string& volume_id, const std::string& path) {
  if (path.empty()) return Error(ErrorCode::kInvalidArgument, "a volume_path is needed");
  Result<VolumeInfo> volume = find_volume(context, volume_id);
  HF_TRY(volume);
  const Result<bool> there = is_shown(context, *volume, path);
  HF_TRY(there);
  if (*there) return volume;
  return make_error(ErrorCode::kNotFound, "volume {} is not at {} on this node", volume->name, path);
}

void add_usage(csi::NodeGetVolumeStatsResponse* out, csi::VolumeUsage::Unit unit, uint64_t total, uint64_t used,
               uint64_t available) {
  csi::VolumeUsage* usage = out->add_usage();
  usage->set_unit(unit);
  usage->set_total(static_cast<int64_t>(total));
  usage->set_used(static_cast<int64_t>(used));
  usage->set_available(static_cast<int64_t>(available));
}

}  // namespace

Answer expand_volume(Context& context, const csi::ControllerExpandVolumeRequest& in,
                     csi::ControllerExpandVolumeResponse* out) {
  if (!in.has_capacity_range()) return Error(ErrorCode::kInvalidArgument, "a capacity_range is needed");
  const Result<VolumeInfo> volume = find_volume(context, in.volume_id());
  if (!volume.ok()) return volume.error();
  uint64_t size_bytes = 0;
  Answer sized = read_size(in.capacity_range(), *volume, &size_bytes);
  if (!sized.ok()) return sized;
  const Result<VolumeInfo> grown = resize(context, in.volume_id(), size_bytes);
  if (!grown.ok()) return grown.error();
  out->set_capacity_bytes(static_cast<int64_t>(grown->size_bytes));
  out->set_node_expansion_required(grown->fs_bytes != 0 && grown->fs_bytes < grown->size_bytes);
  return {};
}

Answer expand_on_node(Context& context, const csi::NodeExpandVolumeRequest& in, csi::NodeExpandVolumeResponse* out) {
  const Result<VolumeInfo> volume = find_at(context, in.volume_id(), in.volume_path());
  if (!volume.ok()) return volume.error();
  uint64_t size_bytes = 0;
  Answer sized = read_size(in.capacity_range(), *volume, &size_bytes);
  if (!sized.ok()) return sized;
  const Result<VolumeInfo> grown = resize(context, in.volume_id(), size_bytes);
  if (!grown.ok()) return grown.error();
  if (grown->fs_bytes != 0 && grown->fs_bytes < grown->size_bytes) {
    return make_error(ErrorCode::kFailedPrecondition, "volume {} has {} now, and its file system cannot grow here while it "
                                                      "is mounted (an ext4 needs CAP_SYS_RESOURCE); it grows at its next mount",
                      grown->name, format_size(grown->size_bytes));
  }
  out->set_capacity_bytes(static_cast<int64_t>(grown->size_bytes));
  return {};
}

Answer volume_stats(Context& context, const csi::NodeGetVolumeStatsRequest& in,
                    csi::NodeGetVolumeStatsResponse* out) {
  const Result<VolumeInfo> volume = find_at(context, in.volume_id(), in.volume_path());
  if (!volume.ok()) return volume.error();
  fill_condition(*volume, out->mutable_volume_condition());
  if (volume->spec.fs == spec::FsType::kNone) {
    add_usage(out, csi::VolumeUsage::BYTES, volume->size_bytes, 0, 0);
    return {};
  }
  const std::string path = in.volume_path();
  const Result<PlaceUsage> usage =
      context.bridge.call<PlaceUsage>([&places = context.places, path] { return places.usage(path); });
  if (!usage.ok()) return usage.error();
  add_usage(out, csi::VolumeUsage::BYTES, usage->total_bytes, usage->used_bytes, usage->available_bytes);
  add_usage(out, csi::VolumeUsage::INODES, usage->total_inodes, usage->used_inodes, usage->available_inodes);
  return {};
}

}  // namespace hf::api::csi_driver
