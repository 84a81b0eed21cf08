#include "format/journal_format.h"

#include "base/id_bytes.h"
#include "format/crc_field.h"

namespace hf {
namespace {

constexpr size_t kCheckpointCrcAt = kBlockSize - 4;
constexpr size_t kBatchCrcAt = 76;
constexpr uint32_t kFlagClean = 1;
constexpr uint32_t kFlagSeal = 1;

bool has_crcs(EntryType type) { return type == EntryType::kWrite || type == EntryType::kIntent; }

void encode_entry(JournalEntry& entry, ByteWriter& out, const std::byte* base) {
  out.put(static_cast<uint8_t>(entry.type));
  out.put(entry.absent);
  out.put_zeros(2);
  out.put(static_cast<uint32_t>(entry_encoded_bytes(entry.type, entry.length)));
  put_id(out, entry.replica);
  out.put(entry.epoch);
  out.put(entry.generation);
  out.put(entry.sequence);
  out.put(entry.commit.sequence);
  out.put(entry.offset);
  out.put(entry.length);
  out.put(entry.layer);
  out.put(entry.payload_block);
  out.put(entry.commit.epoch);
  if (has_crcs(entry.type)) {
    HF_ASSERT(entry.crcs.size() == entry.length / kBlockSize, "{} crcs for {} bytes",
              entry.crcs.size(), entry.length);
    const std::byte* at = base + out.position();
    out.put_bytes(std::as_bytes(entry.crcs));
    entry.crcs = {reinterpret_cast<const uint32_t*>(at), entry.crcs.size()};
  }
  if (entry.type == EntryType::kSnapshot) {
    put_id(out, entry.snapshot);
    out.put(entry.snapshot_size);
    out.put(entry.created_ns);
    out.put_zeros(8);
  }
}

bool known_version(uint32_t version) {
  return version >= kJournalVersionOldest && version <= kJournalVersion;
}

Error bad(std::string_view what) { return make_error(ErrorCode::kCorruption, "journal: {}", what); }

Status check_entry(const JournalEntry& entry, const BatchHeader& header) {
  if (entry.type < EntryType::kWrite || entry.type > EntryType::kCommit) {
    return bad("entry of unknown type");
  }
  if (!is_aligned(entry.offset, kBlockSize) || !is_aligned(entry.length, kBlockSize) ||
      entry.offset + entry.length < entry.offset) {
    return bad("entry range");
  }
  if (has_crcs(entry.type) && (entry.length == 0 || entry.length > kMaxEntryBytes)) {
    return bad("entry length");
  }
  if (entry.type == EntryType::kWrite &&
      uint64_t{entry.payload_block} * kBlockSize + entry.length > header.payload_bytes) {
    return bad("entry beyond the payload");
  }
  return Status();
}

// Up to version 2 a commit had no epoch and nobody was absent.
constexpr uint32_t kFirstVersionOfBooks = 3;

Result<JournalEntry> decode_entry(ByteReader& in, const BatchHeader& header, uint32_t version) {
  JournalEntry entry;
  const size_t begin = in.position();
  entry.type = static_cast<EntryType>(in.get<uint8_t>());
  entry.absent = in.get<uint8_t>();
  in.skip(2);
  const uint32_t bytes = in.get<uint32_t>();
  entry.replica = get_id<ReplicaId>(in);
  entry.epoch = in.get<uint64_t>();
  entry.generation = in.get<uint64_t>();
  entry.sequence = in.get<uint64_t>();
  entry.commit.sequence = in.get<uint64_t>();
  entry.offset = in.get<uint64_t>();
  entry.length = in.get<uint64_t>();
  entry.layer = in.get<uint32_t>();
  entry.payload_block = in.get<uint32_t>();
  entry.commit.epoch = in.get<uint64_t>();
  if (version < kFirstVersionOfBooks) {
    if (entry.type > EntryType::kDeleteReplica) return bad("entry of a later version");
    entry.commit = Stamp();
    entry.absent = 0;
  }
  if (in.failed()) return bad("entries end early");
  HF_TRY(check_entry(entry, header));
  if (bytes != entry_encoded_bytes(entry.type, entry.length)) return bad("entry size");
  if (has_crcs(entry.type)) {
    const ByteSpan crcs = in.get_bytes(entry.length / kBlockSize * 4);
    entry.crcs = {reinterpret_cast<const uint32_t*>(crcs.data()), crcs.size() / 4};
  }
  if (entry.type == EntryType::kSnapshot) {
    entry.snapshot = get_id<SnapshotId>(in);
    entry.snapshot_size = in.get<uint64_t>();
    entry.created_ns = in.get<int64_t>();
    in.skip(8);
  }
  if (in.failed() || in.position() - begin != bytes) return bad("entries end early");
  return entry;
}

}  // namespace

void encode_checkpoint(const JournalCheckpoint& checkpoint, MutableByteSpan out) {
  HF_ASSERT(out.size() == kBlockSize);
  ByteWriter w(out);
  w.put(kCheckpointMagic);
  w.put(kJournalVersion);
  w.put(checkpoint.clean ? kFlagClean : 0u);
  put_id(w, checkpoint.pool);
  w.put(checkpoint.ring_bytes);
  w.put(checkpoint.generation);
  w.put(checkpoint.era);
  w.put(checkpoint.start_position);
  w.put(checkpoint.start_sequence);
  w.put(checkpoint.start_link);
  w.put_zeros(kCheckpointCrcAt - w.position());
  w.put(crc32c(out.first(kCheckpointCrcAt)));
}

Result<JournalCheckpoint> decode_checkpoint(ByteSpan block) {
  if (block.size() != kBlockSize) return bad("short checkpoint");
  ByteReader r(block);
  if (r.get<uint64_t>() != kCheckpointMagic) return bad("no checkpoint (magic)");
  const uint32_t version = r.get<uint32_t>();
  ByteReader tail(block.subspan(kCheckpointCrcAt));
  if (tail.get<uint32_t>() != crc32c(block.first(kCheckpointCrcAt))) {
    return bad("checkpoint checksum");
  }
  if (!known_version(version)) {
    return make_error(ErrorCode::kNewerFormat, "journal version {}, this program knows {}", version,
                      kJournalVersion);
  }
  JournalCheckpoint c;
  c.version = version;
  c.clean = (r.get<uint32_t>() & kFlagClean) != 0;
  c.pool = get_id<PoolId>(r);
  c.ring_bytes = r.get<uint64_t>();
  c.generation = r.get<uint64_t>();
  c.era = r.get<uint64_t>();
  c.start_position = r.get<uint64_t>();
  c.start_sequence = r.get<uint64_t>();
  c.start_link = r.get<uint32_t>();
  if (c.ring_bytes == 0 || !is_aligned(c.ring_bytes, kBlockSize) ||
      !is_aligned(c.start_position, kBlockSize) || c.start_position > c.ring_bytes) {
    return bad("checkpoint values");
  }
  return c;
}

size_t entry_encoded_bytes(EntryType type, uint64_t length) {
  if (has_crcs(type)) return kEntryFixedBytes + length / kBlockSize * 4;
  if (type == EntryType::kSnapshot) return kEntryFixedBytes + kSnapshotTailBytes;
  return kEntryFixedBytes;
}

void encode_batch_header(BatchHeader& header, MutableByteSpan out) {
  HF_ASSERT(out.size() == header.header_bytes && header.header_bytes <= kMaxBatchHeader);
  HF_ASSERT(header.entries.size() <= kMaxBatchEntries);
  ByteWriter w(out);
  w.put(kBatchMagic);
  w.put(kJournalVersion);
  w.put(header.seal ? kFlagSeal : 0u);
  put_id(w, header.pool);
  w.put(header.era);
  w.put(header.sequence);
  w.put(header.position);
  w.put(header.header_bytes);
  w.put(header.payload_bytes);
  w.put(static_cast<uint32_t>(header.entries.size()));
  w.put(header.previous_link);
  w.put_zeros(4);  // where 72 is
  HF_ASSERT(w.position() == kBatchCrcAt, "{}", w.position());
  w.put_zeros(4);
  w.put(header.settled_below);
  w.put_zeros(kBatchFixedBytes - w.position());
  for (JournalEntry& entry : header.entries) encode_entry(entry, w, out.data());
  w.put_zeros(out.size() - w.position());
  header.link = crc_without_field(out, kBatchCrcAt);
  ByteWriter field(out.subspan(kBatchCrcAt, 4));
  field.put(header.link);
}

uint32_t peek_batch_header_bytes(ByteSpan block, const PoolId& pool) {
  ByteReader r(block);
  if (r.get<uint64_t>() != kBatchMagic) return 0;
  r.skip(8);
  if (get_id<PoolId>(r) != pool) return 0;
  r.skip(24);
  const uint32_t bytes = r.get<uint32_t>();
  if (r.failed() || bytes == 0 || !is_aligned(bytes, kBlockSize) || bytes > kMaxBatchHeader) return 0;
  return bytes;
}

Result<BatchHeader> decode_batch_header(ByteSpan bytes) {
  ByteReader r(bytes);
  if (bytes.size() < kBlockSize || r.get<uint64_t>() != kBatchMagic) return bad("no batch (magic)");
  const uint32_t version = r.get<uint32_t>();
  const uint32_t flags = r.get<uint32_t>();
  BatchHeader h;
  h.pool = get_id<PoolId>(r);
  h.era = r.get<uint64_t>();
  h.sequence = r.get<uint64_t>();
  h.position = r.get<uint64_t>();
  h.header_bytes = r.get<uint32_t>();
  h.payload_bytes = r.get<uint32_t>();
  const uint32_t count = r.get<uint32_t>();
  h.previous_link = r.get<uint32_t>();
  r.skip(4);
  h.link = r.get<uint32_t>();
  h.settled_below = r.get<uint64_t>();
  h.seal = (flags & kFlagSeal) != 0;
  if (h.header_bytes != bytes.size() || h.header_bytes > kMaxBatchHeader) return bad("batch size");
  if (crc_without_field(bytes, kBatchCrcAt) != h.link) return bad("batch header checksum");
  if (!known_version(version)) {
    return make_error(ErrorCode::kNewerFormat, "journal version {}, this program knows {}", version,
                      kJournalVersion);
  }
  if (version == 1) h.settled_below = 0;
  if (h.settled_below > h.sequence || h.payload_bytes > kMaxBatchPayload || !is_aligned(h.payload_bytes, kBlockSize) ||
      !is_aligned(h.position, kBlockSize) || count > kMaxBatchEntries) {
    return bad("batch values");
  }
  r.skip(kBatchFixedBytes - r.position());
  h.entries.reserve(count);
  for (uint32_t i = 0; i < count; ++i) {
    Result<JournalEntry> entry = decode_entry(r, h, version);
    if (!entry.ok()) return entry.error();
    h.entries.push_back(std::move(*entry));
  }
  return h;
}

}  // namespace hf
