#include "mount/make_fs.h"

#include <gtest/gtest.h>

#include "mount/mount_options.h"

namespace hf::mount {
namespace {

using spec::FsType;

Content carrying(const std::string& type, const std::string& uuid) {
  Content content;
  content.type = type;
  content.uuid = uuid;
  return content;
}

FilesystemSpec ext4() {
  FilesystemSpec spec;
  spec.uuid = "11111111-2222-4333-8444-555555555555";
  spec.label = "db";
  return spec;
}

TEST(CheckFormatted, TakesItsOwnKindOnly) {
  EXPECT_EQ(check_formatted("/dev/x", Content(), ext4()).code(), ErrorCode::kCorruption);
  EXPECT_TRUE(check_formatted("/dev/x", carrying("ext4", ext4().uuid), ext4()).ok());
  // Whatever UUID (tune2fs by the user), as long as it is the right kind.
  EXPECT_TRUE(check_formatted("/dev/x", carrying("ext4", "aa"), ext4()).ok());
  EXPECT_EQ(check_formatted("/dev/x", carrying("xfs", ext4().uuid), ext4()).code(), ErrorCode::kNotEmpty);
  Content ambivalent;
  ambivalent.ambivalent = true;
  EXPECT_EQ(check_formatted("/dev/x", ambivalent, ext4()).code(), ErrorCode::kNotEmpty);
}

TEST(Ext4, ChecksOnlyWhenTheJournalDoesNotSuffice) {
  EXPECT_FALSE(ext4_needs_check("Filesystem features: has_journal\nFilesystem state:         clean\n"));
  EXPECT_FALSE(ext4_needs_check("Filesystem features: has_journal needs_recovery\nFilesystem state: not clean\n"));
  EXPECT_TRUE(ext4_needs_check("Filesystem features: has_journal\nFilesystem state: not clean\n"));
  EXPECT_TRUE(ext4_needs_check("Filesystem features: needs_recovery\nFilesystem state: clean with errors\n"));
  EXPECT_TRUE(ext4_needs_check(""));
  EXPECT_TRUE(judge_e2fsck("/dev/x", 1, "").ok());
  EXPECT_EQ(judge_e2fsck("/dev/x", 4, "UNEXPECTED INCONSISTENCY").code(), ErrorCode::kCorruption);
}

TEST(Ext4, ReadsTheSizeOfTheSuperblock) {
  EXPECT_EQ(ext4_size_bytes("Inode count: 65536\nBlock count:              262144\nBlock size:               4096\n"),
            262144ull * 4096);
  EXPECT_EQ(ext4_size_bytes("dumpe2fs: Bad magic number"), 0u);
}

TEST(MountOptions, AllowsTheKnownAndNamesTheRest) {
  FilesystemSpec spec = ext4();
  EXPECT_EQ(*mount_options(spec), "discard,errors=remount-ro");
  spec.mount_options = {"noatime", "commit=5"};
  EXPECT_EQ(*mount_options(spec), "discard,errors=remount-ro,noatime,commit=5");
  for (const char* bad : {"nobarrier", "norecovery", "barrier=0", "dev=/dev/sda", "commit=5,nobarrier", "", "noload",
                          "data=writeback", "nouuid"}) {
    spec.mount_options = {bad};
    const Result<std::string> options = mount_options(spec);
    EXPECT_EQ(options.code(), ErrorCode::kInvalidSpec) << bad;
  }
  spec = ext4();
  spec.fs = FsType::kXfs;
  EXPECT_EQ(*mount_options(spec), "discard,nouuid");
  spec.mount_options = {"data=journal"};
  EXPECT_FALSE(mount_options(spec).ok());
}

TEST(MakeFs, LeavesAnEmptyRoot) {
  EXPECT_EQ(empty_root_argv("/dev/x", FsType::kExt4),
            (std::vector<std::string>{"debugfs", "-w", "-R", "rmdir lost+found", "/dev/x"}));
  EXPECT_TRUE(empty_root_argv("/dev/x", FsType::kXfs).empty());
  EXPECT_TRUE(empty_root_argv("/dev/x", FsType::kBtrfs).empty());
}

TEST(MakeFs, NeverDiscards) {
  FilesystemSpec spec = ext4();
  for (const FsType fs : {FsType::kExt4, FsType::kXfs, FsType::kBtrfs}) {
    spec.fs = fs;
    const std::vector<std::string> argv = mkfs_argv("/dev/x", spec);
    EXPECT_EQ(argv.back(), "/dev/x");
    std::string line;
    for (const std::string& word : argv) line += word + " ";
    EXPECT_TRUE(line.find("nodiscard") != std::string::npos || line.find(" -K ") != std::string::npos) << line;
    // mkfs.btrfs -U reads every device of the machine.
    EXPECT_EQ(line.find(spec.uuid) != std::string::npos, fs != FsType::kBtrfs) << line;
  }
}

}  // namespace
}  // namespace hf::mount
