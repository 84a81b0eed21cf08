// The journal's structures on disk: checkpoint blocks, batch headers, entries. Pure encode and decode;
// docs/formats/store.md has every field and offset.
//
//   file:  [checkpoint 0][checkpoint 1][ring …………………………………………]
//   batch: [header, 1..8 blocks: fixed part, entries with block CRCs][payload blocks]
//
// A batch is found only by following the chain from the newest checkpoint: it must lie at the expected
// position (or at 0, where the previous one left too little room), carry the next sequence, and link to
// its predecessor's header CRC.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "base/id.h"
#include "base/stamp.h"

namespace hf {

// Version 2 added intents, and with them `settled_below`; version 3 what replication needs of an entry:
// the epoch of its commit, the absent members, and the types behind kDeleteReplica. Older journals are
// read as they are; what is written is version 3, the checkpoint first, so that an older program refuses
// the pool.
inline constexpr uint32_t kJournalVersion = 3;
inline constexpr uint32_t kJournalVersionOldest = 1;
inline constexpr uint64_t kCheckpointMagic = 0x31504b434a4c4648;  // "HFLJCKP1"
inline constexpr uint64_t kBatchMagic = 0x31484354424c4648;       // "HFLBTCH1"
inline constexpr uint64_t kCheckpointSlots = 2;
inline constexpr uint64_t kRingOffset = kCheckpointSlots * kBlockSize;  // of the ring in the file

inline constexpr size_t kBatchFixedBytes = 128;
inline constexpr size_t kEntryFixedBytes = 88;
inline constexpr size_t kSnapshotTailBytes = 40;
inline constexpr uint64_t kMaxBatchPayload = 1 * kMiB;
inline constexpr uint64_t kMaxBatchHeader = 32 * kKiB;
inline constexpr uint64_t kMaxBatchBytes = kMaxBatchPayload + kMaxBatchHeader;
inline constexpr size_t kMaxBatchEntries = 256;
// Of one entry with CRCs: a write's payload, or an intent's range.
inline constexpr uint64_t kMaxEntryBytes = 1 * kMiB;

struct JournalCheckpoint {
  PoolId pool;
  uint32_t version = kJournalVersion;  // out of decode; encode writes the present one
  uint64_t ring_bytes = 0;
  uint64_t generation = 0;      // of the checkpoint: the higher valid slot counts
  bool clean = false;           // stopped in order: nothing follows start
  uint64_t era = 0;             // of the batch before start_sequence
  uint64_t start_position = 0;  // in the ring
  uint64_t start_sequence = 0;  // oldest batch that may not be drained
  uint32_t start_link = 0;      // header CRC of the batch before it
};

// `out` is one block.
void encode_checkpoint(const JournalCheckpoint& checkpoint, MutableByteSpan out);
// kCorruption (magic, CRC, values out of range), kNewerFormat.
Result<JournalCheckpoint> decode_checkpoint(ByteSpan block);

enum class EntryType : uint8_t {
  kWrite = 1,         // payload and its CRCs
  kWriteZeroes = 2,   // also discard: the range reads as zeroes
  kIntent = 3,        // CRCs only: the data goes (or went) straight to the image; a CRC of 0: zeroes
  kSnapshot = 4,      // barrier: closes `layer`
  kDeleteReplica = 5,
  kMarkDirty = 6,     // the range is marked in the maps of `absent`
  kClearDirty = 7,    // the range is taken out of the maps of `absent`; length 0: all of it
  kCommit = 8,        // tells the commit only
};

struct JournalEntry {
  EntryType type = EntryType::kWrite;
  ReplicaId replica;
  uint64_t epoch = 0;
  uint64_t generation = 0;
  uint64_t sequence = 0;
  Stamp commit;                // highest known to be answered by all
  uint8_t absent = 0;          // slots of the members that do not get it
  uint64_t offset = 0;         // in the replica, bytes
  uint64_t length = 0;         // bytes
  uint32_t layer = 0;          // the head layer it belongs to
  uint32_t payload_block = 0;  // where in the batch's payload
  // kWrite, kIntent: one per block (block_crc's form). Views: decode points it into the bytes given,
  // encode reads it and then points it into the bytes made.
  std::span<const uint32_t> crcs;
  // kSnapshot
  SnapshotId snapshot;         // nil: only closes the layer (clone of a head)
  uint64_t snapshot_size = 0;
  int64_t created_ns = 0;
};

size_t entry_encoded_bytes(EntryType type, uint64_t length);

struct BatchHeader {
  PoolId pool;
  uint64_t era = 0;
  uint64_t sequence = 0;
  uint64_t position = 0;       // in the ring
  uint32_t header_bytes = 0;   // multiple of kBlockSize
  uint32_t payload_bytes = 0;  // multiple of kBlockSize
  uint32_t previous_link = 0;  // header CRC of the batch before
  bool seal = false;           // first of its era, written by recovery
  // The data of every intent in a batch of a lower sequence was durable when this header was made.
  uint64_t settled_below = 0;
  std::vector<JournalEntry> entries;
  uint32_t link = 0;           // its own header CRC (out of encode and decode)

  uint64_t total_bytes() const { return uint64_t{header_bytes} + payload_bytes; }
};

// Bytes of the header for entries of `entry_bytes` in all.
inline uint64_t batch_header_bytes(uint64_t entry_bytes) {
  return round_up(kBatchFixedBytes + entry_bytes, kBlockSize);
}

// `out` has header.header_bytes. Sets header.link.
void encode_batch_header(BatchHeader& header, MutableByteSpan out);
// Looks at the fixed part only: the header's length, or zero if this is no batch header of the pool.
// Not yet checked by its CRC.
uint32_t peek_batch_header_bytes(ByteSpan block, const PoolId& pool);
// `bytes` has the whole header. kCorruption, kNewerFormat. Every length is checked: entries lie within
// the header, payload references within the payload, ranges do not wrap.
Result<BatchHeader> decode_batch_header(ByteSpan bytes);


}  // namespace hf
