#include "base/units.h"

#include <gtest/gtest.h>

namespace hf {
namespace {

TEST(Units, ParsesSizes) {
  EXPECT_EQ(parse_size("10", kGiB).value(), 10 * kGiB);
  EXPECT_EQ(parse_size("1.5G", kGiB).value(), 3 * kGiB / 2);
  EXPECT_EQ(parse_size("1.5", kGiB).value(), 3 * kGiB / 2);
  EXPECT_EQ(parse_size("4096B", kGiB).value(), 4096u);
  EXPECT_EQ(parse_size("64KB", kGiB).value(), 64 * kKiB);
  EXPECT_EQ(parse_size("64kib", kGiB).value(), 64 * kKiB);
  EXPECT_EQ(parse_size("2t", kGiB).value(), 2 * kTiB);
  EXPECT_EQ(parse_size("0", kGiB).value(), 0u);
  EXPECT_EQ(parse_size("0.1K", 1).value(), 103u);  // rounded up
}

TEST(Units, RefusesWhatIsNotASize) {
  for (const char* bad : {"", "G", "-1G", "1e3", "1 G", "1..5G", "1.G", ".5G", "10X", "10GG", "10BB",
                          "9999999999999999999", "8192P", "1.0000000001G", "0x10", "10G "}) {
    EXPECT_EQ(parse_size(bad, kGiB).code(), ErrorCode::kInvalidArgument) << bad;
  }
}

TEST(Units, FormatsSizes) {
  EXPECT_EQ(format_size(0), "0 B");
  EXPECT_EQ(format_size(17), "17 B");
  EXPECT_EQ(format_size(4096), "4 KiB");
  EXPECT_EQ(format_size(10 * kGiB), "10 GiB");
  EXPECT_EQ(format_size(3 * kGiB / 2), "1.50 GiB");
}

}  // namespace
}  // namespace hf
