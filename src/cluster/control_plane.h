// ControlPlane: the one implementation of Control (control.h), over a state store and the ports
// (ports.h).
//
//   adapters → ControlPlane (bounds, time limits) → Plane (plane.h: one file per verb) → catalog,
//   ports
//
// Every operation records its intent in the state store, drives the ports, records that it is done.
// What a crash leaves half done is finished or undone by the reconciler (reconcile.h), or by the
// next operation on the same volume, whichever comes first. README.md has the policies.
//
// An operation answers within ControlOptions::operation_limit: with kTimeout when it is not done by
// then. It goes on meanwhile, and the same request asked again joins it.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "cluster/control.h"
#include "cluster/peers.h"
#include "cluster/planner.h"
#include "cluster/ports.h"
#include "runtime/gate.h"
#include "runtime/random.h"
#include "state/kv_store.h"
#include "volume/spec/support.h"

namespace hf::cluster {

struct ControlOptions {
  ControlOptions() = default;
  ClusterId cluster;
  NodeId node;
  std::string node_name;
  std::string address;
  FailureDomain domain;  // where this node stands
  std::string version;
  std::string boot_id;  // /proc/sys/kernel/random/boot_id: kernel devices end with it
  std::string mount_root =
      "/var/lib/holdfast/mounts";  // primary mounts: <root>/<volume name as file>
  PlacementLimits limits;
  spec::Capabilities capabilities;
  ExportKind preferred_export = ExportKind::kNone;  // kNone: the best that the kernel offers
  // Docker gives Create and Mount up after two minutes.
  Duration operation_limit = std::chrono::seconds(90);
  Duration reconcile_every = std::chrono::seconds(60);
  Duration reconcile_soon = std::chrono::seconds(5);  // after an error
  Duration look_around_every = std::chrono::seconds(1);  // at the other nodes
  Duration rebuild_after = std::chrono::minutes(30);     // of a replica's absence, on another node
  Duration scrub_every = std::chrono::hours(14 * 24);  // of each volume; 0: never by itself
  uint64_t scrub_rate = 16 << 20;                      // bytes a second of each replica, by itself; 0: no limit
  // A docker holder is only called stale when it is older than this: between the answer to Mount
  // and the container's own mount there is a moment in which nothing uses the device.
  Duration docker_grace = std::chrono::seconds(30);
  // The same where nobody asked for the device to go: at the start and in the background.
  Duration docker_grace_at_start = std::chrono::minutes(2);
};

// References stay valid for the plane's life.
struct ControlPorts {
  ReplicaHost& host;
  Exporter& exporter;
  Mounter& mounter;
  state::KvStore& store;
  Clock& clock;
  Random& random;
  // Both where nodes form a cluster, else neither.
  VolumeHost* volumes = nullptr;
  Peers* peers = nullptr;
};

// At most this many operations at a time, waiting ones included; beyond it kLimitExceeded at once.
inline constexpr size_t kMaxOperations = 1024;
// At most this many of them drive ports at the same time.
inline constexpr uint64_t kMaxDriving = 16;

class Plane;

class ControlPlane : public Control, public NodeCalls {
 public:
  ControlPlane(ControlPorts ports, ControlOptions options);
  ~ControlPlane() override;

  // Opens the pools, takes over what an earlier daemon left in the kernel, finishes what it began;
  // then keeps reconciling in the background. What cannot be mended is told by status(), and does
  // not keep the node from starting. Errors: the state store cannot be read (kUnavailable,
  // kCorruption, kNewerFormat).
  Task<Status> start();
  // Lets operations end, parks the exports (the kernel keeps them for the next daemon). Mounts
  // stay.
  Task<Status> stop();
  // One pass of the reconciler, now.
  Task<void> reconcile();

  Task<Result<VolumeInfo>> create_volume(CreateVolume request) override;
  Task<Result<VolumeInfo>> clone_volume(CloneVolume request) override;
  Task<Result<VolumeInfo>> inspect_volume(std::string name) override;
  Task<Result<std::vector<VolumeInfo>>> list_volumes() override;
  Task<Result<VolumeInfo>> resize_volume(std::string name, uint64_t size_bytes) override;
  Task<Result<VolumeInfo>> update_volume(UpdateVolume request) override;
  Task<Status> delete_volume(DeleteVolume request) override;
  Task<Result<ScrubInfo>> scrub_volume(ScrubVolume request) override;
  Task<Result<uint64_t>> largest_volume(CreateVolume request) override;
  Task<Result<VolumeInfo>> attach_volume(AttachVolume request) override;
  Task<Status> detach_volume(std::string name) override;
  Task<Result<VolumeInfo>> move_volume(MoveVolume request) override;
  Task<Result<Promotion>> promote_volume(PromoteVolume request) override;
  Task<Result<MountInfo>> mount_volume(MountVolume request) override;
  Task<Status> unmount_volume(UnmountVolume request) override;
  Task<Result<SnapshotInfo>> create_snapshot(CreateSnapshot request) override;
  Task<Result<std::vector<SnapshotInfo>>> list_snapshots(std::string volume) override;
  Task<Status> delete_snapshot(std::string volume, std::string snapshot) override;
  Task<Result<VolumeInfo>> restore_snapshot(std::string volume, std::string snapshot) override;
  Task<Result<PoolInfo>> add_pool(AddPool request) override;
  Task<Result<std::vector<PoolInfo>>> list_pools() override;
  Task<Result<PoolInfo>> inspect_pool(std::string pool) override;
  Task<Result<PoolInfo>> expand_pool(std::string pool, uint64_t size_bytes) override;
  Task<Result<PoolRemoval>> remove_pool(RemovePool request) override;
  Task<Result<std::vector<NodeInfo>>> list_nodes() override;
  Task<Result<NodeInfo>> drain_node(std::string node, bool undo) override;
  Task<Result<NodeInfo>> check_decommission(std::string node, bool force) override;
  Task<Status> forget_node(NodeId node) override;
  Task<Result<ClusterStatus>> status() override;

  // What the other nodes ask (peers.h).
  Task<Result<NodeFacts>> facts() override;
  Task<Status> converge(VolumeId volume) override;
  Task<Status> settle(VolumeId volume) override;
  Task<Status> let_go(VolumeId volume) override;
  Task<Status> detach(VolumeId volume) override;
  Task<Status> take(VolumeId volume, bool stays, bool force) override;
  Task<Result<ScrubInfo>> scrub(VolumeId volume, uint64_t bytes_per_second, bool only_look) override;
  Task<Status> cut(CreateSnapshot request) override;
  Task<Result<std::vector<MemberInfo>>> members(VolumeId volume) override;
  Task<Result<std::vector<SnapshotId>>> snapshots(VolumeId volume) override;

 private:
  template <typename T>
  using Operation = std::function<Task<Result<T>>()>;
  template <typename T>
  Task<Result<T>> bounded(std::string what, Operation<T> operation);
  template <typename T>
  Task<Result<T>> repeat(Operation<T> operation);
  template <typename T>
  struct Call;
  template <typename T>
  Task<void> run_call(std::shared_ptr<Call<T>> call, Operation<T> operation);
  template <typename T>
  Task<void> run_alarm(std::shared_ptr<Call<T>> call);
  Task<void> background(bool well);
  Task<void> watch_neighbours();

  ControlOptions options_;
  Clock& clock_;
  const bool in_cluster_;
  std::unique_ptr<Plane> plane_;
  Gate gate_;
  CancelSource stopping_;
};

}  // namespace hf::cluster
