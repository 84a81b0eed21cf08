// Records and batches: what is in the journal and not yet in the image, in memory.
//
// A batch's buffer is the one copy of its data: written to the ring, read by the overlay, written to the
// image by the drain. Batches live from their making until their drain is durable; whatever points into
// one (extent maps) is removed first.
#pragma once

#include <memory>
#include <vector>

#include "base/bytes.h"
#include "format/journal_format.h"

namespace hf {

class ReplicaImpl;
struct Segment;

struct Record {
  JournalEntry entry;  // crcs point into the batch's header
  std::shared_ptr<ReplicaImpl> replica;
  const std::byte* payload = nullptr;  // kWrite
  bool skip = false;                   // in the image already, or its replica is gone
  bool proven = false;                 // an intent that recovery found: its data was durable

  uint64_t first_block() const { return entry.offset / kBlockSize; }
  uint64_t blocks() const { return entry.length / kBlockSize; }
  bool is_intent() const { return entry.type == EntryType::kIntent; }
  bool is_data() const { return entry.type == EntryType::kWrite; }
  bool changes_content() const {
    return entry.type == EntryType::kWrite || entry.type == EntryType::kWriteZeroes;
  }
  // `block` counts from the start of the replica.
  ByteSpan block_data(uint64_t block) const {
    return {payload + (block - first_block()) * kBlockSize, kBlockSize};
  }
  uint32_t block_crc(uint64_t block) const { return entry.crcs[block - first_block()]; }
};

struct Batch {
  uint64_t sequence = 0;
  uint64_t era = 0;
  uint64_t position = 0;  // in the ring
  uint64_t end = 0;       // in the ring, behind it
  uint64_t consumed = 0;  // of the ring: header, payload, and the unused end of the ring before it
  uint32_t link = 0;
  uint64_t payload_bytes = 0;
  AlignedBuffer memory;   // header and payload
  std::vector<Record> records;  // never changes size once made
  uint64_t settled_below = 0;   // as its header says
  // Large writes of its intents that are on their way into the image: it cannot be drained before.
  uint32_t in_flight = 0;
  // Some intent's blocks are not what the intent says: no header may call it settled.
  bool doubtful = false;
  // Segments whose tables in memory have CRCs of its intents that are not on the medium: not evicted.
  std::vector<std::shared_ptr<Segment>> pinned;
};

}  // namespace hf
