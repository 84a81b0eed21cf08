// The messages to and from the kernel's nbd driver, and the transmission against a kernel played by
// the test. The driver itself runs in the emulated machine (tests/block/block_machine_test.py).
#include <endian.h>
#include <gtest/gtest.h>
#include <linux/genetlink.h>
#include <linux/nbd-netlink.h>
#include <linux/netlink.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>

#include "base/log.h"
#include "block/nbd/kernel/netlink.h"
#include "block/nbd/kernel/transmission.h"
#include "block/uring_kernel_io.h"
#include "uring/uring_world.h"
#include "volume/filters/align_filter.h"
#include "volume/testing/memory_device.h"

namespace hf::nbdk {
namespace {

std::vector<std::byte> header(uint16_t flags, uint16_t command, uint64_t cookie, uint64_t offset,
                              uint32_t length) {
  std::vector<std::byte> out(kRequestBytes);
  const uint32_t magic = htobe32(kRequestMagic);
  flags = htobe16(flags);
  command = htobe16(command);
  offset = htobe64(offset);
  length = htobe32(length);
  std::memcpy(out.data(), &magic, 4);
  std::memcpy(out.data() + 4, &flags, 2);
  std::memcpy(out.data() + 6, &command, 2);
  std::memcpy(out.data() + 8, &cookie, 8);
  std::memcpy(out.data() + 16, &offset, 8);
  std::memcpy(out.data() + 24, &length, 4);
  return out;
}

TEST(NbdKernelRequest, Decodes) {
  const Result<Request> write = decode_request(header(kFlagFua, 1, 77, 8192, 4096));
  ASSERT_TRUE(write.ok());
  EXPECT_EQ(write->command, Command::kWrite);
  EXPECT_EQ(write->payload(), 4096u);
  EXPECT_EQ(write->offset, 8192u);
  EXPECT_EQ(write->flags, kFlagFua);
  EXPECT_EQ(decode_request(header(0, 4, 1, 0, UINT32_MAX))->payload(), 0u);  // a trim may be long
  EXPECT_EQ(decode_request(header(0, 1, 1, 0, kPayloadMax + 1)).code(), ErrorCode::kProtocol);
  EXPECT_EQ(decode_request(header(0, 5, 1, 0, 0)).code(), ErrorCode::kProtocol);
  auto broken = header(0, 0, 1, 0, 0);
  broken[0] = std::byte{0};
  EXPECT_EQ(decode_request(broken).code(), ErrorCode::kProtocol);
}

// A netlink answer: a message of the family with one attribute, then the acknowledgement.
std::vector<std::byte> answer_bytes(uint16_t type, uint32_t value, int32_t error) {
  Message message(31, 1, 1);
  message.add_u32(type, value);
  std::vector<std::byte> bytes = message.finish();
  nlmsghdr ack{};
  ack.nlmsg_len = NLMSG_HDRLEN + sizeof(nlmsgerr);
  ack.nlmsg_type = NLMSG_ERROR;
  ack.nlmsg_seq = 1;
  const size_t at = bytes.size();
  bytes.resize(at + ack.nlmsg_len);
  std::memcpy(bytes.data() + at, &ack, sizeof ack);
  std::memcpy(bytes.data() + at + NLMSG_HDRLEN, &error, sizeof error);
  return bytes;
}

TEST(NbdNetlink, BuildsNestedAttributes) {
  Message message(31, NBD_CMD_CONNECT, 9);
  message.add_u64(NBD_ATTR_SIZE_BYTES, 1 * kGiB);
  message.add_string(NBD_ATTR_BACKEND_IDENTIFIER, "abc");
  const size_t sockets = message.open_nested(NBD_ATTR_SOCKETS);
  const size_t item = message.open_nested(NBD_SOCK_ITEM);
  message.add_u32(NBD_SOCK_FD, 5);
  message.close_nested(item);
  message.close_nested(sockets);
  const ByteSpan all = message.finish();
  nlmsghdr head;
  std::memcpy(&head, all.data(), sizeof head);
  EXPECT_EQ(head.nlmsg_len, all.size());
  EXPECT_EQ(head.nlmsg_flags, NLM_F_REQUEST | NLM_F_ACK);
  const ByteSpan attributes = all.subspan(NLMSG_HDRLEN + GENL_HDRLEN);
  const auto name = find_attribute(attributes, NBD_ATTR_BACKEND_IDENTIFIER);
  ASSERT_TRUE(name);
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(name->data())), "abc");
  const auto outer = find_attribute(attributes, NBD_ATTR_SOCKETS);
  ASSERT_TRUE(outer);
  const auto inner = find_attribute(*outer, NBD_SOCK_ITEM);
  ASSERT_TRUE(inner);
  const auto fd = find_attribute(*inner, NBD_SOCK_FD);
  ASSERT_TRUE(fd);
  EXPECT_EQ(static_cast<int>((*fd)[0]), 5);
  EXPECT_FALSE(find_attribute(attributes, NBD_ATTR_TIMEOUT));
}

TEST(NbdNetlink, ParsesAnswersAndRefusesBrokenOnes) {
  Answer answer;
  ASSERT_TRUE(parse_answer(answer_bytes(NBD_ATTR_INDEX, 3, -EBUSY), 1, &answer));
  EXPECT_TRUE(answer.acknowledged);
  EXPECT_EQ(answer.sys_errno, EBUSY);
  ASSERT_TRUE(find_attribute(answer.payload, NBD_ATTR_INDEX));
  Answer other;
  ASSERT_TRUE(parse_answer(answer_bytes(NBD_ATTR_INDEX, 3, 0), 2, &other));  // of another request
  EXPECT_FALSE(other.acknowledged);
  auto bytes = answer_bytes(NBD_ATTR_INDEX, 3, 0);
  bytes.resize(bytes.size() - 30);
  EXPECT_FALSE(parse_answer(bytes, 1, &answer));
  EXPECT_FALSE(parse_answer(std::vector<std::byte>(7), 1, &answer));
}

TEST(NbdKernelRequest, CorpusHoldsOneOfEachKind) {
  const auto expect_seed = [](const char* name, const std::vector<std::byte>& bytes) {
    std::ifstream in(std::string(HF_BLOCK_DIR "/nbd/kernel/corpus/") + name, std::ios::binary);
    const std::string there((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
    EXPECT_EQ(there, std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()))
        << name;
  };
  expect_seed("write", header(0, 1, 1, 0, 4096));
  expect_seed("trim", header(0, 4, 1, 0, UINT32_MAX));
  expect_seed("too_long", header(0, 0, 1, 0, UINT32_MAX));
  expect_seed("unknown", header(0, 9, 1, 0, 1));
  expect_seed("answer", answer_bytes(NBD_ATTR_INDEX, 3, 0));
  expect_seed("refused", answer_bytes(NBD_ATTR_INDEX, 3, -EINVAL));
}

class NbdTransmission : public ::testing::Test {
 protected:
  void SetUp() override {
    Result<std::unique_ptr<UringWorld>> real = UringWorld::create(UringWorldOptions());
    ASSERT_TRUE(real.ok()) << real.error().to_string();
    real_ = std::move(*real);
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds_), 0);
  }
  // Sends all of `input`, serves until the end, returns what was answered.
  std::vector<std::byte> talk(const std::vector<std::byte>& input, Transmission::End* end) {
    EXPECT_EQ(send(fds_[0], input.data(), input.size(), 0), static_cast<ssize_t>(input.size()));
    shutdown(fds_[0], SHUT_WR);
    block::UringKernelIo io(real_->loop());
    {
      Transmission connection(io.stream(fds_[1], "test"), "test", filter_, budget_);
      real_->loop().run_until(run(connection, end));
    }
    std::vector<std::byte> out(1 * kMiB);
    size_t used = 0;
    for (;;) {
      const ssize_t n = recv(fds_[0], out.data() + used, out.size() - used, 0);
      if (n <= 0) break;
      used += static_cast<size_t>(n);
    }
    out.resize(used);
    close(fds_[0]);
    EXPECT_EQ(budget_.free_units(), kInFlightBytes / kBlockSize);
    return out;
  }
  static Task<void> run(Transmission& connection, Transmission::End* end) {
    *end = co_await connection.serve();
  }

  std::unique_ptr<UringWorld> real_;
  MemoryDevice device_{16 * kMiB};
  AlignFilter filter_{device_};
  Semaphore budget_{kInFlightBytes / kBlockSize};
  int fds_[2] = {-1, -1};
};

TEST_F(NbdTransmission, WriteThenReadThenGoodbye) {
  std::vector<std::byte> input = header(kFlagFua, 1, 11, 4096, 20000);
  input.resize(input.size() + 20000, std::byte{0x5a});
  const auto bye = header(0, 2, 0, 0, 0);
  input.insert(input.end(), bye.begin(), bye.end());
  Transmission::End end = Transmission::End::kLost;
  const std::vector<std::byte> out = talk(input, &end);
  EXPECT_EQ(end, Transmission::End::kDisconnected);
  EXPECT_EQ(device_.bytes()[4096], std::byte{0x5a});
  EXPECT_EQ(device_.bytes()[4096 + 19999], std::byte{0x5a});
  EXPECT_EQ(device_.bytes()[4096 + 20000], std::byte{0});
}

TEST_F(NbdTransmission, LostConnectionEndsItsOperationsFirst) {
  Transmission::End end = Transmission::End::kDisconnected;
  std::vector<std::byte> input = header(0, 1, 11, 0, 4096);
  input.resize(input.size() + 4096, std::byte{1});
  talk(input, &end);  // no goodbye
  EXPECT_EQ(end, Transmission::End::kLost);
  EXPECT_EQ(device_.writes, 1u);
}

TEST_F(NbdTransmission, GarbageEndsTheConnection) {
  set_log_level(LogLevel::kOff);
  Transmission::End end = Transmission::End::kDisconnected;
  const std::vector<std::byte> out = talk(std::vector<std::byte>(200, std::byte{0x41}), &end);
  set_log_level(LogLevel::kInfo);
  EXPECT_EQ(end, Transmission::End::kLost);
  EXPECT_TRUE(out.empty());
}

TEST_F(NbdTransmission, TruncatedPayloadWritesNothing) {
  Transmission::End end = Transmission::End::kDisconnected;
  std::vector<std::byte> input = header(0, 1, 11, 0, 8192);
  input.resize(input.size() + 5000, std::byte{1});
  talk(input, &end);
  EXPECT_EQ(device_.writes, 0u);
}

}  // namespace
}  // namespace hf::nbdk
