// One operation of the control plane, disturbed at exactly one of its steps: the daemon is killed there (and
// perhaps once more while it starts again), the machine reboots, or the call there fails. Every call
// of a port is two steps (before and after its effect), every request of the state store one or two
// (a write: before it, and between its effect and its answer).
//
// Then: at rest the node and the catalog agree; the same operation asked again succeeds and has the whole
// effect, once; nothing of what was there before has changed; and all can be taken down to nothing.
// For tests.
#pragma once

#include <cstdint>
#include <string>

#include "sim/fault_plan.h"

namespace hf::cluster {

enum class StepVerb : uint8_t {
  kCreate,
  kCreateFromParent,
  kDelete,
  kDeleteWithSnapshots,
  kDeleteWithStaleHolder,
  kClone,
  kCloneOfSnapshot,
  kCloneOfBlankSnapshot,  // cut before the volume was first mounted
  kResizeDetached,
  kResizeMounted,
  kSnapshot,
  kSnapshotMounted,
  kSnapshotFrozen,
  kDeleteSnapshot,
  kRestore,
  kRestoreBeforeFirstMount,
  kAttach,
  kDetach,
  kMountFirst,
  kMountAgain,
  kBind,
  kUnmountLast,
  kUnmountKeepAttached,
  kUnbind,
  kUpdateLabels,
  kUpdateSize,
  kAddPool,
  kExpandPool,
  kRemovePool,  // without volumes
  kGiveUpPool,  // that is gone, with a volume that is attached
  kStart,  // of a daemon that takes a mounted volume over
  // Of a volume that was mounted when its daemon was killed, and whose replica is gone since.
  kDetachLost,
  kUnmountLost,
  kDeleteLost,
  kCount,
};
const char* step_verb_name(StepVerb verb);

enum class StepFault : uint8_t {
  kKill,
  kReboot,
  kFail,  // a port refuses, the state store loses its answer (or, asked to read, is away)
  kCount,
};

struct StepCase {
  StepVerb verb = StepVerb::kCreate;
  StepFault fault = StepFault::kKill;
  uint64_t step = 0;         // of the verb, from 1; 0: undisturbed
  uint64_t second_kill = 0;  // steps after the restart began; 0: none
  bool rest_first = false;   // the reconciler comes before the repetition
};

struct StepResult {
  std::string failure;  // empty: all held
  uint64_t steps = 0;   // that the verb took
  sim::ProbeCounts probes;
};

StepResult run_step_case(const StepCase& c);

}  // namespace hf::cluster
