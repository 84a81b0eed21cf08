#include "volume/spec/reuse.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "volume/spec/codec.h"
#include "volume/spec/inline_parser.h"

namespace hf::spec {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

VolumeSpec parsed(std::string_view text) {
  return parse_volume_name(text).value().spec;
}

constexpr SpecDecision kSame{};
SpecDecision grow(uint64_t bytes) {
  return {SpecDecision::Kind::kGrow, bytes};
}

std::string mismatch(const VolumeSpec& existing, std::string_view requested) {
  const auto decision = compare_for_reuse(existing, parsed(requested));
  if (decision.ok()) return "(accepted)";
  EXPECT_EQ(decision.code(), ErrorCode::kSpecMismatch);
  return decision.error().message();
}

TEST(Reuse, TheSameSpecIsTheSameVolume) {
  const VolumeSpec existing = parsed("name=v,size=10,repl=2,fs=xfs,labels=a:b");
  EXPECT_EQ(*compare_for_reuse(existing, existing), kSame);
  EXPECT_EQ(*compare_for_reuse(existing, parsed("fs=xfs,ha=2,size=10240M,labels=a=b,name=v/")),
            kSame);
}

TEST(Reuse, APlainNameMatchesEveryVolume) {
  const VolumeSpec existing = parsed("name=v,size=10,repl=2,fs=xfs,shared=true");
  EXPECT_EQ(*compare_for_reuse(existing, parsed("v")), kSame);
  EXPECT_EQ(*compare_for_reuse(existing, parsed("name=v")), kSame);
  EXPECT_EQ(*compare_for_reuse(existing, parsed("name=v,repl=2")), kSame);
}

TEST(Reuse, ShowsEveryDifferenceWithBothValues) {
  const std::string text =
      mismatch(parsed("name=v,size=10,repl=2"), "name=v,size=20,repl=3,fs=xfs,zones=a");
  EXPECT_THAT(text,
              AllOf(HasSubstr("volume v exists with another spec"),
                    HasSubstr("size is \"10G\", asked for \"20G\" (allow_grow=true would grow it)"),
                    HasSubstr("repl is \"2\", asked for \"3\""),
                    HasSubstr("fs is \"ext4\", asked for \"xfs\""),
                    HasSubstr("zones is unset, asked for \"a\"")));
  // A default that the volume has and the request names is no difference; one that it names
  // otherwise is.
  EXPECT_EQ(*compare_for_reuse(parsed("v"), parsed("name=v,size=1,fs=ext4,repl=1")), kSame);
  EXPECT_THAT(mismatch(parsed("name=v,shared=true"), "name=v,shared=false"), HasSubstr("shared"));
}

TEST(Reuse, GrowsOnlyWhenAllowed) {
  const VolumeSpec existing = parsed("name=v,size=10");
  EXPECT_EQ(*compare_for_reuse(existing, parsed("name=v,size=20,allow_grow=true")),
            grow(20 * kGiB));
  EXPECT_THAT(mismatch(existing, "name=v,size=20"), HasSubstr("allow_grow=true"));
  EXPECT_THAT(mismatch(existing, "name=v,size=5"), HasSubstr("never shrinks"));
  EXPECT_EQ(*compare_for_reuse(existing, parsed("name=v,size=5,allow_grow=true")), kSame);
  // Allowed when the volume was made; a request may still say no.
  const VolumeSpec growing = parsed("name=v,size=10,allow_grow=true");
  EXPECT_EQ(*compare_for_reuse(growing, parsed("name=v,size=11")), grow(11 * kGiB));
  EXPECT_THAT(mismatch(growing, "name=v,size=11,allow_grow=false"), HasSubstr("size"));
  // Growth does not hide another difference.
  EXPECT_THAT(mismatch(existing, "name=v,size=20,allow_grow=true,repl=2"),
              AllOf(HasSubstr("repl"), Not(HasSubstr("size"))));
}

TEST(Reuse, AVolumeThatWasChangedStillMatchesTheSpecThatMadeIt) {
  const VolumeSpec created = parsed("name=v,size=10,repl=1");
  VolumeSpec current = created;
  current.size_bytes = 30 * kGiB;
  current.repl = 3;
  EXPECT_EQ(*compare_for_reuse(created, current, parsed("name=v,size=10,repl=1")), kSame);
  EXPECT_EQ(*compare_for_reuse(created, current, parsed("name=v,size=30,repl=3")), kSame);
  EXPECT_FALSE(compare_for_reuse(created, current, parsed("name=v,size=20")).ok());
  EXPECT_FALSE(compare_for_reuse(created, current, parsed("name=v,repl=2")).ok());
  EXPECT_EQ(*compare_for_reuse(created, current, parsed("name=v,size=20,allow_grow=1")), kSame);
  EXPECT_EQ(*compare_for_reuse(created, current, parsed("name=v,size=40,allow_grow=1")),
            grow(40 * kGiB));
}

TEST(Reuse, WhoAsksIsNoPartOfTheVolume) {
  const VolumeSpec existing = parsed("name=v,size=1,token=a");
  EXPECT_EQ(*compare_for_reuse(existing, parsed("name=v,size=1,token=b,token_secret=c")), kSame);
}

TEST(Reuse, APassphraseIsComparedByItsPresence) {
  const VolumeSpec stored = from_json(*to_json(parsed("name=v,passphrase=hunter2"))).value();
  EXPECT_EQ(*compare_for_reuse(stored, parsed("name=v,passphrase=other")), kSame);
  const std::string text = mismatch(parsed("name=v,secret_key=k"), "name=v,passphrase=hunter2");
  EXPECT_THAT(text,
              AllOf(HasSubstr("passphrase"), HasSubstr("named secret"), Not(HasSubstr("hunter2"))));
}

TEST(Reuse, SlashesThatAClientFoldedAreNoDifference) {
  EXPECT_EQ(
      *compare_for_reuse(parsed("name=v,labels=url=http://x"), parsed("name=v,labels=url=http:/x")),
      kSame);
}

}  // namespace
}  // namespace hf::spec
