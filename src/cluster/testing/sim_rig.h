// SimRig: one simulated node with its state store, and the control plane on it, which can be killed
// and started anew. For tests.
#pragma once

#include <memory>
#include <string>

#include "cluster/control_plane.h"
#include "cluster/testing/sim_node.h"
#include "sim/sim_clock.h"
#include "sim/sim_loop.h"
#include "sim/sim_random.h"
#include "state/memory_store.h"

namespace hf::cluster {

class SimRig {
 public:
  explicit SimRig(uint64_t seed)
      : loop_(seed),
        prng_(seed ^ 0x5eed),
        forever_(loop_, 1, prng_.fork()),
        model_(prng_.fork()),
        clock_(forever_, model_),
        server_(clock_) {
    node_id_ = NodeId::from_random(prng_.next(), prng_.next());
  }
  ~SimRig() {
    if (life_) loop_.run(stop());
    loop_.run(server_.close());
  }

  // A new incarnation of the daemon.
  Task<Status> start() {
    HF_ASSERT(!life_);
    node_.living = ++incarnations_ + 1;
    life_ = std::make_unique<Life>(*this);
    co_return co_await life_->control.start();
  }
  // kill −9; what is in flight ends.
  Task<void> crash() {
    life_->ports.kill();
    Status stopped = co_await life_->control.stop();
    (void)stopped.ok();
    life_.reset();
  }
  Task<void> stop() {
    Status stopped = co_await life_->control.stop();
    (void)stopped.ok();
    co_await life_->store.close();
    life_.reset();
  }
  Task<void> reboot() {
    co_await crash();
    node_.reboot();
    boot_ = boot_ + "'";
  }
  Task<void> sleep(Duration d) {
    Status slept = co_await clock_.sleep_for(d, CancelToken());
    HF_ASSERT(slept.ok());
  }

  ControlPlane& control() { return life_->control; }
  SimPorts& ports() { return life_->ports; }
  bool is_up() const { return life_ != nullptr; }
  bool is_dead() const { return life_ && life_->life.is_dead(); }
  SimNode& node() { return node_; }
  state::MemoryServer& server() { return server_; }
  sim::SimLoop& loop() { return loop_; }
  Prng& prng() { return prng_; }
  Clock& clock() { return clock_; }
  // Faults of incarnations to come.
  PortFaults faults;
  uint64_t store_faults_one_in = 0;
  bool store_late = false;

 private:
  struct Life {
    explicit Life(SimRig& rig)
        : life(rig.loop_, rig.node_.living, rig.prng_.fork()),
          clock(life, rig.model_),
          entropy(rig.prng_.fork()),
          ports(rig.node_, life, rig.prng_.fork(), rig.faults),
          store(rig.server_, clock, &ports),
          control(ControlPorts{ports, ports, ports, store, clock, entropy}, rig.options()) {
      ports.set_store(&store);
      ports.set_store_faults(rig.store_faults_one_in, rig.store_late);
    }
    sim::Incarnation life;
    sim::SimClock clock;
    sim::SimRandom entropy;
    SimPorts ports;
    state::MemoryStore store;
    ControlPlane control;
  };
  ControlOptions options() const {
    ControlOptions options;
    options.node = node_id_;
    options.node_name = "node-a";
    options.version = "test";
    options.boot_id = boot_;
    options.mount_root = "/m";
    options.capabilities.clone = true;
    options.capabilities.sticky = true;
    return options;
  }

  sim::SimLoop loop_;
  Prng prng_;
  sim::Incarnation forever_;
  sim::ClockModel model_;
  sim::SimClock clock_;
  state::MemoryServer server_;
  SimNode node_;
  NodeId node_id_;
  std::string boot_ = "boot";
  uint64_t incarnations_ = 0;
  std::unique_ptr<Life> life_;
};

}  // namespace hf::cluster
