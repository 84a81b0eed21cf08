#include "block/nbd/nbd_transmission.h"

#include <gtest/gtest.h>

#include "base/log.h"
#include "base/prng.h"
#include "block/nbd/testing/reply_parser.h"
#include "block/nbd/testing/script_stream.h"
#include "runtime/test_loop.h"
#include "volume/testing/memory_device.h"

namespace hf::nbd {
namespace {

// A session over a script: what the client says is written down first, then served whole.
class NbdTransmission : public ::testing::Test {
 protected:
  NbdTransmission() : device(std::make_shared<MemoryDevice>(8 * kMiB)) {
    options.structured = options.allocation = true;
  }

  void say(const Request& request, ByteSpan payload = {}) {
    append_request(&script, request);
    Out(&script).raw(payload);
    if (request.command != Command::kDisconnect) parser.sent(request);
  }
  void say_goodbye() { say(test_request(Command::kDisconnect, 0, 0, 0)); }
  Task<void> run() {
    Transmission transmission(*stream, byte_granular(device), buffers, options);
    running = &transmission;
    Status status = co_await transmission.run();
    running = nullptr;
    counts = transmission.counts();
    ended = status;
  }
  void start(size_t piece = SIZE_MAX) {
    stream = std::make_unique<ScriptStream>(script, piece);
    spawn(gate, run());
    loop.run();
  }
  std::map<uint64_t, TestReply> replies() {
    const Result<size_t> used = parser.parse(stream->output);
    EXPECT_TRUE(used.ok()) << (used.ok() ? std::string() : used.error().to_string());
    EXPECT_EQ(used.ok() ? *used : 0, stream->output.size());
    return parser.take_done();
  }
  std::map<uint64_t, TestReply> serve(size_t piece = SIZE_MAX) {
    start(piece);
    EXPECT_EQ(gate.inside(), 0u);
    return replies();
  }
  static std::vector<std::byte> pattern(size_t size, uint8_t seed) {
    std::vector<std::byte> bytes(size);
    Prng prng(seed);
    for (std::byte& b : bytes) b = static_cast<std::byte>(prng.next() | 1);
    return bytes;
  }

  TestLoop loop;
  Gate gate;
  BufferPool buffers;
  std::shared_ptr<MemoryDevice> device;
  TransmissionOptions options;
  std::vector<std::byte> script;
  ReplyParser parser;
  std::unique_ptr<ScriptStream> stream;
  Transmission* running = nullptr;
  TransmissionCounts counts;
  Status ended;
};

TEST(NbdMemoryBudget, KeepsEverybodyGoing) {
  constexpr uint64_t kAll = 256 * kMiB;
  MemoryBudget budget(kAll);
  std::vector<std::shared_ptr<MemoryBudget::Share>> stuck;
  for (int i = 0; i < 4; ++i) {
    stuck.push_back(budget.share("pool " + std::to_string(i)));
    EXPECT_EQ(budget.share("pool " + std::to_string(i)), stuck.back());
    while (budget.try_take(*stuck.back(), 1, 4 * kMiB)) {
    }
  }
  EXPECT_EQ(stuck[0]->used(), kAll / 2);
  EXPECT_EQ(stuck[1]->used(), kAll / 4);
  EXPECT_LE(budget.used(), kAll);
  // Another share begins one request of any size; then what is left, and each connection a small one.
  const auto fresh = budget.share("fresh");
  ASSERT_TRUE(budget.try_take(*fresh, 0, kMaxPayload));
  EXPECT_FALSE(budget.try_take(*fresh, 1, kMaxPayload));
  EXPECT_TRUE(budget.try_take(*stuck[0], 0, kBlockSize)) << "of a connection that holds nothing";
  budget.give_back(*stuck[0], kBlockSize);
  budget.give_back(*fresh, kMaxPayload);
  for (const auto& share : stuck) budget.give_back(*share, share->used());
  EXPECT_EQ(budget.used(), 0u);
}

TEST_F(NbdTransmission, ReadsBackWhatItWroteHoweverTheStreamIsCut) {
  const std::vector<std::byte> big = pattern(300 * kKiB, 1), odd = pattern(777, 2);
  say(test_request(Command::kWrite, 1, 4096, 300 * kKiB), big);
  say(test_request(Command::kWrite, 2, 1'000'001, 777), odd);
  say(test_request(Command::kRead, 3, 4096, 300 * kKiB));
  say(test_request(Command::kRead, 4, 1'000'001, 777));
  say_goodbye();
  for (const size_t piece : {SIZE_MAX, size_t{1}, size_t{29}, size_t{4096}}) {
    std::fill(device->bytes().begin(), device->bytes().end(), std::byte{0});
    parser = ReplyParser();
    for (const Request& request : {test_request(Command::kWrite, 1, 4096, 300 * kKiB),
                                   test_request(Command::kWrite, 2, 1'000'001, 777),
                                   test_request(Command::kRead, 3, 4096, 300 * kKiB),
                                   test_request(Command::kRead, 4, 1'000'001, 777)}) {
      parser.sent(request);
    }
    std::map<uint64_t, TestReply> got = serve(piece);
    EXPECT_TRUE(ended.ok());
    EXPECT_EQ(got[3].data, big) << piece;
    EXPECT_EQ(got[4].data, odd) << piece;
  }
  EXPECT_EQ(counts.requests, 4u);
  EXPECT_EQ(counts.bytes_written, 300 * kKiB + 777);
}

TEST_F(NbdTransmission, SimpleRepliesCarryTheSame) {
  options.structured = options.allocation = false;
  const std::vector<std::byte> data = pattern(4096, 3);
  say(test_request(Command::kWrite, 1, 0, 4096), data);
  say(test_request(Command::kRead, 2, 0, 4096));
  say(test_request(Command::kRead, 3, 8 * kMiB, 1));
  say(test_request(Command::kBlockStatus, 4, 0, 4096));
  say_goodbye();
  std::map<uint64_t, TestReply> got = serve();
  EXPECT_EQ(got[2].data, data);
  EXPECT_EQ(got[3].nbd_errno, 22u);
  EXPECT_EQ(got[4].nbd_errno, 22u);
}

TEST_F(NbdTransmission, HolesTravelAsHoles) {
  say(test_request(Command::kWrite, 1, 1 * kMiB, 64 * kKiB), pattern(64 * kKiB, 4));
  say(test_request(Command::kRead, 2, 0, 2 * kMiB));
  say(test_request(Command::kRead, 3, 0, 4096));
  say(test_request(Command::kRead, 4, 0, 2 * kMiB, kFlagDf));
  say_goodbye();
  std::map<uint64_t, TestReply> got = serve();
  EXPECT_EQ(got[2].hole_chunks, 2u);
  EXPECT_EQ(got[2].data_chunks, 1u);
  EXPECT_EQ(got[3].hole_chunks, 1u);
  EXPECT_EQ(got[4].data_chunks, 1u);
  EXPECT_EQ(got[2].data, got[4].data);
  EXPECT_TRUE(std::equal(got[2].data.begin(), got[2].data.end(), device->bytes().begin()));
}

TEST_F(NbdTransmission, BlockStatusTellsHoles) {
  say(test_request(Command::kWrite, 1, 64 * kKiB, 4096), pattern(4096, 5));
  say(test_request(Command::kBlockStatus, 2, 0, 1 * kMiB));
  say(test_request(Command::kBlockStatus, 3, 0, 1 * kMiB, kFlagReqOne));
  say(test_request(Command::kBlockStatus, 4, 64 * kKiB + 100, 50));
  say_goodbye();
  std::map<uint64_t, TestReply> got = serve();
  ASSERT_EQ(got[2].extents.size(), 3u);
  EXPECT_EQ(got[2].extents[0].length, 64 * kKiB);
  EXPECT_EQ(got[2].extents[0].state, kStateHole | kStateZero);
  EXPECT_EQ(got[2].extents[1].length, 4096u);
  EXPECT_EQ(got[2].extents[1].state, 0u);
  ASSERT_EQ(got[3].extents.size(), 1u);
  EXPECT_EQ(got[3].extents[0].length, 64 * kKiB);
  ASSERT_EQ(got[4].extents.size(), 1u);
  EXPECT_EQ(got[4].extents[0].length, 50u);
}

TEST_F(NbdTransmission, FuaFlushesAndOthersDoNot) {
  say(test_request(Command::kWrite, 1, 0, 4096), pattern(4096, 6));
  say(test_request(Command::kWrite, 2, 0, 4096, kFlagFua), pattern(4096, 6));
  say(test_request(Command::kWriteZeroes, 3, 8192, 4096, kFlagFua | kFlagNoHole));
  say(test_request(Command::kTrim, 4, 16384, 4096));
  say(test_request(Command::kFlush, 5, 0, 0));
  say(test_request(Command::kCache, 6, 0, 4096));
  say_goodbye();
  std::map<uint64_t, TestReply> got = serve();
  for (const auto& [cookie, reply] : got) EXPECT_EQ(reply.nbd_errno, 0u) << cookie;
  EXPECT_EQ(got.size(), 6u);
  EXPECT_EQ(device->flushes, 3u);
  EXPECT_EQ(device->discards, 1u);
  EXPECT_EQ(device->zeroes, 1u);
}

TEST_F(NbdTransmission, ErrorsOfTheDeviceAreTold) {
  device->fail_with = ErrorCode::kNoSpace;
  say(test_request(Command::kWrite, 1, 0, 4096), pattern(4096, 7));
  say(test_request(Command::kRead, 2, 0, 1 * kMiB));
  say(test_request(Command::kFlush, 3, 0, 0));
  say_goodbye();
  std::map<uint64_t, TestReply> got = serve();
  EXPECT_EQ(got[1].nbd_errno, 28u);
  EXPECT_EQ(got[1].text, "the test wants it so");
  EXPECT_EQ(got[2].nbd_errno, 28u);
  EXPECT_EQ(got[3].nbd_errno, 28u);
  EXPECT_EQ(counts.failed, 3u);
}

TEST_F(NbdTransmission, TheDataOfARefusedWriteIsPassedOver) {
  options.read_only = true;
  say(test_request(Command::kWrite, 1, 0, 300 * kKiB), pattern(300 * kKiB, 8));
  say(test_request(Command::kRead, 2, 0, 4096));
  say_goodbye();
  std::map<uint64_t, TestReply> got = serve(1000);
  EXPECT_EQ(got[1].nbd_errno, 1u);
  EXPECT_EQ(got[2].nbd_errno, 0u);
  EXPECT_EQ(device->writes, 0u);
}

TEST_F(NbdTransmission, RequestsRunAtTheSameTimeWithinTheBound) {
  device->hold = true;
  const uint64_t asked = Transmission::kRequestsMax + 50;
  for (uint64_t i = 0; i < asked; ++i) say(test_request(Command::kRead, i, i * 4096, 4096));
  say_goodbye();
  start();
  ASSERT_NE(running, nullptr);
  EXPECT_EQ(running->in_progress(), Transmission::kRequestsMax);
  device->release();
  loop.run();
  EXPECT_EQ(gate.inside(), 0u);
  EXPECT_EQ(replies().size(), asked);
  // 32-byte answers that end together travel together.
  EXPECT_LT(stream->writes, asked / 4);
}

TEST_F(NbdTransmission, LargeRequestsAreBoundedByTheirMemory) {
  device = std::make_shared<MemoryDevice>(32 * kMiB);
  device->hold = true;
  for (uint64_t i = 0; i < 5; ++i) say(test_request(Command::kRead, i, 0, kMaxPayload));
  say_goodbye();
  start();
  EXPECT_EQ(running->in_progress(), 2u);
  device->release();
  loop.run();
  EXPECT_EQ(gate.inside(), 0u);
  EXPECT_EQ(replies().size(), 5u);
  EXPECT_LE(buffers.kept_bytes(), BufferPool::kKeptBytesMax);
}

TEST_F(NbdTransmission, BrokenBytesEndTheConnectionAndWhatWasStartedIsAwaited) {
  device->hold = true;
  say(test_request(Command::kRead, 1, 0, 4096));
  Out(&script).text("this is no request, and never was one before");
  start();
  EXPECT_TRUE(stream->is_closed());
  EXPECT_EQ(gate.inside(), 1u) << "an operation of the device is under way";
  device->release();
  loop.run();
  EXPECT_EQ(gate.inside(), 0u);
  EXPECT_EQ(ended.code(), ErrorCode::kProtocol);
}

TEST_F(NbdTransmission, AnEndWithoutGoodbyeIsToldApart) {
  say(test_request(Command::kRead, 1, 0, 4096));
  std::map<uint64_t, TestReply> got = serve();
  EXPECT_EQ(ended.code(), ErrorCode::kClosed);
  EXPECT_EQ(got.size(), 1u) << "a client that closed its side only still gets its answer";
  say(test_request(Command::kWrite, 2, 0, 4096), pattern(100, 9));
  stream.reset();
  start();
  EXPECT_EQ(ended.code(), ErrorCode::kClosed);
  EXPECT_EQ(device->writes, 0u);
}

TEST_F(NbdTransmission, AClientThatTakesNoAnswersLosesTheConnection) {
  say(test_request(Command::kWrite, 1, 0, 4096), pattern(4096, 10));
  say_goodbye();
  stream = std::make_unique<ScriptStream>(script);
  stream->fail_writes = true;
  spawn(gate, run());
  loop.run();
  EXPECT_EQ(gate.inside(), 0u);
  EXPECT_TRUE(stream->is_closed());
  EXPECT_EQ(device->writes, 1u);
}

}  // namespace
}  // namespace hf::nbd
