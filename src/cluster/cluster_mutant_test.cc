// Deliberate bugs in the control plane (mutants.h): the simulation must find each of them, or its passing
// proves little.
#include <gtest/gtest.h>

#include "base/log.h"
#include "cluster/mutants.h"
#include "cluster/testing/sim_scenario.h"
#include "cluster/testing/sim_steps.h"
#include "sim/seed_runner.h"

namespace hf::cluster {
namespace {

struct Case {
  const char* name;
  ControlMutant mutant;
  uint64_t seeds;  // within so many it must be found
  // Found by disturbing this operation; kCount: by the random scenario.
  StepVerb verb = StepVerb::kCount;
};

std::string run_one(const Case& c, uint64_t seed) {
  if (c.verb == StepVerb::kCount) return run_scenario(seed, false).failure;
  StepCase step;
  step.verb = c.verb;
  step.step = 1 + seed / 2 % 40;
  step.rest_first = seed % 2 == 0;
  if (seed / 80 % 2 == 1) step.fault = StepFault::kFail;
  return run_step_case(step).failure;
}

class ClusterMutants : public testing::TestWithParam<Case> {};

TEST_P(ClusterMutants, IsFound) {
  const Case& c = GetParam();
  sim::SeedOptions options;
  options.count = c.seeds;
  options.print = false;
  set_log_level(LogLevel::kOff);
  const sim::SeedReport report =
      sim::run_seeds(c.name, options, [&c](uint64_t seed, sim::ProbeCounts*) {
        t_control_mutant = c.mutant;
        const std::string failure = run_one(c, seed);
        t_control_mutant = ControlMutant::kNone;
        return failure.empty() ? Status() : Status(Error(ErrorCode::kInternal, failure));
      });
  set_log_level(LogLevel::kInfo);
  EXPECT_FALSE(report.ok()) << c.name << " lived through " << report.seeds_run << " seeds";
  std::printf("seed %llu: %.200s\n", static_cast<unsigned long long>(report.failed_seed),
              report.failure.c_str());
}

INSTANTIATE_TEST_SUITE_P(
    All, ClusterMutants,
    testing::Values(Case{"ReplicaBeforeRecord", ControlMutant::kReplicaBeforeRecord, 600},
                    Case{"RecordGoneFirst", ControlMutant::kRecordGoneFirst, 600},
                    Case{"NameKept", ControlMutant::kNameKept, 600},
                    Case{"FormatNotRecorded", ControlMutant::kFormatNotRecorded, 600},
                    Case{"EpochNotBumped", ControlMutant::kEpochNotBumped, 600},
                    Case{"BegunSnapshotFinished", ControlMutant::kBegunSnapshotFinished, 200,
                         StepVerb::kSnapshotMounted},
                    Case{"NotMountedBack", ControlMutant::kNotMountedBack, 600},
                    Case{"ResizeRecordedFirst", ControlMutant::kResizeRecordedFirst, 600},
                    Case{"RestoreNotIntended", ControlMutant::kRestoreNotIntended, 400,
                         StepVerb::kRestoreBeforeFirstMount},
                    Case{"CloneFsOfHead", ControlMutant::kCloneFsOfHead, 10, StepVerb::kCloneOfBlankSnapshot},
                    Case{"AmbiguousIsDone", ControlMutant::kAmbiguousIsDone, 600},
                    Case{"BindNotIntended", ControlMutant::kBindNotIntended, 600},
                    Case{"GraceIgnored", ControlMutant::kGraceIgnored, 600},
                    Case{"NotSettled", ControlMutant::kNotSettled, 600},
                    Case{"StrayDeleted", ControlMutant::kStrayDeleted, 600},
                    Case{"LostMadeAnew", ControlMutant::kLostMadeAnew, 600},
                    Case{"CloneKeepsUuid", ControlMutant::kCloneKeepsUuid, 10, StepVerb::kCloneOfSnapshot},
                    Case{"FormatWithoutLooking", ControlMutant::kFormatWithoutLooking, 600},
                    Case{"FormatNotIntended", ControlMutant::kFormatNotIntended, 100, StepVerb::kMountFirst},
                    Case{"NotFrozen", ControlMutant::kNotFrozen, 10, StepVerb::kSnapshotFrozen},
                    Case{"FreezeNotIntended", ControlMutant::kFreezeNotIntended, 100, StepVerb::kSnapshotFrozen},
                    Case{"HalfMadeHandedOut", ControlMutant::kHalfMadeHandedOut, 10000}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace hf::cluster
