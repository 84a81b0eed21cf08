// CreateVolume, DeleteVolume, ValidateVolumeCapabilities.
#include <algorithm>

#include "api/csi/access.h"
#include "api/csi/context.h"
#include "api/csi/convert.h"
#include "base/units.h"
#include "volume/spec/reuse.h"

namespace hf::api::csi_driver {
namespace {

using cluster::VolumeInfo;

Error invalid(std::string sentence) { return Error(ErrorCode::kInvalidArgument, std::move(sentence)); }

// What a new volume is made of.
struct Source {
  std::string parent;   // as the spec's key; "": nothing
  std::string origin;   // as VolumeInfo::parent will show it
  uint64_t size_bytes = 0;
};

Result<Source> find_source(Context& context, const csi::VolumeContentSource& in) {
  Source source;
  if (in.has_volume()) {
    const Result<VolumeInfo> volume = find_volume(context, in.volume().volume_id());
    if (!volume.ok()) return volume.error().with_context("the content source");
    source.parent = volume->id.to_string();
    source.origin = volume->name;
    source.size_bytes = volume->size_bytes;
  } else if (in.has_snapshot()) {
    const std::string& id = in.snapshot().snapshot_id();
    if (id.empty() || id.size() > kMaxTextBytes) return invalid("the content source needs a snapshot_id");
    const Result<std::optional<cluster::SnapshotInfo>> snapshot = find_snapshot(context, id);
    HF_TRY(snapshot);
    if (!snapshot->has_value()) return make_error(ErrorCode::kNotFound, "the content source: there is no snapshot {:?}", id);
    const cluster::SnapshotInfo& found = **snapshot;
    source.parent = snapshot_id_of(found);
    source.origin = found.volume_name + "@" + found.id.to_string();
    source.size_bytes = found.size_bytes;
  } else {
    return invalid("a volume_content_source needs a snapshot or a volume");
  }
  return source;
}

Result<std::optional<VolumeInfo>> find_by_name(Context& context, const std::string& name) {
  Result<VolumeInfo> found = context.bridge.call<VolumeInfo>(
      [&control = context.control, name] { return control.inspect_volume(name); });
  if (found.code() == ErrorCode::kNotFound || (found.ok() && found->name != name)) return std::optional<VolumeInfo>();
  HF_TRY(found);
  return std::optional<VolumeInfo>(std::move(*found));
}

// The size to ask for; 0: as the spec says. Nothing is ever smaller than its source.
Answer choose_size(const csi::CapacityRange& range, const Source& source, const spec::OptionMap& options,
                   const std::optional<VolumeInfo>& there, uint64_t* size_bytes) {
  const auto required = static_cast<uint64_t>(range.required_bytes());
  const auto limit = static_cast<uint64_t>(range.limit_bytes());
  if (there && there->size_bytes >= required && (limit == 0 || there->size_bytes <= limit)) {
    *size_bytes = there->size_bytes;  // it may have grown since it was made
    return {};
  }
  uint64_t size = std::max(required, source.size_bytes);
  if (size == 0) {
    const Result<VolumeSpec> plain = spec::parse_options("x", options);
    if (!plain.ok()) return plain.error();
    size = plain->size_bytes;
    if (limit != 0 && size > limit) size = round_down(limit, kBlockSize);
  }
  spec::OptionMap sized = options;
  sized.erase("size");
  const Result<VolumeSpec> made_of = spec::parse_options("x", sized);
  if (!made_of.ok()) return made_of.error();
  size = round_up(std::max(size, spec::min_volume_bytes(made_of->fs)), kBlockSize);
  if (limit != 0 && size > limit) {
    return out_of_range(fmt::format("a volume of at least {} is needed, and limit_bytes allows {}", format_size(size),
                                    format_size(limit)));
  }
  if (size > spec::kMaxVolumeBytes) {
    return out_of_range(fmt::format("{} is above the largest volume, {}", format_size(size),
                                    format_size(spec::kMaxVolumeBytes)));
  }
  *size_bytes = size;
  return {};
}

// The volumes of this cluster can be used on every node of it, and nowhere else.
Answer check_topology(const Context& context, const csi::TopologyRequirement& wanted) {
  if (wanted.requisite().empty()) return {};
  for (const csi::Topology& topology : wanted.requisite()) {
    const auto cluster = topology.segments().find(kClusterTopology);
    if (cluster == topology.segments().end() || cluster->second == context.options.cluster) return {};
  }
  return Answer(make_error(ErrorCode::kNoSpace, "volumes of this cluster are not accessible in any of the {} requisite "
                                                "topologies: none is of {} {}",
                           wanted.requisite_size(), kClusterTopology, context.options.cluster));
}

NodeId preferred_node(const csi::TopologyRequirement& wanted) {
  for (const csi::Topology& topology : wanted.preferred()) {
    const auto node = topology.segments().find(kNodeTopology);
    if (node == topology.segments().end()) continue;
    if (const std::optional<NodeId> id = NodeId::parse(node->second)) return *id;
  }
  return NodeId();
}

Answer check_same(const VolumeInfo& there, const Source& source, const std::vector<Access>& accesses) {
  if (there.parent != source.origin) {
    return make_error(ErrorCode::kAlreadyExists, "there is a volume {} already, made of {} and not of {}", there.name,
                      there.parent.empty() ? "nothing" : there.parent, source.origin.empty() ? "nothing" : source.origin);
  }
  for (const Access& access : accesses) {
    if (access.block == (there.spec.fs == spec::FsType::kNone)) continue;
    return make_error(ErrorCode::kAlreadyExists, "there is a volume {} already, {}", there.name,
                      access.block ? "with a file system" : "without a file system");
  }
  return {};
}

}  // namespace

Answer create_volume(Context& context, const csi::CreateVolumeRequest& in, csi::CreateVolumeResponse* out) {
  const std::string& name = in.name();
  if (!spec::is_valid_name(name)) {
    return make_error(ErrorCode::kInvalidArgument, "name {:?}: a volume name is 1 to {} of 0-9 A-Z a-z . _ - and single /, "
                                                   "and begins with a letter or digit",
                      name.substr(0, 64), spec::kMaxNameBytes);
  }
  const csi::CapacityRange& range = in.capacity_range();
  if (range.required_bytes() < 0 || range.limit_bytes() < 0 ||
      (range.limit_bytes() != 0 && range.required_bytes() > range.limit_bytes())) {
    return invalid("capacity_range: required_bytes and limit_bytes may not be negative, nor required above limit");
  }
  const Result<std::vector<Access>> accesses = parse_accesses(in.volume_capabilities());
  if (!accesses.ok()) return accesses.error();
  Result<spec::OptionMap> options = volume_options(in.parameters(), in.secrets(), *accesses);
  if (!options.ok()) return options.error();
  Answer placed = check_topology(context, in.accessibility_requirements());
  if (!placed.ok()) return placed;

  const Result<BusyNames::Hold> alone = context.busy.take("volume " + name);
  if (!alone.ok()) return alone.error();
  const Result<std::optional<VolumeInfo>> there = find_by_name(context, name);
  if (!there.ok()) return there.error();
  Source source;
  if (in.has_volume_content_source()) {
    const Result<Source> found = find_source(context, in.volume_content_source());
    if (!found.ok()) return found.error();
    source = *found;
    (*options)["parent"] = source.parent;
  }
  if (there->has_value()) {
    Answer same = check_same(**there, source, *accesses);
    if (!same.ok()) return same;
  }
  uint64_t size_bytes = 0;
  Answer sized = choose_size(range, source, *options, *there, &size_bytes);
  if (!sized.ok()) return sized;
  (*options)["size"] = std::to_string(size_bytes) + "B";
  const Result<VolumeSpec> spec = spec::parse_options(name, *options);
  if (!spec.ok()) return spec.error();

  cluster::CreateVolume request;
  request.name = name;
  request.spec = *spec;
  request.near = preferred_node(in.accessibility_requirements());
  const Result<VolumeInfo> made = context.bridge.call<VolumeInfo>(
      [&control = context.control, request] { return control.create_volume(request); });
  // Of a volume that is not there yet it is its source that has another spec.
  if (made.code() == ErrorCode::kSpecMismatch && !there->has_value()) return invalid(made.error().message());
  if (!made.ok()) return made.error();
  fill_volume(context, *made, out->mutable_volume());
  if (in.has_volume_content_source()) *out->mutable_volume()->mutable_content_source() = in.volume_content_source();
  return {};
}

Answer delete_volume(Context& context, const csi::DeleteVolumeRequest& in) {
  const Result<VolumeInfo> there = find_volume(context, in.volume_id());
  if (there.code() == ErrorCode::kNotFound) return {};
  if (!there.ok()) return there.error();
  cluster::DeleteVolume request;
  request.name = in.volume_id();
  request.missing_ok = true;
  const Status gone =
      context.bridge.call<void>([&control = context.control, request] { return control.delete_volume(request); });
  return gone.ok() ? Answer() : Answer(gone.error());
}

Answer validate_capabilities(Context& context, const csi::ValidateVolumeCapabilitiesRequest& in,
                             csi::ValidateVolumeCapabilitiesResponse* out) {
  if (in.volume_capabilities().empty()) return invalid("volume_capabilities are needed");
  const Result<VolumeInfo> volume = find_volume(context, in.volume_id());
  if (!volume.ok()) return volume.error();
  const auto refuse = [out](const Error& why) {
    out->set_message(why.message());
    return Answer();
  };
  const Result<std::vector<Access>> accesses = parse_accesses(in.volume_capabilities());
  if (!accesses.ok()) return refuse(accesses.error());
  for (const Access& access : *accesses) {
    const Status fits = check_access(access, *volume);
    if (!fits.ok()) return refuse(fits.error());
  }
  const Result<spec::OptionMap> options = volume_options(in.parameters(), {}, *accesses);
  if (!options.ok()) return refuse(options.error());
  const Result<VolumeSpec> spec = spec::parse_options(volume->name, *options);
  if (!spec.ok()) return refuse(spec.error());
  const Result<spec::SpecDecision> same = spec::compare_for_reuse(volume->spec, volume->spec, *spec);
  if (!same.ok()) return refuse(same.error());
  auto* confirmed = out->mutable_confirmed();
  *confirmed->mutable_volume_context() = in.volume_context();
  *confirmed->mutable_volume_capabilities() = in.volume_capabilities();
  *confirmed->mutable_parameters() = in.parameters();
  return {};
}

}  // namespace hf::api::csi_driver
