// holdfast.v1.Volumes.
#include "api/text.h"
#include "api/v1/call.h"
#include "holdfast/v1/holdfast.grpc.pb.h"
#include "volume/spec/inline_parser.h"

namespace hf::api {
namespace {

namespace v1 = holdfast::v1;
using cluster::VolumeInfo;

const std::string kPathHolder = "path:";

class Volumes final : public v1::Volumes::Service {
 public:
  explicit Volumes(const ServiceContext& context) : context_(context) {}

  grpc::Status Create(grpc::ServerContext* rpc, const v1::CreateVolumeRequest* in,
                      v1::Volume* out) override {
    spec::OptionMap options;
    for (const auto& [key, value] : in->options()) options[key] = value;
    Result<VolumeSpec> parsed = spec::parse_options(in->name(), options);
    if (!parsed.ok()) return to_grpc(parsed, rpc);
    cluster::CreateVolume request;
    request.name = parsed->name;
    request.spec = std::move(*parsed);
    return reply(rpc, out, [this, request] { return context_.control.create_volume(request); });
  }

  grpc::Status Clone(grpc::ServerContext* rpc, const v1::CloneVolumeRequest* in,
                     v1::Volume* out) override {
    cluster::CloneVolume request;
    request.name = in->name();
    request.parent = in->parent();
    request.snapshot = in->snapshot();
    request.labels = {in->labels().begin(), in->labels().end()};
    return reply(rpc, out, [this, request] { return context_.control.clone_volume(request); });
  }

  grpc::Status Inspect(grpc::ServerContext* rpc, const v1::InspectVolumeRequest* in,
                       v1::Volume* out) override {
    return inspect(rpc, in->volume(), out);
  }

  grpc::Status List(grpc::ServerContext* rpc, const v1::ListVolumesRequest*,
                    v1::ListVolumesResponse* out) override {
    auto all = context_.bridge.call<std::vector<VolumeInfo>>(
        [this] { return context_.control.list_volumes(); });
    if (all.ok()) {
      for (const VolumeInfo& volume : *all) fill(volume, out->add_volumes());
    }
    return to_grpc(all, rpc);
  }

  grpc::Status Resize(grpc::ServerContext* rpc, const v1::ResizeVolumeRequest* in,
                      v1::Volume* out) override {
    const std::string name = in->volume();
    const uint64_t size = in->size_bytes();
    return reply(rpc, out,
                 [this, name, size] { return context_.control.resize_volume(name, size); });
  }

  grpc::Status Update(grpc::ServerContext* rpc, const v1::UpdateVolumeRequest* in,
                      v1::Volume* out) override {
    cluster::UpdateVolume request;
    request.name = in->volume();
    request.options = {in->options().begin(), in->options().end()};
    return reply(rpc, out, [this, request] { return context_.control.update_volume(request); });
  }

  grpc::Status Delete(grpc::ServerContext* rpc, const v1::DeleteVolumeRequest* in,
                      v1::DeleteVolumeResponse*) override {
    cluster::DeleteVolume request;
    request.name = in->volume();
    request.with_snapshots = in->with_snapshots();
    request.missing_ok = in->missing_ok();
    return to_grpc(context_.bridge.call<void>(
                       [this, request] { return context_.control.delete_volume(request); }),
                   rpc);
  }

  grpc::Status Attach(grpc::ServerContext* rpc, const v1::AttachVolumeRequest* in,
                      v1::Volume* out) override {
    Result<cluster::ExportKind> kind = parse_export_kind(in->export_());
    if (!kind.ok()) return to_grpc(kind, rpc);
    cluster::AttachVolume request;
    request.force = in->force();
    request.name = in->volume();
    request.kind = *kind;
    return reply(rpc, out, [this, request] { return context_.control.attach_volume(request); });
  }

  grpc::Status Detach(grpc::ServerContext* rpc, const v1::DetachVolumeRequest* in,
                      v1::Volume* out) override {
    const std::string name = in->volume();
    Status done =
        context_.bridge.call<void>([this, name] { return context_.control.detach_volume(name); });
    if (!done.ok()) return to_grpc(done, rpc);
    return inspect(rpc, name, out);
  }

  grpc::Status Scrub(grpc::ServerContext* rpc, const v1::ScrubVolumeRequest* in, v1::ScrubReport* out) override {
    cluster::ScrubVolume request;
    request.name = in->volume();
    request.bytes_per_second = in->bytes_per_second();
    request.only_look = in->only_look();
    return answer<cluster::ScrubInfo>(context_, rpc, out, [this, request] { return context_.control.scrub_volume(request); });
  }

  grpc::Status ForcePromote(grpc::ServerContext* rpc, const v1::ForcePromoteRequest* in, v1::Promotion* out) override {
    cluster::PromoteVolume request;
    request.name = in->volume();
    request.node = in->node();
    request.lost = {in->lost().begin(), in->lost().end()};
    request.only_look = in->only_look();
    return answer<cluster::Promotion>(context_, rpc, out, [this, request] { return context_.control.promote_volume(request); });
  }

  grpc::Status Move(grpc::ServerContext* rpc, const v1::MoveVolumeRequest* in, v1::Volume* out) override {
    cluster::MoveVolume request;
    request.name = in->volume();
    request.node = in->node();
    request.force = in->force();
    return reply(rpc, out, [this, request] { return context_.control.move_volume(request); });
  }

  grpc::Status Mount(grpc::ServerContext* rpc, const v1::MountVolumeRequest* in,
                     v1::MountPoint* out) override {
    cluster::MountVolume request;
    request.name = in->volume();
    request.target_path = in->target_path();
    request.holder = in->holder().empty() ? kPathHolder + in->target_path() : in->holder();
    request.read_only = in->read_only();
    return answer<cluster::MountInfo>(
        context_, rpc, out, [this, request] { return context_.control.mount_volume(request); });
  }

  grpc::Status Unmount(grpc::ServerContext* rpc, const v1::UnmountVolumeRequest* in,
                       v1::Volume* out) override {
    cluster::UnmountVolume request;
    request.name = in->volume();
    request.target_path = in->target_path();
    request.holder = in->holder();
    if (request.holder.empty() && request.target_path.empty()) {
      Result<std::string> path = only_path(request.name);
      if (!path.ok()) return to_grpc(path, rpc);
      request.target_path = *path;
    }
    if (request.holder.empty()) request.holder = kPathHolder + request.target_path;
    request.detach_when_last = !in->keep_attached();
    Status done = context_.bridge.call<void>(
        [this, request] { return context_.control.unmount_volume(request); });
    if (!done.ok()) return to_grpc(done, rpc);
    return inspect(rpc, in->volume(), out);
  }

 private:
  Result<std::string> only_path(const std::string& name) {
    Result<VolumeInfo> volume = context_.bridge.call<VolumeInfo>(
        [this, name] { return context_.control.inspect_volume(name); });
    HF_TRY(volume);
    return only_mount_path(*volume);
  }
  grpc::Status reply(grpc::ServerContext* rpc, v1::Volume* out,
                     std::function<Task<Result<VolumeInfo>>()> start) {
    return answer<VolumeInfo>(context_, rpc, out, std::move(start));
  }
  grpc::Status inspect(grpc::ServerContext* rpc, const std::string& name, v1::Volume* out) {
    return reply(rpc, out, [this, name] { return context_.control.inspect_volume(name); });
  }
  ServiceContext context_;
};

}  // namespace

std::unique_ptr<grpc::Service> make_v1_volumes(const ServiceContext& context) {
  return std::make_unique<Volumes>(context);
}

}  // namespace hf::api
