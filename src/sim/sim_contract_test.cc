// The simulated world passes the contract suites, for each of some seeds. (Process is scripted
// here: its contract is about real programs.)
#include <gtest/gtest.h>

#include "runtime/contract/clock_contract.h"
#include "runtime/contract/file_contract.h"
#include "runtime/contract/file_system_contract.h"
#include "runtime/contract/loop_contract.h"
#include "runtime/contract/network_contract.h"
#include "runtime/contract/random_contract.h"
#include "sim/simulation.h"

namespace hf::contract {
namespace {

class SimUnderTest : public WorldUnderTest {
 public:
  SimUnderTest(uint64_t seed, bool reflinks) : sim_(seed), reflinks_(reflinks) {
    sim::SimHost& host = sim_.add_host("a");
    sim::DiskConfig config;
    config.has_reflinks = reflinks;
    host.add_disk("/", std::move(config));
    process_ = std::make_unique<sim::SimProcess>(host);
    sim_.run(prepare());
  }
  World& world() override { return process_->world(); }
  std::string scratch_dir() override { return "/scratch"; }
  void run(Task<void> task) override { sim_.run(std::move(task)); }
  bool has_reflinks() override { return reflinks_; }

 private:
  Task<void> prepare() {
    Status made = co_await process_->world().fs.make_directory("/scratch", 0700);
    HF_ASSERT(made.ok(), "{}", made.error().to_string());
  }
  sim::Simulation sim_;
  const bool reflinks_;
  std::unique_ptr<sim::SimProcess> process_;
};

template <uint64_t seed>
std::unique_ptr<WorldUnderTest> make_sim() {
  return std::make_unique<SimUnderTest>(seed, true);
}
std::unique_ptr<WorldUnderTest> make_plain_sim() {
  return std::make_unique<SimUnderTest>(1, false);
}

const auto kSeeds = ::testing::Values(&make_sim<1>, &make_sim<2>, &make_sim<3>, &make_sim<4>,
                                      &make_sim<5>, &make_sim<6>, &make_sim<7>, &make_sim<8>);

INSTANTIATE_TEST_SUITE_P(Sim, ClockContract, kSeeds);
INSTANTIATE_TEST_SUITE_P(Sim, LoopContract, kSeeds);
INSTANTIATE_TEST_SUITE_P(Sim, BlockingContract, kSeeds);
INSTANTIATE_TEST_SUITE_P(Sim, RandomContract, kSeeds);
INSTANTIATE_TEST_SUITE_P(Sim, NetworkContract, kSeeds);
INSTANTIATE_TEST_SUITE_P(Sim, FileContract, kSeeds);
INSTANTIATE_TEST_SUITE_P(Sim, FileSystemContract, kSeeds);
INSTANTIATE_TEST_SUITE_P(SimWithoutReflinks, FileSystemContract,
                         ::testing::Values(&make_plain_sim));

}  // namespace
}  // namespace hf::contract
