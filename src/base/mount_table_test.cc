#include "base/mount_table.h"

#include <gtest/gtest.h>

namespace hf {
namespace {

TEST(MountTable, ParsesWhatTheKernelWrites) {
  const auto entries = parse_mount_table(
      "22 28 0:20 / /proc rw,relatime - proc proc rw\n"
      "40 28 0:45 / /run/hf/export/x rw,nosuid,nodev shared:7 master:1 - fuse holdfast "
      "rw,user_id=0\n"
      "41 28 7:3 /sub /mnt/a\\040b\\134c ro - ext4 /dev/loop3 rw\n"
      "broken line\n"
      "1 2 x:y / / rw - a b c\n"
      "1 2 9:8x / / rw - a b c\n"
      "1 2 98 / / rw - a b c\n"
      "1 2 9:8 / /m rw a b c\n"
      "1 2 9:8 / /m rw - a\n"
      "\n"
      "42 28 7:4 / /end rw - xfs /dev/loop4");
  ASSERT_EQ(entries.size(), 4u);
  EXPECT_EQ(entries[1].minor, 45u);
  EXPECT_TRUE(entries[1].shared);
  EXPECT_EQ(entries[1].fs_type, "fuse");
  EXPECT_EQ(entries[1].super_options, "rw,user_id=0");
  EXPECT_EQ(entries[2].point, "/mnt/a b\\c");
  EXPECT_EQ(entries[2].root, "/sub");
  EXPECT_EQ(entries[2].major, 7u);
  EXPECT_FALSE(entries[2].shared);
  EXPECT_EQ(entries[3].point, "/end");
  EXPECT_EQ(entries[3].super_options, "");
}

TEST(MountTable, LeavesWhatIsNoEscapeAsItIs) {
  const auto entries = parse_mount_table(
      "1 1 0:1 / /a\\ rw - t s o\n1 1 0:1 / /b\\04 rw - t s o\n1 1 0:1 / /c\\1zz\\777 rw - t s "
      "o\n");
  ASSERT_EQ(entries.size(), 3u);
  EXPECT_EQ(entries[2].point, "/c\\1zz\\777");
  EXPECT_EQ(entries[0].point, "/a\\");
  EXPECT_EQ(entries[1].point, "/b\\04");
}

}  // namespace
}  // namespace hf
