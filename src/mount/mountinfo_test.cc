#include "mount/mountinfo.h"

#include <gtest/gtest.h>

#include "mount/probe.h"

namespace hf::mount {
namespace {

TEST(Mountinfo, ParsesWhatTheKernelWrites) {
  const auto entries = parse_mountinfo(
      "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 shared:7 - ext3 /dev/root rw,errors=continue\n"
      "37 35 7:3 / /with\\040space\\134x rw - ext4 /dev/loop3 rw\n"
      "38 1 0:5 / /dev rw - devtmpfs devtmpfs rw\n");
  ASSERT_EQ(entries.size(), 3u);
  EXPECT_EQ(entries[0].major, 98u);
  EXPECT_EQ(entries[0].root, "/mnt1");
  EXPECT_EQ(entries[0].tags, "master:1 shared:7");
  EXPECT_EQ(entries[0].fs_type, "ext3");
  EXPECT_EQ(entries[1].mount_point, "/with space\\x");
  EXPECT_EQ(entries[1].minor, 3u);
  EXPECT_EQ(entries[1].source, "/dev/loop3");
}

TEST(Mountinfo, LeavesOutWhatDoesNotParse) {
  EXPECT_TRUE(parse_mountinfo("").empty());
  EXPECT_TRUE(parse_mountinfo("\n\n").empty());
  EXPECT_TRUE(parse_mountinfo("36 35 980 / /m rw - ext4 /dev/x rw\n").empty());
  EXPECT_TRUE(parse_mountinfo("36 35 9:8 / /m rw ext4 /dev/x rw\n").empty());
  EXPECT_TRUE(parse_mountinfo("36 35 9:8 / /m rw - ext4\n").empty());
  EXPECT_EQ(parse_mountinfo("36 35 9:8 / /m\\04 rw - ext4 /dev/x rw\n")[0].mount_point, "/m\\04");
}

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
