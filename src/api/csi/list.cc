// ListVolumes, ListSnapshots, ControllerGetVolume, GetCapacity.
#include <algorithm>

#include "api/csi/access.h"
#include "api/csi/context.h"
#include "api/csi/convert.h"

namespace hf::api::csi_driver {
namespace {

using cluster::SnapshotInfo;
using cluster::VolumeInfo;

PageToken token_of(const VolumeInfo& volume) { return PageToken{volume.created.ns, volume.id.to_string()}; }
PageToken token_of(const SnapshotInfo& snapshot) { return PageToken{snapshot.created.ns, snapshot_id_of(snapshot)}; }

// Cuts `all` to the page that is asked for, in the order of creation. kConflict (ABORTED): no token of ours.
template <typename Info>
Status take_page(int32_t max_entries, const std::string& starting_token, std::vector<Info>* all, std::string* next) {
  if (max_entries < 0) return make_error(ErrorCode::kInvalidArgument, "max_entries {} is negative", max_entries);
  std::sort(all->begin(), all->end(), [](const Info& a, const Info& b) { return token_of(a) < token_of(b); });
  if (!starting_token.empty()) {
    const std::optional<PageToken> after = parse_page_token(starting_token);
    if (!after) {
      return make_error(ErrorCode::kConflict, "starting_token {:?} is none that was given out; begin the list anew",
                        starting_token.substr(0, 64));
    }
    std::erase_if(*all, [&](const Info& one) { return token_of(one) <= *after; });
  }
  const auto most = static_cast<size_t>(max_entries);
  if (most == 0 || all->size() <= most) return {};
  all->resize(most);
  *next = page_token(token_of(all->back()));
  return {};
}

}  // namespace

Answer list_volumes(Context& context, const csi::ListVolumesRequest& in, csi::ListVolumesResponse* out) {
  Result<std::vector<VolumeInfo>> all = context.bridge.call<std::vector<VolumeInfo>>(
      [&control = context.control] { return control.list_volumes(); });
  if (!all.ok()) return all.error();
  std::erase_if(*all, [](const VolumeInfo& volume) {
    return volume.state == cluster::VolumeState::kCreating || volume.state == cluster::VolumeState::kDeleting;
  });
  HF_TRY(take_page(in.max_entries(), in.starting_token(), &*all, out->mutable_next_token()));
  for (const VolumeInfo& volume : *all) {
    csi::ListVolumesResponse::Entry* entry = out->add_entries();
    fill_volume(context, volume, entry->mutable_volume());
    fill_condition(volume, entry->mutable_status()->mutable_volume_condition());
  }
  return {};
}

Answer get_volume(Context& context, const csi::ControllerGetVolumeRequest& in,
                  csi::ControllerGetVolumeResponse* out) {
  const Result<VolumeInfo> volume = find_volume(context, in.volume_id());
  if (!volume.ok()) return volume.error();
  fill_volume(context, *volume, out->mutable_volume());
  fill_condition(*volume, out->mutable_status()->mutable_volume_condition());
  return {};
}

Answer list_snapshots(Context& context, const csi::ListSnapshotsRequest& in, csi::ListSnapshotsResponse* out) {
  std::vector<SnapshotInfo> all;
  if (!in.snapshot_id().empty()) {
    const Result<std::optional<SnapshotInfo>> one = find_snapshot(context, in.snapshot_id());
    if (!one.ok()) return one.error();
    if (one->has_value()) all.push_back(**one);
  } else if (in.source_volume_id().empty() || VolumeId::parse(in.source_volume_id())) {
    const std::string volume = in.source_volume_id();
    Result<std::vector<SnapshotInfo>> found = context.bridge.call<std::vector<SnapshotInfo>>(
        [&control = context.control, volume] { return control.list_snapshots(volume); });
    if (!found.ok() && found.code() != ErrorCode::kNotFound) return found.error();
    if (found.ok()) all = std::move(*found);
  }
  if (!in.source_volume_id().empty()) {
    const std::optional<VolumeId> volume = VolumeId::parse(in.source_volume_id());
    std::erase_if(all, [&](const SnapshotInfo& snapshot) { return !volume || snapshot.volume != *volume; });
  }
  HF_TRY(take_page(in.max_entries(), in.starting_token(), &all, out->mutable_next_token()));
  for (const SnapshotInfo& snapshot : all) fill_snapshot(snapshot, out->add_entries()->mutable_snapshot());
  return {};
}

Answer get_capacity(Context& context, const csi::GetCapacityRequest& in, csi::GetCapacityResponse* out) {
  std::vector<Access> accesses(1);
  if (!in.volume_capabilities().empty()) {
    const Result<std::vector<Access>> asked = parse_accesses(in.volume_capabilities());
    if (!asked.ok()) return asked.error();
    accesses = *asked;
  }
  Result<spec::OptionMap> options = volume_options(in.parameters(), {}, accesses);
  if (!options.ok()) return options.error();
  options->erase("size");
  const Result<VolumeSpec> spec = spec::parse_options("x", *options);
  if (!spec.ok()) return spec.error();
  const auto cluster = in.accessible_topology().segments().find(kClusterTopology);
  uint64_t largest = 0;
  if (cluster == in.accessible_topology().segments().end() || cluster->second == context.options.cluster) {
    cluster::CreateVolume request;
    request.spec = *spec;
    const Result<uint64_t> found = context.bridge.call<uint64_t>(
        [&control = context.control, request] { return control.largest_volume(request); });
    if (!found.ok()) return found.error();
    largest = *found;
  }
  out->set_available_capacity(static_cast<int64_t>(largest));
  out->mutable_maximum_volume_size()->set_value(static_cast<int64_t>(largest));
  out->mutable_minimum_volume_size()->set_value(static_cast<int64_t>(spec::min_volume_bytes(spec->fs)));
  return {};
}

}  // namespace hf::api::csi_driver
