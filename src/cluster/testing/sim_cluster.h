// SimCluster: several simulated nodes (sim_node.h) under one state store, each with its control plane,
// which can be killed and started anew, cut off from the others, or away for good. A replicated volume
// has one content, that of its first replica; who serves it is one node at a time, the last that opened
// it, as the replication protocol has it. What a member lacks is copied while it is served. For tests.
#pragma once

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "cluster/control_plane.h"
#include "cluster/testing/sim_node.h"
#include "sim/sim_clock.h"
#include "sim/sim_loop.h"
#include "sim/sim_random.h"
#include "state/memory_store.h"

namespace hf::cluster {

class SimCluster {
 public:
  SimCluster(uint64_t seed, size_t nodes);
  ~SimCluster();

  Task<Status> start(size_t node);
  Task<void> crash(size_t node);   // kill -9 of the daemon; its kernel keeps what it has
  Task<void> reboot(size_t node);  // and of its kernel
  Task<void> stop(size_t node);
  bool is_up(size_t node) const { return nodes_[node]->life != nullptr; }
  // Neither hears the other any more; both reach the state store.
  void cut(size_t one, size_t other) { cuts_.insert(std::minmax(one, other)); }
  void heal() { cuts_.clear(); }

  ControlPlane& control(size_t node) { return nodes_[node]->life->control; }
  SimNode& node(size_t node) { return nodes_[node]->world; }
  NodeId id(size_t node) const { return nodes_[node]->id; }
  // As its configuration says; from its next start on.
  FailureDomain& domain(size_t node) { return nodes_[node]->domain; }
  size_t size() const { return nodes_.size(); }
  size_t replicas(size_t node) const;
  // By anybody, with or without users.
  bool is_served(VolumeId volume) const;
  state::MemoryServer& server() { return server_; }
  sim::SimLoop& loop() { return loop_; }
  Prng& prng() { return prng_; }
  Task<void> sleep(Duration d);
  // What a container on the node does. False: an I/O error.
  bool write(size_t node, VolumeId volume);
  PortFaults faults;
  Duration scrub_every = std::chrono::hours(14 * 24);  // from a node's next start on

 private:
  struct Member;
  struct Life;
  // Who serves a volume, and what its configuration says.
  struct Shared {
    std::vector<MemberInfo> members;
    Member* owner = nullptr;
    uint64_t incarnation = 0;
    uint64_t tenure = 0;
  };
  class Volumes;
  class Calls;
  class Links;
  struct Member final : public SimBeyond {
    Member(SimCluster& c, size_t i) : cluster(c), index(i) { world.beyond = this; }
    SimReplica* find(PoolId pool, ReplicaId replica) override;
    SimReplica* successor(ReplicaId replica) override;
    bool is_fenced(VolumeId volume) override;
    uint64_t tenure(VolumeId volume) override;
    bool is_member(ReplicaId replica) override;
    SimCluster& cluster;
    const size_t index;
    NodeId id;
    SimNode world;
    std::string boot = "boot";
    FailureDomain domain;
    uint64_t incarnations = 0;
    std::unique_ptr<Life> life;
  };
  struct Life {
    Life(SimCluster& cluster, Member& member);
    sim::Incarnation life;
    sim::SimClock clock;
    sim::SimRandom entropy;
    SimPorts ports;
    state::MemoryStore store;
    std::unique_ptr<VolumeHost> volumes;
    std::unique_ptr<Peers> links;
    ControlPlane control;
  };
  bool reaches(const Member& from, const Member& to) const;
  ControlOptions options(const Member& member) const;
  SimReplica* canonical(const Shared& shared);
  bool has_open(const Member& node, PoolId pool) const;
  // Members come in sync while somebody serves the volume, each in its time.
  void copy_on(Shared& shared);

  sim::SimLoop loop_;
  Prng prng_;
  sim::Incarnation forever_;
  sim::ClockModel model_;
  sim::SimClock clock_;
  state::MemoryServer server_;
  std::vector<std::unique_ptr<Member>> nodes_;
  std::map<VolumeId, Shared> shared_;
  std::map<ReplicaId, VolumeId> left_;  // replicas that once had a volume's content and are not its any more
  std::set<std::pair<size_t, size_t>> cuts_;
};

}  // namespace hf::cluster
