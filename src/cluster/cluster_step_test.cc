// Every operation of the control plane, disturbed at every one of its steps (testing/sim_steps.h).
#include <gtest/gtest.h>

#include "base/log.h"
#include "base/prng.h"
#include "cluster/testing/sim_steps.h"
#include "sim/seed_runner.h"

namespace hf::cluster {
namespace {

std::string told(const StepCase& c, const std::string& failure) {
  constexpr const char* kFaults[] = {"kill", "reboot", "failure"};
  return fmt::format("{}: {} at step {}{}{}: {}", step_verb_name(c.verb),
                     kFaults[static_cast<size_t>(c.fault)], c.step,
                     c.second_kill > 0 ? fmt::format(", killed again {} steps later", c.second_kill)
                                       : "",
                     c.rest_first ? ", the reconciler first" : "", failure);
}

class ClusterSteps : public ::testing::TestWithParam<size_t> {
 protected:
  ClusterSteps() { set_log_level(LogLevel::kOff); }
  ~ClusterSteps() override { set_log_level(LogLevel::kInfo); }
};

TEST_P(ClusterSteps, EachStepCanFail) {
  StepCase c;
  c.verb = static_cast<StepVerb>(GetParam());
  const StepResult undisturbed = run_step_case(c);
  ASSERT_EQ(undisturbed.failure, "") << step_verb_name(c.verb);
  ASSERT_GT(undisturbed.steps, 3u);
  uint64_t cases = 0;
  for (size_t fault = 0; fault < static_cast<size_t>(StepFault::kCount); ++fault) {
    for (uint64_t step = 1; step <= undisturbed.steps; ++step) {
      for (const bool rest_first : {false, true}) {
        c.fault = static_cast<StepFault>(fault);
        c.step = step;
        c.rest_first = rest_first;
        const StepResult result = run_step_case(c);
        ++cases;
        ASSERT_EQ(result.failure, "") << told(c, result.failure);
      }
    }
  }
  std::printf("%s: %llu steps, %llu cases\n", step_verb_name(c.verb),
              static_cast<unsigned long long>(undisturbed.steps),
              static_cast<unsigned long long>(cases));
}

INSTANTIATE_TEST_SUITE_P(All, ClusterSteps,
                         ::testing::Range<size_t>(0, static_cast<size_t>(StepVerb::kCount)),
                         [](const auto& info) {
                           return std::string(step_verb_name(static_cast<StepVerb>(info.param)));
                         });

TEST(ClusterStepSeeds, TwoCrashesInARow) {
  const sim::SeedOptions options = sim::SeedOptions::from_command_line(2000);
  set_log_level(LogLevel::kOff);
  const sim::SeedReport report = sim::run_seeds(
      "ClusterStepSeeds.TwoCrashesInARow", options,
      [](uint64_t seed, sim::ProbeCounts* probes) {
        Prng prng(seed);
        StepCase c;
        c.verb = static_cast<StepVerb>(prng.below(static_cast<uint64_t>(StepVerb::kCount)));
        c.fault = prng.chance(1, 4) ? StepFault::kReboot : StepFault::kKill;
        c.step = prng.between(1, 40);
        c.second_kill = prng.between(1, 60);
        c.rest_first = prng.chance(1, 2);
        const StepResult result = run_step_case(c);
        for (const auto& [name, count] : result.probes) (*probes)[name] += count;
        return result.failure.empty()
                   ? Status()
                   : Status(Error(ErrorCode::kInternal, told(c, result.failure)));
      });
  set_log_level(LogLevel::kInfo);
  ASSERT_TRUE(report.ok()) << report.text();
  std::printf("%llu seeds in %.1f s\n", static_cast<unsigned long long>(report.seeds_run),
              report.seconds);
}

}  // namespace
}  // namespace hf::cluster
