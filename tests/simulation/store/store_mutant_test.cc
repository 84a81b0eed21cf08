// Deliberate bugs in the store: the simulation must find each of them. A suite that passes with any of
// these switched on would prove nothing. (kVisibleTrusted, kOldNamesTrusted and kGapIgnored need too much
// in a row for random seeds to meet surely within a test's time: store_open_test.cc makes each by hand, and
// store_space_test.cc kRoomNotReserved and kHeldForEver, store_direct_test.cc kMismatchAccepted, kHeadFileNotNamed and
// kDirectEvicted, store_books_test.cc kBrokenMapEmpty.)
#include <gtest/gtest.h>

#include "sim/seed_runner.h"
#include "simulated_store.h"
#include "store/mutants.h"

namespace hf::store_sim {
namespace {

struct Case {
  const char* name;
  StoreMutant mutant;
  Trouble trouble;
  uint64_t seeds;  // within so many it must be found
};

class StoreMutants : public testing::TestWithParam<Case> {};

TEST_P(StoreMutants, IsFound) {
  const Case& c = GetParam();
  sim::SeedOptions options;
  options.count = c.seeds;
  options.print = false;
  const sim::SeedReport report =
      sim::run_seeds(c.name, options, [&c](uint64_t seed, sim::ProbeCounts*) {
        t_store_mutant = c.mutant;
        const RunResult result = run_seed(seed, c.trouble);
        t_store_mutant = StoreMutant::kNone;
        return result.failure.empty() ? Status() : Status(Error(ErrorCode::kInternal, result.failure));
      });
  EXPECT_FALSE(report.ok()) << c.name << " lived through " << report.seeds_run << " seeds";
  std::printf("seed %llu: %.200s\n", static_cast<unsigned long long>(report.failed_seed),
              report.failure.c_str());
}

INSTANTIATE_TEST_SUITE_P(
    All, StoreMutants,
    testing::Values(
        Case{"AckBeforeDurable", StoreMutant::kAckBeforeDurable, Trouble::kCrashes, 100},
        Case{"FreeBeforeSync", StoreMutant::kFreeBeforeSync, Trouble::kCrashes, 100},
        Case{"NoChainCheck", StoreMutant::kNoChainCheck, Trouble::kCrashes, 200},
        Case{"NoReadCrc", StoreMutant::kNoReadCrc, Trouble::kDamage, 100},
        Case{"BarrierIgnored", StoreMutant::kBarrierIgnored, Trouble::kCrashes, 50},
        Case{"OneSuperblockCopy", StoreMutant::kOneSuperblockCopy, Trouble::kCrashes, 500},
        Case{"ReflinkNotSynced", StoreMutant::kReflinkNotSynced, Trouble::kCrashes, 100},
        Case{"TailAdvancedEarly", StoreMutant::kTailAdvancedEarly, Trouble::kCrashes, 100},
        Case{"NoDirectorySync", StoreMutant::kNoDirectorySync, Trouble::kCrashes, 100},
        Case{"NoPayloadCheck", StoreMutant::kNoPayloadCheck, Trouble::kCrashes, 500},
        Case{"NoTableReadBack", StoreMutant::kNoTableReadBack, Trouble::kDamage, 300},
        Case{"OverlayDroppedEarly", StoreMutant::kOverlayDroppedEarly, Trouble::kCrashes, 100},
        Case{"OldestWins", StoreMutant::kOldestWins, Trouble::kCrashes, 50},
        Case{"CloneSharesHead", StoreMutant::kCloneSharesHead, Trouble::kCrashes, 200},
        Case{"PromiseNotDurable", StoreMutant::kPromiseNotDurable, Trouble::kCrashes, 100},
        Case{"BirthIgnored", StoreMutant::kBirthIgnored, Trouble::kCrashes, 500},
        Case{"DirectAckBeforeSync", StoreMutant::kDirectAckBeforeSync, Trouble::kCrashes, 200},
        Case{"DataBeforeIntent", StoreMutant::kDataBeforeIntent, Trouble::kCrashes, 300},
        Case{"IntentCrcsNotDrained", StoreMutant::kIntentCrcsNotDrained, Trouble::kCrashes, 100},
        Case{"DrainPassesIntents", StoreMutant::kDrainPassesIntents, Trouble::kCrashes, 300},
        Case{"DirectOverOverlay", StoreMutant::kDirectOverOverlay, Trouble::kCrashes, 100},
        Case{"ReadPassesDirect", StoreMutant::kReadPassesDirect, Trouble::kCrashes, 200},
        Case{"WritePassesDirect", StoreMutant::kWritePassesDirect, Trouble::kCrashes, 200},
        Case{"MarkNotDurable", StoreMutant::kMarkNotDurable, Trouble::kCrashes, 100},
        Case{"CommitAtApply", StoreMutant::kCommitAtApply, Trouble::kCrashes, 50},
        Case{"WindowNotKept", StoreMutant::kWindowNotKept, Trouble::kCrashes, 50},
        Case{"ClearNotDurable", StoreMutant::kClearNotDurable, Trouble::kCrashes, 100},
        Case{"MapNotSynced", StoreMutant::kMapNotSynced, Trouble::kCrashes, 100},
        Case{"OneMapCopy", StoreMutant::kOneMapCopy, Trouble::kDamage, 300},
        Case{"WritePassesHeld", StoreMutant::kWritePassesHeld, Trouble::kSpace, 200},
        Case{"VitalRefused", StoreMutant::kVitalRefused, Trouble::kSpace, 100}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace hf::store_sim
