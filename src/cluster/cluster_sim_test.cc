// Random scenarios by seed (testing/sim_scenario.h). HF_SEEDS, HF_SEED and HF_MINUTES as in src/sim/README.md;
// one seed alone tells its story.
#include <gtest/gtest.h>

#include "base/log.h"
#include "cluster/testing/sim_scenario.h"
#include "sim/seed_runner.h"

namespace hf::cluster {
namespace {

TEST(ClusterSim, WhatWasAcknowledgedHolds) {
  constexpr uint64_t kSeeds = 1200;
  const sim::SeedOptions options = sim::SeedOptions::from_command_line(kSeeds);
  set_log_level(options.in_process ? LogLevel::kInfo : LogLevel::kOff);
  const sim::SeedReport report = sim::run_seeds(
      "ClusterSim.WhatWasAcknowledgedHolds", options,
      [&options](uint64_t seed, sim::ProbeCounts* probes) {
        const ScenarioResult result = run_scenario(seed, options.in_process);
        for (const auto& [name, count] : result.probes) (*probes)[name] += count;
        return result.failure.empty() ? Status()
                                      : Status(Error(ErrorCode::kInternal, result.failure));
      });
  set_log_level(LogLevel::kInfo);
  ASSERT_TRUE(report.ok()) << report.text();
  std::printf("%llu seeds in %.1f s\n", static_cast<unsigned long long>(report.seeds_run),
              report.seconds);
  for (const auto& [probe, n] : report.probes) {
    std::printf("  %-40s %llu\n", probe.c_str(), static_cast<unsigned long long>(n));
  }
  if (options.count < kSeeds) return;
  // The seeds reached the rare paths, or they prove little.
  EXPECT_EQ(sim::require_probes(
                report.probes,
                {"cluster.create_undone", "cluster.attach_undone", "cluster.resize_undone",
                 "cluster.snapshot_undone", "cluster.snapshot_settled", "cluster.counted_down",
                 "cluster.lingering", "cluster.mounted_back", "cluster.stale_holders_only",
                 "cluster.repeated", "cluster.stray_replica", "cluster.lost_replica",
                 "cluster.never_arrived", "cluster.dead_attachment", "cluster.clone_source_left",
                 "state.read_back"}),
            "");
}

TEST(ClusterSim, TheSameSeedGivesTheSameStory) {
  set_log_level(LogLevel::kOff);
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    const ScenarioResult first = run_scenario(seed, false);
    const ScenarioResult again = run_scenario(seed, false);
    EXPECT_EQ(first.failure, again.failure);
    EXPECT_EQ(first.probes, again.probes);
  }
  set_log_level(LogLevel::kInfo);
}

}  // namespace
}  // namespace hf::cluster
