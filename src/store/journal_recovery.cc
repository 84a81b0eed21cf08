#include "store/journal_recovery.h"

#include <cstring>

#include "base/log.h"
#include "format/segment_format.h"
#include "runtime/fault_point.h"
#include "store/mutants.h"

namespace hf {
namespace {

// What the next batch must look like.
struct Expected {
  PoolId pool;
  uint64_t sequence = 0;
  uint64_t era = 0;
  uint32_t link = 0;
};

bool fits(const BatchHeader& header, const Expected& expected, uint64_t position) {
  if (header.pool != expected.pool || header.position != position) return false;
  if (mutant(StoreMutant::kNoChainCheck)) return true;
  return header.sequence == expected.sequence && header.previous_link == expected.link &&
         (header.seal || header.era == expected.era);
}

bool payload_matches(const BatchHeader& header, ByteSpan payload) {
  if (mutant(StoreMutant::kNoPayloadCheck)) return true;
  for (const JournalEntry& entry : header.entries) {
    if (entry.type != EntryType::kWrite) continue;
    for (size_t b = 0; b < entry.crcs.size(); ++b) {
      const uint64_t at = (entry.payload_block + b) * kBlockSize;
      if (block_crc(payload.subspan(at, kBlockSize)) != entry.crcs[b]) return false;
    }
  }
  return true;
}

std::unique_ptr<Batch> to_batch(const BatchHeader& header, AlignedBuffer memory,
                                uint64_t consumed) {
  auto batch = std::make_unique<Batch>();
  batch->sequence = header.sequence;
  batch->era = header.era;
  batch->position = header.position;
  batch->end = header.position + consumed;
  batch->consumed = consumed;
  batch->link = header.link;
  batch->payload_bytes = header.payload_bytes;
  batch->settled_below = header.settled_below;
  batch->memory = std::move(memory);
  batch->records.resize(header.entries.size());
  for (size_t i = 0; i < header.entries.size(); ++i) {
    Record& record = batch->records[i];
    record.entry = header.entries[i];
    if (record.is_data()) {
      record.payload =
          batch->memory.data() + header.header_bytes + record.entry.payload_block * kBlockSize;
    }
  }
  return batch;
}

// Reads the ring through a window, so that thousands of small batches cost few reads.
class RingReader {
 public:
  RingReader(File& file, uint64_t ring_bytes) : file_(file), ring_bytes_(ring_bytes) {}

  // The bytes at `position`, fewer at the end of the ring or of the file. Valid until the next call.
  Task<Result<ByteSpan>> bytes(uint64_t position, uint64_t length) {
    length = std::min(length, ring_bytes_ - std::min(position, ring_bytes_));
    if (position < at_ || position + length > at_ + filled_) {
      const uint64_t want = std::min<uint64_t>(window_.size(), ring_bytes_ - position);
      filled_ = 0;
      Result<size_t> n =
          co_await file_.read_at(kRingOffset + position, window_.span().first(want));
      HF_CO_TRY(n);
      at_ = position;
      filled_ = *n;
      length = std::min<uint64_t>(length, filled_);
    }
    co_return ByteSpan(window_.span().subspan(position - at_, length));
  }

 private:
  File& file_;
  uint64_t ring_bytes_;
  uint64_t at_ = 0;
  uint64_t filled_ = 0;
  AlignedBuffer window_{4 * kMiB};
};

using BatchPtr = std::unique_ptr<Batch>;

// The batch at `position` if it is the expected one, else null. The error is one of the device or a
// newer format.
Task<Result<BatchPtr>> read_batch(RingReader& ring, uint64_t position, Expected expected) {
  Result<ByteSpan> first = co_await ring.bytes(position, kBlockSize);
  HF_CO_TRY(first);
  const uint32_t header_bytes = peek_batch_header_bytes(*first, expected.pool);
  if (header_bytes == 0) co_return BatchPtr();
  Result<ByteSpan> head = co_await ring.bytes(position, header_bytes);
  HF_CO_TRY(head);
  Result<BatchHeader> header = decode_batch_header(*head);
  if (header.code() == ErrorCode::kNewerFormat) co_return header.error();
  if (!header.ok() || !fits(*header, expected, position)) co_return BatchPtr();
  const uint64_t total = header->total_bytes();
  Result<ByteSpan> all = co_await ring.bytes(position, total);
  HF_CO_TRY(all);
  if (all->size() != total) co_return BatchPtr();
  AlignedBuffer memory(total);
  std::memcpy(memory.data(), all->data(), total);
  // Decoded again, so that its entries view the memory that stays.
  header = decode_batch_header(memory.span().first(header_bytes));
  if (!header.ok() || !payload_matches(*header, memory.span().subspan(header_bytes))) {
    HF_PROBE("store.torn_batch");
    co_return BatchPtr();
  }
  co_return to_batch(*header, std::move(memory), total);
}

// The lowest sequence above `sequence` of any intact batch header in the ring, and where.
struct Later {
  uint64_t sequence = 0;
  uint64_t position = 0;
};

Task<Result<std::optional<Later>>> find_later(File& file, uint64_t ring_bytes, PoolId pool,
                                              uint64_t sequence) {
  std::optional<Later> later;
  AlignedBuffer window(1 * kMiB + kMaxBatchHeader);
  for (uint64_t at = 0; at < ring_bytes; at += 1 * kMiB) {
    Result<size_t> n = co_await file.read_at(
        kRingOffset + at, window.span().first(std::min(window.size(), ring_bytes - at)));
    HF_CO_TRY(n);
    for (uint64_t b = 0; b < 1 * kMiB && b + kBlockSize <= *n; b += kBlockSize) {
      const uint32_t bytes = peek_batch_header_bytes(window.span().subspan(b, kBlockSize), pool);
      if (bytes == 0 || b + bytes > *n) continue;
      Result<BatchHeader> header = decode_batch_header(window.span().subspan(b, bytes));
      if (!header.ok() || header->position != at + b || header->sequence <= sequence) continue;
      if (!later || header->sequence < later->sequence) later = Later{header->sequence, at + b};
    }
  }
  co_return later;
}

// The highest header says of all batches before it whose intents' data was durable.
void prove_intents(JournalScan& scan) {
  uint64_t settled_below = 0;
  for (const BatchPtr& batch : scan.batches) {
    settled_below = std::max(settled_below, batch->settled_below);
  }
  for (const BatchPtr& batch : scan.batches) {
    for (Record& record : batch->records) {
      if (!record.is_intent()) continue;
      record.proven = batch->sequence < settled_below;
      batch->doubtful = batch->doubtful || !record.proven;
    }
  }
}

}  // namespace

Task<Result<JournalScan>> scan_journal(File& file, JournalCheckpoint checkpoint) {
  JournalScan scan;
  scan.checkpoint = checkpoint;
  scan.head = checkpoint.start_position;
  Expected expected;
  expected.pool = checkpoint.pool;
  expected.sequence = checkpoint.start_sequence;
  expected.era = checkpoint.era;
  expected.link = checkpoint.start_link;
  const uint64_t ring = checkpoint.ring_bytes;
  RingReader reader(file, ring);
  while (scan.used < ring) {
    uint64_t wasted = 0;
    Result<BatchPtr> batch = co_await read_batch(reader, scan.head, expected);
    HF_CO_TRY(batch);
    if (*batch == nullptr && scan.head != 0) {
      wasted = ring - scan.head;
      batch = co_await read_batch(reader, 0, expected);
      HF_CO_TRY(batch);
    }
    if (*batch == nullptr || scan.used + wasted + (*batch)->consumed > ring) break;
    BatchPtr taken = std::move(*batch);
    scan.head = taken->end;
    taken->consumed += wasted;
    scan.used += taken->consumed;
    expected.sequence = taken->sequence + 1;
    expected.era = taken->era;
    expected.link = taken->link;
    scan.batches.push_back(std::move(taken));
  }
  scan.next_sequence = expected.sequence;
  scan.era = expected.era;
  scan.link = expected.link;
  prove_intents(scan);
  if (checkpoint.clean && scan.batches.empty()) co_return scan;
  Result<std::optional<Later>> later =
      co_await find_later(file, ring, checkpoint.pool, scan.next_sequence);
  HF_CO_TRY(later);
  if (later->has_value() && !mutant(StoreMutant::kGapIgnored)) {
    co_return make_error(
        ErrorCode::kCorruption,
        "{}: batch {} at {} is broken, but batch {} behind it (at {}) is whole: acknowledged writes "
        "are damaged; look with 'holdfast pool verify'",
        file.path(), scan.next_sequence, kRingOffset + scan.head, (*later)->sequence,
        kRingOffset + (*later)->position);
  }
  co_return scan;
}

}  // namespace hf
