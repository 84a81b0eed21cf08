// The store under simulation: many seeds, every one a pool with concurrent clients, crashes and faults.
#include <gtest/gtest.h>

#include <cstdlib>

#include "simulated_store.h"

namespace hf::store_sim {
namespace {

struct Totals {
  sim::ProbeCounts probes;
  uint64_t operations = 0, blocks = 0, lives = 0, corrupt_reads = 0;
};

uint64_t seeds(uint64_t usual) {
  const char* text = std::getenv("HF_STORE_SEEDS");
  return text == nullptr ? usual : std::strtoull(text, nullptr, 10);
}

uint64_t first_seed() {
  const char* text = std::getenv("HF_STORE_FIRST_SEED");
  return text == nullptr ? 1 : std::strtoull(text, nullptr, 10);
}

Totals run_seeds(Trouble trouble, uint64_t count) {
  Totals totals;
  for (uint64_t seed = first_seed(); seed < first_seed() + count; ++seed) {
    const RunResult result = run_seed(seed, trouble);
    if (!result.failure.empty()) {
      ADD_FAILURE() << "seed " << seed << ": " << result.failure;
      break;
    }
    for (const auto& [name, n] : result.probes) totals.probes[name] += n;
    totals.operations += result.operations;
    totals.blocks += result.blocks_checked;
    totals.lives += result.lives;
    totals.corrupt_reads += result.corrupt_reads;
  }
  std::printf("%llu seeds, %llu lives, %llu operations, %llu blocks checked, %llu reads refused as corrupt\n",
              static_cast<unsigned long long>(count), static_cast<unsigned long long>(totals.lives),
              static_cast<unsigned long long>(totals.operations),
              static_cast<unsigned long long>(totals.blocks),
              static_cast<unsigned long long>(totals.corrupt_reads));
  for (const auto& [name, n] : totals.probes) {
    std::printf("  %-40s %llu\n", name.c_str(), static_cast<unsigned long long>(n));
  }
  return totals;
}

TEST(StoreSim, SurvivesCrashes) { run_seeds(Trouble::kCrashes, seeds(500)); }
TEST(StoreSim, SurvivesErrors) { run_seeds(Trouble::kErrors, seeds(250)); }
TEST(StoreSim, NeverLiesAboutDamage) { run_seeds(Trouble::kDamage, seeds(200)); }
TEST(StoreSim, SurvivesAFullDisk) { run_seeds(Trouble::kSpace, seeds(100)); }

TEST(StoreSim, TheSameSeedGivesTheSameHistory) {
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    EXPECT_EQ(run_seed(seed, Trouble::kErrors).hash, run_seed(seed, Trouble::kErrors).hash);
  }
}

}  // namespace
}  // namespace hf::store_sim
