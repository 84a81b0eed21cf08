// Reading and writing: overlay, then image; writes through the journal.
#include <algorithm>
#include <cstring>
#include <deque>

#include "base/log.h"
#include "runtime/fault_point.h"
#include "store/mutants.h"
#include "store/pool_impl.h"
#include "store/replica_impl.h"

namespace hf {
namespace {

constexpr int kMaxReadAttempts = 64;
constexpr size_t kMaxCorruptRemembered = 4096;
// A file system may be made or grown while its pool is full.
constexpr Duration kVitalsKept = 10s;

bool matches(ByteSpan data, const CrcTable& table, uint32_t block) {
  if (mutant(StoreMutant::kNoReadCrc)) return true;
  for (size_t at = 0; at < data.size(); at += kBlockSize, ++block) {
    if (block_crc(data.subspan(at, kBlockSize)) != table.get(block)) return false;
  }
  return true;
}

}  // namespace

Status ReplicaImpl::check_range(uint64_t offset, uint64_t length, uint64_t limit) const {
  if (!is_aligned(offset, kBlockSize) || !is_aligned(length, kBlockSize) || offset > limit ||
      length > limit - offset) {
    return make_error(ErrorCode::kInvalidArgument,
                      "replica {}: range {}+{} is not in whole blocks inside {} bytes",
                      id().to_string(), offset, length, limit);
  }
  return Status();
}

Status ReplicaImpl::check_header(const WriteHeader& header) const {
  if (header.epoch != promised_) {
    return make_error(ErrorCode::kFenced, "replica {}: write of epoch {}, but {} is promised",
                      id().to_string(), header.epoch, promised_);
  }
  return Status();
}

WriteHeader ReplicaImpl::internal_header() const {
  WriteHeader header;
  header.epoch = promised_;
  return header;
}

Status ReplicaImpl::flush() { return pool_.check_running(); }

// --- write ------------------------------------------------------------------------------------------

Task<Status> ReplicaImpl::write(WriteHeader header, uint64_t offset, ByteSpan data) {
  co_return co_await write_entries(header, EntryType::kWrite, offset, data.size(), data);
}

Task<Status> ReplicaImpl::write_zeroes(WriteHeader header, uint64_t offset, uint64_t length) {
  co_return co_await write_entries(header, EntryType::kWriteZeroes, offset, length, ByteSpan());
}

Task<Status> ReplicaImpl::discard(WriteHeader header, uint64_t offset, uint64_t length) {
  co_return co_await write_entries(header, EntryType::kWriteZeroes, offset, length, ByteSpan());
}

Task<Status> ReplicaImpl::write_entries(WriteHeader header, EntryType type, uint64_t offset,
                                        uint64_t length, ByteSpan data) {
  Gate::Pass pass(gate_);
  if (!pass) co_return make_error(ErrorCode::kClosed, "replica {} is closed", id().to_string());
  Status running = pool_.check_running();
  HF_CO_TRY(running);
  Status range = check_range(offset, length, size());
  HF_CO_TRY(range);
  if (length == 0) co_return Status();
  const uint64_t first = offset / kBlockSize, count = length / kBlockSize;
  // One behind the other: the calls keep their order until they are queued.
  if (!pool_.admission().try_lock()) co_await pool_.admission().lock();
  MutexGuard admission(pool_.admission());
  HeldWrite held;
  held.first = first;
  held.count = count;
  if (!held_.empty() || (type == EntryType::kWrite && !pool_.has_room(*this, first, count))) {
    Status admitted = co_await wait_for_admission(header, type, held, data);
    held.unlink();
    held_changed_.notify_all();  // they wait for the admission, until this one is queued
    HF_CO_TRY(admitted);
  }
  while (restoring_ || must_wait_for_direct(first, count)) {
    if (restoring_) {
      co_await resumed_.wait();
    } else {
      HF_PROBE("store.write_waits_for_direct");
      co_await direct_.wait_clear(first, count);
    }
  }
  Status fence = check_header(header);
  HF_CO_TRY(fence);
  range = check_range(offset, length, size());  // a restore may have changed it
  HF_CO_TRY(range);
  Gate::Pass appending(appends_);
  HF_ASSERT(appending);
  if (type == EntryType::kWrite && is_large(length, pool_.config().large_write_bytes)) {
    if (all_zero(data)) {
      type = EntryType::kWriteZeroes;
      data = ByteSpan();
    } else {
      DirectPlan plan;
      bool direct = co_await plan_direct(first, count, &plan);
      follow_stream(first, count);
      if (direct) co_return co_await write_direct(header, offset, data, plan, admission);
    }
  }
  QueuedRange queued;
  queued.first = first;
  queued.count = count;
  queued_.push_back(queued);
  std::deque<Append> appends;
  enqueue_entries(appends, header, type, offset, length, data, {});
  admission.unlock();
  Status status;
  for (Append& append : appends) {
    co_await append.done.wait();
    if (!append.status.ok() && status.ok()) status = append.status;
  }
  if (status.ok()) {
    ++stats_.writes;
    stats_.written_bytes += length;
  }
  co_return status;
}

bool ReplicaImpl::must_wait_for_held(const HeldWrite& held) {
  if (mutant(StoreMutant::kWritePassesHeld)) return false;
  bool before = true, found = false;
  held_.for_each([&](HeldWrite& other) {
    before = before && &other != &held;
    found = found || (before && other.overlaps(held.first, held.count));
  });
  return found;
}

// Nobody else waits for it: the admission is given up meanwhile.
Task<Status> ReplicaImpl::wait_for_admission(const WriteHeader& header, EntryType type,
                                             HeldWrite& held, ByteSpan data) {
  const uint64_t promises = promises_;
  Status status;
  for (;;) {
    const bool behind = must_wait_for_held(held);
    Admit admit = Admit::kYes;
    if (behind) {
      HF_PROBE("store.write_waits_for_held");
      admit = Admit::kWait;
    } else if (type == EntryType::kWrite) {
      Result<Admit> judged =
          co_await pool_.admit(*this, held.first, data, held.for_room ? &held : nullptr);
      if (!judged.ok()) status = judged.error();
      if (judged.ok()) admit = *judged;
    }
    if (status.ok() && admit == Admit::kNo) status = pool_.no_space();
    if (!status.ok() || admit == Admit::kYes) break;
    if (!held.is_linked()) held_.push_back(held);
    if (!behind && !held.for_room) pool_.hold(held);
    pool_.admission().unlock();
    if (behind) {
      co_await held_changed_.wait();
    } else if (pool_.holds_back()) {
      co_await pool_.room_may_have_come();
    }
    co_await pool_.admission().lock();
    status = may_still_wait(header, promises);
    if (!status.ok()) break;
  }
  if (held.for_room) pool_.let_go(held);
  co_return status;
}

Status ReplicaImpl::may_still_wait(const WriteHeader& header, uint64_t promises) const {
  HF_TRY(pool_.check_running());
  HF_TRY(check_header(header));
  if (gate_.is_closed()) {
    return make_error(ErrorCode::kClosed, "replica {} is closed", id().to_string());
  }
  if (promises != promises_) {
    HF_PROBE("store.promise_ends_wait");
    return make_error(ErrorCode::kConflict,
                      "replica {}: promised anew while a write waited for room", id().to_string());
  }
  return Status();
}

bool ReplicaImpl::must_wait_for_direct(uint64_t first, uint64_t count) const {
  return !direct_.empty() && direct_.overlaps(first, count) &&
         !mutant(StoreMutant::kWritePassesDirect);
}

void ReplicaImpl::begin_entry(Append& append, const WriteHeader& header, EntryType type) {
  JournalEntry& entry = append.entry;
  entry.type = type;
  entry.replica = id();
  entry.epoch = header.epoch;
  entry.generation = header.generation;
  entry.sequence = header.sequence;
  entry.commit = header.commit;
  entry.layer = write_layer_;
  append.replica = shared_from_this();
}

void ReplicaImpl::enqueue_entries(std::deque<Append>& appends, const WriteHeader& header,
                                  EntryType type, uint64_t offset, uint64_t length, ByteSpan data,
                                  std::span<const uint32_t> crcs) {
  const uint64_t piece = type == EntryType::kWriteZeroes ? length : kMaxEntryBytes;
  for (uint64_t at = 0; at < length; at += piece) {
    Append& append = appends.emplace_back();
    begin_entry(append, header, type);
    JournalEntry& entry = append.entry;
    entry.absent = header.absent;
    entry.offset = offset + at;
    entry.length = std::min(piece, length - at);
    if (type == EntryType::kWrite) append.payload = data.subspan(at, entry.length);
    if (type == EntryType::kIntent) {
      entry.crcs = crcs.subspan(at / kBlockSize, entry.length / kBlockSize);
    }
    pool_.writer().enqueue(append);
  }
}

Task<Status> ReplicaImpl::wait_appended(std::deque<Append>& appends) {
  Status status;
  for (Append& append : appends) {
    co_await append.done.wait();
    if (!append.status.ok() && status.ok()) status = append.status;
  }
  co_return status;
}

void ReplicaImpl::on_durable(const Record& record) {
  if (record.changes_content()) {
    overlay_.insert(record);
  } else if (record.entry.type == EntryType::kSnapshot) {
    write_layer_ = std::max(write_layer_, record.entry.layer + 1);
    if (record.entry.snapshot.is_nil()) return;
    SnapshotRow row;
    row.id = record.entry.snapshot;
    row.layer = record.entry.layer;
    row.size_bytes = record.entry.snapshot_size;
    row.created_ns = record.entry.created_ns;
    row.epoch = record.entry.epoch;
    row.sequence = record.entry.sequence;
    pending_.push_back(row);
  }
}

// --- read -------------------------------------------------------------------------------------------

// Most reads lie in one open segment whose blocks all have data, and nothing of them waits in the journal:
// one direct read into the caller's memory, from this one frame. Everything else, and whatever does not
// match, goes the long way, which judges.
// The CRCs are those of after the read, when they are in the processor's cache: content that matches its
// block's entry was the block's at some moment between, whatever the drain has done to both meanwhile.
Task<Status> ReplicaImpl::read(uint64_t offset, MutableByteSpan out) {
  Gate::Pass pass(gate_);
  if (!pass) co_return make_error(ErrorCode::kClosed, "replica {} is closed", id().to_string());
  Status done = check_range(offset, out.size(), size());
  HF_CO_TRY(done);
  DirectRead plan;
  bool answered = false;
  if (plan_direct_read(offset, out, &plan)) {
    answered = plan.zeroes;
    if (!plan.zeroes) {
      Result<size_t> got = co_await plan.segment->file->read_at(plan.first * kBlockSize, out);
      HF_CO_TRY(got);
      answered = *got == out.size() && matches(out, plan.segment->table, plan.first);
    }
  }
  if (!answered && aligned_memory(out.data())) {
    done = co_await read_aligned(offset, out);
  } else if (!answered) {
    AlignedBuffer bounce(out.size());
    done = co_await read_aligned(offset, bounce.span());
    if (done.ok() && !out.empty()) std::memcpy(out.data(), bounce.data(), out.size());
  }
  if (done.ok()) {
    ++stats_.reads;
    stats_.read_bytes += out.size();
  }
  co_return done;
}

bool ReplicaImpl::plan_direct_read(uint64_t offset, MutableByteSpan out, DirectRead* plan) {
  const uint64_t block = offset / kBlockSize, blocks = out.size() / kBlockSize;
  const uint64_t inside = block % blocks_per_segment();
  if (!loaded_ || blocks == 0 || blocks > DirectRead::kMaxBlocks ||
      inside + blocks > blocks_per_segment() || !aligned_memory(out.data())) {
    return false;
  }
  bool in_overlay = must_wait_to_read(block, blocks);
  if (!overlay_.empty()) {
    overlay_.visit(block, blocks, [&in_overlay](uint64_t, uint64_t, const Record* record) {
      in_overlay = in_overlay || record != nullptr;
    });
  }
  if (in_overlay) return false;
  const std::optional<SegmentKey> key =
      map_.visible(static_cast<uint32_t>(block / blocks_per_segment()), superblock_.head_layer);
  if (key) plan->segment = pool_.cache().find(place_, *key);
  if (key && plan->segment == nullptr) return false;
  plan->first = static_cast<uint32_t>(inside);
  uint32_t holes = static_cast<uint32_t>(blocks);
  if (key) {
    const CrcTable& table = plan->segment->table;
    table.prefetch(plan->first, holes);
    for (uint32_t i = 0; i < blocks; ++i) holes -= table.has(plan->first + i) ? 1 : 0;
  }
  plan->zeroes = holes == blocks;
  if (plan->zeroes) std::memset(out.data(), 0, out.size());
  return plan->zeroes || holes == 0;
}

bool ReplicaImpl::must_wait_to_read(uint64_t first, uint64_t count) const {
  return !direct_.empty() && direct_.overlaps(first, count) &&
         !mutant(StoreMutant::kReadPassesDirect);
}

namespace {

struct Gap {
  uint64_t block = 0;
  uint64_t count = 0;
};

// Copies what the overlay has; tells what is missing.
std::vector<Gap> copy_from_overlay(const ExtentMap& overlay, uint64_t block, MutableByteSpan out) {
  std::vector<Gap> gaps;
  overlay.visit(block, out.size() / kBlockSize,
                [&](uint64_t first, uint64_t count, const Record* record) {
                  const MutableByteSpan to =
                      out.subspan((first - block) * kBlockSize, count * kBlockSize);
                  if (record == nullptr) {
                    gaps.push_back(Gap{first, count});
                  } else if (record->is_data()) {
                    std::memcpy(to.data(), record->block_data(first).data(), to.size());
                  } else {
                    std::memset(to.data(), 0, to.size());
                  }
                });
  return gaps;
}

}  // namespace

Task<Status> ReplicaImpl::read_aligned(uint64_t offset, MutableByteSpan out) {
  if (out.empty()) co_return Status();
  if (!loaded_) {
    Status loaded = co_await load();
    HF_CO_TRY(loaded);
  }
  const uint64_t block = offset / kBlockSize;
  const bool overlay_has_none = overlay_.empty();
  for (int attempt = 0; attempt < kMaxReadAttempts; ++attempt) {
    std::vector<Gap> gaps;
    const bool waits = must_wait_to_read(block, out.size() / kBlockSize);
    if (waits) {
      HF_PROBE("store.read_waits_for_direct");
      co_await direct_.wait_clear(block, out.size() / kBlockSize);
    }
    if (attempt == 0 && overlay_has_none && !waits) {
      gaps.push_back(Gap{block, out.size() / kBlockSize});
    } else {
      gaps = copy_from_overlay(overlay_, block, out);
    }
    bool again = false;
    for (const Gap& gap : gaps) {
      const MutableByteSpan to =
          out.subspan((gap.block - block) * kBlockSize, gap.count * kBlockSize);
      Result<ReadOutcome> outcome =
          co_await read_image(superblock_.head_layer, gap.block, to);
      HF_CO_TRY(outcome);
      again = *outcome == ReadOutcome::kRetry;
      if (again) break;
    }
    if (!again) co_return Status();
    HF_PROBE("store.read_again");
  }
  co_return make_error(ErrorCode::kUnavailable,
                       "replica {}: reading {}+{} met a changing segment {} times", id().to_string(),
                       offset, out.size(), kMaxReadAttempts);
}

Task<Status> ReplicaImpl::read_layer(uint32_t layer, uint64_t offset, MutableByteSpan out) {
  Status loaded = co_await load();
  HF_CO_TRY(loaded);
  for (int attempt = 0; attempt < kMaxReadAttempts; ++attempt) {
    Result<ReadOutcome> outcome = co_await read_image(layer, offset / kBlockSize, out);
    HF_CO_TRY(outcome);
    if (*outcome == ReadOutcome::kDone) co_return Status();
  }
  co_return make_error(ErrorCode::kUnavailable, "replica {}: layer {} keeps changing",
                       id().to_string(), layer);
}

Task<Result<ReplicaImpl::ReadOutcome>> ReplicaImpl::read_image(uint32_t layer, uint64_t block,
                                                               MutableByteSpan out) {
  const uint64_t per_segment = blocks_per_segment();
  uint64_t done = 0;
  const uint64_t blocks = out.size() / kBlockSize;
  while (done < blocks) {
    const uint64_t at = block + done;
    const uint64_t inside = at % per_segment;
    const uint64_t count = std::min(blocks - done, per_segment - inside);
    Result<ReadOutcome> outcome = co_await read_segment(
        layer, static_cast<uint32_t>(at / per_segment), static_cast<uint32_t>(inside),
        out.subspan(done * kBlockSize, count * kBlockSize));
    if (!outcome.ok() || *outcome == ReadOutcome::kRetry) co_return outcome;
    done += count;
  }
  co_return ReadOutcome::kDone;
}

Task<Result<ReplicaImpl::ReadOutcome>> ReplicaImpl::read_segment(uint32_t layer, uint32_t index,
                                                                 uint32_t first,
                                                                 MutableByteSpan out) {
  const std::optional<SegmentKey> key = map_.visible(index, layer);
  if (!key) {
    std::memset(out.data(), 0, out.size());
    co_return ReadOutcome::kDone;
  }
  Result<std::shared_ptr<Segment>> segment = co_await pool_.cache().get(place_, *key);
  if (!segment.ok()) {
    // It may have been replaced and collected since we looked.
    if (map_.visible(index, layer) != key) co_return ReadOutcome::kRetry;
    co_return segment.error();
  }
  const CrcTable& table = (*segment)->table;
  const uint32_t end = first + static_cast<uint32_t>(out.size() / kBlockSize);
  for (uint32_t b = first; b < end;) {
    const bool hole = table.get(b) == 0;
    uint32_t stop = b + 1;
    while (stop < end && (table.get(stop) == 0) == hole) ++stop;
    const MutableByteSpan to =
        out.subspan((b - first) * kBlockSize, uint64_t{stop - b} * kBlockSize);
    if (hole) {
      std::memset(to.data(), 0, to.size());
    } else {
      Result<ReadOutcome> outcome = co_await read_run(*segment, *key, b, to);
      if (!outcome.ok() || *outcome == ReadOutcome::kRetry) co_return outcome;
    }
    b = stop;
  }
  co_return ReadOutcome::kDone;
}

// Blocks that all have a CRC. The entries are taken before the read; if the drain changes the segment
// meanwhile a mismatch means nothing and the whole read starts anew, where the overlay answers.
Task<Result<ReplicaImpl::ReadOutcome>> ReplicaImpl::read_run(std::shared_ptr<Segment> segment,
                                                             SegmentKey key, uint32_t first,
                                                             MutableByteSpan out) {
  const uint32_t count = static_cast<uint32_t>(out.size() / kBlockSize);
  const uint64_t version = segment->version;
  const uint64_t direct_ended = direct_.ended();
  uint32_t few[32];
  std::vector<uint32_t> many;
  uint32_t* crcs = few;
  if (count > std::size(few)) {
    many.resize(count);
    crcs = many.data();
  }
  for (uint32_t i = 0; i < count; ++i) crcs[i] = segment->table.get(first + i);
  uint64_t done = 0;
  while (done < out.size()) {
    const uint64_t n = std::min<uint64_t>(out.size() - done, kMaxIoBytes);
    Result<size_t> got =
        co_await segment->file->read_at(first * kBlockSize + done, out.subspan(done, n));
    HF_CO_TRY(got);
    if (*got != n) {
      co_return make_error(ErrorCode::kCorruption, "segment file {} ends early",
                           segment->file->path());
    }
    done += n;
  }
  if (mutant(StoreMutant::kNoReadCrc)) co_return ReadOutcome::kDone;
  for (uint32_t i = 0; i < count; ++i) {
    if (block_crc(out.subspan(uint64_t{i} * kBlockSize, kBlockSize)) == crcs[i]) continue;
    if (segment->draining) co_await segment->drained.wait();
    if (segment->version != version) co_return ReadOutcome::kRetry;
    const bool touched =
        direct_.touched_since(direct_ended, key.index * blocks_per_segment() + first, count);
    if (touched && !mutant(StoreMutant::kReadPassesDirect)) co_return ReadOutcome::kRetry;
    // It may be half of a large write that failed: who opens the pool again will know.
    if (pool_.failure()) co_return *pool_.failure();
    co_return corrupt_block(key, first + i);
  }
  co_return ReadOutcome::kDone;
}

Error ReplicaImpl::corrupt_block(SegmentKey key, uint32_t block) {
  const uint64_t offset = (key.index * blocks_per_segment() + block) * kBlockSize;
  HF_PROBE("store.checksum_error");
  const bool known = corrupt_.contains(offset) || corrupt_.size() >= kMaxCorruptRemembered;
  if (!known) {
    corrupt_.insert(offset);
    ++stats_.checksum_errors;
    HF_LOG(kError, "store", "checksum_error replica={} offset={} segment={}", id().to_string(),
           offset, segment_name(key.index, key.layer));
  }
  return make_error(ErrorCode::kCorruption,
                    "replica {}: the block at {} does not match its checksum ({}/{})",
                    id().to_string(), offset, place_.directory, segment_name(key.index, key.layer));
}

Task<Result<bool>> ReplicaImpl::is_vital(uint64_t first_block, ByteSpan data) {
  Result<bool> written = co_await is_written(first_block, data.size() / kBlockSize);
  HF_CO_TRY(written);
  if (*written) co_return true;
  const MonoTime now = pool_.world().clock.now();
  if (!vitals_ || now - vitals_at_ > kVitalsKept) {
    const FsVitals::Reader read = [this](uint64_t block, MutableByteSpan out) {
      return read_aligned(block * kBlockSize, out);
    };
    Result<FsVitals> found = co_await FsVitals::find(read, size() / kBlockSize);
    // Damaged: then the size of a write has to do.
    vitals_ = found.ok() ? std::move(*found) : FsVitals();
    vitals_at_ = now;
  }
  co_return vitals_->touches(first_block, data);
}

Task<Result<bool>> ReplicaImpl::is_written(uint64_t first_block, uint64_t blocks) {
  Status loaded = co_await load();
  HF_CO_TRY(loaded);
  const uint64_t per_segment = blocks_per_segment();
  for (uint64_t at = first_block; at < first_block + blocks;) {
    const uint32_t index = static_cast<uint32_t>(at / per_segment);
    const uint64_t stop = std::min(first_block + blocks, (index + uint64_t{1}) * per_segment);
    const std::optional<SegmentKey> key = map_.visible(index, superblock_.head_layer);
    if (!key) co_return false;
    Result<std::shared_ptr<Segment>> segment = co_await pool_.cache().get(place_, *key);
    if (!segment.ok()) co_return false;  // broken, or just replaced by the drain
    for (; at < stop; ++at) {
      if ((*segment)->table.get(static_cast<uint32_t>(at % per_segment)) == 0) co_return false;
    }
  }
  co_return true;
}

// --- block status -----------------------------------------------------------------------------------

namespace {

void add_extent(std::vector<DataExtent>& out, uint64_t offset, uint64_t length, bool data) {
  if (!out.empty() && out.back().data == data) {
    out.back().length += length;
  } else {
    DataExtent extent;
    extent.offset = offset;
    extent.length = length;
    extent.data = data;
    out.push_back(extent);
  }
}

}  // namespace

Task<Result<std::vector<DataExtent>>> ReplicaImpl::extents(uint64_t offset, uint64_t length,
                                                           size_t max_extents) {
  Gate::Pass pass(gate_);
  if (!pass) co_return make_error(ErrorCode::kClosed, "replica {} is closed", id().to_string());
  Status range = check_range(offset, length, size());
  HF_CO_TRY(range);
  Status loaded = co_await load();
  HF_CO_TRY(loaded);
  std::vector<DataExtent> out;
  const uint64_t per_segment = blocks_per_segment();
  const uint64_t end = (offset + length) / kBlockSize;
  for (uint64_t at = offset / kBlockSize; at < end && out.size() <= max_extents;) {
    const uint32_t index = static_cast<uint32_t>(at / per_segment);
    const uint64_t stop = std::min(end, (index + uint64_t{1}) * per_segment);
    std::shared_ptr<Segment> segment;
    const std::optional<SegmentKey> key = map_.visible(index, superblock_.head_layer);
    if (key) {
      Result<std::shared_ptr<Segment>> got = co_await pool_.cache().get(place_, *key);
      if (!got.ok()) {
        if (map_.visible(index, superblock_.head_layer) != key) continue;
        co_return got.error();
      }
      segment = std::move(*got);
    }
    overlay_.visit(at, stop - at, [&](uint64_t first, uint64_t count, const Record* record) {
      if (record != nullptr) {
        add_extent(out, first * kBlockSize, count * kBlockSize, record->is_data());
        return;
      }
      for (uint64_t b = first; b < first + count; ++b) {
        const bool data =
            segment != nullptr && segment->table.get(static_cast<uint32_t>(b % per_segment)) != 0;
        add_extent(out, b * kBlockSize, kBlockSize, data);
      }
    });
    at = stop;
  }
  if (out.size() > max_extents) out.resize(max_extents);
  co_return out;
}

}  // namespace hf
