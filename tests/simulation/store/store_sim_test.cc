// The store under simulation: many seeds, every one a pool with concurrent clients, crashes and faults.
// Each rare path must have been passed; a run of few seeds (--seeds) does not require that.
#include <gtest/gtest.h>

#include "sim/seed_runner.h"
#include "simulated_store.h"

namespace hf::store_sim {
namespace {

Status one_seed(uint64_t seed, Trouble trouble, sim::ProbeCounts* probes) {
  const RunResult result = run_seed(seed, trouble);
  for (const auto& [name, n] : result.probes) (*probes)[name] += n;
  (*probes)["lives"] += result.lives;
  (*probes)["operations"] += result.operations;
  (*probes)["blocks checked"] += result.blocks_checked;
  (*probes)["reads refused as corrupt"] += result.corrupt_reads;
  if (!result.failure.empty()) return Error(ErrorCode::kInternal, result.failure);
  return Status();
}

void run(const char* name, Trouble trouble, uint64_t count, std::vector<std::string> required) {
  const sim::SeedOptions options = sim::SeedOptions::from_command_line(count);
  const sim::SeedReport report = sim::run_seeds(
      name, options,
      [trouble](uint64_t seed, sim::ProbeCounts* probes) { return one_seed(seed, trouble, probes); });
  ASSERT_TRUE(report.ok()) << report.text();
  std::printf("%llu seeds in %.1f s\n", static_cast<unsigned long long>(report.seeds_run),
              report.seconds);
  for (const auto& [probe, n] : report.probes) {
    std::printf("  %-40s %llu\n", probe.c_str(), static_cast<unsigned long long>(n));
  }
  if (options.count >= count) {
    EXPECT_EQ(sim::require_probes(report.probes, required), "");
  }
}

TEST(StoreSim, SurvivesCrashes) {
  run("StoreSim.SurvivesCrashes", Trouble::kCrashes, 700,
      {"store.ring_wrapped", "store.journal_full", "store.reflink_at_drain", "store.torn_batch",
       "store.restore_blank_segment", "store.record_drained_already", "store.segment_collected",
       "store.segment_evicted", "store.read_again", "store.zero_block_to_hole",
       "store.leftover_removed", "store.unfinished_directory_removed", "store.table_page_doubtful",
       "store.record_of_former_life", "store.delete_finished_at_open", "sim.exported",
       "sim.id_used_again", "sim.block_not_judged", "sim.mixture",
       "store.direct_write", "store.direct_changed_mind",
       "store.head_file_ahead", "store.intent_proven", "store.intent_open", "store.intent_not_whole",
       "store.read_waits_for_direct", "store.write_waits_for_direct",
       "fault:store.small_batch", "fault:store.short_drain"});
}

TEST(StoreSim, SurvivesErrors) {
  run("StoreSim.SurvivesErrors", Trouble::kErrors, 300,
      {"store.drain_no_space", "store.record_drained_already", "store.direct_no_space"});
}

TEST(StoreSim, NeverLiesAboutDamage) {
  run("StoreSim.NeverLiesAboutDamage", Trouble::kDamage, 250,
      {"store.checksum_error", "store.lost_table_write", "store.table_page_doubtful"});
}

TEST(StoreSim, SurvivesAFullDisk) {
  run("StoreSim.SurvivesAFullDisk", Trouble::kSpace, 150,
      {"store.no_space", "store.watermark", "store.small_in_reserve", "store.vital_in_reserve", "store.write_held_back",
       "store.write_waits_for_held", "store.patience_over", "store.room_again", "store.superblock_grows",
       "sim.room_made"});
}

TEST(StoreSim, TheSameSeedGivesTheSameHistory) {
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    EXPECT_EQ(run_seed(seed, Trouble::kErrors).hash, run_seed(seed, Trouble::kErrors).hash);
  }
}

}  // namespace
}  // namespace hf::store_sim
