#include "node/csi_places.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "runtime/test_loop.h"

namespace hf::node {
namespace {

namespace fs = std::filesystem;

// Runs what is submitted at once.
class InlinePool final : public BlockingPool {
 public:
  void submit(std::function<void()> fn, std::function<void()> done) override {
    fn();
    done();
  }
};

class Places : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/hf-places-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    folder_ = name;
  }
  void TearDown() override { fs::remove_all(folder_); }
  std::string at(const std::string& name) const { return folder_ + "/" + name; }
  ErrorCode made(const std::string& path) { return loop_.run(places_.make_directory(path)).code(); }
  ErrorCode cleared(const std::string& path, const std::string& device = "") {
    return loop_.run(places_.clear(path, device)).code();
  }
  ErrorCode shown(const std::string& device, const std::string& path) {
    return loop_.run(places_.show_device(device, path)).code();
  }
  static Task<Status> find(CsiPlaces* places, std::string device, std::vector<std::string>* out) {
    Result<std::vector<std::string>> found = co_await places->shown_at(std::move(device));
    HF_CO_TRY(found);
    *out = *found;
    co_return Status();
  }
  std::vector<std::string> where(const std::string& device) {
    std::vector<std::string> places;
    EXPECT_TRUE(loop_.run(find(&places_, device, &places)).ok());
    return places;
  }

  InlinePool pool_;
  TestLoop loop_;
  CsiPlaces places_{pool_};
  std::string folder_;
};

TEST_F(Places, FoldersComeAndGo) {
  for (int twice = 0; twice < 2; ++twice) EXPECT_EQ(made(at("a")), ErrorCode::kOk);
  EXPECT_TRUE(fs::is_directory(at("a")));
  EXPECT_EQ(made(at("no/b")), ErrorCode::kNotFound);
  std::ofstream(at("file")) << "x";
  EXPECT_EQ(made(at("file")), ErrorCode::kInvalidArgument);
  EXPECT_EQ(cleared(at("file")), ErrorCode::kNotEmpty) << "somebody's data";
  fs::create_directory_symlink(at("a"), at("link"));
  EXPECT_EQ(made(at("link")), ErrorCode::kInvalidArgument) << "a link is not followed";
  EXPECT_EQ(cleared(at("link")), ErrorCode::kInvalidArgument);
  std::ofstream(at("a/inside")) << "x";
  EXPECT_EQ(cleared(at("a")), ErrorCode::kNotEmpty);
  fs::remove(at("a/inside"));
  for (int twice = 0; twice < 2; ++twice) EXPECT_EQ(cleared(at("a")), ErrorCode::kOk);
  EXPECT_FALSE(fs::exists(at("a")));
  EXPECT_EQ(cleared(at("no/b")), ErrorCode::kOk);
}

TEST_F(Places, DevicesAreShownAsFiles) {
  // In a mount namespace of its own, so that nothing is left when the test dies.
  if (::unshare(CLONE_NEWNS) != 0 || ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
    GTEST_SKIP() << "mounts need root";
  }
  const std::string one = at("loop-one"), other = at("loop-other");  // nodes without a device behind them
  if (::mknod(one.c_str(), S_IFBLK | 0600, makedev(259, 1048001)) != 0 ||
      ::mknod(other.c_str(), S_IFBLK | 0600, makedev(259, 1048002)) != 0) {
    GTEST_SKIP() << "device nodes cannot be made here";
  }
  for (int twice = 0; twice < 2; ++twice) EXPECT_EQ(shown(one, at("target")), ErrorCode::kOk);
  struct stat info {};
  ASSERT_EQ(::stat(at("target").c_str(), &info), 0);
  EXPECT_TRUE(S_ISBLK(info.st_mode));
  EXPECT_EQ(info.st_rdev, makedev(259, 1048001));
  EXPECT_EQ(where(one), std::vector<std::string>{at("target")});
  EXPECT_TRUE(where(other).empty());
  EXPECT_EQ(shown(other, at("target")), ErrorCode::kInUse);
  EXPECT_EQ(cleared(at("target"), other), ErrorCode::kInUse) << "another volume's";
  for (int twice = 0; twice < 2; ++twice) EXPECT_EQ(cleared(at("target"), one), ErrorCode::kOk);
  EXPECT_FALSE(fs::exists(at("target")));
  EXPECT_TRUE(where(one).empty());
  // What is somebody else's stays.
  std::ofstream(at("full")) << "x";
  EXPECT_EQ(shown(one, at("full")), ErrorCode::kNotEmpty);
  EXPECT_EQ(shown(at("full"), at("target")), ErrorCode::kInvalidArgument) << "no device";
  EXPECT_EQ(shown(at("gone"), at("target")), ErrorCode::kNotFound);
  fs::create_directory(at("tmpfs"));
  ASSERT_EQ(::mount("none", at("tmpfs").c_str(), "tmpfs", 0, nullptr), 0);
  EXPECT_EQ(cleared(at("tmpfs")), ErrorCode::kInUse);
  EXPECT_EQ(::umount(at("tmpfs").c_str()), 0);
}

}  // namespace
}  // namespace hf::node
