// TLS over the real and over the simulated network keeps the contract of streams.
#include <gtest/gtest.h>

#include "auth/testing/test_trust.h"
#include "runtime/contract/network_contract.h"
#include "sim/simulation.h"
#include "uring/real_world_under_test.h"

namespace hf::contract {
namespace {

class SimUnderTest : public WorldUnderTest {
 public:
  explicit SimUnderTest(uint64_t seed) : openssl_(seed), sim_(seed) {
    sim::SimHost& host = sim_.add_host("a");
    host.add_disk("/");
    process_ = std::make_unique<sim::SimProcess>(host);
  }
  World& world() override { return process_->world(); }
  std::string scratch_dir() override { return ""; }
  void run(Task<void> task) override { sim_.run(std::move(task)); }

 private:
  auth::SeededOpenssl openssl_;
  sim::Simulation sim_;
  std::unique_ptr<sim::SimProcess> process_;
};

template <uint64_t seed>
std::unique_ptr<WorldUnderTest> make_sim() {
  return std::make_unique<auth::TlsWorldUnderTest>(std::make_unique<SimUnderTest>(seed));
}
std::unique_ptr<WorldUnderTest> make_real() {
  return std::make_unique<auth::TlsWorldUnderTest>(make_real_world());
}
std::unique_ptr<WorldUnderTest> make_plain_ring() {
  return std::make_unique<auth::TlsWorldUnderTest>(make_plain_ring_world());
}

INSTANTIATE_TEST_SUITE_P(TlsReal, NetworkContract, ::testing::Values(&make_real, &make_plain_ring));
INSTANTIATE_TEST_SUITE_P(TlsSim, NetworkContract,
                         ::testing::Values(&make_sim<1>, &make_sim<2>, &make_sim<3>, &make_sim<4>));

}  // namespace
}  // namespace hf::contract
