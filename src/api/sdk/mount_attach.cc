// openstorage.api.OpenStorageMountAttach.
#include "api/grpc_services.h"
#include "api/grpc_status.h"
#include "api/text.h"
#include "openstorage/api.grpc.pb.h"

namespace hf::api {
namespace {

namespace sdk = openstorage::api;

// driver_options this daemon knows: "export" of Attach. Others would be dropped silently, so they are
// refused.
template <typename Map>
Status check_options(const Map& options, std::string_view accepted) {
  for (const auto& [key, value] : options) {
    if (key != accepted) {
      return make_error(ErrorCode::kInvalidArgument, "unknown driver option \"{}\"{}{}",
                        key.substr(0, 64), accepted.empty() ? "" : "; accepted: ", accepted);
    }
  }
  return {};
}

class MountAttach final : public sdk::OpenStorageMountAttach::Service {
 public:
  explicit MountAttach(const ServiceContext& context) : context_(context) {}

  grpc::Status Attach(grpc::ServerContext* rpc, const sdk::SdkVolumeAttachRequest* in,
                      sdk::SdkVolumeAttachResponse* out) override {
    Status known = check_options(in->driver_options(), "export");
    if (!known.ok()) return to_grpc(known, rpc);
    const auto it = in->driver_options().find("export");
    Result<cluster::ExportKind> kind =
        parse_export_kind(it == in->driver_options().end() ? std::string() : it->second);
    if (!kind.ok()) return to_grpc(kind, rpc);
    cluster::AttachVolume request;
    request.name = in->volume_id();
    request.kind = *kind;
    auto attached = context_.bridge.call<cluster::VolumeInfo>(
        [this, request] { return context_.control.attach_volume(request); });
    if (attached.ok() && attached->attachment) out->set_device_path(attached->attachment->device);
    return to_grpc(attached, rpc);
  }

  grpc::Status Detach(grpc::ServerContext* rpc, const sdk::SdkVolumeDetachRequest* in,
                      sdk::SdkVolumeDetachResponse*) override {
    Status known = check_options(in->driver_options(), "");
    if (!known.ok()) return to_grpc(known, rpc);
    const std::string name = in->volume_id();
    return to_grpc(
        context_.bridge.call<void>([this, name] { return context_.control.detach_volume(name); }),
        rpc);
  }

  grpc::Status Mount(grpc::ServerContext* rpc, const sdk::SdkVolumeMountRequest* in,
                     sdk::SdkVolumeMountResponse*) override {
    Status known = check_options(in->driver_options(), "");
    if (!known.ok()) return to_grpc(known, rpc);
    cluster::MountVolume request;
    request.name = in->volume_id();
    request.target_path = in->mount_path();
    request.holder = "path:" + in->mount_path();
    return to_grpc(context_.bridge.call<cluster::MountInfo>(
                       [this, request] { return context_.control.mount_volume(request); }),
                   rpc);
  }

  grpc::Status Unmount(grpc::ServerContext* rpc, const sdk::SdkVolumeUnmountRequest* in,
                       sdk::SdkVolumeUnmountResponse*) override {
    Status known = check_options(in->driver_options(), "");
    if (!known.ok()) return to_grpc(known, rpc);
    cluster::UnmountVolume request;
    request.name = in->volume_id();
    request.target_path = in->mount_path();
    request.holder = "path:" + in->mount_path();
    request.detach_when_last = false;  // the SDK detaches by its own call
    return to_grpc(context_.bridge.call<void>(
                       [this, request] { return context_.control.unmount_volume(request); }),
                   rpc);
  }

 private:
  ServiceContext context_;
};

}  // namespace

std::unique_ptr<grpc::Service> make_sdk_mount_attach(const ServiceContext& context) {
  return std::make_unique<MountAttach>(context);
}

}  // namespace hf::api
