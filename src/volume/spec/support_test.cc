#include "volume/spec/support.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "volume/spec/inline_parser.h"
#include "volume/spec/key_table.h"

namespace hf::spec {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

VolumeSpec parsed(std::string_view text) {
  return parse_volume_name(text).value().spec;
}

Capabilities everything() {
  Capabilities all;
  all.max_replicas = 3;
  all.encryption = all.shared = all.scale = all.aggregation = all.snapshot_schedules = true;
  all.clone = all.sticky = all.proxy = all.throttle = true;
  all.storage_policies = all.flush_durability = true;
  for (const KeyInfo& key : key_table()) all.hints.insert(key.key);
  return all;
}

// What asks for each promise, one at a time.
constexpr std::string_view kPromises[] = {"repl=2",
                                          "scale=2",
                                          "shared=true",
                                          "secure=true",
                                          "secret_key=k",
                                          "passphrase=hunter2",
                                          "snap_schedule=daily=08h00",
                                          "snap_interval=60",
                                          "aggregation_level=2",
                                          "parent=p",
                                          "sticky=true",
                                          "io_throttle_rd_iops=1",
                                          "io_throttle_wr_iops=1",
                                          "io_throttle_rd_bw=1",
                                          "io_throttle_wr_bw=1",
                                          "proxy_endpoint=nfs://h/x",
                                          "storagepolicy=gold"};

constexpr std::string_view kHints[] = {
    "io_priority=high", "io_profile=db",         "journal=true",   "auto_fstrim=true",
    "compressed=true",  "ephemeral=true",        "queue_depth=64", "durability=flush",
    "aggregation_level=auto"};

TEST(Support, RefusesPromisesThatItCannotKeep) {
  for (const std::string_view item : kPromises) {
    const Status status = check_support(parsed(fmt::format("name=v,{}", item)), Capabilities{});
    ASSERT_EQ(status.code(), ErrorCode::kNotSupported) << item;
    const std::string key(item.substr(0, item.find('=') + 1));
    EXPECT_THAT(status.error().message(), AllOf(HasSubstr("not yet supported"), HasSubstr(key),
                                                HasSubstr("("), Not(HasSubstr("hunter2"))));
  }
  Capabilities no_xfs;
  no_xfs.xfs = false;
  EXPECT_EQ(check_support(parsed("name=v,fs=xfs"), no_xfs).code(), ErrorCode::kNotSupported);
  EXPECT_TRUE(check_support(parsed("name=v,fs=ext4"), no_xfs).ok());
}

TEST(Support, RefusesBlocksThatNoFileSystemCanHaveHere) {
  for (const char* spec : {"name=v,bs=1024", "name=v,bs=2K,fs=xfs"}) {
    const Status status = check_support(parsed(spec), everything());
    EXPECT_EQ(status.code(), ErrorCode::kNotSupported) << spec;
    EXPECT_THAT(status.error().message(), AllOf(HasSubstr("block_size="), HasSubstr("4096 is accepted")));
  }
  EXPECT_TRUE(check_support(parsed("name=v,bs=4K"), Capabilities{}).ok());
}

TEST(Support, NamesEveryKeyAtOnce) {
  const Status status = check_support(parsed("name=v,repl=3,secure=true,size=2"), Capabilities{});
  EXPECT_THAT(status.error().message(),
              AllOf(HasSubstr("repl=3"), HasSubstr("this cluster can keep 1"),
                    HasSubstr("secure=true"), Not(HasSubstr("size"))));
}

TEST(Support, StoresHintsWithANote) {
  for (const std::string_view item : kHints) {
    const VolumeSpec spec = parsed(fmt::format("name=v,{}", item));
    EXPECT_TRUE(check_support(spec, Capabilities{}).ok()) << item;
    const std::vector<std::string> notes = support_notes(spec, Capabilities{});
    ASSERT_EQ(notes.size(), 1u) << item;
    EXPECT_THAT(notes[0], HasSubstr(std::string(item.substr(0, item.find('=')))));
    EXPECT_TRUE(support_notes(spec, everything()).empty()) << item;
  }
}

TEST(Support, AcceptsEverythingWhereEverythingIsThere) {
  for (const std::string_view item : kPromises) {
    EXPECT_TRUE(check_support(parsed(fmt::format("name=v,{}", item)), everything()).ok()) << item;
  }
}

TEST(Support, DefaultsAndNamedDefaultsAreAlwaysKept) {
  for (const char* text : {"v", "name=v,size=2G,fs=ext4",
                           "name=v,repl=1,scale=1,shared=false,secure=false,snap_interval=0,"
                           "aggregation_level=1,sticky=false,io_throttle_rd_bw=0,queue_depth=128",
                           "name=v,nodes=n,zones=z,racks=r,regions=r,group=g,fg=true",
                           "name=v,mount_options=noatime,nodiscard=true,labels=a:b,token=t"}) {
    EXPECT_TRUE(check_support(parsed(text), Capabilities{}).ok()) << text;
    EXPECT_TRUE(support_notes(parsed(text), Capabilities{}).empty()) << text;
  }
}

// A new key has to be decided on: it is in a rule, or honoured by every cluster.
TEST(Support, EveryKeyIsDecided) {
  KeySet ruled;
  for (const SupportRule& rule : support_rules()) ruled.insert(rule.key);
  for (const SpecKey key :
       {SpecKey::kName, SpecKey::kSize, SpecKey::kLabels, SpecKey::kNodiscard,
        SpecKey::kMountOptions, SpecKey::kNodes, SpecKey::kZones, SpecKey::kRacks, SpecKey::kRegions,
        SpecKey::kGroup, SpecKey::kFg, SpecKey::kAllowGrow, SpecKey::kToken, SpecKey::kTokenSecret}) {
    EXPECT_FALSE(ruled.contains(key));
    ruled.insert(key);
  }
  EXPECT_EQ(ruled.size(), kSpecKeyCount);
}

}  // namespace
}  // namespace hf::spec
