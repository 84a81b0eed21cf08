// csi.v1.Node: each call is a file of its own.
#include "api/csi/context.h"

namespace hf::api::csi_driver {
namespace {

class Node final : public csi::Node::Service {
  using Rpc = grpc::ServerContext;

 public:
  explicit Node(Context& context) : context_(context) {}

  grpc::Status NodeStageVolume(Rpc* rpc, const csi::NodeStageVolumeRequest* in,
                               csi::NodeStageVolumeResponse*) override {
    return to_grpc(stage_volume(context_, *in), rpc);
  }
  grpc::Status NodeUnstageVolume(Rpc* rpc, const csi::NodeUnstageVolumeRequest* in,
                                 csi::NodeUnstageVolumeResponse*) override {
    return to_grpc(unstage_volume(context_, *in), rpc);
  }
  grpc::Status NodePublishVolume(Rpc* rpc, const csi::NodePublishVolumeRequest* in,
                                 csi::NodePublishVolumeResponse*) override {
    return to_grpc(publish_volume(context_, *in), rpc);
  }
  grpc::Status NodeUnpublishVolume(Rpc* rpc, const csi::NodeUnpublishVolumeRequest* in,
                                   csi::NodeUnpublishVolumeResponse*) override {
    return to_grpc(unpublish_volume(context_, *in), rpc);
  }
  grpc::Status NodeGetVolumeStats(Rpc* rpc, const csi::NodeGetVolumeStatsRequest* in,
                                  csi::NodeGetVolumeStatsResponse* out) override {
    return to_grpc(volume_stats(context_, *in, out), rpc);
  }
  grpc::Status NodeExpandVolume(Rpc* rpc, const csi::NodeExpandVolumeRequest* in,
                                csi::NodeExpandVolumeResponse* out) override {
    return to_grpc(expand_on_node(context_, *in, out), rpc);
  }

  grpc::Status NodeGetCapabilities(Rpc*, const csi::NodeGetCapabilitiesRequest*,
                                   csi::NodeGetCapabilitiesResponse* out) override {
    using Kind = csi::NodeServiceCapability::RPC;
    for (const auto type : {Kind::STAGE_UNSTAGE_VOLUME, Kind::GET_VOLUME_STATS, Kind::EXPAND_VOLUME,
                            Kind::VOLUME_CONDITION, Kind::SINGLE_NODE_MULTI_WRITER}) {
      out->add_capabilities()->mutable_rpc()->set_type(type);
    }
    return grpc::Status::OK;
  }

  grpc::Status NodeGetInfo(Rpc*, const csi::NodeGetInfoRequest*, csi::NodeGetInfoResponse* out) override {
    out->set_node_id(context_.options.node);
    auto* segments = out->mutable_accessible_topology()->mutable_segments();
    (*segments)[kClusterTopology] = context_.options.cluster;
    (*segments)[kNodeTopology] = context_.options.node;
    return grpc::Status::OK;
  }

 private:
  Context& context_;
};

}  // namespace

std::unique_ptr<grpc::Service> make_node(Context& context) { return std::make_unique<Node>(context); }

}  // namespace hf::api::csi_driver
