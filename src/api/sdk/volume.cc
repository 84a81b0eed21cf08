// openstorage.api.OpenStorageVolume.
#include <algorithm>

#include "api/grpc_services.h"
#include "api/grpc_status.h"
#include "api/sdk/convert.h"
#include "openstorage/api.grpc.pb.h"

namespace hf::api {
namespace {

namespace sdk = openstorage::api;
using cluster::SnapshotInfo;
using cluster::VolumeInfo;
using Labels = google::protobuf::Map<std::string, std::string>;

bool has_labels(const std::map<std::string, std::string>& have, const Labels& wanted) {
  return std::ranges::all_of(wanted, [&have](const auto& pair) {
    auto it = have.find(pair.first);
    return it != have.end() && it->second == pair.second;
  });
}

class Volume final : public sdk::OpenStorageVolume::Service {
 public:
  explicit Volume(const ServiceContext& context) : context_(context) {}

  grpc::Status Create(grpc::ServerContext* rpc, const sdk::SdkVolumeCreateRequest* in,
                      sdk::SdkVolumeCreateResponse* out) override {
    Result<spec::OptionMap> options = sdk_options(in->spec(), in->labels());
    if (!options.ok()) return to_grpc(options, rpc);
    Result<VolumeSpec> parsed = spec::parse_options(in->name(), *options);
    if (!parsed.ok()) return to_grpc(parsed, rpc);
    cluster::CreateVolume request;
    request.name = parsed->name;
    request.spec = std::move(*parsed);
    auto made = context_.bridge.call<VolumeInfo>(
        [this, request] { return context_.control.create_volume(request); });
    if (made.ok()) out->set_volume_id(made->id.to_string());
    return to_grpc(made, rpc);
  }

  grpc::Status Clone(grpc::ServerContext* rpc, const sdk::SdkVolumeCloneRequest* in,
                     sdk::SdkVolumeCloneResponse* out) override {
    cluster::CloneVolume request;
    request.name = in->name();
    request.parent = in->parent_id();
    request.labels = {in->additional_labels().begin(), in->additional_labels().end()};
    Result<std::optional<SnapshotInfo>> snapshot = find_snapshot(in->parent_id());
    if (!snapshot.ok()) return to_grpc(snapshot, rpc);
    if (snapshot->has_value()) {
      request.parent = (**snapshot).volume.to_string();
      request.snapshot = (**snapshot).name;
    }
    auto made = context_.bridge.call<VolumeInfo>(
        [this, request] { return context_.control.clone_volume(request); });
    if (made.ok()) out->set_volume_id(made->id.to_string());
    return to_grpc(made, rpc);
  }

  grpc::Status Delete(grpc::ServerContext* rpc, const sdk::SdkVolumeDeleteRequest* in,
                      sdk::SdkVolumeDeleteResponse*) override {
    Result<std::optional<SnapshotInfo>> snapshot = find_snapshot(in->volume_id());
    if (!snapshot.ok()) return to_grpc(snapshot, rpc);
    if (snapshot->has_value()) {
      const std::string volume = (**snapshot).volume.to_string(), name = (**snapshot).name;
      return to_grpc(context_.bridge.call<void>([this, volume, name] {
                       return context_.control.delete_snapshot(volume, name);
                     }),
                     rpc);
    }
    cluster::DeleteVolume request;
    request.name = in->volume_id();
    request.missing_ok = true;  // the SDK's Delete is idempotent
    return to_grpc(context_.bridge.call<void>(
                       [this, request] { return context_.control.delete_volume(request); }),
                   rpc);
  }

  grpc::Status Inspect(grpc::ServerContext* rpc, const sdk::SdkVolumeInspectRequest* in,
                       sdk::SdkVolumeInspectResponse* out) override {
    const std::string id = in->volume_id();
    Result<VolumeInfo> volume = inspect(id);
    if (volume.code() == ErrorCode::kNotFound) {
      Result<std::optional<SnapshotInfo>> snapshot = find_snapshot(id);
      if (!snapshot.ok()) return to_grpc(snapshot, rpc);
      if (snapshot->has_value()) {
        fill_sdk(**snapshot, out->mutable_volume());
        out->set_name((**snapshot).name);
        return grpc::Status::OK;
      }
    }
    if (volume.ok()) fill_response(*volume, out);
    return to_grpc(volume, rpc);
  }

  grpc::Status InspectWithFilters(grpc::ServerContext* rpc,
                                  const sdk::SdkVolumeInspectWithFiltersRequest* in,
                                  sdk::SdkVolumeInspectWithFiltersResponse* out) override {
    auto all = filtered(in->name(), in->labels(), in->group().id());
    if (all.ok()) {
      for (const VolumeInfo& volume : *all) fill_response(volume, out->add_volumes());
    }
    return to_grpc(all, rpc);
  }

  grpc::Status Update(grpc::ServerContext* rpc, const sdk::SdkVolumeUpdateRequest* in,
                      sdk::SdkVolumeUpdateResponse*) override {
    Result<spec::OptionMap> options = sdk_update_options(in->spec(), in->labels());
    if (!options.ok()) return to_grpc(options, rpc);
    const std::string name = in->volume_id();
    cluster::UpdateVolume request;
    request.name = name;
    request.options = {options->begin(), options->end()};
    return to_grpc(context_.bridge.call<VolumeInfo>(
                       [this, request] { return context_.control.update_volume(request); }),
                   rpc);
  }

  grpc::Status Stats(grpc::ServerContext* rpc, const sdk::SdkVolumeStatsRequest* in,
                     sdk::SdkVolumeStatsResponse* out) override {
    Result<VolumeInfo> volume = inspect(in->volume_id());
    if (volume.ok()) out->mutable_stats()->set_bytes_used(volume->used_bytes);
    return to_grpc(volume, rpc);
  }

  grpc::Status CapacityUsage(grpc::ServerContext* rpc,
                             const sdk::SdkVolumeCapacityUsageRequest* in,
                             sdk::SdkVolumeCapacityUsageResponse* out) override {
    Result<VolumeInfo> volume = inspect(in->volume_id());
    if (volume.ok()) {
      out->mutable_capacity_usage_info()->set_total_bytes(static_cast<int64_t>(volume->used_bytes));
    }
    return to_grpc(volume, rpc);
  }

  grpc::Status Enumerate(grpc::ServerContext* rpc, const sdk::SdkVolumeEnumerateRequest*,
                         sdk::SdkVolumeEnumerateResponse* out) override {
    auto all = filtered("", Labels(), "");
    if (all.ok()) {
      for (const VolumeInfo& volume : *all) out->add_volume_ids(volume.id.to_string());
    }
    return to_grpc(all, rpc);
  }

  grpc::Status EnumerateWithFilters(grpc::ServerContext* rpc,
                                    const sdk::SdkVolumeEnumerateWithFiltersRequest* in,
                                    sdk::SdkVolumeEnumerateWithFiltersResponse* out) override {
    auto all = filtered(in->name(), in->labels(), in->group().id());
    if (all.ok()) {
      for (const VolumeInfo& volume : *all) out->add_volume_ids(volume.id.to_string());
    }
    return to_grpc(all, rpc);
  }

  grpc::Status SnapshotCreate(grpc::ServerContext* rpc,
                              const sdk::SdkVolumeSnapshotCreateRequest* in,
                              sdk::SdkVolumeSnapshotCreateResponse* out) override {
    cluster::CreateSnapshot request;
    request.volume = in->volume_id();
    request.name = in->name();
    request.labels = {in->labels().begin(), in->labels().end()};
    auto made = context_.bridge.call<SnapshotInfo>(
        [this, request] { return context_.control.create_snapshot(request); });
    if (made.ok()) out->set_snapshot_id(made->id.to_string());
    return to_grpc(made, rpc);
  }

  grpc::Status SnapshotRestore(grpc::ServerContext* rpc,
                               const sdk::SdkVolumeSnapshotRestoreRequest* in,
                               sdk::SdkVolumeSnapshotRestoreResponse*) override {
    const std::string volume = in->volume_id(), snapshot = in->snapshot_id();
    return to_grpc(context_.bridge.call<VolumeInfo>([this, volume, snapshot] {
                     return context_.control.restore_snapshot(volume, snapshot);
                   }),
                   rpc);
  }

  grpc::Status SnapshotEnumerate(grpc::ServerContext* rpc,
                                 const sdk::SdkVolumeSnapshotEnumerateRequest* in,
                                 sdk::SdkVolumeSnapshotEnumerateResponse* out) override {
    return snapshot_ids(rpc, in->volume_id(), Labels(), out);
  }

  grpc::Status SnapshotEnumerateWithFilters(
      grpc::ServerContext* rpc, const sdk::SdkVolumeSnapshotEnumerateWithFiltersRequest* in,
      sdk::SdkVolumeSnapshotEnumerateWithFiltersResponse* out) override {
    return snapshot_ids(rpc, in->volume_id(), in->labels(), out);
  }

 private:
  Result<VolumeInfo> inspect(const std::string& name) {
    return context_.bridge.call<VolumeInfo>(
        [this, name] { return context_.control.inspect_volume(name); });
  }

  Result<std::vector<SnapshotInfo>> snapshots(const std::string& volume) {
    return context_.bridge.call<std::vector<SnapshotInfo>>(
        [this, volume] { return context_.control.list_snapshots(volume); });
  }

  // The snapshot of that id, if the id is one's.
  Result<std::optional<SnapshotInfo>> find_snapshot(const std::string& id) {
    const std::optional<SnapshotId> wanted = SnapshotId::parse(id);
    if (!wanted) return std::optional<SnapshotInfo>();
    Result<std::vector<SnapshotInfo>> all = snapshots("");
    HF_TRY(all);
    const auto it = std::ranges::find(*all, *wanted, &SnapshotInfo::id);
    return it == all->end() ? std::nullopt : std::optional<SnapshotInfo>(*it);
  }

  Result<std::vector<VolumeInfo>> filtered(const std::string& name, const Labels& labels,
                                           const std::string& group) {
    auto all = context_.bridge.call<std::vector<VolumeInfo>>(
        [this] { return context_.control.list_volumes(); });
    if (all.ok()) {
      std::erase_if(*all, [&](const VolumeInfo& volume) {
        return (!name.empty() && volume.name != name) ||
               (!group.empty() && volume.spec.group != group) ||
               !has_labels(volume.spec.labels, labels);
      });
    }
    return all;
  }

  static void fill_response(const VolumeInfo& volume, sdk::SdkVolumeInspectResponse* out) {
    fill_sdk(volume, out->mutable_volume());
    out->set_name(volume.name);
    for (const auto& [key, value] : volume.spec.labels) (*out->mutable_labels())[key] = value;
  }

  template <typename Response>
  grpc::Status snapshot_ids(grpc::ServerContext* rpc, const std::string& volume,
                            const Labels& labels, Response* out) {
    Result<std::vector<SnapshotInfo>> all = snapshots(volume);
    if (all.ok()) {
      for (const SnapshotInfo& snapshot : *all) {
        if (has_labels(snapshot.labels, labels)) {
          out->add_volume_snapshot_ids(snapshot.id.to_string());
        }
      }
    }
    return to_grpc(all, rpc);
  }

  ServiceContext context_;
};

}  // namespace

std::unique_ptr<grpc::Service> make_sdk_volume(const ServiceContext& context) {
  return std::make_unique<Volume>(context);
}

}  // namespace hf::api
