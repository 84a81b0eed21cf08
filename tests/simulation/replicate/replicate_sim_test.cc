// The replication protocol under simulation: whole clusters, many seeds, each with its own
// troubles.
#include <gtest/gtest.h>

#include "run.h"
#include "sim/seed_runner.h"

namespace hf::replicate_sim {
namespace {

Status one_seed(uint64_t seed, Trouble trouble, sim::ProbeCounts* probes) {
  const RunResult result = run_seed(seed, trouble);
  for (const auto& [name, n] : result.probes) (*probes)[name] += n;
  (*probes)["reads"] += result.reads;
  (*probes)["writes"] += result.writes;
  (*probes)["acknowledged"] += result.acknowledged;
  (*probes)["takeovers"] += result.takeovers;
  if (!result.failure.empty()) return Error(ErrorCode::kInternal, result.failure);
  return Status();
}

void run(const char* name, Trouble trouble, uint64_t count, std::vector<std::string> required) {
  const sim::SeedOptions options = sim::SeedOptions::from_command_line(count);
  const sim::SeedReport report =
      sim::run_seeds(name, options, [trouble](uint64_t seed, sim::ProbeCounts* probes) {
        return one_seed(seed, trouble, probes);
      });
  ASSERT_TRUE(report.ok()) << report.text();
  std::printf("%llu seeds in %.1f s\n", static_cast<unsigned long long>(report.seeds_run),
              report.seconds);
  for (const auto& [probe, n] : report.probes) {
    if (probe.starts_with("store.")) continue;
    std::printf("  %-40s %llu\n", probe.c_str(), static_cast<unsigned long long>(n));
  }
  if (options.count >= count) {
    EXPECT_EQ(sim::require_probes(report.probes, required), "");
  }
}

TEST(ReplicateSim, Calm) {
  run("ReplicateSim.Calm", Trouble::kNone, 3, {});
}
TEST(ReplicateSim, SurvivesCrashes) {
  run("ReplicateSim.SurvivesCrashes", Trouble::kCrashes, 8,
      {"replicate.shrunk", "replicate.joined"});
}
TEST(ReplicateSim, SurvivesTheNetwork) {
  run("ReplicateSim.SurvivesTheNetwork", Trouble::kNetwork, 8, {});
}
TEST(ReplicateSim, SurvivesPauses) {
  run("ReplicateSim.SurvivesPauses", Trouble::kPauses, 6, {});
}
TEST(ReplicateSim, SurvivesTheStateStore) {
  run("ReplicateSim.SurvivesTheStateStore", Trouble::kState, 6, {});
}
TEST(ReplicateSim, SurvivesMoves) {
  run("ReplicateSim.SurvivesMoves", Trouble::kMoves, 6, {});
}
TEST(ReplicateSim, SurvivesEverything) {
  run("ReplicateSim.SurvivesEverything", Trouble::kAll, 10, {});
}

TEST(ReplicateSim, TheSameSeedGivesTheSameHistory) {
  for (uint64_t seed = 1; seed <= 2; ++seed) {
    EXPECT_EQ(run_seed(seed, Trouble::kAll).hash, run_seed(seed, Trouble::kAll).hash);
  }
}

}  // namespace
}  // namespace hf::replicate_sim
