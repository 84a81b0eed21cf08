// Ports: what the control plane drives on its own node. Implemented by the rooms below it (`store`
// and `replicate` through node/replica_host, `block`, `mount`) and by simulated ones in tests, so
// that the reconcilers run under the simulator. Loop thread only; every call is idempotent; an
// error leaves the world as it was or in a state that the same call asked again mends.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/id.h"
#include "cluster/control.h"
#include "runtime/cancel.h"
#include "runtime/task.h"
#include "volume/block_device.h"
#include "volume/filesystem_spec.h"

namespace hf::cluster {

// Pools and replicas of this node.
struct ReplicaSpec {
  ReplicaSpec() = default;
  ReplicaId replica;
  VolumeId volume;
  LineageId lineage;
  uint64_t size_bytes = 0;
};

struct ReplicaStats {
  uint64_t size_bytes = 0;
  uint64_t used_bytes = 0;
  uint64_t checksum_errors = 0;
  std::string waits_for;  // why new data waits or is refused; mostly empty
};

// A scrub, for who does it.
struct ScrubWork {
  ScrubWork() = default;
  uint64_t bytes_per_second = 0;  // 0: no limit
  uint64_t from = 0;
  CancelToken cancel;  // it ends soon, with kCancelled
  std::function<void(const ScrubFindings&)> tell;  // what it has seen since its beginning, after each piece
};

class ReplicaHost {
 public:
  virtual ~ReplicaHost() = default;
  // Makes a pool (file system, journal, pool.json) or opens the one of that id which is there
  // already.
  virtual Task<Result<PoolInfo>> make_pool(PoolId pool, AddPool request) = 0;
  // Opens a pool recorded earlier (attaches its image, mounts it, recovers). kNotFound, kLocked,
  // kWrongOwner, kNewerFormat, kCorruption … tell why not.
  virtual Task<Result<PoolInfo>> open_pool(PoolId pool, std::string path) = 0;
  virtual Task<Result<PoolInfo>> pool_info(PoolId pool) = 0;
  virtual Task<Result<PoolInfo>> expand_pool(PoolId pool, uint64_t size_bytes) = 0;
  // Nothing of it is left in this process and in the kernel; what lies in it stays. Success if it is not open. kInUse:
  // a volume of it is.
  virtual Task<Status> close_pool(PoolId pool) = 0;

  virtual Task<Status> create_replica(PoolId pool, ReplicaSpec spec) = 0;
  virtual Task<Status> delete_replica(PoolId pool, ReplicaId replica) = 0;
  virtual Task<Status> resize_replica(PoolId pool, ReplicaId replica, uint64_t size_bytes) = 0;
  virtual Task<Result<ReplicaStats>> replica_stats(PoolId pool, ReplicaId replica) = 0;
  virtual Task<Result<std::vector<ReplicaId>>> list_replicas(PoolId pool) = 0;
  virtual Task<Status> create_snapshot(PoolId pool, ReplicaId replica, SnapshotId snapshot) = 0;
  virtual Task<Result<std::vector<SnapshotId>>> list_snapshots(PoolId pool, ReplicaId replica) = 0;
  virtual Task<Status> delete_snapshot(PoolId pool, ReplicaId replica, SnapshotId snapshot) = 0;
  virtual Task<Status> restore_snapshot(PoolId pool, ReplicaId replica, SnapshotId snapshot) = 0;
  virtual Task<Status> clone_replica(PoolId pool, ReplicaId from, SnapshotId snapshot,
                                     ReplicaSpec to) = 0;

  // Reads all that it holds and checks it, also while it is served.
  virtual Task<Status> verify_replica(PoolId pool, ReplicaId replica, ScrubWork work) = 0;

  // The volume's device, served under `epoch` (higher than any before; fences older ones). One at a
  // time per volume; close before delete or restore.
  virtual Task<Result<std::shared_ptr<BlockDevice>>> open_volume(PoolId pool, ReplicaId replica,
                                                                 uint64_t epoch) = 0;
  virtual Task<Status> close_volume(PoolId pool,
                                    ReplicaId replica) = 0;  // success if it is not open
};

// A replica of a volume, wherever it lies.
struct MemberInfo {
  MemberInfo() = default;
  ReplicaId replica;
  NodeId node;
  PoolId pool;
  bool in_sync = false;
  bool reachable = false;  // by who serves the volume
  uint64_t resync_bytes_total = 0, resync_bytes_done = 0;
  std::string trouble;
};

// When a configuration was last changed, and when a member left it.
struct PromotionFacts {
  uint64_t epoch = 0, generation = 0;
  uint64_t left_generation = 0;
};

// Volumes that have a configuration in the state store: whoever opens one takes it over from whoever
// had it, and that one is fenced. Only where nodes form a cluster.
class VolumeHost {
 public:
  virtual ~VolumeHost() = default;
  // Makes the configuration: all members in sync, nobody serves. `epoch`: the highest that a member
  // may have promised before. Success if there is one.
  virtual Task<Status> configure(VolumeId volume, LineageId lineage,
                                 std::vector<MemberInfo> members, uint64_t epoch) = 0;
  // Removes the configuration; nobody can serve the volume afterwards. Success if there is none.
  virtual Task<Status> forget(VolumeId volume) = 0;
  // Takes it over and serves it on this node. kUnavailable: no member that is in sync answers;
  // kFenced, kConflict: another node took it meanwhile; kFailedPrecondition: in quarantine. One at a
  // time per volume: success, with the same device, while it is open and not fenced. `away`: a node that
  // was just found not to answer (or none), whose replica is not waited for where another one answers.
  virtual Task<Result<std::shared_ptr<BlockDevice>>> open(VolumeId volume, NodeId away) = 0;
  // Whether who had it last has given it back in order, as a daemon does that is stopped or restarted.
  virtual Task<Result<bool>> is_released(VolumeId volume) = 0;
  // In order: what is in flight ends, and the next one need not wait. Success if it is not open. Its
  // device answers with errors afterwards.
  virtual Task<Status> close(VolumeId volume) = 0;
  // At once: what is in flight fails and may have happened.
  virtual Task<void> abandon(VolumeId volume) = 0;
  virtual bool is_open(VolumeId volume) const = 0;
  virtual bool is_fenced(VolumeId volume) const = 0;  // false where it is not open
  // Of an open one: on all members in sync, in the order of the writes.
  virtual Task<Status> snapshot(VolumeId volume, SnapshotId snapshot) = 0;
  virtual Task<Status> resize(VolumeId volume, uint64_t size_bytes) = 0;
  // Of an open one: compares what its members in sync have, and mends. kInUse: one is running.
  virtual Task<Status> scrub(VolumeId volume, ScrubWork work) = 0;
  // Of an open one, kFailedPrecondition otherwise. Success: the configuration has the member (`replica`, `node`, `pool`; its
  // replica is there, with whatever content), or had it. It is in sync when members() says so. kLimitExceeded: there are as
  // many as there can be. kUnavailable: the state store does not tell; it may have happened.
  virtual Task<Status> add_member(VolumeId volume, MemberInfo member) = 0;
  // Of an open one, kFailedPrecondition otherwise, and where no other member that is in sync is reachable. Success: the
  // configuration does not have it; it is never asked again, and its replica may be deleted. kUnavailable as above.
  virtual Task<Status> remove_member(VolumeId volume, ReplicaId replica) = 0;
  // The member is the only one in sync afterwards, all others are made like it, and whoever serves the volume is fenced.
  // kConflict: others than `lost` are in sync. kFailedPrecondition: it has never had all of the volume. Durable on return.
  // `only_look`: nothing is changed.
  virtual Task<Result<PromotionFacts>> promote(VolumeId volume, ReplicaId replica, std::vector<ReplicaId> lost,
                                               bool only_look) = 0;
  // Of an open one as its coordinator sees them; of another what the configuration says.
  virtual Task<Result<std::vector<MemberInfo>>> members(VolumeId volume) = 0;
  // Of all volumes, as their configurations say; those that are open here as their coordinators do.
  virtual Task<Result<std::map<VolumeId, std::vector<MemberInfo>>>> all_members() = 0;
};

struct ExportInfo {
  VolumeId volume;
  ExportKind kind = ExportKind::kNone;
  std::string device;
};

// Block devices in this node's kernel.
class Exporter {
 public:
  virtual ~Exporter() = default;
  // Kinds that this kernel offers, best first; at least empty. Detected once at start.
  virtual std::vector<ExportKind> offered() const = 0;
  // Makes the kernel device, or takes over the one that an earlier daemon left for this volume (I/O
  // that waits in the kernel goes on). `device` stays in use until detach.
  virtual Task<Result<ExportInfo>> attach(VolumeId volume, ExportKind kind,
                                          std::shared_ptr<BlockDevice> device) = 0;
  // kInUse while something has the device open or mounted.
  virtual Task<Status> detach(VolumeId volume) = 0;
  // The device grew: tell the kernel. kMissingFeature: it takes the size when it is attached again.
  virtual Task<Status> resized(VolumeId volume) = 0;
  // Who uses it, as far as the export can tell: the connections of kNbdServer. For people.
  virtual std::vector<std::string> users(VolumeId) const { return {}; }
  // Exports of ours in this kernel that nobody serves yet (after a restart).
  virtual Task<Result<std::vector<ExportInfo>>> orphans() = 0;
  // Stops serving without detaching: the kernel side is kept for the next daemon. Before a clean
  // stop.
  virtual Task<Status> park() = 0;
  // What is wrong with it now, for status(): one sentence each, with the way out. Does not block.
  virtual std::vector<std::string> problems() const { return {}; }
};

// File systems and mounts of this node.
class Mounter {
 public:
  virtual ~Mounter() = default;
  // The file system on it has the UUID `spec.uuid` afterwards, where two of one UUID must not meet on
  // one machine (btrfs). Before the device is in the kernel, which looks at what appears.
  virtual Task<Status> identify(std::shared_ptr<BlockDevice> device, FilesystemSpec spec) = 0;
  // True: the volume carries a whole file system of type `fs`, as large as the device, that needs nothing but a mount.
  // False: prepare() looks closer. Read without the kernel: only before anybody can have written through its device.
  virtual Task<Result<bool>> reads_sound(std::shared_ptr<BlockDevice> device, spec::FsType fs) = 0;
  // What is written through the kernel's device has reached its BlockDevice afterwards. Answers what it
  // carries, for people ("an xfs file system labelled …"); empty: nothing that is known.
  virtual Task<Result<std::string>> contents(std::string device) = 0;
  // may_format: formats it, whatever it carries. Otherwise the device carries a file system of type
  // `fs` (kCorruption: it lost what it should carry; kNotEmpty: another type).
  // Checks (fsck) after an unclean end. Never called while the device is mounted anywhere.
  virtual Task<Status> prepare(std::string device, FilesystemSpec spec) = 0;
  // Mounts at `path` (made, 0700 parents); success if that device is already mounted there.
  virtual Task<Status> mount(std::string device, std::string path, FilesystemSpec spec) = 0;
  virtual Task<Status> bind(std::string from, std::string to, bool read_only) = 0;
  // The path by which the kernel knows a mount at `path`: links on the way to its last part are resolved. kNotFound.
  virtual Task<Result<std::string>> place(std::string path) = 0;
  // Success if nothing is mounted there. kInUse while files are open.
  virtual Task<Status> unmount(std::string path) = 0;
  // Grows the file system to the size of its device, online. kMissingFeature: it cannot be done while it is
  // mounted here; prepare() does it before the next mount.
  virtual Task<Status> grow(std::string device, std::string path, spec::FsType fs) = 0;
  // Where the device is mounted now, in this mount namespace, per the kernel.
  virtual Task<Result<std::vector<std::string>>> mounts_of(std::string device) = 0;
  // True while a process has the device mounted that keeps it when `path` is unmounted: at another place, or in a
  // mount namespace which an unmount here does not reach. Only looks, and sees what /proc shows: false is no proof.
  virtual Task<Result<bool>> mounted_elsewhere(std::string device, std::string path) = 0;
  // The file system mounted at `path` is frozen: what was written before is on its device, and writers
  // wait, until thaw(), for `limit` at most, and no longer than this process lives. kInUse: somebody
  // else has frozen it. After any other error it may be frozen: thaw().
  virtual Task<Status> freeze(std::string path, Duration limit) = 0;
  // It is not frozen afterwards, whoever froze it. True: it was by freeze(), until now; false: it was
  // let go before. Success where nothing is mounted.
  virtual Task<Result<bool>> thaw(std::string path) = 0;
  // True while any process of any mount namespace still has the device's file system mounted.
  virtual Task<Result<bool>> in_use(std::string device) = 0;
};

}  // namespace hf::cluster
