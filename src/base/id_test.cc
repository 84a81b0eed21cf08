#include "base/id.h"

#include <gtest/gtest.h>

namespace hf {
namespace {

TEST(Id, TextRoundTrip) {
  const VolumeId id = VolumeId::from_random(0x0123456789abcdef, 0xfedcba9876543210);
  const std::string text = id.to_string();
  EXPECT_EQ(text.size(), 36u);
  EXPECT_EQ(text[14], '4');
  EXPECT_EQ(VolumeId::parse(text), id);
  std::string bare;
  for (char c : text) {
    if (c != '-') bare.push_back(c);
  }
  EXPECT_EQ(VolumeId::parse(bare), id);
}

TEST(Id, RefusesWhatIsNotAnId) {
  EXPECT_FALSE(VolumeId::parse(""));
  EXPECT_FALSE(VolumeId::parse("0123"));
  EXPECT_FALSE(VolumeId::parse("g0000000000000000000000000000000"));
  EXPECT_FALSE(VolumeId::parse("00000000-0000-0000-0000_000000000000"));
  EXPECT_FALSE(VolumeId::parse("000000000000000000000000000000000"));
}

}  // namespace
}  // namespace hf
