// Simulation: everything that one seed needs. One per thread at a time.
//
//   Simulation sim(seed);
//   SimHost& host = sim.add_host("a");
//   SimDisk& disk = host.add_disk("/");
//   SimProcess process(host);
//   sim.run(workload(process));
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "sim/fault_plan.h"
#include "sim/sim_process.h"

namespace hf::sim {

class Simulation {
 public:
  explicit Simulation(uint64_t seed)
      : prng_(seed),
        loop_(seed),
        plan_(seed),
        net_(loop_, prng_.fork()),
        driver_host_(loop_, net_, "driver", "10.0.0.254", prng_.fork()),
        driver_(driver_host_) {}

  uint64_t seed() const { return loop_.seed(); }
  SimLoop& loop() { return loop_; }
  SimNet& net() { return net_; }
  History& history() { return loop_.history(); }
  SimFaultPlan& plan() { return plan_; }
  // For the test's own choices; independent of the world's.
  Prng& prng() { return prng_; }

  // The n-th host has the address 10.0.0.n.
  SimHost& add_host(const std::string& name) {
    const std::string ip = fmt::format("10.0.0.{}", hosts_.size() + 1);
    hosts_.push_back(std::make_unique<SimHost>(loop_, net_, name, ip, prng_.fork()));
    return *hosts_.back();
  }
  SimHost& host(size_t i) { return *hosts_[i]; }

  // The test's own place in the world: never killed, without disks; for its clock and its
  // connections.
  World& driver() { return driver_.world(); }

  void run(Task<void> task) { loop_.run(std::move(task)); }

 private:
  Prng prng_;
  SimLoop loop_;
  SimFaultPlan plan_;
  SimNet net_;
  SimHost driver_host_;
  SimProcess driver_;
  std::vector<std::unique_ptr<SimHost>> hosts_;
};

}  // namespace hf::sim
