// ReplicatedVolumes: cluster::VolumeHost over coordinators of this node, and this node's replicas for
// coordinators of others. Loop thread only.
//
// Between the calls on one volume there is an order: the control plane has one at a time.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "cluster/ports.h"
#include "node/identity.h"
#include "node/store_host.h"
#include "replicate/config_store.h"
#include "replicate/peer_ports.h"
#include "replicate/peer_server.h"
#include "runtime/world.h"
#include "volume/volume_device.h"

namespace hf::node {

class ReplicatedVolumes final : public cluster::VolumeHost, public ReplicaDirectory {
 public:
  // References stay valid until stop() has ended. `address_of` a node's PeerServer: "tcp:…", empty
  // where it is not known.
  ReplicatedVolumes(World world, Network& peers, StoreHost& replicas, state::KvStore& store,
                    Identity identity, std::function<std::string(NodeId)> address_of)
      : world_(world),
        peers_(peers),
        replicas_(replicas),
        configs_(store, world.clock, world.random),
        store_(store),
        identity_(identity),
        address_of_(std::move(address_of)) {}
  ~ReplicatedVolumes() override;

  // Releases what is open, so that who takes it over need not wait. Before the pools stop, and after
  // this node's PeerServer has.
  Task<void> stop();
  // For /metrics.
  std::map<VolumeId, std::shared_ptr<VolumeDevice>> devices() const;

  std::shared_ptr<ReplicaService> find(VolumeId volume, ReplicaId replica) override;

  Task<Status> configure(VolumeId volume, LineageId lineage, std::vector<cluster::MemberInfo> members,
                         uint64_t epoch) override;
  Task<Status> forget(VolumeId volume) override;
  Task<Result<std::shared_ptr<BlockDevice>>> open(VolumeId volume, NodeId away) override;
  Task<Result<bool>> is_released(VolumeId volume) override;
  Task<Status> close(VolumeId volume) override;
  Task<void> abandon(VolumeId volume) override;
  bool is_open(VolumeId volume) const override { return open_.contains(volume); }
  bool is_fenced(VolumeId volume) const override;
  Task<Status> snapshot(VolumeId volume, SnapshotId snapshot) override;
  Task<Status> resize(VolumeId volume, uint64_t size_bytes) override;
  Task<Status> scrub(VolumeId volume, cluster::ScrubWork work) override;
  Task<Result<cluster::PromotionFacts>> promote(VolumeId volume, ReplicaId replica, std::vector<ReplicaId> lost,
                                                bool only_look) override;
  Task<Status> add_member(VolumeId volume, cluster::MemberInfo member) override;
  Task<Status> remove_member(VolumeId volume, ReplicaId replica) override;
  Task<Result<std::vector<cluster::MemberInfo>>> members(VolumeId volume) override;
  Task<Result<std::map<VolumeId, std::vector<cluster::MemberInfo>>>> all_members() override;

 private:
  // What a coordinator uses lives as long as the device that it is behind, which an export may hold.
  struct Open {
    explicit Open(std::unique_ptr<PeerPorts> p) : ports(std::move(p)) {}
    std::unique_ptr<PeerPorts> ports;
    std::unique_ptr<VolumeDevice> device;
  };
  Result<std::shared_ptr<Open>> find_open(VolumeId volume) const;
  Task<void> close_last(VolumeId volume);

  World world_;
  Network& peers_;
  StoreHost& replicas_;
  ConfigStore configs_;
  state::KvStore& store_;
  const Identity identity_;
  const std::function<std::string(NodeId)> address_of_;
  std::map<VolumeId, std::shared_ptr<Open>> open_;
  std::map<ReplicaId, std::shared_ptr<ReplicaService>> services_;
};

}  // namespace hf::node
