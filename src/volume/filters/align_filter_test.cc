#include "volume/filters/align_filter.h"

#include <gtest/gtest.h>

#include "base/prng.h"
#include "runtime/test_loop.h"
#include "volume/testing/memory_device.h"

namespace hf {
namespace {

constexpr uint64_t kSize = 16 * kMiB;

// A device that takes a turn of the loop before each operation acts, so that operations overlap in
// time. Keeps the order of overlapping operations by being first come, first served.
class SlowDevice final : public MemoryDevice {
 public:
  using MemoryDevice::MemoryDevice;
  Task<Status> read(uint64_t offset, MutableByteSpan out) override {
    co_await yield();
    co_return co_await MemoryDevice::read(offset, out);
  }
  Task<Status> write(uint64_t offset, ByteSpan data) override {
    co_await yield();
    co_return co_await MemoryDevice::write(offset, data);
  }
  Task<Status> write_zeroes(uint64_t offset, uint64_t length, bool deallocate) override {
    co_await yield();
    co_return co_await MemoryDevice::write_zeroes(offset, length, deallocate);
  }
};

std::vector<std::byte> pattern(size_t size, uint8_t seed) {
  std::vector<std::byte> bytes(size);
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(seed + i * 7);
  return bytes;
}

TEST(AlignFilter, PassesAlignedOperationsThrough) {
  TestLoop loop;
  MemoryDevice device(kSize);
  AlignFilter filter(device);
  const auto data = pattern(8192, 1);
  ASSERT_TRUE(loop.run(filter.write(4096, data)).ok());
  EXPECT_EQ(device.writes, 1u);
  EXPECT_EQ(device.reads, 0u);
}

TEST(AlignFilter, EditsPartialBlocksOnly) {
  TestLoop loop;
  MemoryDevice device(kSize);
  AlignFilter filter(device);
  const auto data = pattern(3 * 4096, 3);
  ASSERT_TRUE(loop.run(filter.write(100, data)).ok());
  EXPECT_EQ(device.reads, 2u);   // first and last block
  EXPECT_EQ(device.writes, 3u);  // both, and the middle
  std::vector<std::byte> back(data.size());
  ASSERT_TRUE(loop.run(filter.read(100, back)).ok());
  EXPECT_EQ(back, data);
  EXPECT_EQ(device.bytes()[99], std::byte{0});
  EXPECT_EQ(device.bytes()[100 + data.size()], std::byte{0});
}

TEST(AlignFilter, SplitsLongOperations) {
  TestLoop loop;
  MemoryDevice device(kSize);
  AlignFilter filter(device);
  const auto data = pattern(9 * kMiB, 9);
  ASSERT_TRUE(loop.run(filter.write(0, data)).ok());
  EXPECT_EQ(device.writes, 3u);
  ASSERT_TRUE(loop.run(filter.discard(0, kSize)).ok());
  EXPECT_EQ(device.discards, 4u);
}

TEST(AlignFilter, RefusesWhatIsOutside) {
  TestLoop loop;
  MemoryDevice device(kSize);
  AlignFilter filter(device);
  std::vector<std::byte> bytes(4096);
  EXPECT_EQ(loop.run(filter.read(kSize - 100, bytes)).code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(loop.run(filter.write(UINT64_MAX - 10, bytes)).code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(loop.run(filter.discard(1, UINT64_MAX)).code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(loop.run(filter.write_zeroes(kSize, 1, true)).code(), ErrorCode::kInvalidArgument);
}

TEST(AlignFilter, PassesErrorsOn) {
  TestLoop loop;
  MemoryDevice device(kSize);
  AlignFilter filter(device);
  device.fail_with = ErrorCode::kIo;
  std::vector<std::byte> bytes(10);
  EXPECT_EQ(loop.run(filter.write(5, bytes)).code(), ErrorCode::kIo);
  device.fail_with = ErrorCode::kOk;
  EXPECT_TRUE(loop.run(filter.write(5, bytes)).ok());
}

TEST(AlignFilter, ClipsExtents) {
  TestLoop loop;
  MemoryDevice device(kSize);
  AlignFilter filter(device);
  ASSERT_TRUE(loop.run(filter.write(4096, pattern(4096, 1))).ok());
  std::vector<BlockExtent> got;
  Gate gate;
  struct Ask {
    static Task<void> ask(AlignFilter& filter, std::vector<BlockExtent>* out) {
      Result<std::vector<BlockExtent>> r = co_await filter.extents(100, 9000, 8);
      *out = *r;
    }
  };
  ASSERT_TRUE(spawn(gate, Ask::ask(filter, &got)));
  loop.run();
  ASSERT_EQ(got.size(), 3u);
  EXPECT_EQ(got[0].offset, 100u);
  EXPECT_EQ(got[0].length, 3996u);
  EXPECT_TRUE(got[0].reads_zero);
  EXPECT_EQ(got[1].length, 4096u);
  EXPECT_TRUE(got[1].allocated);
  EXPECT_EQ(got[2].length, 100u + 9000u - 8192u);
}

// Many overlapping operations at once, any alignment: the outcome is that of running them one after
// the other in the order of their start.
TEST(AlignFilter, OverlappingOperationsKeepTheirOrder) {
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    TestLoop loop;
    SlowDevice device(64 * kKiB);
    AlignFilter filter(device);
    Prng prng(seed);
    std::vector<std::byte> model(64 * kKiB);
    std::vector<std::vector<std::byte>> payloads;
    std::vector<Status> results(200);
    payloads.reserve(200);
    Gate gate;
    for (size_t i = 0; i < 200; ++i) {
      uint64_t offset = prng.next() % (60 * kKiB);
      uint64_t length = 1 + prng.next() % 4000;
      if (prng.next() % 3 == 0) {
        offset = round_down(offset, kBlockSize);
        length = kBlockSize;
      }
      if (prng.next() % 4 == 0) {
        std::fill_n(model.begin() + static_cast<long>(offset), length, std::byte{0});
        ASSERT_TRUE(spawn(gate, TestLoop::keep(filter.write_zeroes(offset, length, true), &results[i])));
      } else {
        payloads.push_back(pattern(length, static_cast<uint8_t>(prng.next())));
        std::copy(payloads.back().begin(), payloads.back().end(),
                  model.begin() + static_cast<long>(offset));
        ASSERT_TRUE(spawn(gate, TestLoop::keep(filter.write(offset, payloads.back()), &results[i])));
      }
    }
    loop.run();
    ASSERT_EQ(gate.inside(), 0u);
    for (const Status& result : results) ASSERT_TRUE(result.ok());
    ASSERT_EQ(device.bytes(), model) << "seed " << seed;
  }
}

}  // namespace
}  // namespace hf
