// holdfast.v1.Pools and Cluster.
#include "api/v1/call.h"
#include "holdfast/v1/holdfast.grpc.pb.h"

namespace hf::api {
namespace {

namespace v1 = holdfast::v1;

class Pools final : public v1::Pools::Service {
 public:
  explicit Pools(const ServiceContext& context) : context_(context) {}

  grpc::Status Add(grpc::ServerContext* rpc, const v1::AddPoolRequest* in,
                   v1::Pool* out) override {
    Result<uint32_t> io_class = parse_io_class(in->io_class());
    if (!io_class.ok()) return to_grpc(io_class, rpc);
    cluster::AddPool request;
    request.path = in->path();
    request.size_bytes = in->size_bytes();
    request.io_class = *io_class;
    request.force = in->force();
    return answer<cluster::PoolInfo>(context_, rpc, out,
                                     [this, request] { return context_.control.add_pool(request); });
  }
  grpc::Status List(grpc::ServerContext* rpc, const v1::ListPoolsRequest*,
                    v1::ListPoolsResponse* out) override {
    auto all = context_.bridge.call<std::vector<cluster::PoolInfo>>(
        [this] { return context_.control.list_pools(); });
    if (all.ok()) {
      for (const cluster::PoolInfo& pool : *all) fill(pool, out->add_pools());
    }
    return to_grpc(all, rpc);
  }
  grpc::Status Inspect(grpc::ServerContext* rpc, const v1::InspectPoolRequest* in,
                       v1::Pool* out) override {
    const std::string pool = in->pool();
    return answer<cluster::PoolInfo>(context_, rpc, out,
                                     [this, pool] { return context_.control.inspect_pool(pool); });
  }
  grpc::Status Expand(grpc::ServerContext* rpc, const v1::ExpandPoolRequest* in,
                      v1::Pool* out) override {
    const std::string pool = in->pool();
    const uint64_t size = in->size_bytes();
    return answer<cluster::PoolInfo>(
        context_, rpc, out, [this, pool, size] { return context_.control.expand_pool(pool, size); });
  }
  grpc::Status Remove(grpc::ServerContext* rpc, const v1::RemovePoolRequest* in,
                      v1::RemovePoolResponse* out) override {
    cluster::RemovePool request;
    request.pool = in->pool();
    request.force = in->force();
    request.missing_ok = in->missing_ok();
    request.only_look = in->only_look();
    auto done = context_.bridge.call<cluster::PoolRemoval>(
        [this, request] { return context_.control.remove_pool(request); });
    if (done.ok()) {
      out->set_removed(done->removed);
      if (!done->pool.id.is_nil()) fill(done->pool, out->mutable_pool());
      for (const std::string& name : done->lost) out->add_lost_volumes(name);
      for (const std::string& name : done->degraded) out->add_degraded_volumes(name);
    }
    return to_grpc(done, rpc);
  }

 private:
  ServiceContext context_;
};

class Cluster final : public v1::Cluster::Service {
 public:
  explicit Cluster(const ServiceContext& context) : context_(context) {}

  grpc::Status Status(grpc::ServerContext* rpc, const v1::ClusterStatusRequest*,
                      v1::ClusterStatus* out) override {
    return answer<cluster::ClusterStatus>(context_, rpc, out,
                                          [this] { return context_.control.status(); });
  }
  grpc::Status Nodes(grpc::ServerContext* rpc, const v1::ListNodesRequest*,
                     v1::ListNodesResponse* out) override {
    auto all = context_.bridge.call<std::vector<cluster::NodeInfo>>(
        [this] { return context_.control.list_nodes(); });
    if (all.ok()) {
      for (const cluster::NodeInfo& node : *all) fill(node, out->add_nodes());
    }
    return to_grpc(all, rpc);
  }
  grpc::Status Drain(grpc::ServerContext* rpc, const v1::DrainNodeRequest* in, v1::Node* out) override {
    const std::string node = in->node();
    const bool undo = in->undo();
    return answer<cluster::NodeInfo>(context_, rpc, out,
                                     [this, node, undo] { return context_.control.drain_node(node, undo); });
  }

 private:
  ServiceContext context_;
};

}  // namespace

std::unique_ptr<grpc::Service> make_v1_pools(const ServiceContext& context) {
  return std::make_unique<Pools>(context);
}
std::unique_ptr<grpc::Service> make_v1_cluster(const ServiceContext& context) {
  return std::make_unique<Cluster>(context);
}

}  // namespace hf::api
