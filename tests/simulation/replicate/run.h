// One seed: a cluster, troubles by the seed, and then peace, in which everything must come right.
#pragma once

#include <string>

#include "cluster.h"

namespace hf::replicate_sim {

enum class Trouble : uint8_t {
  kNone,
  kCrashes,  // kills, power cuts, restarts
  kNetwork,  // partitions full and one-way, resets, delays
  kPauses,   // frozen processes that wake up
  kState,    // the state store away, ambiguous, late
  kMoves,    // attach storms, planned moves
  kDisks,    // EIO, rot, hangs
  kAll,
};

struct RunResult {
  RunResult() = default;
  std::string failure;  // empty: all is well
  uint64_t hash = 0;
  uint64_t acknowledged = 0, refused = 0, takeovers = 0, reads = 0, writes = 0;
  sim::ProbeCounts probes;
};

RunResult run_seed(uint64_t seed, Trouble trouble);
RunResult run_seed(uint64_t seed, Trouble trouble, Shape shape);
// Nodes, members, load: by the seed.
Shape shape_of(uint64_t seed);

}  // namespace hf::replicate_sim
