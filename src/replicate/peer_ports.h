// PeerPorts: how a coordinator of this node reaches members: this node's replicas by direct calls,
// the others over connections.
#pragma once

#include <functional>
#include <string>

#include "replicate/coordinator.h"
#include "replicate/peer_port.h"
#include "replicate/peer_server.h"

namespace hf {

class PeerPorts final : public PortFactory {
 public:
  // `address_of` a node: "tcp:…"; empty where it is not known.
  PeerPorts(Network& net, ClusterId cluster, VolumeId volume, NodeId self, ReplicaDirectory& local,
            std::function<std::string(NodeId)> address_of)
      : net_(net),
        cluster_(cluster),
        volume_(volume),
        self_(self),
        local_(local),
        address_of_(std::move(address_of)) {}

  Task<Result<std::shared_ptr<ReplicaPort>>> open(VolumeMember member) override;
  bool is_local(const VolumeMember& member) const override { return member.node == self_; }
  // After the coordinator has ended: waits for the connections' last tasks.
  Task<void> close() { return connections_.close(); }

 private:
  Network& net_;
  const ClusterId cluster_;
  const VolumeId volume_;
  const NodeId self_;
  ReplicaDirectory& local_;
  std::function<std::string(NodeId)> address_of_;
  Gate connections_;
};

}  // namespace hf
