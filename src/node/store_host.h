// StoreHost: cluster::ReplicaHost over this node's pools. Loop thread only.
//
// A pool is two things: its file system (mount::PoolHost: image, loop, mount) and the store inside
// (hf::Pool). A volume that is attached has a coordinator over its replica; what concerns an open
// volume (snapshot, resize) goes through it, so that it has a place in the order of the writes.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "cluster/ports.h"
#include "format/pool_file.h"
#include "mount/pool_host.h"
#include "node/identity.h"
#include "runtime/sync.h"
#include "store/pool.h"
#include "volume/volume_device.h"

namespace hf::node {

class StoreHost : public cluster::ReplicaHost {
 public:
  StoreHost(World world, mount::PoolHost& files, Identity identity, uint64_t journal_bytes, Duration full_patience)
      : world_(world), files_(files), identity_(identity), journal_bytes_(journal_bytes), full_patience_(full_patience) {}
  ~StoreHost() override;

  // Drains and closes every pool; the file systems stay mounted. Devices must be closed or parked.
  Task<Status> stop();
  // Before the exports are parked, which wait for what is in flight: writes that a full pool holds back end.
  void release_held();

  // For /metrics.
  struct PoolView {
    PoolId id;
    std::string path;
    PoolStats stats;
  };
  std::vector<PoolView> pools() const;
  const std::map<ReplicaId, std::shared_ptr<VolumeDevice>>& devices() const { return devices_; }
  // Null where no open pool has it, or it is served here as a volume of one replica.
  std::shared_ptr<Replica> find_replica(VolumeId volume, ReplicaId replica) const;

  Task<Result<cluster::PoolInfo>> make_pool(PoolId pool, cluster::AddPool request) override;
  Task<Result<cluster::PoolInfo>> open_pool(PoolId pool, std::string path) override;
  Task<Result<cluster::PoolInfo>> pool_info(PoolId pool) override;
  Task<Result<cluster::PoolInfo>> expand_pool(PoolId pool, uint64_t size_bytes) override;
  Task<Status> close_pool(PoolId pool) override;
  Task<Status> create_replica(PoolId pool, cluster::ReplicaSpec spec) override;
  Task<Status> delete_replica(PoolId pool, ReplicaId replica) override;
  Task<Status> resize_replica(PoolId pool, ReplicaId replica, uint64_t size_bytes) override;
  Task<Result<cluster::ReplicaStats>> replica_stats(PoolId pool, ReplicaId replica) override;
  Task<Result<std::vector<ReplicaId>>> list_replicas(PoolId pool) override;
  Task<Status> create_snapshot(PoolId pool, ReplicaId replica, SnapshotId snapshot) override;
  Task<Result<std::vector<SnapshotId>>> list_snapshots(PoolId pool, ReplicaId replica) override;
  Task<Status> delete_snapshot(PoolId pool, ReplicaId replica, SnapshotId snapshot) override;
  Task<Status> restore_snapshot(PoolId pool, ReplicaId replica, SnapshotId snapshot) override;
  Task<Status> clone_replica(PoolId pool, ReplicaId from, SnapshotId snapshot,
                             cluster::ReplicaSpec to) override;
  Task<Status> verify_replica(PoolId pool, ReplicaId replica, cluster::ScrubWork work) override;
  Task<Result<std::shared_ptr<BlockDevice>>> open_volume(PoolId pool, ReplicaId replica,
                                                         uint64_t epoch) override;
  Task<Status> close_volume(PoolId pool, ReplicaId replica) override;

 private:
  struct Open {
    std::string path;
    bool on_device = false;
    uint32_t io_class = 1;
    std::unique_ptr<Pool> pool;
  };
  Task<Result<cluster::PoolInfo>> open_store(PoolId pool, const mount::PoolStorage& storage,
                                             uint32_t io_class, bool make);
  Task<Result<std::optional<PoolFile>>> whose(std::string path);
  Task<Status> check_not_anothers(PoolId pool, std::string path);
  Task<Status> check_ours(PoolId pool, std::string path);
  Result<Pool*> find(PoolId pool) const;
  Result<std::shared_ptr<Replica>> find(PoolId pool, ReplicaId replica) const;
  cluster::PoolInfo info(PoolId id, const Open& open) const;
  static ReplicaSpec store_spec(const cluster::ReplicaSpec& spec);

  World world_;
  mount::PoolHost& files_;
  Identity identity_;
  uint64_t journal_bytes_;
  Duration full_patience_;
  std::map<PoolId, Open> pools_;
  std::map<ReplicaId, std::shared_ptr<VolumeDevice>> devices_;
  Mutex opening_;  // one pool is made or opened at a time
};

}  // namespace hf::node
