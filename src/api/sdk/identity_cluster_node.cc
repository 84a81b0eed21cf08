// openstorage.api.OpenStorageIdentity, OpenStorageCluster and OpenStorageNode.
#include "api/grpc_services.h"
#include "api/grpc_status.h"
#include "api/sdk/convert.h"
#include "openstorage/api.grpc.pb.h"

namespace hf::api {
namespace {

namespace sdk = openstorage::api;
using Capability = sdk::SdkServiceCapability::OpenStorageService;

class Identity final : public sdk::OpenStorageIdentity::Service {
 public:
  explicit Identity(const ServiceContext& context) : context_(context) {}

  grpc::Status Capabilities(grpc::ServerContext*, const sdk::SdkIdentityCapabilitiesRequest*,
                            sdk::SdkIdentityCapabilitiesResponse* out) override {
    for (const Capability::Type type :
         {Capability::CLUSTER, Capability::NODE, Capability::VOLUME, Capability::MOUNT_ATTACH}) {
      out->add_capabilities()->mutable_service()->set_type(type);
    }
    return grpc::Status::OK;
  }

  grpc::Status Version(grpc::ServerContext*, const sdk::SdkIdentityVersionRequest*,
                       sdk::SdkIdentityVersionResponse* out) override {
    sdk::SdkVersion* version = out->mutable_sdk_version();
    version->set_major(sdk::SdkVersion::Major);
    version->set_minor(sdk::SdkVersion::Minor);
    version->set_patch(sdk::SdkVersion::Patch);
    version->set_version(fmt::format("{}.{}.{}", static_cast<int>(sdk::SdkVersion::Major),
                                     static_cast<int>(sdk::SdkVersion::Minor),
                                     static_cast<int>(sdk::SdkVersion::Patch)));
    out->mutable_version()->set_driver("holdfast");
    out->mutable_version()->set_version(context_.version);
    return grpc::Status::OK;
  }

 private:
  ServiceContext context_;
};

class Cluster final : public sdk::OpenStorageCluster::Service {
 public:
  explicit Cluster(const ServiceContext& context) : context_(context) {}

  grpc::Status InspectCurrent(grpc::ServerContext* rpc,
                              const sdk::SdkClusterInspectCurrentRequest*,
                              sdk::SdkClusterInspectCurrentResponse* out) override {
    auto status = context_.bridge.call<cluster::ClusterStatus>(
        [this] { return context_.control.status(); });
    if (status.ok()) {
      sdk::StorageCluster* cluster = out->mutable_cluster();
      cluster->set_id(status->id.to_string());
      cluster->set_name("holdfast");
      cluster->set_status(status->healthy ? sdk::STATUS_OK : sdk::STATUS_STORAGE_DEGRADED);
    }
    return to_grpc(status, rpc);
  }

 private:
  ServiceContext context_;
};

class Node final : public sdk::OpenStorageNode::Service {
 public:
  explicit Node(const ServiceContext& context) : context_(context) {}

  grpc::Status Inspect(grpc::ServerContext* rpc, const sdk::SdkNodeInspectRequest* in,
                       sdk::SdkNodeInspectResponse* out) override {
    auto all = nodes();
    if (!all.ok()) return to_grpc(all, rpc);
    for (const cluster::NodeInfo& node : *all) {
      if (node.id.to_string() != in->node_id()) continue;
      fill_sdk(node, out->mutable_node());
      return grpc::Status::OK;
    }
    return to_grpc(make_error(ErrorCode::kNotFound, "no node {}", in->node_id().substr(0, 64)), rpc);
  }

  // The embedded state store has one node, this one.
  grpc::Status InspectCurrent(grpc::ServerContext* rpc, const sdk::SdkNodeInspectCurrentRequest*,
                              sdk::SdkNodeInspectCurrentResponse* out) override {
    auto all = nodes();
    if (all.ok() && !all->empty()) fill_sdk(all->front(), out->mutable_node());
    return to_grpc(all, rpc);
  }

  grpc::Status Enumerate(grpc::ServerContext* rpc, const sdk::SdkNodeEnumerateRequest*,
                         sdk::SdkNodeEnumerateResponse* out) override {
    auto all = nodes();
    if (all.ok()) {
      for (const cluster::NodeInfo& node : *all) out->add_node_ids(node.id.to_string());
    }
    return to_grpc(all, rpc);
  }

  grpc::Status EnumerateWithFilters(grpc::ServerContext* rpc,
                                    const sdk::SdkNodeEnumerateWithFiltersRequest*,
                                    sdk::SdkNodeEnumerateWithFiltersResponse* out) override {
    auto all = nodes();
    if (all.ok()) {
      for (const cluster::NodeInfo& node : *all) fill_sdk(node, out->add_nodes());
    }
    return to_grpc(all, rpc);
  }

 private:
  Result<std::vector<cluster::NodeInfo>> nodes() {
    return context_.bridge.call<std::vector<cluster::NodeInfo>>(
        [this] { return context_.control.list_nodes(); });
  }
  ServiceContext context_;
};

}  // namespace

std::unique_ptr<grpc::Service> make_sdk_identity(const ServiceContext& context) {
  return std::make_unique<Identity>(context);
}
std::unique_ptr<grpc::Service> make_sdk_cluster(const ServiceContext& context) {
  return std::make_unique<Cluster>(context);
}
std::unique_ptr<grpc::Service> make_sdk_node(const ServiceContext& context) {
  return std::make_unique<Node>(context);
}

}  // namespace hf::api
