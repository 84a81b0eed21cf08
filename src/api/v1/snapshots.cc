// holdfast.v1.Snapshots.
#include "api/v1/call.h"
#include "holdfast/v1/holdfast.grpc.pb.h"

namespace hf::api {
namespace {

namespace v1 = holdfast::v1;

class Snapshots final : public v1::Snapshots::Service {
 public:
  explicit Snapshots(const ServiceContext& context) : context_(context) {}

  grpc::Status Create(grpc::ServerContext* rpc, const v1::CreateSnapshotRequest* in,
                      v1::Snapshot* out) override {
    cluster::CreateSnapshot request;
    request.volume = in->volume();
    request.name = in->name();
    request.labels = {in->labels().begin(), in->labels().end()};
    request.freeze = in->freeze();
    return answer<cluster::SnapshotInfo>(context_, rpc, out, [this, request] {
      return context_.control.create_snapshot(request);
    });
  }
  grpc::Status List(grpc::ServerContext* rpc, const v1::ListSnapshotsRequest* in,
                    v1::ListSnapshotsResponse* out) override {
    const std::string volume = in->volume();
    auto all = context_.bridge.call<std::vector<cluster::SnapshotInfo>>(
        [this, volume] { return context_.control.list_snapshots(volume); });
    if (all.ok()) {
      for (const cluster::SnapshotInfo& snapshot : *all) fill(snapshot, out->add_snapshots());
    }
    return to_grpc(all, rpc);
  }
  grpc::Status Delete(grpc::ServerContext* rpc, const v1::DeleteSnapshotRequest* in,
                      v1::DeleteSnapshotResponse*) override {
    const std::string volume = in->volume(), snapshot = in->snapshot();
    return to_grpc(context_.bridge.call<void>([this, volume, snapshot] {
                     return context_.control.delete_snapshot(volume, snapshot);
                   }),
                   rpc);
  }
  grpc::Status Restore(grpc::ServerContext* rpc, const v1::RestoreSnapshotRequest* in,
                       v1::Volume* out) override {
    const std::string volume = in->volume(), snapshot = in->snapshot();
    return answer<cluster::VolumeInfo>(context_, rpc, out, [this, volume, snapshot] {
      return context_.control.restore_snapshot(volume, snapshot);
    });
  }

 private:
  ServiceContext context_;
};

}  // namespace

std::unique_ptr<grpc::Service> make_v1_snapshots(const ServiceContext& context) {
  return std::make_unique<Snapshots>(context);
}

}  // namespace hf::api
