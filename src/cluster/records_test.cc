#include "cluster/records.h"

#include <gtest/gtest.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/prng.h"
#include "volume/spec/inline_parser.h"

namespace hf::cluster {
namespace {

VolumeRecord full_volume() {
  VolumeRecord r;
  r.stamp.generation = 7;
  r.stamp.writer = UINT64_MAX;
  r.id = VolumeId::from_random(1, 2);
  r.name = "team/pg.main";
  r.spec = spec::parse_volume_name("name=team/pg.main,size=2G,labels=a:b,fs=xfs")->spec;
  r.created_spec = r.spec;
  r.state = LifeState::kReady;
  r.size_bytes = 2 * kGiB;
  r.created.ns = 1'790'000'000'123'456'789;
  r.parent = "x@y";
  r.epoch = 3;
  r.phase = VolumePhase::kActive;
  r.coordinator = NodeId::from_random(3, 4);
  r.coordinator_instance = 5;
  r.lineage = LineageId::from_random(5, 6);
  MemberRecord member;
  member.node = r.coordinator;
  member.pool = PoolId::from_random(7, 8);
  member.replica = ReplicaId::from_random(9, 10);
  member.left_generation = 2;
  r.members = {member};
  r.in_sync = {member.replica};
  r.fs.formatted = true;
  r.fs.uuid = r.id.to_string();
  r.fs.bytes = kGiB;
  r.resizing_to_bytes = 3 * kGiB;
  r.restoring = SnapshotId::from_random(11, 12);
  CloneSource source;
  source.volume = VolumeId::from_random(13, 14);
  source.snapshot = r.restoring;
  source.replica = member.replica;
  source.size_bytes = kGiB;
  r.source = source;
  return r;
}

// Encoding again gives the same bytes: nothing was lost on the way.
template <typename Record>
void round_trip(const Record& record) {
  const std::string text = encode_record(record);
  const Result<Record> back = decode_record<Record>("k", text);
  ASSERT_TRUE(back.ok()) << back.error().to_string();
  EXPECT_EQ(encode_record(*back), text);
}

TEST(Records, ComeBackAsTheyWere) {
  round_trip(full_volume());
  const Result<VolumeRecord> volume =
      decode_record<VolumeRecord>("k", encode_record(full_volume()));
  EXPECT_EQ(volume->spec, full_volume().spec);
  EXPECT_EQ(volume->created, full_volume().created);
  EXPECT_EQ(volume->source->size_bytes, kGiB);
  SnapshotRecord snapshot;
  snapshot.name = "s";
  snapshot.labels = {{"k", "v\n\"\xff"}};
  snapshot.state = LifeState::kDeleting;
  round_trip(snapshot);
  AttachmentRecord attachment;
  HolderRecord holder;
  holder.holder = "docker:\xe2\x82\xac";
  holder.state = HolderState::kLeaving;
  holder.count = 3;
  attachment.holders = {holder, holder};
  attachment.kind = ExportKind::kFuseLoop;
  attachment.since.ns = -1;
  round_trip(attachment);
  ScrubRecord scrub;
  scrub.last.mended_bytes = 4096;
  scrub.so_far.all_members = false;
  scrub.message = "m";
  round_trip(scrub);
  PoolRecord pool;
  pool.path = "/x";
  round_trip(pool);
  NodeRecord node;
  node.domain.region = "eu";
  node.domain.zone = "a";
  node.domain.rack = "r1";
  round_trip(node);
  EXPECT_EQ(decode_record<NodeRecord>("k", encode_record(node))->domain, node.domain);
  NameRecord name;
  name.id = "x";
  round_trip(name);
}

TEST(Records, HoldNoPassphrase) {
  VolumeRecord record = full_volume();
  record.spec.passphrase = spec::Secret("hunter2");
  record.spec.explicit_keys.insert(spec::SpecKey::kPassphrase);
  EXPECT_EQ(encode_record(record).find("hunter2"), std::string::npos);
}

TEST(Records, EveryFlippedBitIsFound) {
  const std::string good = encode_record(full_volume());
  for (size_t i = 0; i < good.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string bad = good;
      bad[i] = static_cast<char>(bad[i] ^ (1 << bit));
      const Result<VolumeRecord> read = decode_record<VolumeRecord>("k", bad);
      // Upper-case hexadecimal digits of the checksum mean the same.
      ASSERT_TRUE(!read.ok() || encode_record(*read) == good) << i;
    }
  }
  for (size_t n = 0; n < good.size(); ++n) {
    EXPECT_EQ(decode_record<VolumeRecord>("k", good.substr(0, n)).code(), ErrorCode::kCorruption)
        << n;
  }
}

std::string sealed(const std::string& kind, uint32_t version, const std::string& body) {
  const std::string head = fmt::format("{} {}\n", kind, version);
  const uint32_t crc = crc32c_extend(crc32c(as_bytes(head)), as_bytes(body));
  return fmt::format("{} {} {:08x}\n{}", kind, version, crc, body);
}

TEST(Records, NewerIsRefusedAndForeignIsDamage) {
  EXPECT_EQ(decode_record<NameRecord>("k", sealed("name", 2, "{}")).code(),
            ErrorCode::kNewerFormat);
  EXPECT_EQ(decode_record<NameRecord>("k", sealed("pool", 1, "{}")).code(), ErrorCode::kCorruption);
  for (const char* body : {"", "{", "[]", "{}", "7", R"({"stamp":{"generation":1,"writer":2}})",
                           R"({"stamp":{"generation":1,"writer":2},"id":7})",
                           R"({"stamp":{"generation":-1,"writer":2},"id":"x"})",
                           R"({"stamp":{"generation":1,"writer":2},"id":"x","more":1})"}) {
    EXPECT_EQ(decode_record<NameRecord>("k", sealed("name", 1, body)).code(),
              ErrorCode::kCorruption)
        << body;
  }
  EXPECT_TRUE(decode_record<NameRecord>(
                  "k", sealed("name", 1, R"({"stamp":{"generation":1,"writer":2},"id":"x"})"))
                  .ok());
}

TEST(Records, ThoseOfOlderVersionsAreRead) {
  SnapshotRecord snapshot;
  snapshot.fs.uuid = "u";
  const std::string now = encode_record(snapshot);
  std::string body = now.substr(now.find('\n') + 1);
  for (const std::string field : {R"("formatting":false,)", R"(,"frozen":false)"}) {
    const size_t at = body.find(field);
    ASSERT_NE(at, std::string::npos) << body;
    body.erase(at, field.size());
  }
  const Result<SnapshotRecord> read = decode_record<SnapshotRecord>("k", sealed("snapshot", 1, body));
  ASSERT_TRUE(read.ok()) << read.error().to_string();
  EXPECT_EQ(encode_record(*read), now);
  // And each version has its own fields, no others.
  EXPECT_EQ(decode_record<SnapshotRecord>("k", sealed("snapshot", 2, body)).code(), ErrorCode::kCorruption);
  EXPECT_EQ(decode_record<SnapshotRecord>("k", sealed("snapshot", 1, now.substr(now.find('\n') + 1))).code(),
            ErrorCode::kCorruption);
}

TEST(Records, ANodeOfAnOlderVersionStandsNowhere) {
  NodeRecord node;
  node.name = "n1";
  node.draining = true;
  const std::string now = encode_record(node);
  std::string body = now.substr(now.find('\n') + 1);
  const std::string fields = R"(,"region":"","zone":"","rack":"")";
  const size_t at = body.find(fields);
  ASSERT_NE(at, std::string::npos) << body;
  body.erase(at, fields.size());
  const Result<NodeRecord> read = decode_record<NodeRecord>("k", sealed("node", 2, body));
  ASSERT_TRUE(read.ok()) << read.error().to_string();
  EXPECT_EQ(encode_record(*read), now);
  EXPECT_EQ(decode_record<NodeRecord>("k", sealed("node", 3, body)).code(), ErrorCode::kCorruption);
}

TEST(Records, RandomBytesAreDamage) {
  Prng prng(1);
  for (int round = 0; round < 2000; ++round) {
    std::string text = round % 2 == 0 ? "volume 1 " : "";
    for (uint64_t n = prng.below(200); n > 0; --n)
      text.push_back(static_cast<char>(prng.below(256)));
    EXPECT_FALSE(decode_record<VolumeRecord>("k", text).ok());
  }
}

}  // namespace
}  // namespace hf::cluster
