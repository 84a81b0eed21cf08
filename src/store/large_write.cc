// Large writes: bookkeeping, and the way into the image.
#include "store/large_write.h"

#include <algorithm>
#include <cstring>
#include <deque>

#include "base/log.h"
#include "runtime/fault_point.h"
#include "store/intents.h"
#include "store/mutants.h"
#include "store/pool_impl.h"
#include "store/replica_impl.h"

namespace hf {
namespace {

// Head files that are being made ahead, per replica.
constexpr size_t kMaxFilesAhead = 4;

}  // namespace

// --- bookkeeping ------------------------------------------------------------------------------------

void DirectWrites::begin(DirectWrite& write) { in_flight_.push_back(&write); }

void DirectWrites::end(DirectWrite& write) {
  const auto at = std::find(in_flight_.begin(), in_flight_.end(), &write);
  HF_ASSERT(at != in_flight_.end());
  in_flight_.erase(at);
  last_[ended_++ % kRemembered] = write;
  changed_.notify_all();
}

bool DirectWrites::overlaps(uint64_t first, uint64_t count) const {
  return std::any_of(in_flight_.begin(), in_flight_.end(),
                     [&](const DirectWrite* write) { return write->overlaps(first, count); });
}

bool DirectWrites::touched_since(uint64_t ended, uint64_t first, uint64_t count) const {
  if (overlaps(first, count) || ended_ - ended > kRemembered) return true;
  for (uint64_t n = ended; n < ended_; ++n) {
    if (last_[n % kRemembered].overlaps(first, count)) return true;
  }
  return false;
}

Task<void> DirectWrites::wait_clear(uint64_t first, uint64_t count) {
  while (overlaps(first, count)) co_await changed_.wait();
}

Task<void> DirectWrites::wait_layer(uint32_t layer) {
  while (std::any_of(in_flight_.begin(), in_flight_.end(),
                     [&](const DirectWrite* write) { return write->layer <= layer; })) {
    co_await changed_.wait();
  }
}

bool SegmentLocks::is_locked(uint32_t index) const {
  return std::find(locked_.begin(), locked_.end(), index) != locked_.end();
}

Task<void> SegmentLocks::lock(uint32_t index) {
  while (is_locked(index)) co_await changed_.wait();
  locked_.push_back(index);
}

void SegmentLocks::unlock(uint32_t index) {
  locked_.erase(std::find(locked_.begin(), locked_.end(), index));
  changed_.notify_all();
}

// --- may it go straight? ----------------------------------------------------------------------------

namespace {

// One segment's share of a large write.
struct Share {
  uint32_t index = 0;
  uint32_t first = 0;  // block in the segment
  uint32_t count = 0;
};

std::vector<Share> split_range(uint64_t first, uint64_t count, uint64_t per_segment) {
  std::vector<Share> shares;
  for (uint64_t at = first; at < first + count;) {
    const uint64_t inside = at % per_segment;
    const uint64_t n = std::min(first + count - at, per_segment - inside);
    shares.push_back(Share{static_cast<uint32_t>(at / per_segment), static_cast<uint32_t>(inside),
                           static_cast<uint32_t>(n)});
    at += n;
  }
  return shares;
}

}  // namespace

WriteFacts ReplicaImpl::write_facts(uint64_t first, uint64_t count) {
  WriteFacts facts;
  facts.length = count * kBlockSize;
  facts.large = pool_.config().large_write_bytes;
  facts.one_layer = superblock_.head_layer == write_layer_;
  facts.overlay_clear = true;
  overlay_.visit(first, count, [&facts](uint64_t, uint64_t, const Record* record) {
    facts.overlay_clear = facts.overlay_clear && record == nullptr;
  });
  facts.queue_clear = true;
  queued_.for_each([&](QueuedRange& range) {
    facts.queue_clear = facts.queue_clear && !range.overlaps(first, count);
  });
  if (mutant(StoreMutant::kDirectOverOverlay)) facts.overlay_clear = facts.queue_clear = true;
  facts.room = pool_.may_go_direct();
  return facts;
}

// The head's own file, fit to be written to; else it is made ready for those to come.
Task<std::shared_ptr<Segment>> ReplicaImpl::head_file(uint32_t index) {
  const std::optional<SegmentKey> key = map_.visible(index, superblock_.head_layer);
  std::shared_ptr<Segment> segment;
  if (key && key->layer == superblock_.head_layer && is_named(1)) {
    segment = pool_.cache().find(place_, *key);
    if (segment == nullptr) {
      Result<std::shared_ptr<Segment>> got = co_await pool_.cache().get(place_, *key);
      if (!got.ok()) co_return nullptr;  // who reads it will tell
      segment = std::move(*got);
    }
    if (!is_named(segment->name) && !mutant(StoreMutant::kHeadFileNotNamed)) co_return nullptr;
    // A process that was killed may have writes to it under way even now: they hold its lock until they
    // end, so whoever has the lock is alone. Kept for as long as the file is open.
    if (!segment->locked) segment->locked = segment->file->try_lock().ok();
    if (!segment->locked) co_return nullptr;
    co_return segment;
  }
  if (superblock_.head_layer == write_layer_) make_file_ahead(index);
  co_return nullptr;
}

Task<bool> ReplicaImpl::plan_direct(uint64_t first, uint64_t count, DirectPlan* plan) {
  WriteFacts facts = write_facts(first, count);
  facts.files = true;  // to be seen
  // A barrier is soon done with; until then there is no head to write to.
  if (!facts.one_layer) pool_.drain().request(pool_.last_durable_sequence());
  if (!goes_direct(facts)) co_return false;
  if (!loaded_) {
    Status loaded = co_await load();
    if (!loaded.ok()) co_return false;  // the drain will tell
  }
  const std::vector<Share> shares = split_range(first, count, blocks_per_segment());
  bool all = true;
  for (const Share& share : shares) {
    std::shared_ptr<Segment> segment = co_await head_file(share.index);
    all = all && segment != nullptr;
    if (all) plan->parts.push_back({std::move(segment), share.index, share.first, share.count});
  }
  if (!all) {
    HF_PROBE("store.no_head_file_yet");
    co_return false;
  }
  co_await pool_.direct_room().acquire(count);
  // Nothing of the replica is queued while we hold the admission, but drains and barriers go on.
  facts = write_facts(first, count);
  facts.files = std::all_of(plan->parts.begin(), plan->parts.end(), [&](const DirectPart& part) {
    const std::optional<SegmentKey> key = map_.visible(part.index, superblock_.head_layer);
    return key && key->layer == superblock_.head_layer &&
           pool_.cache().find(place_, *key) == part.segment;
  });
  if (goes_direct(facts) && !pool_.failure()) co_return true;
  HF_PROBE("store.direct_changed_mind");
  pool_.direct_room().release(count);
  plan->parts.clear();
  co_return false;
}

// --- the head's files, ahead of those who need them -------------------------------------------------

void ReplicaImpl::make_file_ahead(uint32_t index) {
  if (ahead_.is_locked(index) || ahead_.size() >= kMaxFilesAhead || !pool_.room_for_file() ||
      pool_.failure()) {
    return;
  }
  spawn(pool_.tasks(), file_ahead_task(shared_from_this(), index));
}

Task<void> ReplicaImpl::file_ahead_task(std::shared_ptr<ReplicaImpl> self, uint32_t index) {
  (void)self;
  Gate::Pass pass(gate_);
  Gate::Pass appending(appends_);  // a restore waits for us
  if (!pass || !appending) co_return;
  co_await ahead_.lock(index);
  Status made = co_await pool_.drain().make_head_file(*this, index);
  ahead_.unlock(index);
  if (!made.ok() && made.code() != ErrorCode::kNoSpace) pool_.fail(made.error());
}

// Two large writes one behind the other are a stream: it will need the next segment's file too.
void ReplicaImpl::follow_stream(uint64_t first, uint64_t count) {
  const bool goes_on = first == stream_end_ && first != 0;
  stream_end_ = first + count;
  const uint64_t per_segment = blocks_per_segment();
  if (!goes_on || stream_end_ % per_segment < per_segment / 2 || !loaded_) return;
  const uint32_t next = static_cast<uint32_t>(stream_end_ / per_segment) + 1;
  if (next * per_segment >= size() / kBlockSize || superblock_.head_layer != write_layer_) return;
  const std::optional<SegmentKey> key = map_.visible(next, superblock_.head_layer);
  if (!key || key->layer != superblock_.head_layer) make_file_ahead(next);
}

// --- on its way -------------------------------------------------------------------------------------

Task<Status> ReplicaImpl::write_direct(WriteHeader header, uint64_t offset, ByteSpan data,
                                       DirectPlan& plan, MutexGuard& admission) {
  HF_PROBE("store.direct_write");
  const uint64_t count = data.size() / kBlockSize;
  AlignedBuffer copy;
  if (!aligned_memory(data.data())) {
    copy = AlignedBuffer(data.size());
    std::memcpy(copy.data(), data.data(), data.size());
    data = copy.span();
  }
  std::vector<uint32_t> crcs(count);
  for (uint64_t b = 0; b < count; ++b) {
    crcs[b] = crc_or_zero(data.subspan(b * kBlockSize, kBlockSize));
  }
  DirectWrite range;
  range.first = offset / kBlockSize;
  range.count = count;
  range.layer = write_layer_;
  direct_.begin(range);
  pool_.direct_begun(data.size());
  std::deque<Append> appends;
  enqueue_entries(appends, header, EntryType::kIntent, offset, data.size(), data, crcs);
  admission.unlock();
  Status status = co_await direct_into_image(plan, appends, data, crcs);
  if (status.code() == ErrorCode::kNoSpace) {
    HF_PROBE("store.direct_no_space");
    // What waits for us keeps waiting, so the journal has them in the order of the calls.
    std::deque<Append> again;
    enqueue_entries(again, header, EntryType::kWrite, offset, data.size(), data, {});
    status = co_await wait_appended(again);
  }
  pool_.direct_ended(data.size());
  pool_.direct_room().release(count);
  direct_.end(range);
  if (status.ok()) {
    ++stats_.direct_writes;
    ++stats_.writes;
    stats_.written_bytes += data.size();
  }
  co_return status;
}

// kNoSpace: the blocks hold whatever they hold, and their CRCs say so; anything else but ok is final.
Task<Status> ReplicaImpl::direct_into_image(DirectPlan& plan, std::deque<Append>& intents,
                                            ByteSpan data, const std::vector<uint32_t>& crcs) {
  if (!mutant(StoreMutant::kDataBeforeIntent)) {
    Status durable = co_await wait_appended(intents);
    HF_CO_TRY(durable);
  }
  Status status = co_await write_parts(plan, data);
  if (mutant(StoreMutant::kDataBeforeIntent)) {
    Status durable = co_await wait_appended(intents);
    HF_CO_TRY(durable);
  }
  const bool no_space = status.code() == ErrorCode::kNoSpace;
  if ((status.ok() || no_space) && !mutant(StoreMutant::kDirectAckBeforeSync)) {
    Status synced = co_await sync_parts(plan);
    if (!synced.ok()) status = synced;
  }
  if (no_space && status.code() == ErrorCode::kNoSpace) {
    Status taken = co_await take_crcs(plan);
    if (!taken.ok()) status = taken;
  }
  if (!status.ok() && status.code() != ErrorCode::kNoSpace) {
    pool_.fail(status.error());
    co_return status;
  }
  if (pool_.failure()) co_return *pool_.failure();
  if (status.ok()) {
    uint64_t at = 0;
    for (const DirectPart& part : plan.parts) {
      for (uint32_t b = 0; b < part.count; ++b) part.segment->table.set(part.first + b, crcs[at++]);
    }
  }
  allocation_changes();
  for (const Append& intent : intents) {
    for (const DirectPart& part : plan.parts) pool_.pin(intent.batch_sequence, part.segment);
    pool_.intent_ended(intent.batch_sequence, !status.ok());
  }
  co_return status;
}

Task<Status> ReplicaImpl::write_parts(DirectPlan& plan, ByteSpan data) {
  uint64_t at = 0;
  for (const DirectPart& part : plan.parts) {
    const uint64_t bytes = uint64_t{part.count} * kBlockSize;
    Result<size_t> written =
        co_await part.segment->file->write_at(part.first * kBlockSize, data.subspan(at, bytes));
    HF_CO_TRY(written);
    at += bytes;
  }
  co_return Status();
}

Task<Status> ReplicaImpl::sync_parts(DirectPlan& plan) {
  for (const DirectPart& part : plan.parts) {
    Status synced = co_await part.segment->group_sync.run(*part.segment->file);
    if (synced.code() == ErrorCode::kNoSpace) {  // final, unlike a write's
      co_return make_error(ErrorCode::kIo, "{}", synced.error().message());
    }
    HF_CO_TRY(synced);
  }
  co_return Status();
}

Task<Status> ReplicaImpl::take_crcs(DirectPlan& plan) {
  for (const DirectPart& part : plan.parts) {
    Status taken =
        co_await take_crcs_from_file(*part.segment->file, part.segment->table, part.first, part.count);
    HF_CO_TRY(taken);
  }
  co_return Status();
}

}  // namespace hf
