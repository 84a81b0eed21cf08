// The whole control plane under the simulator: clients do random things, the daemon is killed at
// random steps (every call of a port and of the state store is one, before and after its effect),
// calls are refused, the state store is slow, away and ambiguous. What was acknowledged must hold,
// by a model:
//
//   acknowledged creates exist with their data, deletes are gone, mounts are there, snapshots are of the
//   moment at which they were asked for; running containers keep their files through everything; nothing
//   with data may be formatted (SimNode notes it); nothing is left over when all is quiet: no replica,
//   snapshot, device or mount that the catalog does not explain; foreign replicas are told and kept; a
//   replica that vanishes is told as lost; and everything can be deleted in the end, whatever
//   holders were left behind.
//
// For tests.
#pragma once

#include <string>

#include "sim/fault_plan.h"

namespace hf::cluster {

struct ScenarioResult {
  std::string failure;  // empty: all held
  sim::ProbeCounts probes;
};

// Deterministic by the seed. `verbose`: the story to stderr.
ScenarioResult run_scenario(uint64_t seed, bool verbose);

}  // namespace hf::cluster
