// A simulated cluster with one volume: nodes with the real store, replica services and peer
// sessions on simulated disks and network, a state store that can be away and ambiguous, and
// clients of whoever is the volume's coordinator.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "judge.h"
#include "prepared.h"
#include "replicate/coordinator.h"
#include "replicate/peer_ports.h"
#include "replicate/peer_server.h"
#include "sim/simulation.h"
#include "state/memory_store.h"
#include "store/pool.h"

namespace hf::replicate_sim {

struct Shape {
  Shape() = default;
  uint64_t nodes = 3;
  uint64_t members = 3;  // on the first nodes
  uint64_t spares = 0;   // nodes behind them with a replica that is no member yet
  uint64_t blocks = 512;
  uint64_t lively = 24;  // blocks that clients use, spread over the volume
  uint64_t clients = 4;  // of each coordinator; none: driven by hand, and not judged
  Duration think = 4ms;  // at most, between two operations of a client
  uint64_t widest = 3;   // blocks of an operation
  uint64_t writes_percent = 55;
  int64_t drift_ppm = 0;  // clocks of the nodes differ from true time by up to so much
  bool snapshots = true;
};

// What lies between a node and the state store.
class Weather : public state::StoreFaults {
 public:
  explicit Weather(Prng prng) : prng_(prng) {}
  state::StoreFate fate(bool is_write) override;
  Duration latency() override { return std::chrono::microseconds(200 + prng_.below(2000)); }
  Duration late_by() override { return std::chrono::milliseconds(prng_.below(1500)); }
  bool away = false;
  uint64_t bad_one_in = 0;

 private:
  Prng prng_;
};

// A volume that this node coordinates, or is about to.
struct Attachment {
  std::unique_ptr<PeerPorts> ports;
  std::unique_ptr<Coordinator> coordinator;
  bool ending = false;
  CancelSource give_up;  // of the takeover
  Gate users;
  uint64_t credits = 0;  // operations that its clients may still begin
  Signal go;
};

// One life of a node's daemon.
struct Daemon final : public ReplicaDirectory {
  Daemon(World w, state::MemoryServer& server, Weather& weather)
      : world(w), store(server, w.clock, &weather), configs(store, w.clock, w.random) {}
  std::shared_ptr<ReplicaService> find(VolumeId volume, ReplicaId replica) override;

  World world;
  state::MemoryStore store;
  ConfigStore configs;
  std::unique_ptr<Pool> pool;
  std::shared_ptr<ReplicaService> service;
  std::unique_ptr<PeerServer> server;
  std::shared_ptr<Attachment> attachment;
  Gate tasks;
};

struct Node {
  Node(sim::Simulation& sim, size_t index, const Shape& shape);
  bool is_up() const { return daemon != nullptr && !busy && daemon->service != nullptr; }
  sim::SimHost& host;
  sim::SimDisk& disk;
  sim::SimProcess process;
  NodeId id;
  Weather weather;
  ReplicaId replica;  // nil: a node without one
  Shadow shadow;
  PoolConfig pool;
  std::unique_ptr<Daemon> daemon;  // null: down
  bool busy = false;               // being started or ended
  bool paused = false;
  bool changing = false;  // being added or removed, by somebody who still waits
};

class SimCluster {
 public:
  SimCluster(uint64_t seed, Shape shape);
  ~SimCluster();

  sim::Simulation& sim() { return sim_; }
  Prng& prng() { return prng_; }
  const Shape& shape() const { return shape_; }
  Node& node(size_t i) { return *nodes_[i]; }
  size_t size() const { return nodes_.size(); }
  Judge& judge() { return judge_; }
  const std::string& failure() const { return judge_.failure(); }
  void fail(const std::string& what) { judge_.fail(what); }
  Task<void> pause_for(Duration d);

  // --- nodes
  Task<void> create();                     // the volume's configuration, and all nodes up
  Task<bool> start(Node& node);            // false: it did not come up (its disk failed it)
  Task<void> end(Node& node, bool power);  // killed, or its power cut
  Task<void> stop_all();

  // --- the volume
  // Takes over, whoever serves; clients follow. `away`: a node that is taken not to answer.
  Task<Status> attach(Node& node, NodeId away = NodeId());
  Task<Status> detach(Node& node);  // a planned end
  Node* serving();                  // somebody with a coordinator that is not fenced
  bool is_being_taken_over();
  Task<Result<StoredConfig>> config();  // as the state store has it
  Task<bool> all_in_sync(Duration within);
  void let_clients(bool run);
  // Each coordinator's clients may begin so many operations more.
  void give_credits(uint64_t operations);
  Task<void> wait_clients();
  // True: a write through the serving coordinator has succeeded within that time.
  Task<bool> progresses(Duration within);
  // Through whoever serves. Somebody who was removed is written over: whatever is there is never
  // seen again.
  Task<Status> add_member(Node& node);
  Task<Status> remove_member(Node& node);
  // Nothing is damaged at rest here: there must be nothing to mend.
  Task<void> scrub();
  std::vector<Node*> members();  // as the configuration has them now
  std::vector<Node*> spares();   // nodes with a replica that is no member
  VolumeId volume() const { return volume_; }
  ClusterId cluster() const { return cluster_; }
  state::MemoryServer& state() { return state_; }

  // --- oracles
  Task<void> read_everything();
  Task<void> compare_replicas();
  // I7, in the replicas' own books.
  Task<void> check_coverage();
  uint64_t coverage_checks = 0, pairs_checked = 0, differing_blocks = 0;

  uint64_t acknowledged = 0, refused = 0, takeovers = 0, scrubs = 0;
  std::vector<SnapshotId> cuts;  // acknowledged

 private:
  Task<void> client(Node& node, std::shared_ptr<Attachment> at, uint64_t seed,
                    uint64_t writes_percent);
  Task<Status> write_some(Node& node, Attachment& at, Prng& prng);
  Task<Status> read_some(Node& node, Attachment& at, Prng& prng);
  Task<Status> cut_one(Node& node, Attachment& at);
  Task<void> end_attachment(Node& node, std::shared_ptr<Attachment> at);
  Task<void> settle_shadow(Node& node, Replica& replica);
  Task<void> check_pair(Node& in_sync, Node& away);
  Task<bool> read_all(Replica& replica, std::vector<std::optional<uint64_t>>* values);
  Task<void> probe_write(Node& node, std::shared_ptr<bool> done);
  Task<void> compare_snapshot(SnapshotId id);
  Task<void> scribble(Node& node);
  std::vector<Node*> holders();  // nodes with a replica, member or not
  bool is_member(const Node& node);

  sim::Simulation sim_;
  const Shape shape_;
  Prng prng_;
  state::MemoryServer state_;
  state::MemoryStore driver_store_;
  ConfigStore driver_configs_;
  ClusterId cluster_;
  VolumeId volume_;
  std::vector<std::unique_ptr<Node>> nodes_;
  std::vector<uint64_t> lively_;
  Judge judge_;
  Gate checks_;
  bool checking_ = false;
  bool clients_run_ = true;
  uint64_t instances_ = 0;
};

}  // namespace hf::replicate_sim
