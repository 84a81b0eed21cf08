#include "block/fuse/fuse_request.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <vector>

#include "block/fuse/fuse_state.h"
#include "block/fuse/fuse_wire.h"

namespace hf::fuse {
namespace {

constexpr uint64_t kDisk = 1 * kGiB;

template <typename Body>
std::vector<std::byte> message(uint32_t opcode, uint64_t node, const Body& body, size_t extra = 0) {
  std::vector<std::byte> bytes(sizeof(fuse_in_header) + sizeof body + extra);
  fuse_in_header header{};
  header.len = static_cast<uint32_t>(bytes.size());
  header.opcode = opcode;
  header.unique = 42;
  header.nodeid = node;
  std::memcpy(bytes.data(), &header, sizeof header);
  std::memcpy(bytes.data() + sizeof header, &body, sizeof body);
  return bytes;
}

int refused(const std::vector<std::byte>& bytes) {
  Refusal refusal;
  const Result<Request> r = decode_request(bytes, kDisk, &refusal);
  return r.ok() ? refusal.sys_errno : -1;
}

Request decoded(const std::vector<std::byte>& bytes) {
  Refusal refusal;
  const Result<Request> r = decode_request(bytes, kDisk, &refusal);
  EXPECT_TRUE(r.ok());
  EXPECT_EQ(refusal.sys_errno, 0);
  return *r;
}

fuse_write_in write_in(uint64_t offset, uint32_t size) {
  fuse_write_in in{};
  in.offset = offset;
  in.size = size;
  return in;
}

TEST(FuseRequest, Write) {
  const auto bytes = message(FUSE_WRITE, kDiskNode, write_in(4096, 8192), 8192);
  const Request r = decoded(bytes);
  EXPECT_EQ(r.verb, Verb::kWrite);
  EXPECT_EQ(r.offset, 4096u);
  EXPECT_EQ(r.payload.size(), 8192u);
  EXPECT_EQ(r.payload.data(), bytes.data() + kWritePayloadAt);
  EXPECT_FALSE(r.resent);
}

TEST(FuseRequest, WriteOutOfBounds) {
  EXPECT_EQ(refused(message(FUSE_WRITE, kDiskNode, write_in(0, 8192), 8191)), EINVAL);
  EXPECT_EQ(refused(message(FUSE_WRITE, kDiskNode, write_in(kDisk - 4096, 8192), 8192)), ENOSPC);
  EXPECT_EQ(refused(message(FUSE_WRITE, kDiskNode, write_in(UINT64_MAX - 100, 8192), 8192)),
            ENOSPC);
  EXPECT_EQ(refused(message(FUSE_WRITE, kRootNode, write_in(0, 512), 512)), EISDIR);
  EXPECT_EQ(refused(message(FUSE_WRITE, 77, write_in(0, 512), 512)), EISDIR);
  EXPECT_EQ(refused(message(FUSE_WRITE, kDiskNode, uint32_t{0})), EINVAL);
  EXPECT_EQ(refused(message(FUSE_WRITE, kDiskNode, write_in(0, 2 * kMiB), 2 * kMiB)), EINVAL);
}

TEST(FuseRequest, ReadIsShortAtTheEnd) {
  fuse_read_in in{};
  in.offset = kDisk - 100;
  in.size = 4096;
  EXPECT_EQ(decoded(message(FUSE_READ, kDiskNode, in)).length, 100u);
  in.offset = UINT64_MAX;
  EXPECT_EQ(decoded(message(FUSE_READ, kDiskNode, in)).length, 0u);
  in.size = 2 * kMiB;
  EXPECT_EQ(refused(message(FUSE_READ, kDiskNode, in)), EINVAL);
}

TEST(FuseRequest, BrokenHeaders) {
  EXPECT_EQ(refused({}), -1);
  EXPECT_EQ(refused(std::vector<std::byte>(39)), -1);
  auto bytes = message(FUSE_WRITE, kDiskNode, write_in(0, 512), 512);
  bytes.pop_back();
  EXPECT_EQ(refused(bytes), -1);
}

TEST(FuseRequest, Lookup) {
  struct {
    char name[5] = {'d', 'i', 's', 'k', 0};
  } disk;
  EXPECT_EQ(decoded(message(FUSE_LOOKUP, kRootNode, disk)).name, "disk");
  disk.name[4] = 'x';  // no zero
  EXPECT_EQ(refused(message(FUSE_LOOKUP, kRootNode, disk)), EINVAL);
  EXPECT_EQ(refused(message(FUSE_LOOKUP, kDiskNode, char{0})), EINVAL);
  struct {
    char name[300];
  } longer;
  std::memset(longer.name, 'a', sizeof longer.name);
  longer.name[299] = 0;
  EXPECT_EQ(refused(message(FUSE_LOOKUP, kRootNode, longer)), ENAMETOOLONG);
}

TEST(FuseRequest, Fallocate) {
  fuse_fallocate_in in{};
  in.length = 512 * kMiB;
  in.mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
  EXPECT_EQ(decoded(message(FUSE_FALLOCATE, kDiskNode, in)).length, 512 * kMiB);
  in.mode = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;
  EXPECT_EQ(decoded(message(FUSE_FALLOCATE, kDiskNode, in)).verb, Verb::kFallocate);
  in.mode = 0;
  EXPECT_EQ(refused(message(FUSE_FALLOCATE, kDiskNode, in)), EOPNOTSUPP);
  in.mode = FALLOC_FL_COLLAPSE_RANGE;
  EXPECT_EQ(refused(message(FUSE_FALLOCATE, kDiskNode, in)), EOPNOTSUPP);
  in.mode = FALLOC_FL_ZERO_RANGE;
  in.offset = kDisk;
  EXPECT_EQ(refused(message(FUSE_FALLOCATE, kDiskNode, in)), ENOSPC);
}

TEST(FuseRequest, InitTakesOldAndNewForms) {
  fuse_init_in in{};
  in.major = 7;
  in.minor = 45;
  in.flags = FUSE_INIT_EXT | FUSE_MAX_PAGES;
  in.flags2 = static_cast<uint32_t>(kHasResend >> 32);
  EXPECT_NE(decoded(message(FUSE_INIT, 0, in)).flags & kHasResend, 0u);
  in.flags = FUSE_MAX_PAGES;  // flags2 means nothing without INIT_EXT
  EXPECT_EQ(decoded(message(FUSE_INIT, 0, in)).flags & kHasResend, 0u);
  in.minor = 12;
  EXPECT_EQ(refused(message(FUSE_INIT, 0, in)), EPROTO);
}

TEST(FuseRequest, ResentAndUnknown) {
  auto bytes = message(FUSE_GETATTR, kDiskNode, fuse_getattr_in{});
  const uint64_t unique = kUniqueResend | 42;
  std::memcpy(bytes.data() + offsetof(fuse_in_header, unique), &unique, sizeof unique);
  EXPECT_TRUE(decoded(bytes).resent);
  EXPECT_EQ(decoded(bytes).unique, unique);
  EXPECT_EQ(decoded(message(4711, kDiskNode, char{0})).verb, Verb::kUnsupported);
  EXPECT_EQ(decoded(message(FUSE_INTERRUPT, 0, fuse_interrupt_in{})).verb, Verb::kNoReply);
  EXPECT_EQ(refused(message(FUSE_GETATTR, 3, fuse_getattr_in{})), ENOENT);
}

TEST(FuseState, RoundTripAndRefusals) {
  Negotiated agreed;
  agreed.initialised = true;
  agreed.minor = 40;
  agreed.flags = kHasResend | FUSE_MAX_PAGES;
  agreed.max_write = kMaxWrite;
  std::vector<std::byte> bytes = encode_state(agreed, 7);
  const auto back = decode_state(bytes);
  ASSERT_TRUE(back);
  EXPECT_TRUE(back->agreed.can_resend());
  EXPECT_EQ(back->agreed.minor, 40u);
  EXPECT_EQ(back->loop_number, 7);
  EXPECT_EQ(decode_state(encode_state(agreed, -1))->loop_number, -1);
  bytes[0] = std::byte{2};
  EXPECT_FALSE(decode_state(bytes));
  bytes[0] = std::byte{1};
  bytes.pop_back();
  EXPECT_FALSE(decode_state(bytes));
}

// The fuzzer's corpus has one message of each kind, and follows the messages when they change.
TEST(FuseRequest, CorpusHoldsOneOfEachKind) {
  const auto expect_seed = [](const char* name, const std::vector<std::byte>& bytes) {
    std::ifstream in(std::string(HF_BLOCK_DIR "/fuse/corpus/") + name, std::ios::binary);
    const std::string there((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
    EXPECT_EQ(there, std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()))
        << name;
  };
  fuse_init_in init{};
  init.major = 7;
  init.minor = 45;
  init.flags = FUSE_INIT_EXT;
  expect_seed("init", message(FUSE_INIT, 0, init));
  expect_seed("write", message(FUSE_WRITE, kDiskNode, write_in(4096, 64), 64));
  expect_seed("write_short", message(FUSE_WRITE, kDiskNode, write_in(4096, 64), 63));
  expect_seed("write_far", message(FUSE_WRITE, kDiskNode, write_in(UINT64_MAX, 64), 64));
  fuse_read_in read{};
  read.size = 4096;
  expect_seed("read", message(FUSE_READ, kDiskNode, read));
  expect_seed("readdir", message(FUSE_READDIR, kRootNode, read));
  expect_seed("lookup",
              message(FUSE_LOOKUP, kRootNode, std::array<char, 5>{'d', 'i', 's', 'k', 0}));
  fuse_fallocate_in hole{};
  hole.length = UINT64_MAX;
  hole.mode = 3;
  expect_seed("fallocate", message(FUSE_FALLOCATE, kDiskNode, hole));
  fuse_lseek_in seek{};
  seek.whence = SEEK_DATA;
  expect_seed("lseek", message(FUSE_LSEEK, kDiskNode, seek));
  expect_seed("getattr", message(FUSE_GETATTR, kDiskNode, fuse_getattr_in{}));
  expect_seed("fsync", message(FUSE_FSYNC, kDiskNode, fuse_fsync_in{}));
  expect_seed("short_header", std::vector<std::byte>(20));
}

}  // namespace
}  // namespace hf::fuse
