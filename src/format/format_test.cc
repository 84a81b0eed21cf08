#include <gtest/gtest.h>

#include "base/crc32c.h"
#include "base/prng.h"
#include "format/dirty_map_format.h"
#include "format/journal_format.h"
#include "format/pool_file.h"
#include "format/segment_format.h"
#include "format/superblock_format.h"

namespace hf {
namespace {

template <typename T>
T id(uint64_t n) {
  return T::from_random(n, n + 1);
}

uint32_t u32_at(ByteSpan bytes, size_t at) {
  uint32_t v;
  std::memcpy(&v, bytes.data() + at, 4);
  return v;
}
uint64_t u64_at(ByteSpan bytes, size_t at) {
  uint64_t v;
  std::memcpy(&v, bytes.data() + at, 8);
  return v;
}

JournalCheckpoint checkpoint() {
  JournalCheckpoint c;
  c.pool = id<PoolId>(1);
  c.ring_bytes = 16 * kMiB;
  c.generation = 7;
  c.clean = true;
  c.era = 99;
  c.start_position = 8 * kBlockSize;
  c.start_sequence = 12;
  c.start_link = 0xabcd;
  return c;
}

TEST(JournalFormat, CheckpointLiesAsDocumentedAndComesBack) {
  AlignedBuffer block(kBlockSize);
  encode_checkpoint(checkpoint(), block.span());
  EXPECT_EQ(u64_at(block.span(), 0), kCheckpointMagic);
  EXPECT_EQ(u32_at(block.span(), 8), 3u);
  EXPECT_EQ(u32_at(block.span(), 12), 1u);
  EXPECT_EQ(u64_at(block.span(), 32), 16 * kMiB);
  EXPECT_EQ(u64_at(block.span(), 56), 8 * kBlockSize);
  EXPECT_EQ(u32_at(block.span(), 4092), crc32c(block.span().first(4092)));
  const Result<JournalCheckpoint> back = decode_checkpoint(block.span());
  ASSERT_TRUE(back.ok());
  EXPECT_EQ(back->generation, 7u);
  EXPECT_EQ(back->start_sequence, 12u);
  EXPECT_EQ(back->start_link, 0xabcdu);
  EXPECT_TRUE(back->clean);
}

TEST(JournalFormat, EveryFlippedBitOfACheckpointIsSeen) {
  AlignedBuffer block(kBlockSize);
  encode_checkpoint(checkpoint(), block.span());
  for (size_t bit = 0; bit < kBlockSize * 8; bit += 7) {
    block.data()[bit / 8] ^= static_cast<std::byte>(1u << bit % 8);
    EXPECT_EQ(decode_checkpoint(block.span()).code(), ErrorCode::kCorruption) << bit;
    block.data()[bit / 8] ^= static_cast<std::byte>(1u << bit % 8);
  }
}

TEST(JournalFormat, ANewerVersionIsNamed) {
  AlignedBuffer block(kBlockSize);
  encode_checkpoint(checkpoint(), block.span());
  for (const int version : {0, 1, 2, 3, 4}) {
    block.data()[8] = static_cast<std::byte>(version);
    const uint32_t crc = crc32c(block.span().first(4092));
    std::memcpy(block.data() + 4092, &crc, 4);
    const Result<JournalCheckpoint> back = decode_checkpoint(block.span());
    if (version >= 1 && version <= 3) {
      ASSERT_TRUE(back.ok()) << version;
      EXPECT_EQ(back->version, static_cast<uint32_t>(version));
    } else {
      EXPECT_EQ(back.code(), ErrorCode::kNewerFormat) << version;
    }
  }
}

BatchHeader batch(const std::vector<uint32_t>& crcs) {
  BatchHeader h;
  h.pool = id<PoolId>(1);
  h.era = 5;
  h.sequence = 77;
  h.position = 3 * kBlockSize;
  h.payload_bytes = static_cast<uint32_t>(crcs.size() * kBlockSize);
  h.previous_link = 0x1234;
  h.settled_below = 70;
  JournalEntry write;
  write.replica = id<ReplicaId>(2);
  write.epoch = 3;
  write.sequence = 4;
  write.offset = 5 * kBlockSize;
  write.length = crcs.size() * kBlockSize;
  write.layer = 6;
  write.crcs = crcs;
  JournalEntry snapshot;
  snapshot.type = EntryType::kSnapshot;
  snapshot.replica = id<ReplicaId>(2);
  snapshot.snapshot = id<SnapshotId>(9);
  snapshot.snapshot_size = 1 * kGiB;
  snapshot.created_ns = -5;
  h.entries = {write, snapshot};
  h.header_bytes = static_cast<uint32_t>(
      batch_header_bytes(entry_encoded_bytes(EntryType::kWrite, write.length) +
                         entry_encoded_bytes(EntryType::kSnapshot, 0)));
  return h;
}

TEST(JournalFormat, BatchLiesAsDocumentedAndComesBack) {
  const std::vector<uint32_t> crcs = {11, 12, 13};
  BatchHeader h = batch(crcs);
  AlignedBuffer bytes(h.header_bytes);
  encode_batch_header(h, bytes.span());
  EXPECT_EQ(u64_at(bytes.span(), 40), 77u);
  EXPECT_EQ(u64_at(bytes.span(), 48), 3 * kBlockSize);
  EXPECT_EQ(u32_at(bytes.span(), 64), 2u);
  EXPECT_EQ(u32_at(bytes.span(), 68), 0x1234u);
  EXPECT_EQ(u32_at(bytes.span(), 76), h.link);
  EXPECT_EQ(u64_at(bytes.span(), 80), 70u);
  EXPECT_EQ(u64_at(bytes.span(), 128 + 56), 5 * kBlockSize);
  EXPECT_EQ(u32_at(bytes.span(), 128 + 88), 11u);
  EXPECT_EQ(peek_batch_header_bytes(bytes.span().first(kBlockSize), h.pool), h.header_bytes);
  EXPECT_EQ(peek_batch_header_bytes(bytes.span().first(kBlockSize), id<PoolId>(8)), 0u);
  const Result<BatchHeader> back = decode_batch_header(bytes.span());
  ASSERT_TRUE(back.ok()) << back.error().to_string();
  ASSERT_EQ(back->entries.size(), 2u);
  EXPECT_EQ(back->entries[0].crcs[2], 13u);
  EXPECT_EQ(back->entries[0].layer, 6u);
  EXPECT_EQ(back->entries[1].snapshot, id<SnapshotId>(9));
  EXPECT_EQ(back->entries[1].created_ns, -5);
  EXPECT_EQ(back->link, h.link);
  EXPECT_EQ(back->settled_below, 70u);
}

TEST(JournalFormat, AnIntentHasCrcsAndNoPayload) {
  const std::vector<uint32_t> crcs = {11, 0, 13};  // the middle block is zeroes
  BatchHeader h = batch(crcs);
  h.entries.resize(1);
  h.entries[0].type = EntryType::kIntent;
  h.payload_bytes = 0;
  AlignedBuffer bytes(h.header_bytes);
  encode_batch_header(h, bytes.span());
  const Result<BatchHeader> back = decode_batch_header(bytes.span());
  ASSERT_TRUE(back.ok()) << back.error().to_string();
  EXPECT_EQ(back->entries[0].type, EntryType::kIntent);
  EXPECT_EQ(back->entries[0].crcs[1], 0u);
  EXPECT_EQ(back->entries[0].crcs[2], 13u);
}

uint32_t header_crc(ByteSpan bytes) {
  const std::byte zeroes[4] = {};
  return crc32c_extend(crc32c_extend(crc32c(bytes.first(76)), zeroes), bytes.subspan(80));
}

TEST(JournalFormat, AnEntryTellsWhoIsAbsentAndWhatAllHave) {
  const std::vector<uint32_t> crcs = {11};
  BatchHeader h = batch(crcs);
  h.entries.resize(1);
  h.entries[0].commit = {2, 900};
  h.entries[0].absent = 0b10000010;
  JournalEntry clear;
  clear.type = EntryType::kClearDirty;
  clear.absent = 0b10;
  h.entries.push_back(clear);
  AlignedBuffer bytes(h.header_bytes);
  encode_batch_header(h, bytes.span());
  EXPECT_EQ(bytes.data()[128 + 1], std::byte{0b10000010});
  EXPECT_EQ(u64_at(bytes.span(), 128 + 48), 900u);
  EXPECT_EQ(u64_at(bytes.span(), 128 + 80), 2u);
  Result<BatchHeader> back = decode_batch_header(bytes.span());
  ASSERT_TRUE(back.ok()) << back.error().to_string();
  EXPECT_EQ(back->entries[0].commit, (Stamp{2, 900}));
  EXPECT_EQ(back->entries[0].absent, 0b10000010);
  EXPECT_EQ(back->entries[1].type, EntryType::kClearDirty);
  EXPECT_EQ(back->entries[1].absent, 0b10);
  // In version 2 there was neither; nor was there such an entry.
  bytes.data()[8] = std::byte{2};
  uint32_t crc = header_crc(bytes.span());
  std::memcpy(bytes.data() + 76, &crc, 4);
  EXPECT_EQ(decode_batch_header(bytes.span()).code(), ErrorCode::kCorruption);
  h.entries.resize(1);
  encode_batch_header(h, bytes.span());
  bytes.data()[8] = std::byte{2};
  crc = header_crc(bytes.span());
  std::memcpy(bytes.data() + 76, &crc, 4);
  back = decode_batch_header(bytes.span());
  ASSERT_TRUE(back.ok()) << back.error().to_string();
  EXPECT_EQ(back->entries[0].commit, Stamp());
  EXPECT_EQ(back->entries[0].absent, 0);
}

TEST(JournalFormat, NoBatchSettlesItself) {
  const std::vector<uint32_t> crcs = {11};
  BatchHeader h = batch(crcs);
  h.settled_below = h.sequence + 1;
  AlignedBuffer bytes(h.header_bytes);
  encode_batch_header(h, bytes.span());
  EXPECT_EQ(decode_batch_header(bytes.span()).code(), ErrorCode::kCorruption);
}

TEST(JournalFormat, AnEntryBeyondThePayloadIsRefused) {
  const std::vector<uint32_t> crcs = {11, 12, 13};
  BatchHeader h = batch(crcs);
  h.payload_bytes -= kBlockSize;
  AlignedBuffer bytes(h.header_bytes);
  encode_batch_header(h, bytes.span());
  EXPECT_EQ(decode_batch_header(bytes.span()).code(), ErrorCode::kCorruption);
}

TEST(SuperblockFormat, ComesBackWithEverySnapshot) {
  Superblock s;
  s.generation = 3;
  s.volume = id<VolumeId>(1);
  s.replica = s.family = id<ReplicaId>(2);
  s.size_bytes = 10 * kGiB;
  s.segment_bytes = 16 * kMiB;
  s.head_layer = 2000;
  s.promised_epoch = 8;
  s.birth_batch = 9;
  s.config = "opaque";
  for (uint32_t i = 0; i < kSuperblockMaxSnapshots; ++i) {
    SnapshotRow row;
    row.id = id<SnapshotId>(i);
    row.layer = i + 1;
    row.size_bytes = i * kBlockSize;
    s.snapshots.push_back(row);
  }
  AlignedBuffer copy(superblock_encoded_bytes(s));
  ASSERT_LE(copy.size(), kSuperblockStride);
  encode_superblock(s, copy.span());
  EXPECT_EQ(u64_at(copy.span(), 96), 10 * kGiB);
  EXPECT_EQ(u32_at(copy.span(), 112), 2000u);
  EXPECT_EQ(u64_at(copy.span(), 120), 8u);
  const Result<Superblock> back = decode_superblock(copy.span());
  ASSERT_TRUE(back.ok()) << back.error().to_string();
  EXPECT_EQ(back->snapshots.size(), kSuperblockMaxSnapshots);
  EXPECT_EQ(back->snapshots[1000].layer, 1001u);
  EXPECT_EQ(back->config, "opaque");
  copy.data()[5000] ^= std::byte{1};
  EXPECT_EQ(decode_superblock(copy.span()).code(), ErrorCode::kCorruption);
}

TEST(SuperblockFormat, TheFirstVersionHadNoMapsAndNoEpochOfTheCommit) {
  Superblock s;
  s.generation = 1;
  s.size_bytes = 1 * kGiB;
  s.segment_bytes = 16 * kMiB;
  s.head_layer = 1;
  s.commit = {4, 17};
  s.maps = 0x101;
  AlignedBuffer copy(superblock_encoded_bytes(s));
  encode_superblock(s, copy.span());
  EXPECT_EQ(u64_at(copy.span(), 128), 17u);
  EXPECT_EQ(u64_at(copy.span(), 160), 4u);
  EXPECT_EQ(u32_at(copy.span(), 168), 0x101u);
  Result<Superblock> back = decode_superblock(copy.span());
  ASSERT_TRUE(back.ok());
  EXPECT_EQ(back->commit, (Stamp{4, 17}));
  EXPECT_EQ(back->maps, 0x101u);
  for (const int version : {1, 3}) {
    copy.data()[8] = static_cast<std::byte>(version);
    const std::byte zeroes[4] = {};
    const uint32_t crc = crc32c_extend(crc32c_extend(crc32c(copy.span().first(16)), zeroes),
                                       copy.span().subspan(20));
    std::memcpy(copy.data() + 16, &crc, 4);
    back = decode_superblock(copy.span());
    if (version == 3) {
      EXPECT_EQ(back.code(), ErrorCode::kNewerFormat);
      continue;
    }
    ASSERT_TRUE(back.ok());
    EXPECT_EQ(back->commit, Stamp());
    EXPECT_EQ(back->maps, 0u);
  }
}

// --- dirty maps ---------------------------------------------------------------------------------------

TEST(DirtyMapFormat, LiesAsDocumentedAndComesBack) {
  DirtyMapPlace place;
  place.replica = id<ReplicaId>(5);
  place.slot = 3;
  place.page = 7;
  DirtyMapPage page;
  page.generation = 12;
  page.newest = {4, 1000};
  page.set(0, 1, true);
  page.set(60, 70, true);
  page.set(100, 2, false);
  page.set(kUnitsPerPage - 1, 1, true);
  EXPECT_EQ(page.count(), 70u);
  EXPECT_EQ(page.find(1, true), 60u);
  EXPECT_EQ(page.find(60, false), 100u);
  EXPECT_EQ(page.find(100, true), 102u);
  EXPECT_EQ(page.find(130, true), kUnitsPerPage - 1);
  EXPECT_EQ(page.find(kUnitsPerPage - 1, false), kUnitsPerPage);
  AlignedBuffer block(kBlockSize);
  encode_dirty_map_page(page, place, block.span());
  EXPECT_EQ(u64_at(block.span(), 0), kDirtyMapMagic);
  EXPECT_EQ(u32_at(block.span(), 8), 1u);
  EXPECT_EQ(u32_at(block.span(), 12), 3u);
  EXPECT_EQ(u64_at(block.span(), 32), 7u);
  EXPECT_EQ(u64_at(block.span(), 40), 12u);
  EXPECT_EQ(u64_at(block.span(), 48), 4u);
  EXPECT_EQ(u64_at(block.span(), 56), 1000u);
  EXPECT_EQ(u32_at(block.span(), 64), 70u);
  EXPECT_EQ(u64_at(block.span(), 88), uint64_t{1} | uint64_t{0xf} << 60);
  const Result<DirtyMapPage> back = decode_dirty_map_page(block.span(), place);
  ASSERT_TRUE(back.ok()) << back.error().to_string();
  EXPECT_EQ(*back, page);
  for (size_t bit = 0; bit < kBlockSize * 8; bit += 11) {
    block.data()[bit / 8] ^= static_cast<std::byte>(1u << bit % 8);
    EXPECT_FALSE(decode_dirty_map_page(block.span(), place).ok()) << bit;
    block.data()[bit / 8] ^= static_cast<std::byte>(1u << bit % 8);
  }
}

TEST(DirtyMapFormat, APageOfAnotherPlaceIsBrokenAndAHoleIsEmpty) {
  DirtyMapPlace place;
  place.replica = id<ReplicaId>(5);
  place.slot = 3;
  place.page = 7;
  DirtyMapPage page;
  page.generation = 1;
  AlignedBuffer block(kBlockSize);
  encode_dirty_map_page(page, place, block.span());
  DirtyMapPlace other = place;
  other.page = 8;
  EXPECT_EQ(decode_dirty_map_page(block.span(), other).code(), ErrorCode::kCorruption);
  other = place;
  other.slot = 2;
  EXPECT_EQ(decode_dirty_map_page(block.span(), other).code(), ErrorCode::kCorruption);
  other = place;
  other.replica = id<ReplicaId>(6);
  EXPECT_EQ(decode_dirty_map_page(block.span(), other).code(), ErrorCode::kCorruption);
  std::memset(block.data(), 0, kBlockSize);
  const Result<DirtyMapPage> empty = decode_dirty_map_page(block.span(), place);
  ASSERT_TRUE(empty.ok());
  EXPECT_EQ(*empty, DirtyMapPage());
  EXPECT_EQ(dirty_map_name(3), "dirty-3.map");
  EXPECT_EQ(dirty_map_name(kWindowSlot), "window.map");
}

TEST(SegmentFormat, NamesSortLikeTheImageAndParseStrictly) {
  EXPECT_EQ(segment_name(12, 3), "00000012.000003");
  EXPECT_EQ(parse_segment_name("00000012.000003"), (SegmentKey{12, 3}));
  EXPECT_EQ(parse_segment_name(segment_name(4'000'000'000, 3'000'000)),
            (SegmentKey{4'000'000'000, 3'000'000}));
  for (const char* bad : {"", "12.3", "00000012", "00000012.", "00000012.000003.tmp", "x.y",
                          "00000012.00000x", "0000001200.000003"}) {
    EXPECT_FALSE(parse_segment_name(bad)) << bad;
  }
}

SegmentGeometry geometry() {
  SegmentGeometry g;
  g.segment_bytes = 16 * kMiB;
  return g;
}

TEST(SegmentFormat, ATornPageFallsBackToTheOtherCopy) {
  const SegmentGeometry g = geometry();
  CrcTable table(g, id<ReplicaId>(1), 4);
  table.initialise();
  AlignedBuffer disk(g.tables_bytes());
  table.encode_fresh(disk.span());
  const auto write_page = [&](uint32_t page) {
    table.seal(page);
    std::memcpy(disk.data() + (g.page_offset(page, table.target_copy(page)) - g.segment_bytes),
                table.page_bytes(page).data(), kBlockSize);
    table.commit(page);
  };
  table.set(5, 77);
  write_page(0);
  table.set(6, 88);
  write_page(0);
  CrcTable again(g, id<ReplicaId>(1), 4);
  EXPECT_TRUE(again.load(disk.span()).doubtful.empty());
  EXPECT_EQ(again.get(6), 88u);
  // Tear the newer copy: the older one has the first change, not the second.
  const uint32_t newer = 1 - again.target_copy(0);
  disk.data()[g.page_offset(0, newer) - g.segment_bytes + 2000] ^= std::byte{1};
  const CrcTable::Loaded loaded = again.load(disk.span());
  EXPECT_EQ(loaded.doubtful, (std::vector<uint32_t>{0}));
  EXPECT_EQ(again.get(5), 77u);
  EXPECT_EQ(again.get(6), 0u);
}

TEST(SegmentFormat, KnowsWhichBlocksHaveACrc) {
  SegmentGeometry g;
  g.segment_bytes = 16 * kMiB;
  CrcTable table(g, id<ReplicaId>(1), 4);
  table.initialise();
  const auto agrees = [&g](const CrcTable& t) {
    for (uint32_t b = 0; b < g.blocks(); ++b) {
      if (t.has(b) != (t.get(b) != 0)) return false;
    }
    return true;
  };
  for (const uint32_t b : {0u, 63u, 64u, 1019u, 1020u, 4095u}) table.set(b, b + 1);
  table.set(64, 0);
  table.set(1020, kPoisonCrc);
  table.prefetch(4064, 32);
  EXPECT_TRUE(table.has(63) && !table.has(64) && table.has(1020) && table.has(4095));
  EXPECT_TRUE(agrees(table));
  AlignedBuffer both(g.tables_bytes());
  table.encode_fresh(both.span());  // all entries 0
  for (uint32_t page = 0; page < g.pages(); ++page) {
    table.seal(page);
    const uint64_t at = table.target_copy(page) * g.copy_bytes() + page * kBlockSize;
    std::memcpy(both.data() + at, table.page_bytes(page).data(), kBlockSize);
  }
  CrcTable again(g, id<ReplicaId>(1), 4);
  EXPECT_TRUE(again.load(both.span()).broken.empty());
  EXPECT_TRUE(again.has(0) && again.has(4095) && agrees(again));
  CrcTable copied(g, id<ReplicaId>(1), 4);
  copied.copy_from(again);
  EXPECT_TRUE(copied.has(4095) && agrees(copied));
  std::memset(both.data(), 1, both.size());
  EXPECT_EQ(copied.load(both.span()).broken.size(), g.pages());
  EXPECT_TRUE(copied.has(1) && agrees(copied)) << "poison is an entry";
}

TEST(SegmentFormat, APageOfAnotherPlaceIsBroken) {
  const SegmentGeometry g = geometry();
  CrcTable table(g, id<ReplicaId>(1), 4);
  table.initialise();
  AlignedBuffer disk(g.tables_bytes());
  table.encode_fresh(disk.span());
  CrcTable other_segment(g, id<ReplicaId>(1), 5);
  EXPECT_EQ(other_segment.load(disk.span()).broken.size(), g.pages());
  EXPECT_EQ(other_segment.get(0), kPoisonCrc);
  CrcTable other_family(g, id<ReplicaId>(2), 4);
  EXPECT_EQ(other_family.load(disk.span()).broken.size(), g.pages());
}

TEST(SegmentFormat, NoBlockHasTheReservedValues) {
  Prng prng(1);
  AlignedBuffer block(kBlockSize);
  for (int i = 0; i < 1000; ++i) {
    for (size_t w = 0; w < kBlockSize; w += 8) {
      const uint64_t v = prng.next();
      std::memcpy(block.data() + w, &v, 8);
    }
    EXPECT_NE(block_crc(block.span()), 0u);
    EXPECT_NE(block_crc(block.span()), kPoisonCrc);
  }
}

TEST(PoolFileFormat, ComesBackAndShowsChanges) {
  PoolFile file;
  file.pool = id<PoolId>(1);
  file.cluster = id<ClusterId>(2);
  file.node = id<NodeId>(3);
  std::string text = encode_pool_file(file);
  const Result<PoolFile> back = decode_pool_file(text);
  ASSERT_TRUE(back.ok()) << back.error().to_string();
  EXPECT_EQ(back->cluster, file.cluster);
  std::string changed = text;
  changed[text.find("\"pool\": \"") + 10] ^= 1;
  EXPECT_EQ(decode_pool_file(changed).code(), ErrorCode::kCorruption);
  std::string newer = text;
  newer.replace(newer.find("\"format\": 1"), 11, "\"format\": 2");
  EXPECT_EQ(decode_pool_file(newer).code(), ErrorCode::kNewerFormat);
  EXPECT_EQ(decode_pool_file("{}").code(), ErrorCode::kCorruption);
  EXPECT_EQ(decode_pool_file("").code(), ErrorCode::kCorruption);
}

}  // namespace
}  // namespace hf
