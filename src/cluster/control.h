// Control: every operation of the control plane, as the adapters in `api` see it. One
// implementation (cluster/control_plane.h); the adapters translate between a client's protocol and
// this, nothing else.
//
// Loop thread only: gRPC and HTTP threads post (node/loop_bridge.h). Every operation is idempotent:
// asked again after a crash or a lost answer it finds what is there and finishes it. Operations on
// one volume are served one after the other, on different volumes at the same time. Errors carry
// the code and a sentence for a person. `name` arguments take a volume's name, its id, or an inline
// spec with a name=.
//
// Durable on return: what the operation says it did, in the state store and on the pool.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/id.h"
#include "runtime/clock.h"
#include "runtime/task.h"
#include "volume/spec/volume_spec.h"

namespace hf::cluster {

// ---- what is there
// --------------------------------------------------------------------------------

enum class VolumeState : uint8_t {
  kCreating,  // recorded, not yet usable; a restart finishes or undoes it
  kDetached,
  kAttached,
  kDeleting,
  kError,  // see `message`
  kLost,   // its pool is open and does not hold its replica; nothing but delete is done to it
};

enum class ReplicaState : uint8_t { kOnline, kOffline, kFailed, kLost };

struct ReplicaInfo {
  ReplicaInfo() = default;
  ReplicaId id;
  NodeId node;
  std::string node_name;
  PoolId pool;
  ReplicaState state = ReplicaState::kOffline;
  bool in_sync = true;
  // While it is being brought up to date; 0 and 0 otherwise.
  uint64_t resync_bytes_total = 0, resync_bytes_done = 0;
  std::string message;  // why it is not online or not in sync
};

// How the block device reaches the kernel; kNbdServer: not at all, network clients use it.
enum class ExportKind : uint8_t { kNone, kUblk, kNbd, kFuseLoop, kNbdServer };

struct MountInfo {
  std::string path;    // where a container or person finds the files
  std::string holder;  // who: "docker:<mount id>", "path:/mnt/x", "csi:…"; counted one by one
};

struct AttachmentInfo {
  NodeId node;
  std::string node_name;
  bool here = true;  // on the node that answers: its paths mean something there
  ExportKind kind = ExportKind::kNone;
  std::string device;      // "/dev/loop3", "/dev/nbd0", "/dev/ublkb0"
  std::string mount_path;  // the primary mount; empty while only attached
  std::vector<MountInfo> mounts;
  WallTime since;
};

// What a scrub has seen: all copies of each block in sync compared, of a volume of one replica its checksums.
struct ScrubFindings {
  ScrubFindings() = default;
  uint64_t done_to = 0;         // of the volume's size
  uint64_t compared_bytes = 0;
  uint64_t mended_bytes = 0;    // damaged or different on some, as the others now
  uint64_t undecided_bytes = 0; // readable everywhere and different, without a majority: nothing was changed
  uint64_t lost_bytes = 0;      // damaged everywhere
  bool all_members = true;      // all in sync were there all the time
};

struct ScrubInfo {
  ScrubInfo() = default;
  std::string volume;
  uint64_t size_bytes = 0;
  bool running = false;
  WallTime begun;         // the round that is not at its end; 0: none
  ScrubFindings so_far;   // of it
  WallTime ended;         // the last whole round; 0: never
  ScrubFindings last;     // of it
  std::string message;    // why the present round does not go on
};

struct VolumeInfo {
  VolumeId id;
  std::string name;
  VolumeSpec spec;          // as it is now (resized, updated)
  VolumeSpec created_spec;  // as it was created: what a repeated request is compared with
  uint64_t size_bytes = 0;
  uint64_t used_bytes = 0;  // on the pool, shared blocks counted once per volume; 0 while unknown
  uint64_t fs_bytes = 0;    // that its file system was made for or has grown to; 0: it has none yet
  VolumeState state = VolumeState::kCreating;
  std::string message;  // why, when something is not as it should be
  std::string placement;  // its replicas fail together more easily than asked, and how; mostly empty
  std::vector<ReplicaInfo> replicas;
  std::optional<AttachmentInfo> attachment;
  std::string parent;  // "volume" or "volume@snapshot" it was cloned from
  WallTime created;
  uint32_t snapshot_count = 0;
  std::optional<ScrubInfo> scrub;  // by inspect_volume alone; running: here
};

struct SnapshotInfo {
  SnapshotId id;
  std::string name;
  VolumeId volume;
  std::string volume_name;
  uint64_t size_bytes = 0;  // of the volume when it was taken
  WallTime created;
  std::map<std::string, std::string> labels;
  bool frozen = false;  // see CreateSnapshot::freeze
};

// Where a node stands, for what fails together; each may be empty.
struct FailureDomain {
  FailureDomain() = default;
  std::string region, zone, rack;
  bool operator==(const FailureDomain&) const = default;
};

enum class PoolState : uint8_t { kOnline, kOffline, kFull, kFailed };

struct PoolInfo {
  PoolId id;
  NodeId node;
  std::string path;  // directory or device it was made of
  bool on_device = false;
  PoolState state = PoolState::kOffline;
  std::string message;
  uint64_t total_bytes = 0;
  uint64_t used_bytes = 0;
  uint64_t provisioned_bytes = 0;  // sum of the sizes of the replicas in it
  uint32_t io_class = 1;           // 1 low, 2 medium, 3 high
  uint32_t replica_count = 0;
};

struct NodeInfo {
  NodeId id;
  std::string name;  // host name unless configured
  std::string address;
  std::string version;
  FailureDomain domain;
  bool online = false;
  bool draining = false;   // its replicas are moved away, and it gets no new ones
  uint32_t replicas = 0;   // that it has, those that leave included
  std::vector<PoolInfo> pools;
  std::vector<std::string> exports;  // kinds this kernel offers, best first: "ublk", "nbd", "fuse"
};

struct ClusterStatus {
  ClusterId id;
  std::string state_store;  // "embedded" or "etcd://…"
  bool healthy = false;
  std::vector<std::string> problems;  // sentences; empty when healthy
  uint32_t nodes = 0, nodes_online = 0;
  uint32_t volumes = 0, volumes_attached = 0;
  uint64_t total_bytes = 0, used_bytes = 0;
  std::string version;
};

// ---- what can be asked
// ---------------------------------------------------------------------------- Requests have a
// declared constructor so that they are no aggregates: coroutines take them by value (R3).

struct CreateVolume {
  CreateVolume() = default;
  std::string name;  // plain
  VolumeSpec spec;
  NodeId near;  // who will use it: its first replica goes there where it can; nil: this node
};

struct CloneVolume {
  CloneVolume() = default;
  std::string name;
  std::string parent;  // volume
  std::string
      snapshot;  // of the parent; empty: of its state now (a snapshot is taken and kept inside)
  std::map<std::string, std::string> labels;
};

struct AttachVolume {
  AttachVolume() = default;
  std::string name;
  ExportKind kind = ExportKind::kNone;  // kNone: the best that the kernel offers
  // False: it stays attached only while somebody uses it (see Exporter::users), for a caller that
  // comes and goes by itself.
  bool stays = true;
  // From a node that is alive and uses it, too: its users there get errors from then on.
  bool force = false;
};

struct MoveVolume {
  MoveVolume() = default;
  std::string name;
  std::string node;    // name or id
  bool force = false;  // also from users that it has elsewhere: they get errors from then on
};

struct MountVolume {
  MountVolume() = default;
  std::string name;
  // See MountInfo::holder. The same holder again is a repeat, not a second mount; only
  // "docker:<id>" is counted, since `docker cp` mounts and unmounts with the ID of the running
  // container.
  std::string holder;
  // Where to show the volume. Empty: the primary mount below the daemon's mount root. Otherwise an
  // existing empty directory; the primary mount is bound there.
  std::string target_path;
  bool read_only = false;
};

struct UnmountVolume {
  UnmountVolume() = default;
  std::string name;
  std::string holder;       // whose; or
  std::string target_path;  // by path
  bool detach_when_last = true;
};

struct UpdateVolume {
  UpdateVolume() = default;
  std::string name;
  // Only the keys named; the parser of the spec has checked each value.
  std::map<std::string, std::string> options;
};

struct ScrubVolume {
  ScrubVolume() = default;
  std::string name;
  uint64_t bytes_per_second = 0;  // of each replica, at most; 0: no limit
  bool only_look = false;         // none is begun
};

struct PromoteVolume {
  PromoteVolume() = default;
  std::string name;
  std::string node;               // whose replica is taken for the truth, by name or id
  std::vector<std::string> lost;  // nodes or pools that never come back, as the operator says
  bool only_look = false;         // whether it may be done, and what it would cost
};

// What is given up with it.
struct Promotion {
  Promotion() = default;
  bool done = false;
  std::string volume, node;
  std::vector<std::string> lost_nodes;  // that had every acknowledged write
  uint64_t epoch = 0, generation = 0;   // of the configuration that they were the last of
  uint64_t left_generation = 0;         // when the one that is promoted had left; what came after is lost
  WallTime away_since;                  // its node or pool had been away since then; 0: it was not, or is back
};

struct DeleteVolume {
  DeleteVolume() = default;
  std::string name;
  bool with_snapshots = false;  // else kInUse while it has some
  bool missing_ok = false;
};

struct CreateSnapshot {
  CreateSnapshot() = default;
  std::string volume;
  std::string name;  // empty: one from the time
  std::map<std::string, std::string> labels;
  // Its file system is frozen for the cut, so that the snapshot needs no recovery when it is mounted.
  // Writers wait meanwhile. Otherwise it is what a power failure at that moment would have left.
  bool freeze = false;
};

struct AddPool {
  AddPool() = default;
  std::string path;         // a directory, or a block device
  uint64_t size_bytes = 0;  // of the pool image in a directory; 0: 90 % of what is free there
  uint32_t io_class = 1;
  bool force = false;  // a device that carries somebody's data
};

struct RemovePool {
  RemovePool() = default;
  std::string pool;         // by id or path
  bool force = false;       // although it cannot be opened
  bool missing_ok = false;
  bool only_look = false;   // whether it may be removed, and what would be lost; nothing is changed
};

struct PoolRemoval {
  PoolRemoval() = default;
  bool removed = false;     // false: there is no such pool, or only_look
  PoolInfo pool;            // as it was; what is in it stays at `path`
  std::vector<std::string> lost;      // volumes whose only replica was in it
  std::vector<std::string> degraded;  // volumes that have others
};

class Control {
 public:
  virtual ~Control() = default;

  // Volumes. create of an existing name: the same volume if the specs agree (compare_for_reuse),
  // else kSpecMismatch with the difference.
  virtual Task<Result<VolumeInfo>> create_volume(CreateVolume request) = 0;
  virtual Task<Result<VolumeInfo>> clone_volume(CloneVolume request) = 0;
  virtual Task<Result<VolumeInfo>> inspect_volume(std::string name) = 0;
  virtual Task<Result<std::vector<VolumeInfo>>> list_volumes() = 0;
  virtual Task<Result<VolumeInfo>> resize_volume(std::string name, uint64_t size_bytes) = 0;
  virtual Task<Result<VolumeInfo>> update_volume(UpdateVolume request) = 0;
  virtual Task<Status> delete_volume(DeleteVolume request) = 0;
  // Begins to compare the volume's replicas and to mend what one of them has damaged, or goes on where an earlier round
  // was cut short; answers how far it is. One at a time per volume: asked while one is running, that one is told.
  virtual Task<Result<ScrubInfo>> scrub_volume(ScrubVolume request) = 0;
  // The size of the largest volume that could be created now as asked for, name and size aside; 0: none.
  virtual Task<Result<uint64_t>> largest_volume(CreateVolume request) = 0;

  // The data path. attach makes the block device; mount attaches, makes or checks the file system
  // and mounts; unmount of the last holder unmounts and (by default) detaches.
  virtual Task<Result<VolumeInfo>> attach_volume(AttachVolume request) = 0;
  virtual Task<Status> detach_volume(std::string name) = 0;
  // Attached on another node afterwards. kInUse: somebody uses it where it is.
  virtual Task<Result<VolumeInfo>> move_volume(MoveVolume request) = 0;
  virtual Task<Result<MountInfo>> mount_volume(MountVolume request) = 0;
  virtual Task<Status> unmount_volume(UnmountVolume request) = 0;

  // A replica that lacks acknowledged writes becomes the truth, since none that has them is ever coming back; the others are
  // made like it. kFailedPrecondition: one that has them is there, or nobody has said that it is lost.
  virtual Task<Result<Promotion>> promote_volume(PromoteVolume request) = 0;

  virtual Task<Result<SnapshotInfo>> create_snapshot(CreateSnapshot request) = 0;
  // Of one volume, or of all for an empty name. Oldest first.
  virtual Task<Result<std::vector<SnapshotInfo>>> list_snapshots(std::string volume) = 0;
  virtual Task<Status> delete_snapshot(std::string volume, std::string snapshot) = 0;
  // The volume must be detached: a mounted file system does not survive its device changing under
  // it.
  virtual Task<Result<VolumeInfo>> restore_snapshot(std::string volume, std::string snapshot) = 0;

  virtual Task<Result<PoolInfo>> add_pool(AddPool request) = 0;
  virtual Task<Result<std::vector<PoolInfo>>> list_pools() = 0;
  // By id or path.
  virtual Task<Result<PoolInfo>> inspect_pool(std::string pool) = 0;
  // Grows the image of a directory pool (0: as far as the directory allows), or takes in a device's
  // growth.
  virtual Task<Result<PoolInfo>> expand_pool(std::string pool, uint64_t size_bytes) = 0;
  // A pool of this node leaves the cluster; what lies in it stays there. kInUse: it is open and volumes have replicas in
  // it. kFailedPrecondition: it is not open, and `force` was not given, or it has the only replica in sync of a volume
  // that has others.
  virtual Task<Result<PoolRemoval>> remove_pool(RemovePool request) = 0;

  virtual Task<Result<std::vector<NodeInfo>>> list_nodes() = 0;
  // By name or id. Its replicas are moved to other nodes from now on; `undo`: no more.
  virtual Task<Result<NodeInfo>> drain_node(std::string node, bool undo) = 0;
  // Whether the node may leave the cluster: it is drained, or does not answer. kFailedPrecondition says what is in the
  // way. `force`: although volumes are lost with it.
  virtual Task<Result<NodeInfo>> check_decommission(std::string node, bool force) = 0;
  // The node is no part of the cluster afterwards; what it had is made anew elsewhere. Success if it is none.
  virtual Task<Status> forget_node(NodeId node) = 0;
  virtual Task<Result<ClusterStatus>> status() = 0;
};

}  // namespace hf::cluster
