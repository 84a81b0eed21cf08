#include "api/sdk/convert.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace hf::api {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

namespace sdk = openstorage::api;
using Labels = google::protobuf::Map<std::string, std::string>;

// What the grammar makes of an SDK request.
Result<VolumeSpec> read(const sdk::VolumeSpec& spec, const Labels& labels) {
  const Result<spec::OptionMap> options = sdk_options(spec, labels);
  HF_TRY(options);
  return spec::parse_options("v", *options);
}

TEST(SdkOptions, LabelsArriveAsTheyWereGiven) {
  sdk::VolumeSpec spec;
  (*spec.mutable_volume_labels())["tier"] = "gold";
  Labels labels;
  labels["url"] = "http://x/?a=b";
  const Result<VolumeSpec> read_back = read(spec, labels);
  ASSERT_TRUE(read_back.ok()) << read_back.error().to_string();
  EXPECT_THAT(read_back->labels, ElementsAre(Pair("tier", "gold"), Pair("url", "http://x/?a=b")));
}

TEST(SdkOptions, WhatWouldBeReadAsAnotherMapIsRefused) {
  for (const auto& [key, value] : std::vector<std::pair<std::string, std::string>>{
           {"a", "1,b=2"}, {"a", "1;b=2"}, {"a=x", "1"}, {"a:x", "1"}, {"a,b", "1"}}) {
    Labels labels;
    labels[key] = value;
    const Result<VolumeSpec> refused = read(sdk::VolumeSpec(), labels);
    EXPECT_EQ(refused.code(), ErrorCode::kInvalidSpec) << key;
    if (!refused.ok()) {
      EXPECT_THAT(refused.error().message(), HasSubstr("label"));
    }
    EXPECT_EQ(sdk_update_options(sdk::VolumeSpecUpdate(), labels).code(), ErrorCode::kInvalidSpec) << key;
    sdk::VolumeSpec spec;
    (*spec.mutable_mount_options()->mutable_options())[key] = value;
    EXPECT_EQ(read(spec, Labels()).code(), ErrorCode::kInvalidSpec) << key;
  }
}

TEST(SdkOptions, APromiseThatIsNotKeptIsRefusedByName) {
  sdk::VolumeSpec hints;
  hints.set_dedupe(true);
  hints.set_readahead(true);
  EXPECT_TRUE(read(hints, Labels()).ok());
  sdk::VolumeSpec spec;
  spec.set_winshare(true);
  const Result<VolumeSpec> refused = read(spec, Labels());
  ASSERT_EQ(refused.code(), ErrorCode::kNotSupported);
  EXPECT_THAT(refused.error().message(), HasSubstr("winshare"));
  spec = sdk::VolumeSpec();
  spec.mutable_placement_strategy();  // present and empty asks for nothing
  EXPECT_TRUE(read(spec, Labels()).ok());
}

TEST(SdkOptions, NegativeNumbersAreRefusedByName) {
  sdk::VolumeSpec spec;
  spec.set_ha_level(-2);
  Result<VolumeSpec> refused = read(spec, Labels());
  EXPECT_EQ(refused.code(), ErrorCode::kInvalidSpec);
  if (!refused.ok()) {
    EXPECT_THAT(refused.error().message(), HasSubstr("repl"));
  }
  spec.set_ha_level(0);
  spec.set_block_size(-4096);
  refused = read(spec, Labels());
  EXPECT_EQ(refused.code(), ErrorCode::kInvalidSpec);
}

}  // namespace
}  // namespace hf::api
