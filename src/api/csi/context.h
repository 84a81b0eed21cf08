// What the CSI services share: whom they ask, the answer of a call, and one operation at a time per thing.
#pragma once

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "api/csi/server.h"
#include "csi/v1/csi.grpc.pb.h"

namespace hf::api::csi_driver {

namespace csi = ::csi::v1;

inline constexpr char kDriverName[] = "holdfast";
inline constexpr char kClusterTopology[] = "holdfast/cluster";
inline constexpr char kNodeTopology[] = "holdfast/node";
// The published bound of every text of a request that has none of its own.
inline constexpr size_t kMaxTextBytes = 128;

// Done, or the error with the gRPC code that the CSI specification has for it.
class Answer {
 public:
  Answer() = default;
  Answer(Error error);
  Answer(Error error, grpc::StatusCode code) : error_(std::move(error)), code_(code) {}
  bool ok() const { return !error_.has_value(); }
  const Error& error() const { return *error_; }
  grpc::StatusCode code() const { return code_; }

 private:
  std::optional<Error> error_;
  grpc::StatusCode code_ = grpc::StatusCode::OK;
};

// The one place that gives our codes their meaning in CSI.
grpc::StatusCode csi_code(ErrorCode code);
grpc::Status to_grpc(const Answer& answer, grpc::ServerContext* rpc);
// OUT_OF_RANGE: a size that cannot be had.
Answer out_of_range(std::string sentence);

// Who comes second waits for kPatience, then gets kConflict (ABORTED). Any thread.
class BusyNames {
 public:
  static constexpr std::chrono::seconds kPatience{10};
  explicit BusyNames(std::chrono::milliseconds patience = kPatience) : patience_(patience) {}
  class Hold {
   public:
    Hold(BusyNames* names, std::string name) : names_(names), name_(std::move(name)) {}
    Hold(Hold&& other) noexcept : names_(std::exchange(other.names_, nullptr)), name_(std::move(other.name_)) {}
    Hold& operator=(Hold&&) = delete;
    ~Hold() {
      if (names_ != nullptr) names_->release(name_);
    }

   private:
    BusyNames* names_;
    std::string name_;
  };
  Result<Hold> take(const std::string& name);

 private:
  void release(const std::string& name);
  std::chrono::milliseconds patience_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::set<std::string> busy_;
};

struct Context {
  CsiServerOptions options;
  cluster::Control& control;
  VolumePlaces& places;
  LoopBridge& bridge;
  BusyNames busy;
};

// The volume of an id that a client gave. kInvalidArgument: none, or longer than can be; kNotFound: there is none of
// that id; whatever else has the id for a name does not count.
Result<cluster::VolumeInfo> find_volume(Context& context, const std::string& volume_id);

std::unique_ptr<grpc::Service> make_identity(Context& context);
std::unique_ptr<grpc::Service> make_controller(Context& context);
std::unique_ptr<grpc::Service> make_node(Context& context);

// ---- one verb per file; what the services do
Answer create_volume(Context& context, const csi::CreateVolumeRequest& in, csi::CreateVolumeResponse* out);
Answer delete_volume(Context& context, const csi::DeleteVolumeRequest& in);
Answer validate_capabilities(Context& context, const csi::ValidateVolumeCapabilitiesRequest& in,
                             csi::ValidateVolumeCapabilitiesResponse* out);
Answer list_volumes(Context& context, const csi::ListVolumesRequest& in, csi::ListVolumesResponse* out);
Answer get_volume(Context& context, const csi::ControllerGetVolumeRequest& in, csi::ControllerGetVolumeResponse* out);
Answer get_capacity(Context& context, const csi::GetCapacityRequest& in, csi::GetCapacityResponse* out);
Answer create_snapshot(Context& context, const csi::CreateSnapshotRequest& in, csi::CreateSnapshotResponse* out);
Answer delete_snapshot(Context& context, const csi::DeleteSnapshotRequest& in);
Answer list_snapshots(Context& context, const csi::ListSnapshotsRequest& in, csi::ListSnapshotsResponse* out);
Answer expand_volume(Context& context, const csi::ControllerExpandVolumeRequest& in,
                     csi::ControllerExpandVolumeResponse* out);

Answer stage_volume(Context& context, const csi::NodeStageVolumeRequest& in);
Answer unstage_volume(Context& context, const csi::NodeUnstageVolumeRequest& in);
Answer publish_volume(Context& context, const csi::NodePublishVolumeRequest& in);
Answer unpublish_volume(Context& context, const csi::NodeUnpublishVolumeRequest& in);
Answer volume_stats(Context& context, const csi::NodeGetVolumeStatsRequest& in, csi::NodeGetVolumeStatsResponse* out);
Answer expand_on_node(Context& context, const csi::NodeExpandVolumeRequest& in, csi::NodeExpandVolumeResponse* out);

}  // namespace hf::api::csi_driver
