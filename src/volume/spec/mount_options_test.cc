#include "volume/spec/mount_options.h"

#include <gtest/gtest.h>

namespace hf::spec {
namespace {

Status check(FsType fs, const std::string& name, const std::string& value = "") {
  return check_mount_options(fs, {{name, value}});
}

TEST(MountOptions, TakesWhatTheFileSystemKnows) {
  EXPECT_TRUE(check_mount_options(FsType::kExt4, {}).ok());
  EXPECT_TRUE(check_mount_options(FsType::kNone, {}).ok());
  EXPECT_TRUE(check_mount_options(FsType::kExt4, {{"noatime", ""}, {"commit", "30"}, {"data", "ordered"}}).ok());
  EXPECT_TRUE(check_mount_options(FsType::kXfs, {{"allocsize", "64k"}, {"logbsize", "256k"}, {"ro", ""}}).ok());
  EXPECT_TRUE(check_mount_options(FsType::kBtrfs, {{"compress", ""}, {"space_cache", "v2"}}).ok());
  EXPECT_TRUE(check(FsType::kBtrfs, "compress-force", "zstd:3").ok());
}

TEST(MountOptions, RefusesWhatIsDangerousUnknownOrBadlyValued) {
  const std::pair<const char*, const char*> bad[] = {
      {"suid", ""},        {"dev", ""},          {"exec", ""},        {"nobarrier", ""},  {"barrier", "0"},
      {"norecovery", ""},  {"noload", ""},       {"errors", "panic"}, {"errors", ""},     {"data", "writeback"},
      {"commit", ""},      {"commit", "0"},      {"commit", "301"},   {"commit", "3x"},   {"commit", "-1"},
      {"noatime", "1"},    {"NOATIME", ""},      {"nouuid", ""},      {"journal_dev", "8"}, {"sb", "1"},
      {"noatime,suid", ""}, {"commit", "5,suid"}, {"", ""},           {"stripe", "99999999999999999999"},
      {"allocsize", "64k"}, {"compress", "zstd"}, {"context", "x"},   {"usrjquota", "f"}};
  for (const auto& [name, value] : bad) {
    EXPECT_EQ(check(FsType::kExt4, name, value).code(), ErrorCode::kInvalidSpec) << name << "=" << value;
  }
  for (const char* size : {"", "64K", "3k", "2k", "2g", "0", "64kk", "18446744073709551615g", "k"}) {
    EXPECT_EQ(check(FsType::kXfs, "allocsize", size).code(), ErrorCode::kInvalidSpec) << size;
  }
  EXPECT_EQ(check(FsType::kBtrfs, "degraded").code(), ErrorCode::kInvalidSpec);
  EXPECT_EQ(check(FsType::kNone, "noatime").code(), ErrorCode::kInvalidSpec);
}

TEST(MountOptions, SaysWhichOptionAndWhatIsAccepted) {
  const std::string text = check(FsType::kExt4, "errors", "panic").error().message();
  for (const char* word : {"errors=panic", "fs=ext4", "noatime", "errors=remount-ro", "commit=1..300"}) {
    EXPECT_NE(text.find(word), std::string::npos) << text;
  }
}

}  // namespace
}  // namespace hf::spec
