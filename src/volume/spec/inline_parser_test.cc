#include "volume/spec/inline_parser.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "volume/spec/key_table.h"

namespace hf::spec {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::Pair;

VolumeSpec parsed(std::string_view text) {
  const Result<ParsedName> result = parse_volume_name(text);
  EXPECT_TRUE(result.ok()) << text << ": " << (result.ok() ? "" : result.error().to_string());
  return result.ok() ? result->spec : VolumeSpec();
}

std::string refusal(std::string_view text) {
  const Result<ParsedName> result = parse_volume_name(text);
  if (result.ok()) return "(accepted)";
  EXPECT_EQ(result.code(), ErrorCode::kInvalidSpec) << text;
  return result.error().message();
}

std::string option_refusal(std::string_view name, const OptionMap& options) {
  const Result<VolumeSpec> result = parse_options(name, options);
  if (result.ok()) return "(accepted)";
  EXPECT_EQ(result.code(), ErrorCode::kInvalidSpec) << name;
  return result.error().message();
}

// ---- the grammar -------------------------------------------------------------------------------

TEST(InlineParser, ReadsEveryKey) {
  const VolumeSpec spec = parsed(
      "size=1.5G,repl=3,scale=4,fs=xfs,block_size=2K,io_priority=high,io_profile=db_remote,"
      "secure=true,secret_key=vault/db,snap_schedule=periodic=60#5;daily=12h30,"
      "aggregation_level=auto,nodes=n2;n1,zones=us-east-1a;us-east-1b,racks=r.1,regions=eu,group=g,"
      "fg=true,labels=app:db;tier=gold,parent=old@nightly,sticky=yes,journal=on,nodiscard=1,"
      "auto_fstrim=true,compressed=true,ephemeral=false,durability=flush,queue_depth=64,"
      "io_throttle_rd_iops=1000,io_throttle_wr_iops=500,io_throttle_rd_bw=100,io_throttle_wr_bw=50,"
      "mount_options=noatime;data:ordered,storagepolicy=gold,token=t0k,token_secret=s3c,"
      "allow_grow=true,name=my.vol");
  EXPECT_EQ(spec.name, "my.vol");
  EXPECT_EQ(spec.size_bytes, 3 * kGiB / 2);
  EXPECT_EQ(spec.repl, 3u);
  EXPECT_EQ(spec.scale, 4u);
  EXPECT_EQ(spec.fs, FsType::kXfs);
  EXPECT_EQ(spec.block_size_bytes, 2048u);
  EXPECT_EQ(spec.io_priority, IoPriority::kHigh);
  EXPECT_EQ(spec.io_profile, IoProfile::kDbRemote);
  EXPECT_TRUE(spec.secure);
  EXPECT_EQ(spec.secret_key, "vault/db");
  EXPECT_EQ(spec.encryption(), Encryption::kNamedSecret);
  EXPECT_EQ(spec.snap_schedule.entries.size(), 2u);
  EXPECT_EQ(spec.aggregation_level, 0u);
  EXPECT_THAT(spec.nodes, ElementsAre("n1", "n2"));
  EXPECT_THAT(spec.zones, ElementsAre("us-east-1a", "us-east-1b"));
  EXPECT_THAT(spec.racks, ElementsAre("r.1"));
  EXPECT_THAT(spec.regions, ElementsAre("eu"));
  EXPECT_EQ(spec.group, "g");
  EXPECT_TRUE(spec.group_strict);
  EXPECT_THAT(spec.labels, ElementsAre(Pair("app", "db"), Pair("tier", "gold")));
  EXPECT_EQ(spec.parent, "old@nightly");
  EXPECT_TRUE(spec.sticky && spec.journal && spec.nodiscard && spec.auto_fstrim && spec.compressed);
  EXPECT_FALSE(spec.ephemeral);
  EXPECT_EQ(spec.durability, Durability::kFlush);
  EXPECT_EQ(spec.queue_depth, 64u);
  EXPECT_EQ(spec.throttle_read_iops, 1000u);
  EXPECT_EQ(spec.throttle_write_iops, 500u);
  EXPECT_EQ(spec.throttle_read_mb_per_s, 100u);
  EXPECT_EQ(spec.throttle_write_mb_per_s, 50u);
  EXPECT_THAT(spec.mount_options, ElementsAre(Pair("data", "ordered"), Pair("noatime", "")));
  EXPECT_EQ(spec.storage_policy, "gold");
  EXPECT_EQ(spec.token.reveal(), "t0k");
  EXPECT_EQ(spec.token_secret.reveal(), "s3c");
  EXPECT_TRUE(spec.allow_grow);
  // All but name, shared, passphrase, snap_interval, proxy_endpoint.
  EXPECT_EQ(spec.explicit_keys.size(), kSpecKeyCount - 5);
  EXPECT_TRUE(spec.explicit_keys.contains(SpecKey::kEphemeral));
  EXPECT_FALSE(spec.explicit_keys.contains(SpecKey::kShared));
}

TEST(InlineParser, OrderIsFreeAndTheNameMayStandAnywhere) {
  EXPECT_EQ(parsed("name=db,size=2,repl=2"), parsed("size=2,name=db,repl=2"));
  EXPECT_EQ(parsed("name=db,size=2,repl=2"), parsed("repl=2,size=2G,name=db"));
}

TEST(InlineParser, PlainNamesHaveDefaultsAndNothingExplicit) {
  for (const char* name : {"db", "my.vol", "a", "0", "pvc-1f0c", "525252525252/vol1", "foo/bar",
                           "85367ab4d5a7d1d9c0b1a2e3f405162738495a6b7c8d9e0f1122334455667788"}) {
    const Result<ParsedName> result = parse_volume_name(name);
    ASSERT_TRUE(result.ok()) << name;
    EXPECT_FALSE(result->is_inline);
    EXPECT_EQ(result->spec.name, name);
    EXPECT_TRUE(result->spec.explicit_keys.empty());
    EXPECT_EQ(result->spec.size_bytes, kGiB);
    EXPECT_EQ(result->spec.fs, FsType::kExt4);
  }
  EXPECT_TRUE(parse_volume_name("name=db")->is_inline);
  EXPECT_TRUE(parsed("name=db").explicit_keys.empty());
}

TEST(InlineParser, RefusesWhatIsNoName) {
  for (const char* bad :
       {"", "/", "/abs", ".hidden", "-x", "a b", "a/../b", "..", "a/./b", "a\\b", "a:b",
        "na\xc3\xafve", "a\nb", "a@b", "a;b", "name=", "name=.x", "name=a b", "name=a/../../etc"}) {
    EXPECT_THAT(refusal(bad), HasSubstr("name")) << bad;
  }
  EXPECT_EQ(parsed(std::string(128, 'x')).name.size(), 128u);
  EXPECT_THAT(refusal(std::string(129, 'x')), HasSubstr("128"));
  EXPECT_THAT(refusal(std::string("a\0b", 3)), HasSubstr("\\x00"));
}

TEST(InlineParser, AliasesMeanTheirKey) {
  EXPECT_EQ(parsed("ha=2,name=v"), parsed("repl=2,name=v"));
  EXPECT_EQ(parsed("ha_level=2,name=v"), parsed("repl=2,name=v"));
  EXPECT_EQ(parsed("format=xfs,name=v"), parsed("fs=xfs,name=v"));
  EXPECT_EQ(parsed("bs=1024,name=v"), parsed("block_size=1K,name=v"));
  EXPECT_EQ(parsed("cos=3,name=v"), parsed("io_priority=high,name=v"));
  EXPECT_EQ(parsed("priority_io=2,name=v"), parsed("io_priority=medium,name=v"));
  EXPECT_EQ(parsed("sharedv4=true,name=v"), parsed("shared=true,name=v"));
  EXPECT_EQ(parsed("shared_v4=1,name=v"), parsed("shared=true,name=v"));
  EXPECT_EQ(parsed("aggr_level=2,name=v"), parsed("aggregation_level=2,name=v"));
  EXPECT_EQ(parsed("zone=a,rack=b,region=c,name=v"), parsed("zones=a,racks=b,regions=c,name=v"));
  EXPECT_EQ(parsed("label=a:b,name=v"), parsed("labels=a:b,name=v"));
}

TEST(InlineParser, TruthValues) {
  for (const char* yes : {"true", "1", "yes", "on", "TRUE", "Yes"}) {
    EXPECT_TRUE(parsed(std::string("name=v,shared=") + yes).shared) << yes;
  }
  for (const char* no : {"false", "0", "no", "off"}) {
    const VolumeSpec spec = parsed(std::string("name=v,shared=") + no);
    EXPECT_FALSE(spec.shared) << no;
    EXPECT_TRUE(spec.explicit_keys.contains(SpecKey::kShared)) << no;
  }
}

// ---- sizes -------------------------------------------------------------------------------------

TEST(InlineParser, Sizes) {
  EXPECT_EQ(parsed("name=v,size=20").size_bytes, 20 * kGiB);
  EXPECT_EQ(parsed("name=v,size=0.5").size_bytes, kGiB / 2);
  EXPECT_EQ(parsed("name=v,size=512M").size_bytes, 512 * kMiB);
  EXPECT_EQ(parsed("name=v,size=512MB").size_bytes, 512 * kMiB);
  EXPECT_EQ(parsed("name=v,size=512MiB").size_bytes, 512 * kMiB);
  EXPECT_EQ(parsed("name=v,size=1t").size_bytes, kTiB);
  EXPECT_EQ(parsed("name=v,size=20000001B").size_bytes, 20000768u);  // up to the next 4 KiB
  EXPECT_EQ(parsed("name=v,size=64T").size_bytes, 64 * kTiB);
}

TEST(InlineParser, SizesOutOfBoundsNameTheBoundAndTheWayOut) {
  EXPECT_THAT(refusal("name=v,size=0"), HasSubstr("size=\"0\""));
  EXPECT_THAT(refusal("name=v,size=1M"), HasSubstr("16 MiB"));
  EXPECT_THAT(refusal("name=v,size=65T"), HasSubstr("64 TiB"));
  EXPECT_THAT(refusal("name=v,size=1P"), HasSubstr("64 TiB"));
  EXPECT_THAT(refusal("name=v,size=1073741824"), HasSubstr("a bare number counts GiB"));
  EXPECT_THAT(refusal("name=v,size=99999999999999999999999"),
              HasSubstr("a bare number counts GiB"));
  EXPECT_THAT(refusal("name=v,size=-1G"), HasSubstr("not a size"));
  EXPECT_THAT(refusal("name=v,size=10X"), AllOf(HasSubstr("\"10X\""), HasSubstr("KiB")));
  EXPECT_THAT(refusal("name=v,size=1e3"), HasSubstr("not a size"));
}

TEST(InlineParser, SizesTooSmallForTheirFileSystemNameItsMinimum) {
  EXPECT_THAT(refusal("name=v,fs=xfs,size=299M"), AllOf(HasSubstr("300 MiB"), HasSubstr("fs=xfs")));
  EXPECT_EQ(parsed("name=v,fs=xfs,size=300M").size_bytes, 300 * kMiB);
  EXPECT_THAT(refusal("size=100M,fs=btrfs,name=v"),
              AllOf(HasSubstr("128 MiB"), HasSubstr("fs=btrfs")));
  EXPECT_EQ(parsed("name=v,fs=ext4,size=16M").size_bytes, 16 * kMiB);
}

TEST(InlineParser, BlockSizes) {
  EXPECT_EQ(parsed("name=v,bs=4K").block_size_bytes, 4096u);
  EXPECT_THAT(refusal("name=v,bs=512"), HasSubstr("block_size"));
  EXPECT_THAT(refusal("name=v,bs=64K"), HasSubstr("65536"));
  EXPECT_THAT(refusal("name=v,bs=1K,fs=btrfs"), HasSubstr("btrfs"));
  EXPECT_THAT(refusal("name=v,bs=1K,fs=none"), HasSubstr("fs=none"));
}

// ---- defects of older parsers ------------------------------------------------------------------

TEST(OldDefects, BlockSizeIsNotReadAsSize) {
  EXPECT_THAT(refusal("block_size=32,size=10G,name=v"),
              AllOf(HasSubstr("block_size=\"32\""), HasSubstr("4096")));
  const VolumeSpec spec = parsed("block_size=1024,size=10G,name=v");
  EXPECT_EQ(spec.size_bytes, 10 * kGiB);
  EXPECT_EQ(spec.block_size_bytes, 1024u);
}

TEST(OldDefects, NamesAndZonesAreNotCut) {
  EXPECT_EQ(parsed("name=my.vol,size=1").name, "my.vol");
  EXPECT_EQ(parsed("name=my-vol_2,size=1").name, "my-vol_2");
  EXPECT_THAT(parsed("name=v,zones=us-east-1a").zones, ElementsAre("us-east-1a"));
}

TEST(OldDefects, FractionsCount) {
  EXPECT_EQ(parsed("name=v,size=1.5G").size_bytes, 3 * kGiB / 2);
  EXPECT_EQ(parsed("name=v,size=1.5").size_bytes, 3 * kGiB / 2);
}

TEST(OldDefects, SharedIsNotIgnored) {
  EXPECT_TRUE(parsed("name=v,shared=1").shared);
}

TEST(OldDefects, ABadValueIsNoDefaultVolume) {
  for (const char* bad : {"name=v,size=big",
                          "name=v,repl=0",
                          "name=v,repl=4",
                          "name=v,repl=two",
                          "name=v,repl=2.0",
                          "name=v,fs=zfs",
                          "name=v,shared=maybe",
                          "name=v,io_priority=4",
                          "name=v,io_profile=fast",
                          "name=v,scale=0",
                          "name=v,scale=1025",
                          "name=v,queue_depth=0",
                          "name=v,queue_depth=257",
                          "name=v,durability=never",
                          "name=v,aggregation_level=4",
                          "name=v,snap_interval=-5",
                          "name=v,snap_schedule=hourly",
                          "name=v,zones=a;;b",
                          "name=v,zones=a;a",
                          "name=v,labels=a",
                          "name=v,labels=a:",
                          "name=v,labels=a:b;a:c",
                          "name=v,group=a/b",
                          "name=v,nodes=$(id)",
                          "name=v,io_throttle_rd_bw=1.5",
                          "name=v,io_throttle_rd_iops=99999999999",
                          "name=v,proxy_endpoint=http://h/x",
                          "name=v,proxy_endpoint=nfs:///x",
                          "name=v,proxy_endpoint=nfs://h/../x",
                          "name=v,parent=a//@b",
                          "name=v,secret_key=;",
                          "name=v,mount_options=bind",
                          "name=v,mount_options=X-mount.mkdir",
                          "name=v,mount_options=noatime;;ro",
                          "name=v,size=+1G",
                          "name=v,repl=+1"}) {
    const std::string_view text = bad;
    const size_t start = text.find(',') + 1;
    const std::string_view key = text.substr(start, text.find('=', start) - start);
    EXPECT_THAT(refusal(bad), AllOf(HasSubstr(std::string(key) + "=\""), HasSubstr("accepted:")))
        << bad;
  }
}

TEST(OldDefects, UnknownKeysAreNotDropped) {
  const std::string text = refusal("name=v,sise=10G");
  EXPECT_THAT(text, AllOf(HasSubstr("unknown key \"sise\""), HasSubstr("did you mean \"size\"?"),
                          HasSubstr("accepted keys: name, size, repl")));
  EXPECT_THAT(text, Not(HasSubstr("10G")));  // it may be a misspelled secret
  EXPECT_THAT(refusal("name=v,Size=1"), HasSubstr("did you mean \"size\"?"));
  EXPECT_THAT(refusal("name=v,io-priority=1"), HasSubstr("did you mean \"io_priority\"?"));
  EXPECT_THAT(refusal("name=v,replicas=1"), HasSubstr("did you mean \"repl\"?"));
  EXPECT_THAT(refusal("name=v,fstype=1"), HasSubstr("did you mean \"fs\"?"));
  EXPECT_THAT(refusal("name=v,fromat=xfs"), HasSubstr("did you mean \"format\"?"));
  EXPECT_THAT(refusal("name=v,volumename=1"), Not(HasSubstr("did you mean")));
}

TEST(OldDefects, MountOptionsDoNotSwallowTheKeysBehindThem) {
  const VolumeSpec spec = parsed("mount_options=noatime;commit=30,size=3,name=v,repl=2");
  EXPECT_THAT(spec.mount_options, ElementsAre(Pair("commit", "30"), Pair("noatime", "")));
  EXPECT_EQ(spec.size_bytes, 3 * kGiB);
  EXPECT_EQ(spec.repl, 2u);
  // A key that contains another's name is another key.
  EXPECT_THAT(refusal("volname=v,size=1"), HasSubstr("name=NAME"));
  EXPECT_THAT(refusal("xname=v,size=1,name=w"), HasSubstr("unknown key \"xname\""));
}

// ---- repeated, empty, malformed ----------------------------------------------------------------

TEST(InlineParser, RepeatedKeysAreRefused) {
  EXPECT_THAT(refusal("name=v,size=1,size=1"), HasSubstr("size is given twice"));
  EXPECT_THAT(refusal("name=v,repl=2,ha=2"), HasSubstr("repl is given twice, as repl and as ha"));
  EXPECT_THAT(refusal("name=v,name=v"), HasSubstr("name is given twice"));
}

TEST(InlineParser, EmptyPartsAreRefused) {
  EXPECT_THAT(refusal("name=v,size="),
              AllOf(HasSubstr("size has no value"), HasSubstr("accepted")));
  EXPECT_THAT(refusal("name=v,size"), HasSubstr("size has no value"));
  EXPECT_THAT(refusal("name=v,"), HasSubstr("item 2"));
  EXPECT_THAT(refusal(",name=v"), HasSubstr("item 1"));
  EXPECT_THAT(refusal("name=v,,size=1"), HasSubstr("item 2"));
  EXPECT_THAT(refusal("name=v,=1"), HasSubstr("unknown key \"\""));
  EXPECT_THAT(refusal("name=v,junk"), AllOf(HasSubstr("item 2"), HasSubstr("\"junk\"")));
  EXPECT_THAT(refusal("name=v, size=1"), HasSubstr("did you mean \"size\"?"));
  EXPECT_THAT(refusal("name=v,size=1 "), HasSubstr("blank"));
}

TEST(InlineParser, ASpecWithoutNameSaysSo) {
  EXPECT_THAT(refusal("size=10G,repl=2"), HasSubstr("needs name=NAME"));
  EXPECT_THAT(refusal("size=10G"), HasSubstr("needs name=NAME"));
  EXPECT_THAT(refusal("a,b"), HasSubstr("needs name=NAME"));
}

TEST(InlineParser, IsBounded) {
  EXPECT_THAT(refusal(std::string(kMaxInlineBytes + 1, 'x')), HasSubstr("16384"));
  EXPECT_THAT(refusal("name=v,labels=a:" + std::string(254, 'x')), HasSubstr("253"));
  std::string zones = "name=v,zones=z0";
  for (int i = 1; i <= 64; ++i) zones += fmt::format(";z{}", i);
  EXPECT_THAT(refusal(zones), HasSubstr("more than 64"));
  EXPECT_LT(refusal("name=v,fs=" + std::string(16000, '\x01')).size(), 600u);
}

// ---- keys that exclude each other ---------------------------------------------------------------

TEST(InlineParser, KeysThatDoNotFit) {
  EXPECT_THAT(refusal("name=v,shared=true,scale=3"),
              AllOf(HasSubstr("shared=true"), HasSubstr("scale=3")));
  EXPECT_THAT(refusal("name=v,fg=true"), HasSubstr("group=NAME"));
  EXPECT_THAT(refusal("name=v,secret_key=a,passphrase=b"), HasSubstr("secret_key and passphrase"));
  EXPECT_THAT(refusal("name=v,secret_key=a,secure=false"), HasSubstr("secure=false"));
  EXPECT_THAT(refusal("name=v,snap_interval=5,snap_schedule=periodic=60"),
              HasSubstr("snap_interval and periodic"));
  EXPECT_THAT(refusal("name=v,parent=v"), HasSubstr("its own parent"));
  EXPECT_THAT(refusal("name=v,sticky=1,ephemeral=1"), HasSubstr("sticky=true and ephemeral=true"));
  EXPECT_THAT(refusal("name=v,proxy_endpoint=nfs://h/x,secure=1"), HasSubstr("proxy_endpoint"));
  EXPECT_THAT(refusal("scale=2,name=" + std::string(124, 'x')), HasSubstr("123 bytes"));
  EXPECT_TRUE(parsed("name=v,secure=true,secret_key=k").secure);
}

// ---- what clients do to the string --------------------------------------------------------------

TEST(Clients, TrailingAndDoubleSlashes) {
  EXPECT_EQ(parsed("size=1,name=v/"), parsed("size=1,name=v"));
  EXPECT_EQ(parsed("name=v,size=1/"), parsed("name=v,size=1"));
  EXPECT_EQ(parsed("name=v,repl=2//"), parsed("name=v,repl=2"));
  EXPECT_EQ(parsed("v/").name, "v");
  EXPECT_EQ(parsed("foo//bar/").name, "foo/bar");
  EXPECT_EQ(parsed("name=v,parent=a//b"), parsed("name=v,parent=a/b"));
  const VolumeSpec cleaned = parsed("proxy_endpoint=nfs:/host/path,name=v");
  EXPECT_EQ(cleaned, parsed("name=v,proxy_endpoint=nfs://host/path"));
  EXPECT_EQ(cleaned, parsed("name=v,proxy_endpoint=nfs://host/path/"));
  EXPECT_EQ(cleaned, parsed("name=v,proxy_endpoint=nfs://host//path"));
  EXPECT_EQ(cleaned.proxy_endpoint->host, "host");
  EXPECT_EQ(cleaned.proxy_endpoint->path, "/path");
}

TEST(Clients, SlashesInSecretsStay) {
  EXPECT_EQ(parsed("name=v,passphrase=a//b/").passphrase.reveal(), "a//b/");
  EXPECT_EQ(parsed("token=a//b/,name=v").token.reveal(), "a//b/");
}

TEST(Clients, ProxyEndpoints) {
  const VolumeSpec spec = parsed("name=v,proxy_endpoint=nfs://[fe80::1]:2049/a/b");
  EXPECT_EQ(spec.proxy_endpoint->host, "[fe80::1]");
  EXPECT_EQ(spec.proxy_endpoint->port, 2049);
  EXPECT_EQ(spec.proxy_endpoint->path, "/a/b");
  EXPECT_EQ(parsed("name=v,proxy_endpoint=nfs://h").proxy_endpoint->path, "/");
  EXPECT_THAT(refusal("name=v,proxy_endpoint=nfs://h:0/x"), HasSubstr("port"));
  EXPECT_THAT(refusal("name=v,proxy_endpoint=nfs://h:99999/x"), HasSubstr("port"));
  EXPECT_THAT(refusal("name=v,proxy_endpoint=nfs://[::1/x"), HasSubstr("'['"));
}

TEST(Clients, QuotesAroundASchedule) {
  const VolumeSpec plain = parsed("name=v,snap_schedule=periodic=60#5;daily=12:00#3");
  EXPECT_EQ(plain, parsed("name=v,snap_schedule=\"periodic=60#5;daily=12h00#3\""));
  EXPECT_EQ(plain, parsed("name=v,snap_schedule='daily=12:00#3;periodic=60#5'"));
  EXPECT_THAT(refusal("name=v,snap_schedule=\"periodic=60"), HasSubstr("snap_schedule"));
}

// ---- options ------------------------------------------------------------------------------------

TEST(Options, MeanTheSameAsInline) {
  const Result<VolumeSpec> spec =
      parse_options("v", {{"size", "2G"}, {"ha", "2"}, {"labels", "a=b,c=d"}, {"zone", "a;b"}});
  ASSERT_TRUE(spec.ok());
  EXPECT_EQ(*spec, parsed("name=v,size=2,repl=2,labels=a:b;c:d,zones=b;a"));
  const Result<VolumeSpec> mount = parse_options("v", {{"mount_options", "noatime,commit=30"}});
  ASSERT_TRUE(mount.ok());
  EXPECT_EQ(*mount, parsed("name=v,mount_options=commit:30;noatime"));
  EXPECT_EQ(*parse_options("v", {}), parsed("v"));
}

TEST(Options, GoTogetherWithAnInlineName) {
  const Result<VolumeSpec> spec = parse_options("name=v,size=2G", {{"repl", "2"}});
  ASSERT_TRUE(spec.ok());
  EXPECT_EQ(*spec, parsed("name=v,size=2,repl=2"));
  // The same value twice is no conflict, whatever its spelling.
  const Result<VolumeSpec> same = parse_options("name=v,size=2G", {{"size", "2048M"}});
  ASSERT_TRUE(same.ok());
  EXPECT_EQ(*same, parsed("name=v,size=2"));
  EXPECT_THAT(option_refusal("name=v,size=2G", {{"size", "3G"}}),
              AllOf(HasSubstr("size is given twice"), HasSubstr("\"2G\" in the name"),
                    HasSubstr("\"3G\" as an option")));
  const std::string secret =
      option_refusal("name=v,passphrase=hunter2", {{"passphrase", "correcthorse"}});
  EXPECT_THAT(secret, AllOf(HasSubstr("passphrase is given twice"), Not(HasSubstr("hunter2")),
                            Not(HasSubstr("correct"))));
}

TEST(Options, TheNameMayBeAnOption) {
  EXPECT_EQ(parse_options("", {{"name", "v"}})->name, "v");
  EXPECT_EQ(parse_options("v", {{"name", "v"}})->name, "v");
  EXPECT_THAT(option_refusal("v", {{"name", "w"}}), HasSubstr("name is given twice"));
  EXPECT_THAT(option_refusal("", {{"size", "1"}}), HasSubstr("no name"));
}

TEST(Options, AreRefusedAsInline) {
  EXPECT_THAT(option_refusal("v", {{"size", ""}}), HasSubstr("size has no value"));
  EXPECT_THAT(option_refusal("v", {{"fail", "boom"}}), HasSubstr("unknown key \"fail\""));
  EXPECT_THAT(option_refusal("v", {{"repl", "2"}, {"ha", "2"}}), HasSubstr("repl is given twice"));
  EXPECT_THAT(option_refusal("v", {{"size", "1G,repl=2"}}), HasSubstr("size=\"1G,repl=2\""));
  OptionMap many;
  for (size_t i = 0; i <= kMaxOptions; ++i) many[fmt::format("k{}", i)] = "x";
  EXPECT_THAT(option_refusal("v", many), HasSubstr("65 options"));
}

// ---- secrets ------------------------------------------------------------------------------------

TEST(Secrets, NeverStandInErrors) {
  for (const char* text : {
           "name=v,passphrase=hunter2,size=bad",      // another key is bad
           "name=v,passphrase=hunter2,passphrase=x",  // repeated
           "passphrase=hunter2,size=1",               // no name: taken for a plain name
           "pasphrase=hunter2,size=1",                // misspelled, no name
           "name=v,pasphrase=hunter2",                // misspelled
           "name=v,passphrase=a,hunter2",             // cut at its comma
           "name=v,passphrase=a,hunter2=b",           // cut at its comma, looks like an item
           "passphrase=a,hunter2,name=v",             //
           "passphrase=a,b,hunter2",                  //
           "token_secret=hunter2,token=hunter2",      //
           "name=v,secret_key=a,passphrase=hunter2",  // excluded
       }) {
    EXPECT_THAT(refusal(text), Not(HasSubstr("hunter2"))) << text;
    EXPECT_THAT(redact_inline(text), Not(HasSubstr("hunter2"))) << text;
  }
  EXPECT_THAT(refusal("name=v,passphrase=" + std::string(1025, 'q')),
              AllOf(HasSubstr("1024"), Not(HasSubstr("qq"))));
}

TEST(Secrets, AreRedactedInStrings) {
  EXPECT_EQ(redact_inline("name=v,size=1,passphrase=x,repl=2"),
            "name=v,size=1,passphrase=***,repl=2");
  EXPECT_EQ(redact_inline("plain"), "plain");
  EXPECT_EQ(redact_inline("passphrase=a,b,name=v"), "passphrase=***,***,name=v");
}

TEST(Secrets, AreWarnedAbout) {
  EXPECT_TRUE(spec_warnings(parsed("name=v,size=1,secret_key=k")).empty());
  const std::vector<std::string> warnings = spec_warnings(parsed("name=v,passphrase=hunter2"));
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_THAT(warnings[0], AllOf(HasSubstr("secret_key=NAME"), Not(HasSubstr("hunter2"))));
}

// ---- the table ----------------------------------------------------------------------------------

TEST(KeyTable, EveryDefaultIsItsOwnCanonicalText) {
  const VolumeSpec defaults;
  for (const KeyInfo& key : key_table()) {
    ASSERT_TRUE(key.parse != nullptr && key.format != nullptr) << key.name;
    const std::string text = key.format(defaults);
    if (key.key == SpecKey::kStoragePolicy) continue;  // "the cluster's"
    EXPECT_EQ(text, key.default_text) << key.name;
  }
}

TEST(KeyTable, SpellingsAreUniqueAndFound) {
  std::map<std::string_view, SpecKey> seen;
  for (const KeyInfo& key : key_table()) {
    for (const std::string_view name : {key.name, key.aliases[0], key.aliases[1]}) {
      if (name.empty()) continue;
      EXPECT_TRUE(seen.emplace(name, key.key).second) << name;
      ASSERT_NE(find_key(name), nullptr);
      EXPECT_EQ(find_key(name)->key, key.key);
    }
  }
  EXPECT_EQ(find_key(""), nullptr);
  EXPECT_EQ(find_key("siz"), nullptr);
  EXPECT_EQ(nearest_key(""), "");
}

}  // namespace
}  // namespace hf::spec
