// The contract suites of files on XFS, the file system of pools, in a mount namespace of their own:
// the mount and its loop device are gone with the process, however it ends.
#include <gtest/gtest.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <unistd.h>

#include <string>

#include "runtime/contract/file_contract.h"
#include "runtime/contract/file_system_contract.h"
#include "uring/real_world_under_test.h"
#include "uring/uring_world.h"

namespace hf::contract {
namespace {

Task<void> run_program(World& world, std::vector<std::string> argv, std::string* problem) {
  Result<CommandResult> result = co_await world.process.run(std::move(argv), 60s);
  if (!result.ok()) {
    *problem = result.error().message();
  } else if (result->exit_status != 0) {
    *problem = result->output;
  }
}

class XfsMount : public ::testing::Environment {
 public:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "mounting needs root";
    ASSERT_EQ(unshare(CLONE_NEWNS), 0);
    ASSERT_EQ(mount("", "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
    ASSERT_NE(mkdtemp(dir_.data()), nullptr);
    Result<std::unique_ptr<UringWorld>> real = UringWorld::create(UringWorldOptions());
    ASSERT_TRUE(real.ok()) << real.error().to_string();
    const std::string image = dir_ + ".img";
    const std::vector<std::vector<std::string>> steps = {
        {"truncate", "-s", "512M", image},
        {"mkfs.xfs", "-q", "-m", "reflink=1", image},
        {"mount", "-o", "loop", image, dir_}};
    for (const std::vector<std::string>& step : steps) {
      std::string problem;
      (*real)->loop().run_until(run_program((*real)->world(), step, &problem));
      // The image lives on through its loop device.
      if (!problem.empty() || &step == &steps.back()) unlink(image.c_str());
      if (!problem.empty()) GTEST_SKIP() << step[0] << ": " << problem;
    }
    setenv("HF_TEST_DIR", dir_.c_str(), 1);
  }
  void TearDown() override {
    umount2(dir_.c_str(), MNT_DETACH);
    rmdir(dir_.c_str());
  }

 private:
  std::string dir_ = "/tmp/hf-xfs-XXXXXX";
};

const auto* const kMount = ::testing::AddGlobalTestEnvironment(new XfsMount());

INSTANTIATE_TEST_SUITE_P(Xfs, FileContract, ::testing::Values(&make_real_world));
INSTANTIATE_TEST_SUITE_P(Xfs, FileSystemContract, ::testing::Values(&make_real_world));

}  // namespace
}  // namespace hf::contract
