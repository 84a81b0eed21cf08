// For the tests of this room: a real world and a folder that is gone afterwards.
#pragma once

#include <gtest/gtest.h>

#include "runtime/contract/contract_support.h"
#include "uring/real_world_under_test.h"
#include "uring/uring_world.h"

namespace hf {

class RealWorldTest : public ::testing::Test {
 protected:
  RealWorldTest() : world_under_test_(make_real_world()) {}
  World& world() { return world_under_test_->world(); }
  UringLoop& loop() { return static_cast<UringLoop&>(world().loop); }
  std::string path(const std::string& name) {
    return world_under_test_->scratch_dir() + "/" + name;
  }
  void run(Task<void> task) { world_under_test_->run(std::move(task)); }

 private:
  std::unique_ptr<contract::WorldUnderTest> world_under_test_;
};

}  // namespace hf
