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
  run("ReplicateSim.Calm", Trouble::kNone, 50, {"replicate.activated"});
}
TEST(ReplicateSim, SurvivesCrashes) {
  run("ReplicateSim.SurvivesCrashes", Trouble::kCrashes, 350, {"replicate.joined"});
}
TEST(ReplicateSim, SurvivesTheNetwork) {
  run("ReplicateSim.SurvivesTheNetwork", Trouble::kNetwork, 350,
      {"replicate.member_returned", "replicate.read_waits_for_lease"});
}
TEST(ReplicateSim, SurvivesPauses) {
  run("ReplicateSim.SurvivesPauses", Trouble::kPauses, 250, {"replicate.fenced"});
}
TEST(ReplicateSim, SurvivesTheStateStore) {
  run("ReplicateSim.SurvivesTheStateStore", Trouble::kState, 300, {"state.read_back"});
}
TEST(ReplicateSim, SurvivesMoves) {
  run("ReplicateSim.SurvivesMoves", Trouble::kMoves, 250, {"replicate.lease_left"});
}
TEST(ReplicateSim, SurvivesDisks) {
  run("ReplicateSim.SurvivesDisks", Trouble::kDisks, 350,
      {"replicate.stuck_dropped", "replicate.shrunk", "replicate.resync_cut_short"});
}

// The rare paths of the protocol. Not here: replicate.read_repair, of which replicate_step_tests
// has the one test, since damage at rest is not among these troubles.
TEST(ReplicateSim, SurvivesEverything) {
  run("ReplicateSim.SurvivesEverything", Trouble::kAll, 1000,
      {"replicate.claimed",               // an epoch begins
       "replicate.member_fenced",         //
       "replicate.fence_drains",          // while an older session still carries something
       "replicate.lease_left",            // the leases of the old epoch are waited for
       "replicate.reconciles",            // the union of the windows is not empty
       "replicate.reconciled_chunk",      //
       "replicate.activated",             //
       "replicate.fenced",                // a coordinator learns that its epoch is over
       "replicate.member_lost",           //
       "replicate.member_returned",       // within 0.2 s, and stays in sync
       "replicate.shrunk",                //
       "replicate.resent",                // with writes in flight
       "replicate.resync_begins",         //
       "replicate.resync_chunk",          //
       "replicate.resync_cut_short",      //
       "replicate.maps_inherited",        //
       "replicate.joiner_mandatory",      // before the compare-and-set
       "replicate.joined",                //
       "state.read_back",                 // the answer of a compare-and-set was lost
       "replicate.read_waits_for_write",  //
       "replicate.read_waits_for_lease",
       "replicate.read_waits_for_member",
       "fault:replicate.impatient",
       "fault:replicate.no_return",
       "sim.differing_blocks"});  // I7 had something to say no to
}

// Members come and go while all of that happens.
TEST(ReplicateSim, SurvivesChangesOfMembers) {
  run("ReplicateSim.SurvivesChangesOfMembers", Trouble::kMembers, 500,
      {"replicate.member_added",       //
       "replicate.member_removed",     //
       "replicate.whole_copy",         //
       "replicate.members_not_known",  // given up while the state store was away
       "replicate.members_settled",    //
       "replicate.joined",             //
       "sim.scrubs",                   // which find nothing
       "fault:replicate.impatient_members", "sim.member_changes"});
}

TEST(ReplicateSim, TheSameSeedGivesTheSameHistory) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    EXPECT_EQ(run_seed(seed, Trouble::kAll).hash, run_seed(seed, Trouble::kAll).hash);
  }
}

}  // namespace
}  // namespace hf::replicate_sim
