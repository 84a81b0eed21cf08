// Runs a workload over many seeds, in parallel processes, and says how to repeat what failed.
//
//   SeedReport report = run_seeds("Store.SurvivesPowerLoss", SeedOptions::from_command_line(1000),
//                                 [](uint64_t seed, ProbeCounts* probes) { …; return Status(); });
//   EXPECT_TRUE(report.ok()) << report.text();
//
// A seed fails by returning an error, by an assertion (its process dies), or by taking longer than
// kSeedSecondsMax. The report then has a command like
//   build/src/store/store_sim_tests --gtest_filter=Store.SurvivesPowerLoss --seed 77
// which runs that seed alone, in the calling process, for a debugger; HF_SIM_TRACE=1 shows its
// events.
//
// Works in any binary, gtest_main's included: the options are read from the environment and from
// /proc/self/cmdline. Single-threaded callers only (it forks).
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "base/error.h"
#include "sim/fault_plan.h"

namespace hf::sim {

struct SeedOptions {
  uint64_t first = 1;
  uint64_t count = 1000;
  uint64_t minutes = 0;     // > 0: go on with further seeds until then, whatever `count` says
  unsigned jobs = 2;        // processes
  bool in_process = false;  // one seed, no fork
  bool print = true;        // failures and, in long runs, progress to stderr

  // HF_SEEDS, HF_SEED, HF_MINUTES, HF_JOBS; then --seeds N, --seed S, --minutes M, --jobs J, which
  // win. A first seed without a count means that seed alone. A value that is no number stops the
  // process.
  static SeedOptions from_command_line(uint64_t default_count);
};

struct SeedReport {
  std::string name;
  uint64_t seeds_run = 0;
  bool failed = false;
  uint64_t failed_seed = 0;  // the lowest that failed
  std::string failure;
  std::string repeat;  // the command line
  double seconds = 0;
  ProbeCounts probes;  // sums over all seeds
  bool ok() const { return !failed; }
  std::string text() const;
};

// Returns an error for a seed that found a bug. `probes` collects over the seeds of one process.
using SeedWorkload = std::function<Status(uint64_t seed, ProbeCounts* probes)>;

inline constexpr unsigned kSeedSecondsMax = 120;
inline constexpr unsigned kJobsMax = 64;

SeedReport run_seeds(const std::string& name, const SeedOptions& options,
                     const SeedWorkload& workload);

// For binaries that only run seeds (soak): prints the report; the exit code of main.
int run_seeds_main(const std::string& name, uint64_t default_count, const SeedWorkload& workload);

}  // namespace hf::sim
