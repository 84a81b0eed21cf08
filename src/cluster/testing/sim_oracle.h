// What must hold of a simulated node when nothing is going on: every replica, snapshot, device and mount
// is explained by the catalog and the other way round, and everything can be taken down to nothing.
// Shared by the random scenario (sim_scenario.h) and the crashes at every step
// (cluster_step_test.cc). For tests.
#pragma once

#include <string>
#include <vector>

#include "cluster/testing/sim_rig.h"

namespace hf::cluster {

// What was found wrong, in the order in which it was found; bounded.
class Wrongs {
 public:
  void add(std::string what) {
    if (all_.size() < 20) all_.push_back(std::move(what));
  }
  bool empty() const { return all_.empty(); }
  std::string text() const;

 private:
  std::vector<std::string> all_;
};

// status() without problems (but those of `strays` foreign replicas) and what list_volumes() shows.
Task<std::vector<VolumeInfo>> look_at_rest(SimRig& rig, size_t strays, Wrongs& wrongs);
// Node and catalog agree. `strays`: replicas that no volume owns and that must still be there.
void check_node_at_rest(SimRig& rig, const std::vector<VolumeInfo>& volumes, size_t strays,
                        Wrongs& wrongs);
// Unmounts, detaches and deletes all, whatever holders were left behind; nothing is left over then.
Task<void> take_all_down(SimRig& rig, const std::vector<VolumeInfo>& volumes, size_t strays,
                         Wrongs& wrongs);

}  // namespace hf::cluster
