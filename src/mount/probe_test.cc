#include "mount/probe.h"

#include <gtest/gtest.h>

namespace hf::mount {
namespace {

TEST(Probe, ReadsBlkid) {
  EXPECT_TRUE(parse_blkid(2, "")->empty());
  EXPECT_TRUE(parse_blkid(8, "ambivalent")->ambivalent);
  EXPECT_EQ(parse_blkid(4, "usage").code(), ErrorCode::kIo);
  const Result<Content> ext4 = parse_blkid(0, "DEVNAME=/dev/x\nLABEL=data\nUUID=ab-cd\nTYPE=ext4\nUSAGE=filesystem\n");
  ASSERT_TRUE(ext4.ok());
  EXPECT_EQ(ext4->describe(), "an ext4 file system labelled \"data\" (UUID ab-cd)");
  const Result<Content> disk = parse_blkid(0, "PTTYPE=gpt\n");
  EXPECT_FALSE(disk->empty());
  EXPECT_EQ(disk->describe(), "a partition table (gpt)");
}

}  // namespace
}  // namespace hf::mount
