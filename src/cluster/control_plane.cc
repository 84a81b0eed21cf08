#include "cluster/control_plane.h"

#include "base/log.h"
#include "cluster/plane.h"
#include "runtime/fault_point.h"

namespace hf::cluster {
namespace {

constexpr int kAttempts = 6;
constexpr Duration kFirstPause = std::chrono::milliseconds(20);

// The state has moved, or its store is away for a moment: the operation starts again from what is
// there.
bool worth_repeating(ErrorCode code) {
  return code == ErrorCode::kConflict || code == ErrorCode::kAmbiguous ||
         code == ErrorCode::kUnavailable;
}

}  // namespace

// One call: whoever comes first, the operation or the alarm, wakes the caller.
template <typename T>
struct ControlPlane::Call {
  Call() = default;
  std::optional<Result<T>> result;
  Event done;
  CancelSource alarm;
};

ControlPlane::ControlPlane(ControlPorts ports, ControlOptions options)
    : options_(std::move(options)),
      clock_(ports.clock),
      in_cluster_(ports.peers != nullptr),
      plane_(std::make_unique<Plane>(ports, options_)) {}

ControlPlane::~ControlPlane() = default;

template <typename T>
Task<Result<T>> ControlPlane::repeat(Operation<T> operation) {
  Duration pause = kFirstPause;
  for (int attempt = 1;; ++attempt) {
    Result<T> result = co_await operation();
    if (result.ok() || !worth_repeating(result.code()) || attempt == kAttempts ||
        stopping_.is_cancelled()) {
      co_return std::move(result);
    }
    HF_PROBE("cluster.repeated");
    Status slept = co_await clock_.sleep_for(pause, CancelToken(stopping_));
    if (!slept.ok()) co_return std::move(result);
    pause *= 2;
  }
}

template <typename T>
Task<void> ControlPlane::run_call(std::shared_ptr<Call<T>> call, Operation<T> operation) {
  Result<T> result = co_await repeat<T>(std::move(operation));
  call->result.emplace(std::move(result));
  call->alarm.cancel();
  call->done.set();
}

template <typename T>
Task<void> ControlPlane::run_alarm(std::shared_ptr<Call<T>> call) {
  Status slept = co_await clock_.sleep_for(options_.operation_limit, CancelToken(call->alarm));
  if (slept.ok()) call->done.set();
}

template <typename T>
Task<Result<T>> ControlPlane::bounded(std::string what, Operation<T> operation) {
  if (gate_.inside() >= 2 * kMaxOperations) {
    co_return make_error(ErrorCode::kLimitExceeded,
                         "{}: {} operations are waiting already; try again later", what,
                         kMaxOperations);
  }
  std::shared_ptr<Call<T>> call = std::make_shared<Call<T>>();
  if (!spawn(gate_, run_call<T>(call, std::move(operation)))) {
    co_return Error(ErrorCode::kClosed, what + ": holdfastd is stopping");
  }
  if (!call->result) (void)spawn(gate_, run_alarm<T>(call));
  co_await call->done.wait();
  if (call->result) co_return std::move(*call->result);
  HF_PROBE("cluster.alarm");
  co_return make_error(
      ErrorCode::kTimeout, "{}: not done after {} s; it goes on, ask again to wait for it", what,
      std::chrono::duration_cast<std::chrono::seconds>(options_.operation_limit).count());
}

Task<Status> ControlPlane::start() {
  Operation<void> joining = [this] { return plane_->register_node(); };
  Status joined = co_await repeat<void>(std::move(joining));
  if (!joined.ok()) co_return joined.error().with_context("start: the state store");
  co_await plane_->look_around();
  bool well = co_await plane_->reconcile(true);
  if (!well) HF_LOG(kWarn, "cluster", "start_with_problems");
  if (!spawn(gate_, background(well)))
    co_return Error(ErrorCode::kClosed, "start: already stopped");
  if (in_cluster_) (void)spawn(gate_, watch_neighbours());
  co_return Status();
}

Task<void> ControlPlane::watch_neighbours() {
  while (!stopping_.is_cancelled()) {
    Status slept = co_await clock_.sleep_for(options_.look_around_every, CancelToken(stopping_));
    if (!slept.ok()) co_return;
    co_await plane_->look_around();
  }
}

Task<void> ControlPlane::background(bool well) {
  while (!stopping_.is_cancelled()) {
    const MonoTime next = clock_.now() + (well ? options_.reconcile_every : options_.reconcile_soon);
    // Sooner where a node has come or gone.
    while (clock_.now() < next && !plane_->take_changed()) {
      const MonoTime at = in_cluster_ ? std::min(next, clock_.now() + options_.look_around_every) : next;
      Status slept = co_await clock_.sleep_until(at, CancelToken(stopping_));
      if (!slept.ok()) co_return;
    }
    well = co_await plane_->reconcile(false);
    co_await plane_->scrub_what_is_due();
  }
}

Task<void> ControlPlane::reconcile() {
  Gate::Pass pass(gate_);
  if (!pass) co_return;
  bool well = co_await plane_->reconcile(false);
  if (!well) HF_PROBE("cluster.reconcile_incomplete");
}

Task<Status> ControlPlane::stop() {
  stopping_.cancel();
  co_await plane_->stop_scrubs();
  co_await gate_.close();
  co_return co_await plane_->park();
}

Task<Result<VolumeInfo>> ControlPlane::create_volume(CreateVolume request) {
  Operation<VolumeInfo> op = [this, request] { return plane_->create(request); };
  return bounded<VolumeInfo>("create volume " + request.name, std::move(op));
}

Task<Result<VolumeInfo>> ControlPlane::clone_volume(CloneVolume request) {
  Operation<VolumeInfo> op = [this, request] { return plane_->clone(request); };
  return bounded<VolumeInfo>("clone volume " + request.parent, std::move(op));
}

Task<Result<VolumeInfo>> ControlPlane::inspect_volume(std::string name) {
  Operation<VolumeInfo> op = [this, name] { return plane_->inspect(name); };
  return bounded<VolumeInfo>("inspect volume", std::move(op));
}

Task<Result<std::vector<VolumeInfo>>> ControlPlane::list_volumes() {
  Operation<std::vector<VolumeInfo>> op = [this] { return plane_->list(); };
  return bounded<std::vector<VolumeInfo>>("list volumes", std::move(op));
}

Task<Result<VolumeInfo>> ControlPlane::resize_volume(std::string name, uint64_t size_bytes) {
  Operation<VolumeInfo> op = [this, name, size_bytes] { return plane_->resize(name, size_bytes); };
  return bounded<VolumeInfo>("resize volume", std::move(op));
}

Task<Result<VolumeInfo>> ControlPlane::update_volume(UpdateVolume request) {
  Operation<VolumeInfo> op = [this, request] { return plane_->update(request); };
  return bounded<VolumeInfo>("update volume", std::move(op));
}

Task<Status> ControlPlane::delete_volume(DeleteVolume request) {
  Operation<void> op = [this, request] { return plane_->remove(request); };
  return bounded<void>("delete volume", std::move(op));
}

Task<Result<uint64_t>> ControlPlane::largest_volume(CreateVolume request) {
  Operation<uint64_t> op = [this, request] { return plane_->largest(request); };
  return bounded<uint64_t>("largest volume", std::move(op));
}

Task<Result<VolumeInfo>> ControlPlane::attach_volume(AttachVolume request) {
  Operation<VolumeInfo> op = [this, request] { return plane_->attach(request); };
  return bounded<VolumeInfo>("attach volume", std::move(op));
}

Task<Status> ControlPlane::detach_volume(std::string name) {
  Operation<void> op = [this, name] { return plane_->detach(name); };
  return bounded<void>("detach volume", std::move(op));
}

Task<Result<VolumeInfo>> ControlPlane::move_volume(MoveVolume request) {
  Operation<VolumeInfo> op = [this, request] { return plane_->move(request); };
  return bounded<VolumeInfo>("move volume", std::move(op));
}

Task<Result<MountInfo>> ControlPlane::mount_volume(MountVolume request) {
  Operation<MountInfo> op = [this, request] { return plane_->mount(request); };
  return bounded<MountInfo>("mount volume", std::move(op));
}

Task<Status> ControlPlane::unmount_volume(UnmountVolume request) {
  Operation<void> op = [this, request] { return plane_->unmount(request); };
  return bounded<void>("unmount volume", std::move(op));
}

Task<Result<SnapshotInfo>> ControlPlane::create_snapshot(CreateSnapshot request) {
  Operation<SnapshotInfo> op = [this, request] { return plane_->create_snapshot(request); };
  return bounded<SnapshotInfo>("create snapshot", std::move(op));
}

Task<Result<std::vector<SnapshotInfo>>> ControlPlane::list_snapshots(std::string volume) {
  Operation<std::vector<SnapshotInfo>> op = [this, volume] {
    return plane_->list_snapshots(volume);
  };
  return bounded<std::vector<SnapshotInfo>>("list snapshots", std::move(op));
}

Task<Status> ControlPlane::delete_snapshot(std::string volume, std::string snapshot) {
  Operation<void> op = [this, volume, snapshot] {
    return plane_->delete_snapshot(volume, snapshot);
  };
  return bounded<void>("delete snapshot", std::move(op));
}

Task<Result<VolumeInfo>> ControlPlane::restore_snapshot(std::string volume, std::string snapshot) {
  Operation<VolumeInfo> op = [this, volume, snapshot] { return plane_->restore(volume, snapshot); };
  return bounded<VolumeInfo>("restore snapshot", std::move(op));
}

Task<Result<PoolInfo>> ControlPlane::add_pool(AddPool request) {
  Operation<PoolInfo> op = [this, request] { return plane_->add_pool(request); };
  return bounded<PoolInfo>("add pool", std::move(op));
}

Task<Result<std::vector<PoolInfo>>> ControlPlane::list_pools() {
  Operation<std::vector<PoolInfo>> op = [this] { return plane_->list_pools(); };
  return bounded<std::vector<PoolInfo>>("list pools", std::move(op));
}

Task<Result<PoolInfo>> ControlPlane::inspect_pool(std::string pool) {
  Operation<PoolInfo> op = [this, pool] { return plane_->inspect_pool(pool); };
  return bounded<PoolInfo>("inspect pool", std::move(op));
}

Task<Result<PoolInfo>> ControlPlane::expand_pool(std::string pool, uint64_t size_bytes) {
  Operation<PoolInfo> op = [this, pool, size_bytes] {
    return plane_->expand_pool(pool, size_bytes);
  };
  return bounded<PoolInfo>("expand pool", std::move(op));
}

Task<Result<PoolRemoval>> ControlPlane::remove_pool(RemovePool request) {
  Operation<PoolRemoval> op = [this, request] { return plane_->remove_pool(request); };
  return bounded<PoolRemoval>("remove pool", std::move(op));
}

Task<Result<std::vector<NodeInfo>>> ControlPlane::list_nodes() {
  Operation<std::vector<NodeInfo>> op = [this] { return plane_->list_nodes(); };
  return bounded<std::vector<NodeInfo>>("list nodes", std::move(op));
}

Task<Result<NodeInfo>> ControlPlane::drain_node(std::string node, bool undo) {
  Operation<NodeInfo> op = [this, node, undo] { return plane_->drain(node, undo); };
  return bounded<NodeInfo>("drain node", std::move(op));
}

Task<Result<NodeInfo>> ControlPlane::check_decommission(std::string node, bool force) {
  Operation<NodeInfo> op = [this, node, force] { return plane_->check_decommission(node, force); };
  return bounded<NodeInfo>("decommission node", std::move(op));
}

Task<Status> ControlPlane::forget_node(NodeId node) {
  Operation<void> op = [this, node] { return plane_->forget_node(node); };
  return bounded<void>("decommission node", std::move(op));
}

Task<Result<ClusterStatus>> ControlPlane::status() {
  Operation<ClusterStatus> op = [this] { return plane_->status(); };
  return bounded<ClusterStatus>("status", std::move(op));
}

Task<Result<NodeFacts>> ControlPlane::facts() {
  Operation<NodeFacts> op = [this] { return plane_->facts(); };
  return bounded<NodeFacts>("facts", std::move(op));
}

Task<Status> ControlPlane::converge(VolumeId volume) {
  Operation<void> op = [this, volume] { return plane_->converge_members(volume); };
  return bounded<void>("replicas of volume " + volume.to_string(), std::move(op));
}

Task<Status> ControlPlane::settle(VolumeId volume) {
  Operation<void> op = [this, volume] { return plane_->settle_here(volume); };
  return bounded<void>("finish volume " + volume.to_string(), std::move(op));
}

Task<Status> ControlPlane::let_go(VolumeId volume) {
  Operation<void> op = [this, volume] { return plane_->let_go(volume); };
  return bounded<void>("let go of volume " + volume.to_string(), std::move(op));
}

Task<Status> ControlPlane::detach(VolumeId volume) {
  Operation<void> op = [this, volume] { return plane_->detach_here(volume); };
  return bounded<void>("detach volume " + volume.to_string(), std::move(op));
}

Task<Status> ControlPlane::take(VolumeId volume, bool stays, bool force) {
  Operation<void> op = [this, volume, stays, force] { return plane_->take(volume, stays, force); };
  return bounded<void>("take volume " + volume.to_string(), std::move(op));
}

Task<Result<Promotion>> ControlPlane::promote_volume(PromoteVolume request) {
  Operation<Promotion> op = [this, request] { return plane_->promote(request); };
  return bounded<Promotion>("force-promote volume " + request.name, std::move(op));
}

Task<Result<ScrubInfo>> ControlPlane::scrub_volume(ScrubVolume request) {
  Operation<ScrubInfo> op = [this, request] { return plane_->scrub(request); };
  return bounded<ScrubInfo>("scrub volume " + request.name, std::move(op));
}

Task<Result<ScrubInfo>> ControlPlane::scrub(VolumeId volume, uint64_t bytes_per_second, bool only_look) {
  Operation<ScrubInfo> op = [this, volume, bytes_per_second, only_look] {
    return plane_->scrub_here(volume, bytes_per_second, only_look);
  };
  return bounded<ScrubInfo>("scrub volume " + volume.to_string(), std::move(op));
}

Task<Status> ControlPlane::cut(CreateSnapshot request) {
  Operation<SnapshotInfo> op = [this, request] { return plane_->create_snapshot(request); };
  Result<SnapshotInfo> made = co_await bounded<SnapshotInfo>("create snapshot", std::move(op));
  HF_CO_TRY(made);
  co_return Status();
}

Task<Result<std::vector<SnapshotId>>> ControlPlane::snapshots(VolumeId volume) {
  Operation<std::vector<SnapshotId>> op = [this, volume] { return plane_->snapshots_here(volume); };
  return bounded<std::vector<SnapshotId>>("snapshots", std::move(op));
}

Task<Result<std::vector<MemberInfo>>> ControlPlane::members(VolumeId volume) {
  Operation<std::vector<MemberInfo>> op = [this, volume] { return plane_->members_here(volume); };
  return bounded<std::vector<MemberInfo>>("members", std::move(op));
}

}  // namespace hf::cluster
