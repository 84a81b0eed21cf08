#include "mount/mounts_of_all.h"

#include <gtest/gtest.h>

namespace hf::mount {
namespace {

constexpr char kOurs[] =
    "10 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n"
    "20 10 7:3 / /mounts/pg rw shared:9 - ext4 /dev/loop3 rw\n"
    "21 10 0:55 / /mounts/bt rw shared:10 - btrfs /dev/loop4 rw\n"
    "22 10 0:5 / /proc rw - proc proc rw\n";

MountsOfAll ours() {
  MountsOfAll all;
  all.add(parse_mount_table(kOurs), true);
  return all;
}

TEST(MountsOfAll, OurOwnMountIsNotElsewhere) {
  const MountsOfAll all = ours();
  EXPECT_FALSE(all.has_elsewhere(7, 3, "/dev/loop3", "/mounts/pg"));
  EXPECT_TRUE(all.has_elsewhere(7, 3, "/dev/loop3", "/mounts/other"));
  EXPECT_FALSE(all.has_elsewhere(7, 9, "/dev/loop9", "/mounts/pg"));
  EXPECT_FALSE(all.has_elsewhere(7, 4, "/dev/loop4", "/mounts/bt"));
}

TEST(MountsOfAll, AContainersMountIs) {
  MountsOfAll all = ours();
  all.add(parse_mount_table("99 98 7:3 / /data rw - ext4 /dev/loop3 rw\n"), false);
  EXPECT_TRUE(all.has_elsewhere(7, 3, "/dev/loop3", "/mounts/pg"));
  EXPECT_FALSE(all.has_elsewhere(7, 4, "/dev/loop4", "/mounts/bt"));
}

TEST(MountsOfAll, BtrfsIsKnownByItsSource) {
  MountsOfAll all = ours();
  all.add(parse_mount_table("99 98 0:55 /sub /data rw - btrfs /dev/loop4 rw\n"), false);
  EXPECT_TRUE(all.has_elsewhere(7, 4, "/dev/loop4", "/mounts/bt"));
}

TEST(MountsOfAll, APropagatedCopyGoesWithOursAPrivateOneDoesNot) {
  MountsOfAll peers = ours();
  peers.add(parse_mount_table("30 1 7:3 / /mounts/pg rw shared:9 - ext4 /dev/loop3 rw\n"), false);
  EXPECT_FALSE(peers.has_elsewhere(7, 3, "/dev/loop3", "/mounts/pg"));
  MountsOfAll others = ours();
  others.add(parse_mount_table("30 1 7:3 / /mounts/pg rw - ext4 /dev/loop3 rw\n"), false);
  EXPECT_TRUE(others.has_elsewhere(7, 3, "/dev/loop3", "/mounts/pg"));
}

TEST(MountsOfAll, SeesThisMachine) {
  const Result<MountsOfAll> all = look_at_all_mounts();
  ASSERT_TRUE(all.ok()) << all.error().to_string();
}

}  // namespace
}  // namespace hf::mount
