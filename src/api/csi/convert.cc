#include "api/csi/convert.h"

#include <charconv>

#include "api/proto_time.h"

namespace hf::api::csi_driver {

void fill_volume(const Context& context, const cluster::VolumeInfo& from, csi::Volume* to) {
  to->set_volume_id(from.id.to_string());
  to->set_capacity_bytes(static_cast<int64_t>(from.size_bytes));
  (*to->add_accessible_topology()->mutable_segments())[kClusterTopology] = context.options.cluster;
}

void fill_snapshot(const cluster::SnapshotInfo& from, csi::Snapshot* to) {
  to->set_snapshot_id(snapshot_id_of(from));
  to->set_source_volume_id(from.volume.to_string());
  to->set_size_bytes(static_cast<int64_t>(from.size_bytes));
  fill_time(from.created, to->mutable_creation_time());
  to->set_ready_to_use(true);
}

std::string snapshot_id_of(const cluster::SnapshotInfo& snapshot) {
  return snapshot.volume.to_string() + "@" + snapshot.id.to_string();
}

std::optional<SnapshotKey> parse_snapshot_id(const std::string& text) {
  const size_t at = text.find('@');
  if (at == std::string::npos) return std::nullopt;
  const std::optional<VolumeId> volume = VolumeId::parse(std::string_view(text).substr(0, at));
  const std::optional<SnapshotId> snapshot = SnapshotId::parse(std::string_view(text).substr(at + 1));
  if (!volume || !snapshot) return std::nullopt;
  return SnapshotKey{*volume, *snapshot};
}

Result<std::optional<cluster::SnapshotInfo>> find_snapshot(Context& context, const std::string& snapshot_id) {
  std::optional<cluster::SnapshotInfo> found;
  const std::optional<SnapshotKey> key = parse_snapshot_id(snapshot_id);
  if (!key) return found;
  const std::string volume = key->volume.to_string();
  Result<std::vector<cluster::SnapshotInfo>> all = context.bridge.call<std::vector<cluster::SnapshotInfo>>(
      [&control = context.control, volume] { return control.list_snapshots(volume); });
  if (all.code() == ErrorCode::kNotFound) return found;
  HF_TRY(all);
  for (cluster::SnapshotInfo& snapshot : *all) {
    if (snapshot.id == key->snapshot && snapshot.volume == key->volume) found = std::move(snapshot);
  }
  return found;
}

std::string page_token(const PageToken& token) { return std::to_string(token.created_ns) + "." + token.id; }

std::optional<PageToken> parse_page_token(const std::string& text) {
  PageToken token;
  const size_t dot = text.find('.');
  if (text.size() > kMaxTextBytes || dot == std::string::npos) return std::nullopt;
  const std::from_chars_result number = std::from_chars(text.data(), text.data() + dot, token.created_ns);
  if (number.ec != std::errc() || number.ptr != text.data() + dot) return std::nullopt;
  token.id = text.substr(dot + 1);
  if (!VolumeId::parse(token.id) && !parse_snapshot_id(token.id)) return std::nullopt;
  return token;
}

}  // namespace hf::api::csi_driver
