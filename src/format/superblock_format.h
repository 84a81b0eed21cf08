// The superblock of a replica: who it is, its size, its layers and snapshots, and what it promised.
// Two copies in the file `replica`, at 0 and at kSuperblockStride, written one after the other; the
// valid one with the higher generation counts. docs/formats/store.md has every offset.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "base/id.h"
#include "base/stamp.h"

namespace hf {

// Version 2 added the epoch of the commit and `maps`.
inline constexpr uint32_t kSuperblockVersion = 2;
inline constexpr uint32_t kSuperblockVersionOldest = 1;
inline constexpr uint64_t kSuperblockMagic = 0x314c5052464848ff;
inline constexpr uint64_t kSuperblockStride = 128 * kKiB;
inline constexpr size_t kSuperblockFixedBytes = 192;
inline constexpr size_t kSnapshotRowBytes = 64;
inline constexpr size_t kSuperblockMaxSnapshots = 1024;
inline constexpr size_t kSuperblockMaxConfig = 4 * kKiB;

struct SnapshotRow {
  SnapshotId id;
  uint32_t layer = 0;  // highest layer that it sees
  uint64_t size_bytes = 0;
  int64_t created_ns = 0;
  uint64_t epoch = 0;
  uint64_t sequence = 0;
};

struct Superblock {
  Superblock() = default;
  uint64_t generation = 0;
  VolumeId volume;
  ReplicaId replica;
  LineageId lineage;
  ReplicaId family;          // replica id of the oldest ancestor whose segment files may be shared
  uint64_t size_bytes = 0;
  uint64_t segment_bytes = 0;
  uint32_t head_layer = 0;   // files of lower layers are immutable
  uint64_t promised_epoch = 0;
  Stamp commit;              // highest known to be answered by all when this was written
  uint32_t maps = 0;         // bit n: the map of slot n has a file (dirty_map_format.h)
  uint64_t birth_batch = 0;  // journal records of earlier batches are not this replica's
  int64_t created_ns = 0;
  std::string config;
  std::vector<SnapshotRow> snapshots;  // by layer, ascending
};

// Bytes of the encoded copy with so many snapshots, a multiple of kBlockSize, at most
// kSuperblockStride.
size_t superblock_encoded_bytes(size_t snapshots);
inline size_t superblock_encoded_bytes(const Superblock& superblock) {
  return superblock_encoded_bytes(superblock.snapshots.size());
}
// `out` has superblock_encoded_bytes().
void encode_superblock(const Superblock& superblock, MutableByteSpan out);
// What the copy says its size is; unchecked, to know how much to read.
uint32_t superblock_bytes_hint(ByteSpan start);
// `slot` is a whole slot or at least the copy. kCorruption, kNewerFormat.
Result<Superblock> decode_superblock(ByteSpan slot);

}  // namespace hf
