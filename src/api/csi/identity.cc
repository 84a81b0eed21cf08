// csi.v1.Identity.
#include "api/csi/context.h"

namespace hf::api::csi_driver {
namespace {

class Identity final : public csi::Identity::Service {
 public:
  explicit Identity(Context& context) : context_(context) {}

  grpc::Status GetPluginInfo(grpc::ServerContext*, const csi::GetPluginInfoRequest*,
                             csi::GetPluginInfoResponse* out) override {
    out->set_name(kDriverName);
    out->set_vendor_version(context_.options.version);
    return grpc::Status::OK;
  }

  grpc::Status GetPluginCapabilities(grpc::ServerContext*, const csi::GetPluginCapabilitiesRequest*,
                                     csi::GetPluginCapabilitiesResponse* out) override {
    using Service = csi::PluginCapability::Service;
    for (const auto type : {Service::CONTROLLER_SERVICE, Service::VOLUME_ACCESSIBILITY_CONSTRAINTS}) {
      out->add_capabilities()->mutable_service()->set_type(type);
    }
    out->add_capabilities()->mutable_volume_expansion()->set_type(csi::PluginCapability::VolumeExpansion::ONLINE);
    return grpc::Status::OK;
  }

  // Ready: what is recorded can be read, so that calls are answered. Asked several times a minute.
  grpc::Status Probe(grpc::ServerContext*, const csi::ProbeRequest*, csi::ProbeResponse* out) override {
    const Result<std::vector<cluster::PoolInfo>> pools = context_.bridge.call<std::vector<cluster::PoolInfo>>(
        [&control = context_.control] { return control.list_pools(); });
    out->mutable_ready()->set_value(pools.ok());
    return grpc::Status::OK;
  }

 private:
  Context& context_;
};

}  // namespace

std::unique_ptr<grpc::Service> make_identity(Context& context) { return std::make_unique<Identity>(context); }

}  // namespace hf::api::csi_driver
