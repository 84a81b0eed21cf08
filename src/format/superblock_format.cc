#include "format/superblock_format.h"

#include "base/id_bytes.h"
#include "format/crc_field.h"
#include "format/segment_format.h"

namespace hf {
namespace {

constexpr size_t kCrcAt = 16;

Error bad(std::string_view what) {
  return make_error(ErrorCode::kCorruption, "superblock: {}", what);
}

Status check_values(const Superblock& s) {
  if (s.size_bytes == 0 || !is_aligned(s.size_bytes, kBlockSize)) return bad("size");
  if (s.segment_bytes < kMinSegmentBytes || s.segment_bytes > kMaxSegmentBytes ||
      !is_aligned(s.segment_bytes, kBlockSize) ||
      s.size_bytes / s.segment_bytes >= (uint64_t{1} << 31)) {
    return bad("segment size");
  }
  uint32_t last = 0;
  for (const SnapshotRow& row : s.snapshots) {
    if (row.layer <= last || row.layer >= s.head_layer) return bad("layers of snapshots");
    last = row.layer;
  }
  return Status();
}

}  // namespace

size_t superblock_encoded_bytes(size_t snapshots) {
  return round_up(kSuperblockFixedBytes + kSuperblockMaxConfig + snapshots * kSnapshotRowBytes,
                  kBlockSize);
}

void encode_superblock(const Superblock& s, MutableByteSpan out) {
  HF_ASSERT(out.size() == superblock_encoded_bytes(s) && out.size() <= kSuperblockStride);
  HF_ASSERT(s.config.size() <= kSuperblockMaxConfig, "{}", s.config.size());
  HF_ASSERT(s.snapshots.size() <= kSuperblockMaxSnapshots, "{}", s.snapshots.size());
  ByteWriter w(out);
  w.put(kSuperblockMagic);
  w.put(kSuperblockVersion);
  w.put(static_cast<uint32_t>(out.size()));
  w.put_zeros(4);  // CRC
  w.put_zeros(4);
  w.put(s.generation);
  put_id(w, s.volume);
  put_id(w, s.replica);
  put_id(w, s.lineage);
  put_id(w, s.family);
  w.put(s.size_bytes);
  w.put(s.segment_bytes);
  w.put(s.head_layer);
  w.put_zeros(4);
  w.put(s.promised_epoch);
  w.put(s.commit.sequence);
  w.put(s.birth_batch);
  w.put(s.created_ns);
  w.put(static_cast<uint32_t>(s.config.size()));
  w.put(static_cast<uint32_t>(s.snapshots.size()));
  w.put(s.commit.epoch);
  w.put(s.maps);
  w.put_zeros(kSuperblockFixedBytes - w.position());
  w.put_bytes(as_bytes(s.config));
  w.put_zeros(kSuperblockMaxConfig - s.config.size());
  for (const SnapshotRow& row : s.snapshots) {
    put_id(w, row.id);
    w.put(row.layer);
    w.put_zeros(4);
    w.put(row.size_bytes);
    w.put(row.created_ns);
    w.put(row.epoch);
    w.put(row.sequence);
    w.put_zeros(8);
  }
  w.put_zeros(out.size() - w.position());
  ByteWriter field(out.subspan(kCrcAt, 4));
  field.put(crc_without_field(out, kCrcAt));
}

uint32_t superblock_bytes_hint(ByteSpan start) {
  ByteReader r(start);
  r.skip(12);
  return r.get<uint32_t>();
}

Result<Superblock> decode_superblock(ByteSpan slot) {
  ByteReader r(slot);
  if (r.get<uint64_t>() != kSuperblockMagic) return bad("magic");
  const uint32_t version = r.get<uint32_t>();
  const uint32_t bytes = r.get<uint32_t>();
  const uint32_t crc = r.get<uint32_t>();
  r.skip(4);
  if (r.failed() || bytes < kBlockSize || !is_aligned(bytes, kBlockSize) ||
      bytes > kSuperblockStride || bytes > slot.size()) {
    return bad("size of the copy");
  }
  if (crc_without_field(slot.first(bytes), kCrcAt) != crc) return bad("checksum");
  if (version < kSuperblockVersionOldest || version > kSuperblockVersion) {
    return make_error(ErrorCode::kNewerFormat, "superblock version {}, this program knows {}",
                      version, kSuperblockVersion);
  }
  Superblock s;
  s.generation = r.get<uint64_t>();
  s.volume = get_id<VolumeId>(r);
  s.replica = get_id<ReplicaId>(r);
  s.lineage = get_id<LineageId>(r);
  s.family = get_id<ReplicaId>(r);
  s.size_bytes = r.get<uint64_t>();
  s.segment_bytes = r.get<uint64_t>();
  s.head_layer = r.get<uint32_t>();
  r.skip(4);
  s.promised_epoch = r.get<uint64_t>();
  s.commit.sequence = r.get<uint64_t>();
  s.birth_batch = r.get<uint64_t>();
  s.created_ns = r.get<int64_t>();
  const uint32_t config_bytes = r.get<uint32_t>();
  const uint32_t snapshots = r.get<uint32_t>();
  if (config_bytes > kSuperblockMaxConfig || snapshots > kSuperblockMaxSnapshots) {
    return bad("counts");
  }
  s.commit.epoch = r.get<uint64_t>();
  s.maps = r.get<uint32_t>();
  if (version == 1) {  // a commit without an epoch says nothing
    s.commit = Stamp();
    s.maps = 0;
  }
  r.skip(kSuperblockFixedBytes - r.position());
  const ByteSpan config = r.get_bytes(config_bytes);
  s.config.assign(reinterpret_cast<const char*>(config.data()), config.size());
  r.skip(kSuperblockMaxConfig - config_bytes);
  for (uint32_t i = 0; i < snapshots && !r.failed(); ++i) {
    SnapshotRow row;
    row.id = get_id<SnapshotId>(r);
    row.layer = r.get<uint32_t>();
    r.skip(4);
    row.size_bytes = r.get<uint64_t>();
    row.created_ns = r.get<int64_t>();
    row.epoch = r.get<uint64_t>();
    row.sequence = r.get<uint64_t>();
    r.skip(8);
    s.snapshots.push_back(row);
  }
  if (r.failed() || r.position() > bytes) return bad("ends early");
  HF_TRY(check_values(s));
  return s;
}

}  // namespace hf
