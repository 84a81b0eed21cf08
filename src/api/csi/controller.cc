// csi.v1.Controller: each call is a file of its own.
#include "api/csi/context.h"

namespace hf::api::csi_driver {
namespace {

class Controller final : public csi::Controller::Service {
  using Rpc = grpc::ServerContext;

 public:
  explicit Controller(Context& context) : context_(context) {}

  grpc::Status CreateVolume(Rpc* rpc, const csi::CreateVolumeRequest* in, csi::CreateVolumeResponse* out) override {
    return to_grpc(create_volume(context_, *in, out), rpc);
  }
  grpc::Status DeleteVolume(Rpc* rpc, const csi::DeleteVolumeRequest* in, csi::DeleteVolumeResponse*) override {
    return to_grpc(delete_volume(context_, *in), rpc);
  }
  grpc::Status ValidateVolumeCapabilities(Rpc* rpc, const csi::ValidateVolumeCapabilitiesRequest* in,
                                          csi::ValidateVolumeCapabilitiesResponse* out) override {
    return to_grpc(validate_capabilities(context_, *in, out), rpc);
  }
  grpc::Status ListVolumes(Rpc* rpc, const csi::ListVolumesRequest* in, csi::ListVolumesResponse* out) override {
    return to_grpc(list_volumes(context_, *in, out), rpc);
  }
  grpc::Status ControllerGetVolume(Rpc* rpc, const csi::ControllerGetVolumeRequest* in,
                                   csi::ControllerGetVolumeResponse* out) override {
    return to_grpc(get_volume(context_, *in, out), rpc);
  }
  grpc::Status GetCapacity(Rpc* rpc, const csi::GetCapacityRequest* in, csi::GetCapacityResponse* out) override {
    return to_grpc(get_capacity(context_, *in, out), rpc);
  }
  grpc::Status CreateSnapshot(Rpc* rpc, const csi::CreateSnapshotRequest* in,
                              csi::CreateSnapshotResponse* out) override {
    return to_grpc(create_snapshot(context_, *in, out), rpc);
  }
  grpc::Status DeleteSnapshot(Rpc* rpc, const csi::DeleteSnapshotRequest* in, csi::DeleteSnapshotResponse*) override {
    return to_grpc(delete_snapshot(context_, *in), rpc);
  }
  grpc::Status ListSnapshots(Rpc* rpc, const csi::ListSnapshotsRequest* in,
                             csi::ListSnapshotsResponse* out) override {
    return to_grpc(list_snapshots(context_, *in, out), rpc);
  }
  grpc::Status ControllerExpandVolume(Rpc* rpc, const csi::ControllerExpandVolumeRequest* in,
                                      csi::ControllerExpandVolumeResponse* out) override {
    return to_grpc(expand_volume(context_, *in, out), rpc);
  }

  grpc::Status ControllerGetCapabilities(Rpc*, const csi::ControllerGetCapabilitiesRequest*,
                                         csi::ControllerGetCapabilitiesResponse* out) override {
    using Kind = csi::ControllerServiceCapability::RPC;
    for (const auto type : {Kind::CREATE_DELETE_VOLUME, Kind::LIST_VOLUMES, Kind::GET_CAPACITY,
                            Kind::CREATE_DELETE_SNAPSHOT, Kind::LIST_SNAPSHOTS, Kind::CLONE_VOLUME,
                            Kind::EXPAND_VOLUME, Kind::VOLUME_CONDITION, Kind::GET_VOLUME,
                            Kind::SINGLE_NODE_MULTI_WRITER}) {
      out->add_capabilities()->mutable_rpc()->set_type(type);
    }
    return grpc::Status::OK;
  }

 private:
  Context& context_;
};

}  // namespace

std::unique_ptr<grpc::Service> make_controller(Context& context) { return std::make_unique<Controller>(context); }

}  // namespace hf::api::csi_driver
