// The session against a kernel played by the test: a SOCK_SEQPACKET pair keeps messages whole, as
// /dev/fuse does.
#include "block/fuse/fuse_session.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <functional>

#include "block/fuse/fuse_wire.h"
#include "block/uring_kernel_io.h"
#include "uring/uring_world.h"
#include "volume/testing/memory_device.h"

namespace hf::fuse {
namespace {

constexpr uint64_t kDisk = 16 * kMiB;

struct Reply {
  int error = 0;
  uint64_t unique = 0;
  std::vector<std::byte> body;
};

class FuseSession : public ::testing::Test {
 protected:
  void SetUp() override {
    Result<std::unique_ptr<UringWorld>> real = UringWorld::create(UringWorldOptions());
    ASSERT_TRUE(real.ok()) << real.error().to_string();
    real_ = std::move(*real);
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds_), 0);
    int size = 4 * kMiB;
    setsockopt(fds_[0], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size);
    setsockopt(fds_[1], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size);
    fcntl(fds_[1], F_SETFL, O_NONBLOCK);
    io_ = std::make_unique<block::UringKernelIo>(real_->loop());
    session_ = std::make_unique<Session>(*io_, buffers_, fds_[1], "test", device_);
    in_loop([this] { session_->start(); });
  }
  static Task<void> call(const std::function<void()>& fn) {
    fn();
    co_return;
  }
  void in_loop(const std::function<void()>& fn) { real_->loop().run_until(call(fn)); }
  void release() {
    in_loop([this] { device_.release(); });
  }
  void TearDown() override {
    if (real_ == nullptr) return;
    release();
    real_->loop().run_until(session_->stop());
    session_.reset();
    io_.reset();
    real_.reset();
    close(fds_[0]);
    close(fds_[1]);
  }

  template <typename Body>
  void ask(uint32_t opcode, uint64_t unique, uint64_t node, const Body& body,
           ByteSpan payload = {}) {
    std::vector<std::byte> bytes(sizeof(fuse_in_header) + sizeof body + payload.size());
    fuse_in_header header{};
    header.len = static_cast<uint32_t>(bytes.size());
    header.opcode = opcode;
    header.unique = unique;
    header.nodeid = node;
    std::memcpy(bytes.data(), &header, sizeof header);
    std::memcpy(bytes.data() + sizeof header, &body, sizeof body);
    if (!payload.empty())
      std::memcpy(bytes.data() + sizeof header + sizeof body, payload.data(), payload.size());
    ASSERT_EQ(send(fds_[0], bytes.data(), bytes.size(), 0), static_cast<ssize_t>(bytes.size()));
  }
  static Task<void> nap(World& world) {
    Status slept = co_await world.clock.sleep_for(1ms, CancelToken());
    (void)slept;
  }
  // Runs the loop until a reply is there; an error of 9999 when none comes within a minute.
  Reply answer() {
    Reply reply;
    std::vector<std::byte> bytes(2 * kMiB);
    for (int i = 0; i < 60'000; ++i) {
      const ssize_t n = recv(fds_[0], bytes.data(), bytes.size(), MSG_DONTWAIT);
      if (n >= static_cast<ssize_t>(sizeof(fuse_out_header))) {
        fuse_out_header header;
        std::memcpy(&header, bytes.data(), sizeof header);
        EXPECT_EQ(header.len, static_cast<uint32_t>(n));
        reply.error = -header.error;
        reply.unique = header.unique;
        reply.body.assign(bytes.begin() + sizeof header, bytes.begin() + n);
        return reply;
      }
      real_->loop().run_until(nap(real_->world()));
    }
    reply.error = 9999;
    return reply;
  }
  bool silent() {
    std::byte byte;
    for (int i = 0; i < 20; ++i) real_->loop().run_until(nap(real_->world()));
    return recv(fds_[0], &byte, 1, MSG_DONTWAIT | MSG_PEEK) < 0;
  }
  static fuse_write_in write_in(uint64_t offset, uint32_t size) {
    fuse_write_in in{};
    in.offset = offset;
    in.size = size;
    return in;
  }

  std::unique_ptr<UringWorld> real_;
  MemoryDevice device_{kDisk};
  Buffers buffers_;
  int fds_[2] = {-1, -1};
  std::unique_ptr<block::UringKernelIo> io_;
  std::unique_ptr<Session> session_;
};

TEST_F(FuseSession, InitAgreesOnWhatBothKnow) {
  fuse_init_in in{};
  in.major = 7;
  in.minor = 45;
  in.flags = 0xffffffff;
  in.flags2 = 0xffffffff;
  ask(FUSE_INIT, 1, 0, in);
  const Reply reply = answer();
  ASSERT_EQ(reply.error, 0);
  fuse_init_out out;
  ASSERT_EQ(reply.body.size(), sizeof out);
  std::memcpy(&out, reply.body.data(), sizeof out);
  EXPECT_EQ(out.minor, kMinorMax);
  EXPECT_EQ(out.max_write, kMaxWrite);
  EXPECT_EQ(out.flags & (FUSE_WRITEBACK_CACHE | FUSE_SPLICE_WRITE), 0u);
  EXPECT_TRUE(session_->negotiated().can_resend());
}

TEST_F(FuseSession, WritesAndReadsBack) {
  std::vector<std::byte> data(kMaxWrite);
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::byte>(i * 31);
  for (const uint32_t size : {512u, 4096u, 5000u, 65536u, static_cast<uint32_t>(kMaxWrite)}) {
    ask(FUSE_WRITE, 10, kDiskNode, write_in(8192, size), ByteSpan(data).first(size));
    Reply reply = answer();
    ASSERT_EQ(reply.error, 0) << size;
    fuse_read_in in{};
    in.offset = 8192;
    in.size = size;
    ask(FUSE_READ, 11, kDiskNode, in);
    reply = answer();
    ASSERT_EQ(reply.error, 0);
    EXPECT_EQ(reply.unique, 11u);
    ASSERT_EQ(reply.body.size(), size);
    EXPECT_EQ(std::memcmp(reply.body.data(), data.data(), size), 0);
  }
  EXPECT_LE(buffers_.resident_bytes(), 4 * kMiB);
}

TEST_F(FuseSession, ServesManyAtOnceAndMirrorsTheResendBit) {
  device_.hold = true;
  const std::vector<std::byte> data(4096, std::byte{7});
  for (uint64_t i = 0; i < 50; ++i) {
    ask(FUSE_WRITE, kUniqueResend | (100 + i), kDiskNode, write_in(i * 4096, 4096), data);
  }
  EXPECT_TRUE(silent());
  release();
  std::vector<bool> seen(50, false);
  for (int i = 0; i < 50; ++i) {
    const Reply reply = answer();
    ASSERT_EQ(reply.error, 0);
    ASSERT_NE(reply.unique & kUniqueResend, 0u);
    seen[(reply.unique & ~kUniqueResend) - 100] = true;
  }
  EXPECT_EQ(std::count(seen.begin(), seen.end(), true), 50);
  EXPECT_EQ(session_->counters().resent, 50u);
}

// Found by ten volumes that came at once: a helper that was being started closed the disk of another volume, and waited
// for the loop that was starting it.
TEST_F(FuseSession, NoCloseWaitsForTheServer) {
  ask(FUSE_OPEN, 1, kDiskNode, fuse_open_in{});
  const Reply reply = answer();
  ASSERT_EQ(reply.error, 0);
  fuse_open_out out{};
  ASSERT_GE(reply.body.size(), sizeof out);
  std::memcpy(&out, reply.body.data(), sizeof out);
  EXPECT_NE(out.open_flags & FOPEN_NOFLUSH, 0u);
}

TEST_F(FuseSession, FlushHoleZeroAndSeek) {
  ask(FUSE_WRITE, 1, kDiskNode, write_in(0, 8192), std::vector<std::byte>(8192, std::byte{1}));
  ASSERT_EQ(answer().error, 0);
  ask(FUSE_FSYNC, 2, kDiskNode, fuse_fsync_in{});
  ASSERT_EQ(answer().error, 0);
  EXPECT_EQ(device_.flushes, 1u);
  fuse_fallocate_in hole{};
  hole.length = 4096;
  hole.mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
  ask(FUSE_FALLOCATE, 3, kDiskNode, hole);
  ASSERT_EQ(answer().error, 0);
  EXPECT_EQ(device_.discards, 1u);
  hole.mode = FALLOC_FL_ZERO_RANGE;
  hole.offset = kMiB;
  hole.length = 10 * kMiB;  // longer than one operation of the device
  ask(FUSE_FALLOCATE, 4, kDiskNode, hole);
  ASSERT_EQ(answer().error, 0);
  EXPECT_EQ(device_.zeroes, 3u);
  fuse_lseek_in seek{};
  seek.whence = SEEK_DATA;
  ask(FUSE_LSEEK, 5, kDiskNode, seek);
  Reply reply = answer();
  ASSERT_EQ(reply.error, 0);
  uint64_t at = 0;
  std::memcpy(&at, reply.body.data(), sizeof at);
  EXPECT_EQ(at, 4096u);
  seek.whence = SEEK_HOLE;
  seek.offset = 4096;
  ask(FUSE_LSEEK, 6, kDiskNode, seek);
  reply = answer();
  std::memcpy(&at, reply.body.data(), sizeof at);
  EXPECT_EQ(at, 8192u);
  seek.whence = SEEK_DATA;
  seek.offset = 12 * kMiB;
  ask(FUSE_LSEEK, 7, kDiskNode, seek);
  EXPECT_EQ(answer().error, ENXIO);
}

TEST_F(FuseSession, ErrorsReachTheClientAsErrno) {
  device_.fail_with = ErrorCode::kNoSpace;
  ask(FUSE_WRITE, 1, kDiskNode, write_in(0, 4096), std::vector<std::byte>(4096));
  EXPECT_EQ(answer().error, ENOSPC);
  device_.fail_with = ErrorCode::kCorruption;
  fuse_read_in in{};
  in.size = 4096;
  ask(FUSE_READ, 2, kDiskNode, in);
  EXPECT_EQ(answer().error, EIO);
  ask(FUSE_GETXATTR, 3, kDiskNode, fuse_getxattr_in{});
  EXPECT_EQ(answer().error, ENOSYS);
  ask(FUSE_SETATTR, 4, kDiskNode, fuse_setattr_in{});
  EXPECT_EQ(answer().error, EPERM);
  ask(FUSE_FORGET, 5, kDiskNode, fuse_forget_in{});
  EXPECT_TRUE(silent());
}

Task<void> stop_session(Session& session, bool* stopped) {
  co_await session.stop();
  *stopped = true;
}

TEST_F(FuseSession, StopAnswersWhatIsInFlightAndLeavesTheRest) {
  device_.hold = true;
  ask(FUSE_WRITE, 1, kDiskNode, write_in(0, 4096), std::vector<std::byte>(4096));
  EXPECT_TRUE(silent());
  Gate gate;
  bool stopped = false;
  in_loop([&] { ASSERT_TRUE(spawn(gate, stop_session(*session_, &stopped))); });
  EXPECT_TRUE(silent());
  EXPECT_FALSE(stopped);  // it waits for the write
  release();
  EXPECT_EQ(answer().error, 0);
  for (int i = 0; i < 60'000 && !stopped; ++i) real_->loop().run_until(nap(real_->world()));
  EXPECT_TRUE(stopped);
  ask(FUSE_GETATTR, 2, kDiskNode, fuse_getattr_in{});
  EXPECT_TRUE(silent());
  std::byte byte;
  EXPECT_GT(recv(fds_[1], &byte, 1, MSG_DONTWAIT | MSG_PEEK), 0);  // waits for the next server
}

// Else whoever looks at the loop device (losetup -a) would wait for a daemon that is away.
TEST_F(FuseSession, LetsTheKernelKeepNamesAndAttributesForEver) {
  constexpr uint64_t kTenYears = uint64_t{10} * 365 * 24 * 3600;
  ask(FUSE_GETATTR, 1, kDiskNode, fuse_getattr_in{});
  const Reply attr = answer();
  ASSERT_EQ(attr.body.size(), sizeof(fuse_attr_out));
  fuse_attr_out attr_out;
  std::memcpy(&attr_out, attr.body.data(), sizeof attr_out);
  EXPECT_GT(attr_out.attr_valid, kTenYears);
  EXPECT_EQ(attr_out.attr.size, kDisk);
  char name[8] = "disk";
  fuse_in_header header{};
  std::vector<std::byte> bytes(sizeof header + 5);
  header.len = static_cast<uint32_t>(bytes.size());
  header.opcode = FUSE_LOOKUP;
  header.unique = 2;
  header.nodeid = kRootNode;
  std::memcpy(bytes.data(), &header, sizeof header);
  std::memcpy(bytes.data() + sizeof header, name, 5);
  ASSERT_EQ(::send(fds_[0], bytes.data(), bytes.size(), 0), static_cast<ssize_t>(bytes.size()));
  const Reply entry = answer();
  ASSERT_EQ(entry.body.size(), sizeof(fuse_entry_out));
  fuse_entry_out entry_out;
  std::memcpy(&entry_out, entry.body.data(), sizeof entry_out);
  EXPECT_GT(entry_out.attr_valid, kTenYears);
  EXPECT_GT(entry_out.entry_valid, kTenYears);
}

}  // namespace
}  // namespace hf::fuse
