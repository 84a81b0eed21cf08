// The netlink messages to and from the kernel's nbd driver. The driver itself runs in the emulated
// machine (tests/block/block_machine_test.py).
#include <gtest/gtest.h>
#include <linux/genetlink.h>
#include <linux/nbd-netlink.h>
#include <linux/netlink.h>

#include <cstring>
#include <fstream>
#include <iterator>

#include "block/nbd/kernel/netlink.h"

namespace hf::nbdk {
namespace {

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

TEST(NbdNetlink, CorpusHoldsOneOfEachKind) {
  const auto expect_seed = [](const char* name, const std::vector<std::byte>& bytes) {
    std::ifstream in(std::string(HF_BLOCK_DIR "/nbd/kernel/corpus/") + name, std::ios::binary);
    const std::string there((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
    EXPECT_EQ(there, std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()))
        << name;
  };
  expect_seed("answer", answer_bytes(NBD_ATTR_INDEX, 3, 0));
  expect_seed("refused", answer_bytes(NBD_ATTR_INDEX, 3, -EINVAL));
}

}  // namespace
}  // namespace hf::nbdk
