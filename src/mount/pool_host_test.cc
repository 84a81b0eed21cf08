// A pool's directory is one process's: what is refused before anything is attached or mounted.
#include "mount/pool_host.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <unistd.h>

#include <filesystem>

#include "runtime/random.h"
#include "uring/uring_world.h"

namespace hf::mount {
namespace {

class PoolHostClaim : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "a pool's directory must be root's";
    Result<std::unique_ptr<UringWorld>> real = UringWorld::create(UringWorldOptions());
    if (!real.ok()) GTEST_SKIP() << real.error().message();
    real_ = std::move(*real);
    // Not below /tmp: that may be a tmpfs.
    std::string name = "/var/tmp/hf-pool-host-XXXXXX";
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    directory_ = name;
    host_ = std::make_unique<PoolHost>(real_->world(), directory_ + "/run");
    pool_ = new_id<PoolId>(real_->world().random);
  }
  void TearDown() override {
    if (!directory_.empty()) std::filesystem::remove_all(directory_);
  }
  void make_empty(const std::string& name) {
    const OwnedFd fd(::open((directory_ + "/" + name).c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    ASSERT_TRUE(fd.valid());
  }
  // As another process holds it: the lock is that of an open file.
  OwnedFd hold(const std::string& path) {
    OwnedFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    HF_ASSERT(::flock(fd.get(), LOCK_EX | LOCK_NB) == 0, "{}", path);
    return fd;
  }
  Task<void> open(std::string path, ErrorCode* code) {
    Result<PoolStorage> opened = co_await host_->open(pool_, std::move(path));
    *code = opened.code();
  }
  Task<void> make(uint64_t size, Error* error) {
    Result<PoolStorage> made = co_await host_->make(pool_, directory_, size, false);
    if (!made.ok()) *error = made.error();
  }
  ErrorCode opened(std::string path) {
    ErrorCode code = ErrorCode::kOk;
    real_->loop().run_until(open(std::move(path), &code));
    return code;
  }
  Error refused(uint64_t size) {
    Error error(ErrorCode::kInternal, "");
    real_->loop().run_until(make(size, &error));
    return error;
  }

  std::unique_ptr<UringWorld> real_;
  std::unique_ptr<PoolHost> host_;
  std::string directory_;
  PoolId pool_;
};

TEST_F(PoolHostClaim, AHeldDirectoryIsNotOpened) {
  make_empty("pool.img");
  const OwnedFd other = hold(directory_);
  EXPECT_EQ(opened(directory_), ErrorCode::kLocked);
  EXPECT_FALSE(std::filesystem::exists(directory_ + "/run"));
}

// Over NFS the lock of a directory stays on its machine; that of the image does not.
TEST_F(PoolHostClaim, AHeldImageIsNotOpened) {
  make_empty("pool.img");
  const OwnedFd other = hold(directory_ + "/pool.img");
  EXPECT_EQ(opened(directory_), ErrorCode::kLocked);
}

TEST_F(PoolHostClaim, ALinkToItIsNoWayAround) {
  make_empty("pool.img");
  const std::string alias = directory_ + ".alias";
  std::filesystem::create_directory_symlink(directory_, alias);
  const OwnedFd other = hold(directory_);
  EXPECT_EQ(opened(alias), ErrorCode::kInvalidArgument);
  std::filesystem::remove(alias);
}

TEST_F(PoolHostClaim, NoPoolIsMadeInAHeldDirectory) {
  const OwnedFd other = hold(directory_);
  const Error error = refused(0);
  EXPECT_EQ(error.code(), ErrorCode::kLocked) << error.message();
  EXPECT_NE(error.message().find(directory_), std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(directory_ + "/pool.img"));
}

TEST_F(PoolHostClaim, ARefusalLetsGo) {
  EXPECT_EQ(refused(kMiB).code(), ErrorCode::kInvalidArgument);
  const OwnedFd other = hold(directory_);  // asserts
}

}  // namespace
}  // namespace hf::mount
