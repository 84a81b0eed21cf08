#include "volume/spec/volume_spec.h"

#include <gtest/gtest.h>

#include <sstream>
#include <utility>

#include "volume/spec/inline_parser.h"
#include "volume/spec/validate.h"

namespace hf::spec {
namespace {

VolumeSpec named(std::string_view name) {
  VolumeSpec spec;
  spec.name = name;
  return spec;
}

TEST(Secret, NeverPrints) {
  const Secret secret("hunter2");
  std::ostringstream stream;
  stream << secret;
  EXPECT_EQ(stream.str(), "***");
  EXPECT_EQ(fmt::format("{}", secret), "***");
  EXPECT_EQ(fmt::format("[{:>5}]", secret), "[  ***]");
  EXPECT_EQ(fmt::format("{}", Secret()), "");
}

TEST(Secret, IsAValue) {
  Secret a("hunter2");
  Secret b = a;
  EXPECT_EQ(a, b);
  Secret c = std::move(a);
  EXPECT_TRUE(a.empty());  // NOLINT: a moved-from secret holds nothing
  EXPECT_EQ(c.reveal(), "hunter2");
  b = Secret("other");
  EXPECT_FALSE(b == c);
  b = c;
  EXPECT_EQ(b, c);
  const Secret& self = b;
  b = self;
  EXPECT_EQ(b.reveal(), "hunter2");
  b.clear();
  EXPECT_TRUE(b.empty());
  EXPECT_EQ(b.reveal(), "");
  EXPECT_EQ(Secret(""), Secret());
}

TEST(Names, AreFileNamesThatNeverMeet) {
  EXPECT_EQ(name_as_file("foo/bar"), "foo+bar");
  EXPECT_EQ(name_as_file("foo_bar"), "foo_bar");
  EXPECT_FALSE(is_valid_name("foo+bar"));
  EXPECT_FALSE(is_valid_name("a/"));
  EXPECT_FALSE(is_valid_name("a//b"));
  EXPECT_TRUE(is_valid_name("a/b/c"));
}

TEST(KeySet, HoldsEveryKey) {
  KeySet set;
  for (size_t i = 0; i < kSpecKeyCount; ++i) {
    const auto key = static_cast<SpecKey>(i);
    EXPECT_FALSE(set.contains(key));
    set.insert(key);
    EXPECT_TRUE(set.contains(key));
    EXPECT_EQ(set.size(), i + 1);
  }
  set.erase(SpecKey::kSize);
  EXPECT_FALSE(set.contains(SpecKey::kSize));
  EXPECT_EQ(set.size(), kSpecKeyCount - 1);
}

// A spec that no parser made: from the SDK, or changed by an update.
TEST(Validate, ChecksEveryBoundOfASpecMadeByHand) {
  EXPECT_TRUE(validate(named("v")).ok());
  const auto refused = [](auto change) {
    VolumeSpec spec = named("v");
    change(spec);
    return validate(spec).code() == ErrorCode::kInvalidSpec;
  };
  EXPECT_TRUE(refused([](VolumeSpec& s) { s.name = ""; }));
  EXPECT_TRUE(refused([](VolumeSpec& s) { s.name = "a/../b"; }));
  EXPECT_TRUE(refused([](VolumeSpec& s) { s.explicit_keys.insert(SpecKey::kZones); }));
  EXPECT_TRUE(refused([](VolumeSpec& s) { s.size_bytes = 0; }));
  EXPECT_TRUE(refused([](VolumeSpec& s) { s.size_bytes = kGiB + 1; }));  // no whole block
  EXPECT_TRUE(refused([](VolumeSpec& s) { s.size_bytes = 65 * kTiB; }));
  EXPECT_TRUE(refused([](VolumeSpec& s) { s.repl = 0; }));
  EXPECT_TRUE(refused([](VolumeSpec& s) { s.repl = 4; }));
  EXPECT_TRUE(refused([](VolumeSpec& s) { s.scale = 1025; }));
  EXPECT_TRUE(refused([](VolumeSpec& s) { s.block_size_bytes = 512; }));
  EXPECT_TRUE(refused([](VolumeSpec& s) { s.aggregation_level = 4; }));
  EXPECT_TRUE(refused([](VolumeSpec& s) { s.queue_depth = 0; }));
  EXPECT_TRUE(refused([](VolumeSpec& s) { s.zones = {"b", "a"}; }));
  EXPECT_TRUE(refused([](VolumeSpec& s) { s.zones = {"a", "a"}; }));
  EXPECT_TRUE(refused([](VolumeSpec& s) { s.zones = {"a;b"}; }));
  EXPECT_TRUE(refused([](VolumeSpec& s) { s.zones = {""}; }));
  EXPECT_TRUE(refused([](VolumeSpec& s) { s.labels = {{"a", ""}}; }));
  EXPECT_TRUE(refused([](VolumeSpec& s) { s.labels = {{"a", "b,c"}}; }));
  EXPECT_TRUE(refused([](VolumeSpec& s) { s.labels = {{"a=b", "c"}}; }));
  EXPECT_TRUE(refused([](VolumeSpec& s) { s.mount_options = {{"loop", ""}}; }));
  EXPECT_TRUE(refused([](VolumeSpec& s) { s.proxy_endpoint = ProxyEndpoint{"h", 0, "/a//b"}; }));
  EXPECT_TRUE(refused([](VolumeSpec& s) { s.proxy_endpoint = ProxyEndpoint{"", 0, "/a"}; }));
  EXPECT_TRUE(refused([](VolumeSpec& s) { s.snap_interval_minutes = 525'601; }));
  EXPECT_TRUE(refused([](VolumeSpec& s) { s.snap_schedule.policies = {"b", "a"}; }));
  EXPECT_TRUE(refused([](VolumeSpec& s) {
    s.snap_schedule.entries = {SnapEntry{SnapKind::kDaily, 0, 0, 0, 1440, 1}};
  }));
  EXPECT_TRUE(refused([](VolumeSpec& s) {
    s.snap_schedule.entries = {SnapEntry{SnapKind::kDaily, 5, 0, 0, 60, 1}};
  }));
}

}  // namespace
}  // namespace hf::spec
