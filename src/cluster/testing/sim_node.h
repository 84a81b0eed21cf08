// SimNode: what a daemon drives, simulated: pools with replicas, block devices in the kernel,
// mounts and containers. It survives the daemon. SimPorts is one incarnation's access to it.
//
// Every call takes time before and after its effect, may be refused by the seed, and is a step: the
// daemon can be killed at any of them. What must never happen is noted in `violations`, as the real
// world would show it as lost data or a hung machine: formatting what has data, I/O to a device
// that nobody serves, changing a replica under its device, two devices of one volume, an epoch that
// does not grow.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "cluster/ports.h"
#include "sim/incarnation.h"
#include "state/memory_store.h"

namespace hf::cluster {

struct SimImage {
  SimImage() = default;
  uint64_t size = 0;
  bool has_fs = false;
  bool half_made = false;  // an mkfs has begun to write
  uint64_t raw = 0;        // what users have written past any file system, counted
  bool torn = false;       // of a snapshot: cut while its file system was mounted and not frozen
  std::string fs_uuid;
  uint64_t fs_size = 0;
  uint64_t data = 0;  // what users have written, counted
};

struct SimReplica {
  SimReplica() = default;
  VolumeId volume;
  SimImage head;
  std::map<SnapshotId, SimImage> snapshots;
  uint64_t promised = 0;
  uint64_t rotten = 0;  // bytes that do not match their checksum
  uint64_t opened_by = 0;  // incarnation
};

struct SimPool {
  SimPool() = default;
  std::string path;
  uint64_t total = 0;
  bool broken = false;  // cannot be opened
  std::map<ReplicaId, SimReplica> replicas;
  std::set<uint64_t> opened_by;
};

struct SimExport {
  SimExport() = default;
  std::string device;
  ExportKind kind = ExportKind::kFuseLoop;
  PoolId pool;
  ReplicaId replica;
  uint64_t served_by = 0;  // incarnation; another than the living one: an orphan
  bool refuses = false;    // served, and every I/O is an error
  uint64_t tenure = 0;     // of this node, when it was last served with data
};

// What lies beyond one node, where several form a cluster.
class SimBeyond {
 public:
  virtual ~SimBeyond() = default;
  virtual SimReplica* find(PoolId pool, ReplicaId replica) = 0;
  // The replica that has the content of one that has left its volume since.
  virtual SimReplica* successor(ReplicaId replica) = 0;
  // This node served the volume, and another one has taken it over, or it was released.
  virtual bool is_fenced(VolumeId volume) = 0;
  // The configuration of a volume that is served names it.
  virtual bool is_member(ReplicaId replica) = 0;
  // Another one each time that the volume begins to be served by somebody.
  virtual uint64_t tenure(VolumeId volume) = 0;
};

struct SimNode {
  SimBeyond* beyond = nullptr;
  std::map<PoolId, SimPool> pools;
  std::map<VolumeId, SimExport> exports;
  std::map<std::string, std::string> mounts;      // path → device, in our mount namespace
  std::map<std::string, std::string> links;       // directory → what it is a link to
  std::map<std::string, std::string> containers;  // container → device, in theirs
  std::map<std::string, sim::SimTime> frozen;     // device → when its guard thaws it
  std::map<std::string, std::string> open_files;  // path → why: unmount says in use
  std::optional<Error> grow_fails, resized_fails;  // for as long as it is set
  uint64_t next_device = 0;
  uint64_t living = 0;  // the incarnation that runs
  uint64_t steps = 0;
  uint64_t looks = 0;  // at what a device carries
  uint64_t kill_at = 0;  // the step at which the daemon is killed; 0: never
  uint64_t fail_at = 0;  // the step at which a port refuses or the state store's answer is lost
  std::vector<std::string> violations;

  void violated(std::string what) { violations.push_back(std::move(what)); }
  SimReplica* find(PoolId pool, ReplicaId replica);
  // What a device on the replica shows, wherever it lies by now.
  SimReplica* content(PoolId pool, ReplicaId replica);
  SimReplica* behind(const std::string& device);
  SimExport* export_of(const std::string& device);
  bool is_mounted(const std::string& device) const;
  // By freeze(), now. A guard that was killed with its daemon never thaws: then only thaw() does.
  bool is_frozen(const std::string& device, sim::SimTime now) const;
  // A reboot: the kernel's objects are gone, what is on the pools is not.
  void reboot();
};

struct PortFaults {
  PortFaults() = default;
  uint64_t refuse_one_in = 0;  // a call refused without an effect; 0: never
  Duration longest = std::chrono::milliseconds(3);
  Duration hang{};  // every call of the host takes this long
};

// One incarnation's ports. Valid until the incarnation has unwound.
class SimPorts : public ReplicaHost, public Exporter, public Mounter, public state::StoreFaults {
 public:
  SimPorts(SimNode& node, sim::Incarnation& life, Prng prng, PortFaults faults)
      : node_(node), life_(life), prng_(prng), faults_(faults) {}
  void set_faults(PortFaults faults) { faults_ = faults; }
  void set_store_faults(uint64_t one_in, bool late) {
    store_one_in_ = one_in;
    store_late_ = late;
  }
  void set_store(state::MemoryStore* store) { store_ = store; }
  // The process ends here and now.
  void kill();

  Task<Result<PoolInfo>> make_pool(PoolId pool, AddPool request) override;
  Task<Result<PoolInfo>> open_pool(PoolId pool, std::string path) override;
  Task<Result<PoolInfo>> pool_info(PoolId pool) override;
  Task<Result<PoolInfo>> expand_pool(PoolId pool, uint64_t size_bytes) override;
  Task<Status> close_pool(PoolId pool) override;
  Task<Status> create_replica(PoolId pool, ReplicaSpec spec) override;
  Task<Status> delete_replica(PoolId pool, ReplicaId replica) override;
  Task<Status> resize_replica(PoolId pool, ReplicaId replica, uint64_t size_bytes) override;
  Task<Result<ReplicaStats>> replica_stats(PoolId pool, ReplicaId replica) override;
  Task<Result<std::vector<ReplicaId>>> list_replicas(PoolId pool) override;
  Task<Status> create_snapshot(PoolId pool, ReplicaId replica, SnapshotId snapshot) override;
  Task<Result<std::vector<SnapshotId>>> list_snapshots(PoolId pool, ReplicaId replica) override;
  Task<Status> delete_snapshot(PoolId pool, ReplicaId replica, SnapshotId snapshot) override;
  Task<Status> restore_snapshot(PoolId pool, ReplicaId replica, SnapshotId snapshot) override;
  Task<Status> clone_replica(PoolId pool, ReplicaId from, SnapshotId snapshot,
                             ReplicaSpec to) override;
  Task<Status> verify_replica(PoolId pool, ReplicaId replica, ScrubWork work) override;
  Task<Result<std::shared_ptr<BlockDevice>>> open_volume(PoolId pool, ReplicaId replica,
                                                         uint64_t epoch) override;
  Task<Status> close_volume(PoolId pool, ReplicaId replica) override;

  std::vector<ExportKind> offered() const override { return {ExportKind::kFuseLoop}; }
  Task<Result<ExportInfo>> attach(VolumeId volume, ExportKind kind,
                                  std::shared_ptr<BlockDevice> device) override;
  Task<Status> detach(VolumeId volume) override;
  Task<Status> resized(VolumeId volume) override;
  Task<Result<std::vector<ExportInfo>>> orphans() override;
  Task<Status> park() override;

  Task<Status> identify(std::shared_ptr<BlockDevice> device, FilesystemSpec spec) override;
  Task<Result<std::string>> contents(std::string device) override;
  Task<Result<bool>> reads_sound(std::shared_ptr<BlockDevice> device, spec::FsType fs) override;
  Task<Status> prepare(std::string device, FilesystemSpec spec) override;
  Task<Status> mount(std::string device, std::string path, FilesystemSpec spec) override;
  Task<Status> bind(std::string from, std::string to, bool read_only) override;
  Task<Result<std::string>> place(std::string path) override;
  Task<Status> unmount(std::string path) override;
  Task<Status> grow(std::string device, std::string path, spec::FsType fs) override;
  Task<Result<std::vector<std::string>>> mounts_of(std::string device) override;
  Task<Result<bool>> mounted_elsewhere(std::string device, std::string path) override;
  Task<Result<bool>> in_use(std::string device) override;
  Task<Status> freeze(std::string path, Duration limit) override;
  Task<Result<bool>> thaw(std::string path) override;

  // A scrub in pieces that take their time. `look`: at each piece; false: it ends.
  Task<Status> scrub_in_pieces(uint64_t size, ScrubWork work, std::function<Status(ScrubFindings&)> look);
  // The device of a replicated volume whose content is this replica's.
  std::shared_ptr<BlockDevice> device_of(PoolId pool, ReplicaId replica, uint64_t size);
  // Of a device that is open.
  Task<Status> discard(PoolId pool, ReplicaId replica);
  SimImage* image_of(PoolId pool, ReplicaId replica);

  state::StoreFate fate(bool is_write) override;
  Duration latency() override { return Duration(prng_.below(2'000'000)); }
  Duration late_by() override { return Duration(prng_.below(300'000'000)); }
  void applied() override { count_step(); }

 private:
  // Before the effect: takes time, may refuse, may be where the process dies.
  Task<Status> before(const char* what);
  // After it: the answer may be lost with the process.
  Task<Status> after(const char* what);
  void count_step();
  Result<PoolInfo> shown(PoolId id);
  bool is_fenced(VolumeId volume) const { return node_.beyond != nullptr && node_.beyond->is_fenced(volume); }
  // Notes I/O to a device that nobody serves.
  SimReplica* served(const std::string& device, const char* what);

  SimNode& node_;
  sim::Incarnation& life_;
  Prng prng_;
  PortFaults faults_;
  state::MemoryStore* store_ = nullptr;
  uint64_t store_one_in_ = 0;
  bool store_late_ = false;
};

}  // namespace hf::cluster
