// One seed: a cluster, troubles by the seed, and then peace, in which everything must come right.
#pragma once

#include <string>

#include "cluster.h"
#include "troubles.h"

namespace hf::replicate_sim {

struct RunResult {
  RunResult() = default;
  std::string failure;  // empty: all is well
  uint64_t hash = 0;
  sim::ProbeCounts probes;
};

RunResult run_seed(uint64_t seed, Trouble trouble);
RunResult run_seed(uint64_t seed, Trouble trouble, Shape shape);
// Nodes, members, load: by the seed.
Shape shape_of(uint64_t seed);

}  // namespace hf::replicate_sim
