#include "block/nbd/nbd_protocol.h"

#include <gtest/gtest.h>

#include "block/nbd/testing/reply_parser.h"

namespace hf::nbd {
namespace {

std::vector<std::byte> request_bytes(const Request& request) {
  std::vector<std::byte> bytes;
  append_request(&bytes, request);
  return bytes;
}

TEST(NbdProtocol, ARequestIsReadAsItWasWritten) {
  const Request sent = test_request(Command::kWrite, 0x0123456789abcdef, 1 << 20, 4096, kFlagFua);
  const Result<Request> got = decode_request(request_bytes(sent));
  ASSERT_TRUE(got.ok());
  EXPECT_EQ(got->command, Command::kWrite);
  EXPECT_EQ(got->cookie, sent.cookie);
  EXPECT_EQ(got->offset, sent.offset);
  EXPECT_EQ(got->length, sent.length);
  EXPECT_EQ(got->flags, sent.flags);
  EXPECT_EQ(got->payload(), 4096u);
}

TEST(NbdProtocol, WhatIsNoRequestEndsTheConnection) {
  std::vector<std::byte> bytes = request_bytes(test_request(Command::kRead, 1, 0, 1));
  bytes[0] ^= std::byte{1};
  EXPECT_EQ(decode_request(bytes).code(), ErrorCode::kProtocol);
  EXPECT_EQ(
      decode_request(request_bytes(test_request(Command::kWrite, 1, 0, kMaxPayload + 1))).code(),
      ErrorCode::kProtocol);
  EXPECT_TRUE(decode_request(request_bytes(test_request(Command::kWrite, 1, 0, kMaxPayload))).ok());
  // A length that is not that of a payload has no such bound.
  EXPECT_TRUE(decode_request(request_bytes(test_request(Command::kTrim, 1, 0, UINT32_MAX))).ok());
}

struct Judged {
  Command command;
  uint64_t offset;
  uint32_t length;
  uint16_t flags;
  uint32_t nbd_errno;
};

void expect_judged(const Rules& rules, std::initializer_list<Judged> rows) {
  for (const Judged& row : rows) {
    const Request request = test_request(row.command, 1, row.offset, row.length, row.flags);
    EXPECT_EQ(judge(request, rules).nbd_errno, row.nbd_errno)
        << static_cast<int>(row.command) << " at " << row.offset << " for " << row.length
        << " flags " << row.flags;
  }
}

TEST(NbdProtocol, RequestsOutsideTheExportAreRefusedAsTheProtocolSays) {
  Rules rules;
  rules.size = 1 * kMiB;
  rules.structured = rules.allocation = true;
  expect_judged(rules, {
                           {Command::kRead, 0, 1 * kMiB, 0, 0},
                           {Command::kRead, 1, 1 * kMiB, 0, 22},
                           {Command::kRead, UINT64_MAX, 2, 0, 22},
                           {Command::kRead, UINT64_MAX - 1, 2, 0, 22},
                           {Command::kRead, 1 * kMiB, 0, 0, 0},
                           {Command::kWrite, 1 * kMiB, 1, 0, 28},
                           {Command::kWriteZeroes, 0, UINT32_MAX, 0, 28},
                           {Command::kTrim, 4096, 1 * kMiB, 0, 22},
                           {Command::kCache, 4096, 1 * kMiB, 0, 22},
                           {Command::kBlockStatus, 4096, 1 * kMiB, 0, 22},
                           {Command::kFlush, 0, 0, 0, 0},
                           {static_cast<Command>(8), 0, 0, 0, 22},
                           {static_cast<Command>(0xffff), 0, 0, 0, 22},
                       });
}

TEST(NbdProtocol, FlagsAreAllowedOnlyWhereTheyMean) {
  Rules rules;
  rules.size = 1 * kMiB;
  rules.structured = rules.allocation = true;
  expect_judged(rules, {
                           {Command::kRead, 0, 4096, kFlagFua, 0},
                           {Command::kRead, 0, 4096, kFlagDf, 0},
                           {Command::kRead, 0, 4096, kFlagNoHole, 22},
                           {Command::kWrite, 0, 4096, kFlagFua, 0},
                           {Command::kWrite, 0, 4096, kFlagDf, 22},
                           {Command::kWrite, 0, 4096, 1 << 5, 22},
                           {Command::kTrim, 0, 4096, kFlagNoHole, 22},
                           {Command::kWriteZeroes, 0, 4096, kFlagNoHole | kFlagFua, 0},
                           {Command::kWriteZeroes, 0, 4096, kFlagFastZero, 0},
                           {Command::kWriteZeroes, 0, 4096, kFlagFastZero | kFlagNoHole, 95},
                           {Command::kWriteZeroes, 512, 4096, kFlagFastZero, 95},
                           {Command::kBlockStatus, 0, 4096, kFlagReqOne, 0},
                           {Command::kBlockStatus, 0, 0, 0, 22},
                           {Command::kFlush, 0, 0, kFlagFua, 0},
                           {Command::kCache, 0, 4096, kFlagReqOne, 22},
                       });
  rules.structured = rules.allocation = false;
  expect_judged(rules,
                {{Command::kRead, 0, 4096, kFlagDf, 22}, {Command::kBlockStatus, 0, 4096, 0, 22}});
}

TEST(NbdProtocol, AReadOnlyExportIsNotChanged) {
  Rules rules;
  rules.size = 64 * kMiB;
  rules.read_only = true;
  expect_judged(rules, {
                           {Command::kWrite, 0, 4096, 0, 1},
                           {Command::kTrim, 0, 4096, 0, 1},
                           {Command::kWriteZeroes, 0, 4096, 0, 1},
                           {Command::kFlush, 0, 0, 0, 0},
                           {Command::kRead, 0, kMaxPayload, 0, 0},
                           {Command::kRead, 0, kMaxPayload + 1, 0, 22},
                       });
  rules.structured = true;
  expect_judged(rules, {{Command::kRead, 0, kMaxPayload + 1, 0, kErrnoOverflow}});
  EXPECT_NE(transmission_flags(true, false) & kReadOnlyExport, 0);
  EXPECT_EQ(transmission_flags(true, true) & (kSendTrim | kSendWriteZeroes | kSendFastZero), 0);
  EXPECT_EQ(transmission_flags(false, false) & kSendDf, 0);
}

TEST(NbdProtocol, RepliesAreOfTheSizesThatTheProtocolGives) {
  std::vector<std::byte> out;
  append_simple_reply(&out, 7, 5);
  EXPECT_EQ(out.size(), 16u);
  EXPECT_EQ(big_endian(out, 0, 4), kSimpleReplyMagic);
  EXPECT_EQ(big_endian(out, 4, 4), 5u);
  EXPECT_EQ(big_endian(out, 8, 8), 7u);
  out.clear();
  append_data_chunk(&out, 7, true, 4096, 512);
  EXPECT_EQ(out.size(), 28u);
  EXPECT_EQ(big_endian(out, 16, 4), 520u);
  out.clear();
  append_hole_chunk(&out, 7, false, 4096, 512);
  EXPECT_EQ(out.size(), kReplyHeadMax);
  out.clear();
  append_error_chunk(&out, 7, 5, std::string(5000, 'x'));
  EXPECT_EQ(out.size(), 20 + 6 + kErrorTextMax);
}

TEST(NbdProtocol, StrangeTextIsFitForALogLine) {
  EXPECT_EQ(printable("pg\n\x1b[2J\xff"), "pg??[2J?");
  EXPECT_EQ(printable(std::string(100, 'a')), std::string(64, 'a') + "...");
}

}  // namespace
}  // namespace hf::nbd
