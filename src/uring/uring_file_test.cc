// What the contract suite cannot ask of every world: symbolic links, locks of other programs, many
// operations, full disks, and that the hot path allocates nothing.
#include "uring/uring_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <new>

#include "uring/test_fixture.h"

#if defined(__SANITIZE_THREAD__)
#define HF_OWN_NEW 0
#elif defined(__has_feature)
#define HF_OWN_NEW !__has_feature(thread_sanitizer)  // clang's TSan brings its own
#else
#define HF_OWN_NEW 1
#endif

namespace {
// Counts this thread's allocations by new.
thread_local uint64_t t_allocations = 0;
}  // namespace

#if HF_OWN_NEW
void* operator new(size_t size) {
  ++t_allocations;
  void* memory = std::malloc(size);
  if (memory == nullptr) std::abort();
  return memory;
}
void operator delete(void* memory) noexcept {
  std::free(memory);
}
void operator delete(void* memory, size_t) noexcept {
  std::free(memory);
}
#endif

namespace hf {
namespace {

class UringFileTest : public RealWorldTest {};

Task<void> open_through_link(World& world, std::string link) {
  const OpenOptions options;
  Result<std::unique_ptr<File>> file = co_await world.fs.open(link, options);
  EXPECT_EQ(file.code(), ErrorCode::kInvalidArgument);
  HF_CO_ASSERT(!file.ok());
  EXPECT_NE(file.error().message().find("symbolic link"), std::string::npos);
}
TEST_F(UringFileTest, FollowsNoSymbolicLink) {
  ASSERT_EQ(symlink("/etc/hostname", path("link").c_str()), 0);
  run(open_through_link(world(), path("link")));
}

Task<void> open_what_is_no_file(World& world, std::string path) {
  const OpenOptions options;
  Result<std::unique_ptr<File>> file = co_await world.fs.open(path, options);
  EXPECT_EQ(file.code(), ErrorCode::kInvalidArgument);
}
TEST_F(UringFileTest, OpensFilesAndBlockDevicesOnly) {
  run(open_what_is_no_file(world(), "/dev/null"));
  run(open_what_is_no_file(world(), "/proc"));
}

Task<void> lock_against_flock(World& world, std::string path) {
  Result<std::unique_ptr<File>> file = co_await world.fs.open(path, contract::read_write());
  HF_CO_ASSERT_OK(file);
  {
    const OwnedFd other(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    EXPECT_EQ(flock(other.get(), LOCK_EX), 0);
    EXPECT_EQ((*file)->try_lock().code(), ErrorCode::kLocked);
  }
  EXPECT_TRUE((*file)->try_lock().ok());
}
TEST_F(UringFileTest, LocksAgainstOtherProgramsFlock) {
  run(lock_against_flock(world(), path("f")));
}

constexpr size_t kMany = 3 * UringLoop::kMaxFileOps;

Task<void> write_one(File& file, size_t index, size_t* done) {
  const auto value = static_cast<uint32_t>(index);
  Result<size_t> n = co_await file.write_at(index * sizeof value,
                                            std::as_bytes(std::span<const uint32_t, 1>(&value, 1)));
  EXPECT_TRUE(n.ok());
  ++*done;
}
Task<void> write_many_at_once(World& world, UringLoop& loop, std::string path) {
  Result<std::unique_ptr<File>> file = co_await world.fs.open(path, contract::read_write());
  HF_CO_ASSERT_OK(file);
  Gate gate;
  size_t done = 0;
  for (size_t i = 0; i < kMany; ++i) spawn(gate, write_one(**file, i, &done));
  EXPECT_LE(loop.in_flight(), UringLoop::kMaxFileOps);
  co_await gate.close();
  EXPECT_EQ(done, kMany);
  std::vector<uint32_t> back(kMany);
  Result<size_t> n = co_await (*file)->read_at(0, std::as_writable_bytes(std::span(back)));
  HF_CO_ASSERT_OK(n);
  for (size_t i = 0; i < kMany; ++i) EXPECT_EQ(back[i], i);
}
TEST_F(UringFileTest, MoreOperationsThanTheBoundWaitTheirTurn) {
  run(write_many_at_once(world(), loop(), path("f")));
}

Task<void> hot_path(World& world, std::string path) {
  Result<std::unique_ptr<File>> file = co_await world.fs.open(path, contract::read_write());
  HF_CO_ASSERT_OK(file);
  AlignedBuffer block = AlignedBuffer::zeroed(kBlockSize);
  const ByteSpan segments[] = {block.span(), block.span()};
  // Once for what is set up on first use.
  Result<size_t> n = co_await (*file)->write_many_durable_at(0, segments);
  EXPECT_TRUE(n.ok());
  const uint64_t before = t_allocations;
  EXPECT_TRUE(before > 0 || !HF_OWN_NEW) << "nothing is counted";
  for (int i = 0; i < 100; ++i) {
    n = co_await (*file)->write_durable_at(0, block.span());
    EXPECT_TRUE(n.ok());
    n = co_await (*file)->write_many_durable_at(0, segments);
    EXPECT_TRUE(n.ok());
    n = co_await (*file)->read_at(0, block.span());
    EXPECT_TRUE(n.ok());
  }
  EXPECT_EQ(t_allocations - before, 0u);
}
TEST_F(UringFileTest, ReadsAndDurableWritesAllocateNothing) {
  run(hot_path(world(), path("f")));
}

Task<void> fill_disk(World& world, std::string path) {
  Result<std::unique_ptr<File>> file = co_await world.fs.open(path, contract::read_write());
  HF_CO_ASSERT_OK(file);
  // The first write is cut short by the end of the space; its rest must not be taken for written.
  const std::vector<std::byte> bytes(3 * kMiB);
  const ByteSpan segments[] = {ByteSpan(bytes), ByteSpan(bytes)};
  Result<size_t> n = co_await (*file)->write_many_at(0, segments);
  EXPECT_EQ(n.code(), ErrorCode::kNoSpace);
  n = co_await (*file)->write_at(0, bytes);
  EXPECT_TRUE(n.ok()) << "overwriting takes no space";
  Status gone = co_await world.fs.unlink(path);
  EXPECT_TRUE(gone.ok());
}
TEST_F(UringFileTest, AFullDiskIsNoSpaceAlsoForAWriteCutShort) {
  const std::string dir = path("small");
  ASSERT_EQ(mkdir(dir.c_str(), 0700), 0);
  if (mount("tmpfs", dir.c_str(), "tmpfs", 0, "size=4m") != 0) GTEST_SKIP() << "needs root";
  run(fill_disk(world(), dir + "/f"));
  EXPECT_EQ(umount2(dir.c_str(), MNT_DETACH), 0);
}

Task<void> zero_where_it_cannot(World& world, std::string path) {
  Result<std::unique_ptr<File>> file = co_await world.fs.open(path, contract::read_write());
  HF_CO_ASSERT_OK(file);
  Result<size_t> n = co_await (*file)->zero_range(0, kBlockSize);
  EXPECT_EQ(n.code(), ErrorCode::kMissingFeature);
}
TEST_F(UringFileTest, WhatTheFileSystemCannotIsAMissingFeature) {
  const std::string dir = path("small");
  ASSERT_EQ(mkdir(dir.c_str(), 0700), 0);
  if (mount("tmpfs", dir.c_str(), "tmpfs", 0, "size=4m") != 0) GTEST_SKIP() << "needs root";
  run(zero_where_it_cannot(world(), dir + "/f"));
  EXPECT_EQ(umount2(dir.c_str(), MNT_DETACH), 0);
}

Task<void> sync_what_was_deleted(World& world, std::string path) {
  Result<std::unique_ptr<File>> file = co_await world.fs.open(path, contract::read_write());
  HF_CO_ASSERT_OK(file);
  Status gone = co_await world.fs.unlink(path);
  EXPECT_TRUE(gone.ok());
  Result<size_t> n = co_await (*file)->sync_data();
  EXPECT_TRUE(n.ok());
  (*file)->drop_cache();
}
TEST_F(UringFileTest, AnOpenFileOutlivesItsName) {
  run(sync_what_was_deleted(world(), path("f")));
}

}  // namespace
}  // namespace hf
