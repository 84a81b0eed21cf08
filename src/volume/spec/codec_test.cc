#include "volume/spec/codec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "volume/spec/inline_parser.h"

namespace hf::spec {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::Pair;

VolumeSpec parsed(std::string_view text) {
  return parse_volume_name(text).value().spec;
}

// `root` as to_json would have sealed it.
std::string sealed(json root) {
  const std::string body = root["values"].dump() + root["explicit"].dump();
  root["crc32c"] = fmt::format("{:08x}", crc32c(as_bytes(body)));
  return root.dump();
}

// Written once by version 1: a later version must go on reading it.
TEST(Json, ReadsWhatVersion1Wrote) {
  constexpr std::string_view kStored =
      R"({"crc32c":"7139e5df","explicit":["size","fs","labels"],)"
      R"("format":"holdfast volume spec","values":{"aggregation_level":"1","allow_grow":"false",)"
      R"("auto_fstrim":"false","block_size":"4096","compressed":"false","durability":"sync",)"
      R"("ephemeral":"false","fg":"false","fs":"xfs","io_priority":"low","io_profile":"auto",)"
      R"("io_throttle_rd_bw":"0","io_throttle_rd_iops":"0","io_throttle_wr_bw":"0",)"
      R"("io_throttle_wr_iops":"0","journal":"false","labels":"app=db","name":"pg","nodiscard":"false",)"
      R"("queue_depth":"128","repl":"1","scale":"1","secure":"false","shared":"false","size":"2G",)"
      R"("snap_interval":"0","sticky":"false"},"version":1})";
  const VolumeSpec spec = parsed("name=pg,size=2,fs=xfs,labels=app:db");
  EXPECT_EQ(*to_json(spec), kStored);
  const Result<VolumeSpec> read = from_json(kStored);
  ASSERT_TRUE(read.ok()) << read.error().to_string();
  EXPECT_EQ(*read, spec);
}

TEST(Json, HoldsNoSecret) {
  const VolumeSpec spec = parsed("name=v,passphrase=hunter2,token=hunter3,token_secret=hunter4");
  const std::string text = to_json(spec).value();
  EXPECT_THAT(text, Not(HasSubstr("hunter")));
  EXPECT_THAT(text, Not(HasSubstr("token")));
  const VolumeSpec read = from_json(text).value();
  EXPECT_EQ(read.encryption(), Encryption::kPassphrase);  // what is remembered of it
  EXPECT_TRUE(read.passphrase.empty());
  EXPECT_FALSE(read.explicit_keys.contains(SpecKey::kToken));
}

TEST(Json, RefusesANewerVersionAsSuch) {
  json root = json::parse(*to_json(parsed("v")));
  root["version"] = kSpecJsonVersion + 1;
  root["values"]["a key of tomorrow"] = "x";
  EXPECT_EQ(from_json(sealed(root)).code(), ErrorCode::kNewerFormat);
}

TEST(Json, RefusesWhatItCannotHaveWritten) {
  const json good = json::parse(*to_json(parsed("name=v,size=2,passphrase=x")));
  ASSERT_TRUE(from_json(sealed(good)).ok());
  const auto code = [&](auto change) {
    json root = good;
    change(root);
    return from_json(sealed(root)).code();
  };
  constexpr ErrorCode kBad = ErrorCode::kCorruption;
  EXPECT_EQ(code([](json& r) { r["format"] = "other"; }), kBad);
  EXPECT_EQ(code([](json& r) { r["version"] = 0; }), kBad);
  EXPECT_EQ(code([](json& r) { r["version"] = -1; }), kBad);
  EXPECT_EQ(code([](json& r) { r["version"] = "1"; }), kBad);
  EXPECT_EQ(code([](json& r) { r.erase("version"); }), kBad);
  EXPECT_EQ(code([](json& r) { r["values"] = json::array(); }), kBad);
  EXPECT_EQ(code([](json& r) { r["explicit"] = json::object(); }), kBad);
  EXPECT_EQ(code([](json& r) { r["values"].erase("name"); }), kBad);
  EXPECT_EQ(code([](json& r) { r["values"]["ha"] = "1"; }), kBad);  // an alias
  EXPECT_EQ(code([](json& r) { r["values"]["sise"] = "1"; }), kBad);
  EXPECT_EQ(code([](json& r) { r["values"]["size"] = 2; }), kBad);
  EXPECT_EQ(code([](json& r) { r["values"]["size"] = "2X"; }), kBad);
  EXPECT_EQ(code([](json& r) { r["values"]["passphrase"] = "x"; }), kBad);
  EXPECT_EQ(code([](json& r) {
              r["values"]["scale"] = "2";
              r["values"]["shared"] = "true";
            }),
            kBad);
  EXPECT_EQ(code([](json& r) { r["explicit"].push_back("size"); }), kBad);
  EXPECT_EQ(code([](json& r) { r["explicit"].push_back(7); }), kBad);
  EXPECT_EQ(code([](json& r) { r["explicit"].push_back("token"); }), kBad);
  for (const char* text : {"", "{", "[]", "null", "\"x\"", "{}", "\xff"}) {
    EXPECT_EQ(from_json(text).code(), kBad) << text;
  }
  EXPECT_EQ(from_json(std::string(kMaxSpecJsonBytes + 1, ' ')).code(), kBad);
}

TEST(Json, ItsChecksumSeesEveryChangedByte) {
  const VolumeSpec spec = parsed("name=pg,size=2,fs=xfs,labels=app:db");
  const std::string text = *to_json(spec);
  for (size_t at = 0; at < text.size(); ++at) {
    for (const char flip : {1, 4, 32}) {
      std::string damaged = text;
      damaged[at] = static_cast<char>(damaged[at] ^ flip);
      const Result<VolumeSpec> read = from_json(damaged);
      EXPECT_TRUE(!read.ok() || *read == spec) << damaged;
    }
  }
}

TEST(Json, IsNotWrittenForASpecThatIsNotValid) {
  VolumeSpec spec = parsed("v");
  spec.repl = 9;
  EXPECT_EQ(to_json(spec).code(), ErrorCode::kInvalidSpec);
}

TEST(Inline, ShowsWhatWasNamedInTheTablesOrder) {
  EXPECT_EQ(to_inline(parsed("db")), "db");
  EXPECT_EQ(to_inline(parsed("name=db")), "db");
  EXPECT_EQ(to_inline(parsed("labels=a:b;c:d,ha=2,name=db,size=1536M,cos=3")),
            "size=1536M,repl=2,io_priority=high,labels=a=b;c=d,name=db");
  EXPECT_EQ(to_inline(parsed("size=1.5,name=db,snap_schedule=daily=12:30")),
            "size=1536M,snap_schedule=daily=12h30#7,name=db");
  VolumeSpec grown = parsed("name=db,repl=2");
  grown.size_bytes = 4 * kGiB;
  EXPECT_EQ(to_inline(grown), "size=4G,repl=2,name=db");
  EXPECT_EQ(to_inline(parsed("name=db,passphrase=hunter2,size=1,token=t")), "size=1G,name=db");
}

TEST(Status, SaysWhatMatters) {
  EXPECT_THAT(status_map(parsed("db")),
              ElementsAre(Pair("fs", "ext4"), Pair("repl", "1"), Pair("size", "1 GiB")));
  EXPECT_THAT(status_map(parsed("name=db,size=1.5G,passphrase=hunter2,zones=a;b,shared=0")),
              ElementsAre(Pair("encryption", "passphrase"), Pair("fs", "ext4"), Pair("repl", "1"),
                          Pair("shared", "false"), Pair("size", "1.50 GiB"), Pair("zones", "a;b")));
}

}  // namespace
}  // namespace hf::spec
