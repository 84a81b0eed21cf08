#include "base/crc32c.h"

#include <gtest/gtest.h>

#include "base/bytes.h"

namespace hf {
namespace {

// RFC 3720 B.4 and the check value of the CRC catalogue.
TEST(Crc32c, KnownVectors) {
  EXPECT_EQ(crc32c(as_bytes("123456789")), 0xE3069283u);
  AlignedBuffer zeros = AlignedBuffer::zeroed(32);
  EXPECT_EQ(crc32c(zeros.span()), 0x8A9136AAu);
  std::memset(zeros.data(), 0xff, 32);
  EXPECT_EQ(crc32c(zeros.span()), 0x62A8AB43u);
}

TEST(Crc32c, ExtendEqualsWhole) {
  const std::string_view text = "the quick brown fox jumps over the lazy dog";
  for (size_t cut = 0; cut <= text.size(); ++cut) {
    EXPECT_EQ(crc32c_extend(crc32c(as_bytes(text.substr(0, cut))), as_bytes(text.substr(cut))),
              crc32c(as_bytes(text)));
  }
}

}  // namespace
}  // namespace hf
