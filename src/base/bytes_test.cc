#include "base/bytes.h"

#include <gtest/gtest.h>

namespace hf {
namespace {

TEST(Bytes, RoundTrip) {
  AlignedBuffer buffer = AlignedBuffer::zeroed(64);
  ByteWriter writer(buffer.span());
  writer.put(uint16_t{0x1234});
  writer.put(uint64_t{0x0123456789abcdef});
  writer.put_bytes(as_bytes("abc"));
  EXPECT_EQ(std::to_integer<int>(buffer.data()[0]), 0x34);
  ByteReader reader(buffer.span());
  EXPECT_EQ(reader.get<uint16_t>(), 0x1234);
  EXPECT_EQ(reader.get<uint64_t>(), 0x0123456789abcdefu);
  EXPECT_EQ(reader.get_bytes(3).size(), 3u);
  EXPECT_FALSE(reader.failed());
}

TEST(Bytes, ReaderFailsForGoodPastTheEnd) {
  const std::byte data[3] = {};
  ByteReader reader{ByteSpan(data)};
  EXPECT_EQ(reader.get<uint32_t>(), 0u);
  EXPECT_TRUE(reader.failed());
  EXPECT_EQ(reader.get<uint8_t>(), 0u);
  EXPECT_TRUE(reader.failed());
  ByteReader huge{ByteSpan(data)};
  EXPECT_TRUE(huge.get_bytes(SIZE_MAX).empty());
  EXPECT_TRUE(huge.failed());
}

TEST(Bytes, AlignedBufferIsAligned) {
  AlignedBuffer buffer(5000);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer.data()) % kBlockSize, 0u);
  AlignedBuffer moved = std::move(buffer);
  EXPECT_EQ(moved.size(), 5000u);
  EXPECT_TRUE(buffer.empty());
}

TEST(Bytes, AllZero) {
  AlignedBuffer buffer = AlignedBuffer::zeroed(4096);
  EXPECT_TRUE(all_zero(buffer.span()));
  buffer.data()[4095] = std::byte{1};
  EXPECT_FALSE(all_zero(buffer.span()));
  EXPECT_TRUE(all_zero({}));
}

}  // namespace
}  // namespace hf
