// What a contract test needs of a world: the real one (uring) and the simulated one (sim) each make one.
//
// The suites (file_contract.h, …) are TEST_P on WorldTest. A room runs one against its world by a test
// file of three lines:
//   #include "runtime/contract/file_contract.h"
//   INSTANTIATE_TEST_SUITE_P(Real, FileContract, ::testing::Values(&make_real_world));
// Include each suite in one source file per binary only: it defines its tests.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>

#include "runtime/gate.h"
#include "runtime/task.h"
#include "runtime/world.h"

namespace hf::contract {

class WorldUnderTest {
 public:
  virtual ~WorldUnderTest() = default;
  virtual World& world() = 0;
  // An absolute path of an empty directory, the same for the life of this object, gone with it.
  virtual std::string scratch_dir() = 0;
  // Runs the loop until `task` has ended. Fails the test (and returns) where it does not end in reasonable time.
  virtual void run(Task<void> task) = 0;
  // What the place of scratch_dir() can do; a test that needs more is skipped.
  virtual bool has_direct_io() { return true; }
  virtual bool has_reflinks() { return true; }
  // Where fallocate can make holes and zeroes.
  virtual bool has_holes() { return true; }
  // Where Process runs the programs of a Linux system.
  virtual bool has_programs() { return true; }
};

using WorldFactory = std::unique_ptr<WorldUnderTest> (*)();

class WorldTest : public ::testing::TestWithParam<WorldFactory> {
 protected:
  void SetUp() override { under_test_ = GetParam()(); }
  void TearDown() override { under_test_.reset(); }
  WorldUnderTest& under_test() { return *under_test_; }
  World& world() { return under_test_->world(); }
  std::string path(const std::string& name) { return under_test_->scratch_dir() + "/" + name; }
  void run(Task<void> task) { under_test_->run(std::move(task)); }

 private:
  std::unique_ptr<WorldUnderTest> under_test_;
};

}  // namespace hf::contract
