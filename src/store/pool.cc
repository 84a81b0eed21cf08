// A pool that runs: batches, failure, checkpoints, stop.
#include "store/pool.h"

#include <algorithm>

#include "base/log.h"
#include "runtime/fault_point.h"
#include "store/mutants.h"
#include "store/pace.h"
#include "store/pool_impl.h"

namespace hf {
namespace {

// Batches freed before others get a turn of the loop.
constexpr size_t kReleasedPerTurn = 16;
// Replicas whose dirty maps are written at a time.
constexpr uint64_t kParallelMaps = 16;

}  // namespace

PoolImpl::PoolImpl(World world, PoolConfig config, PoolFile identity, std::unique_ptr<File> journal)
    : world_(world),
      config_(std::move(config)),
      identity_(identity),
      journal_(std::move(journal)),
      cache_(world_.fs, config_.open_files, config_.table_cache_bytes) {}

PoolImpl::~PoolImpl() {
  HF_ASSERT(stopped_ || !writer_, "a pool is stopped before it is destroyed");
  batches_.clear();  // records hold replicas
}

// --- failure ----------------------------------------------------------------------------------------

void PoolImpl::fail(const Error& error) {
  if (failure_) return;
  failure_ = make_error(ErrorCode::kFailedPool,
                        "pool {} in {} is out of service since: {}; restart it, or look with "
                        "'holdfast pool verify'",
                        id().to_string(), config_.data_dir, error.message());
  if (error.code() != ErrorCode::kCancelled) {
    HF_LOG(kError, "store", "pool_failed pool={} {}", id().to_string(), error.to_string());
  }
  if (writer_) writer_->fail(*failure_);
  if (drain_) drain_->wake();
  wake_held();
}

Status PoolImpl::check_running() const {
  if (failure_) return *failure_;
  if (calls_.is_closed()) {
    return make_error(ErrorCode::kClosed, "pool {} is closed", id().to_string());
  }
  return Status();
}

// --- what becomes durable ---------------------------------------------------------------------------

void PoolImpl::batch_durable(std::unique_ptr<Batch> batch) {
  ++stats_.batches;
  stats_.records += batch->records.size();
  for (Record& record : batch->records) {
    account(record, true);
    if (record.is_intent()) direct_undrained_ += record.entry.length;
    if (record.replica == nullptr || record.skip) continue;
    record.replica->on_durable(record);
    record.replica->note_books(record.entry, batch->sequence);
  }
  overlay_payload_ += batch->payload_bytes;
  batches_.push_back(std::move(batch));
  drain_->wake();
}

bool PoolImpl::room_in_overlay(uint64_t bytes) const {
  return overlay_payload_ == 0 || overlay_payload_ + bytes <= config_.overlay_bytes;
}

Duration PoolImpl::pause(uint64_t bytes) const {
  const Ring& ring = writer_->ring();
  const double rate = drain_->bytes_per_second();
  return std::max(pause_for(bytes, ring.used(), ring.bytes(), rate),
                  pause_for(bytes, overlay_payload_, config_.overlay_bytes, rate));
}

void PoolImpl::room_wanted() { drain_->request(last_durable_sequence()); }

void PoolImpl::account(const Record& record, bool add) {
  if (!record.is_data() || record.replica == nullptr) return;
  const uint64_t per_segment = record.replica->blocks_per_segment();
  const uint64_t first = record.first_block() / per_segment;
  const uint64_t last = (record.first_block() + record.blocks() - 1) / per_segment;
  for (uint64_t index = first; index <= last; ++index) {
    const uint64_t key = record.replica->place().owner << 32 | index;
    if (add) {
      ++touched_[key];
      continue;
    }
    const auto found = touched_.find(key);
    HF_ASSERT(found != touched_.end());
    if (--found->second == 0) touched_.erase(found);
  }
}

// --- large writes -----------------------------------------------------------------------------------

uint64_t PoolImpl::settled_below() {
  // The batches are numbered without gaps.
  if (!batches_.empty()) settled_below_ = std::max(settled_below_, batches_.front()->sequence);
  while (const Batch* batch = find_batch(settled_below_)) {
    if (batch->in_flight > 0 || batch->doubtful) return settled_below_;
    ++settled_below_;
  }
  return settled_below_ = writer_->next_sequence();
}

Batch* PoolImpl::find_batch(uint64_t sequence) {
  if (batches_.empty() || sequence < batches_.front()->sequence ||
      sequence - batches_.front()->sequence >= batches_.size()) {
    return nullptr;
  }
  Batch* const batch = batches_[sequence - batches_.front()->sequence].get();
  HF_ASSERT(batch->sequence == sequence, "{} {}", batch->sequence, sequence);
  return batch;
}

// A quarter of the files that may be open: the rest is for everybody else.
uint64_t PoolImpl::pins_max() const { return std::max<uint64_t>(2, config_.open_files / 4); }

bool PoolImpl::may_go_direct() const {
  return direct_undrained_ < kMaxDirectUndrained && pinned_segments_ < pins_max();
}

bool PoolImpl::must_drain_direct() const {
  return direct_undrained_ >= kDirectUndrainedDue || pinned_segments_ >= pins_max() / 2;
}

void PoolImpl::direct_ended(uint64_t bytes) {
  direct_in_flight_ -= bytes;
  direct_ended_ += bytes;
}

void PoolImpl::pin(uint64_t sequence, std::shared_ptr<Segment> segment) {
  Batch* const batch = find_batch(sequence);
  if (batch == nullptr || mutant(StoreMutant::kDirectEvicted)) return;
  if (std::find(batch->pinned.begin(), batch->pinned.end(), segment) != batch->pinned.end()) return;
  if (segment->pins++ == 0) ++pinned_segments_;
  batch->pinned.push_back(std::move(segment));
}

void PoolImpl::intent_ended(uint64_t sequence, bool in_doubt) {
  Batch* const batch = find_batch(sequence);
  HF_ASSERT(batch != nullptr || mutant(StoreMutant::kDrainPassesIntents), "{}", sequence);
  if (batch == nullptr) return;
  batch->doubtful = batch->doubtful || in_doubt;
  --batch->in_flight;
  drain_->wake();
}

bool PoolImpl::room_for_file() const { return fits(kSegmentOverhead, space_.reserve); }

// --- checkpoints ------------------------------------------------------------------------------------

JournalCheckpoint PoolImpl::checkpoint_after(size_t count, bool clean) const {
  JournalCheckpoint next = checkpoint_;
  next.clean = clean;
  if (count == 0) return next;
  // The next batch lies behind the last one, or at 0. It may be in flight already.
  const Batch& last = *batches_[count - 1];
  next.era = last.era;
  next.start_link = last.link;
  next.start_sequence = last.sequence + 1;
  next.start_position = last.end;
  return next;
}

Task<Status> PoolImpl::write_next_checkpoint(JournalCheckpoint next) {
  next.generation = checkpoint_.generation + 1;
  Status written = co_await write_checkpoint(*journal_, next);
  // One of its copies may count already: what is behind it must never be drained again, in another order.
  if (written.code() == ErrorCode::kNoSpace) {
    co_return make_error(ErrorCode::kIo, "{}", written.error().message());
  }
  HF_CO_TRY(written);
  checkpoint_ = next;
  co_return Status();
}

Task<void> PoolImpl::maps_task(std::shared_ptr<ReplicaImpl> replica, uint64_t through,
                               Semaphore& slots, std::optional<Error>& error) {
  Status written = co_await replica->write_maps(through);
  if (!written.ok() && !error) error = written.error();
  slots.release();
}

Task<Status> PoolImpl::write_maps(uint64_t through) {
  std::vector<std::shared_ptr<ReplicaImpl>> due;
  for (const std::shared_ptr<ReplicaImpl>& replica : with_books_) {
    if (!replica->is_deleted() && replica->maps_due(through)) due.push_back(replica);
  }
  Gate gate;
  Semaphore slots(kParallelMaps);
  std::optional<Error> error;
  for (std::shared_ptr<ReplicaImpl>& replica : due) {
    co_await slots.acquire();
    spawn(gate, maps_task(std::move(replica), through, slots, error));
  }
  co_await gate.close();
  if (error) co_return *error;
  co_return Status();
}

void PoolImpl::release_books(uint64_t through) {
  std::erase_if(with_books_, [through](const std::shared_ptr<ReplicaImpl>& replica) {
    return replica->is_deleted() || !replica->books_released(through);
  });
}

Task<Status> PoolImpl::release_batches(size_t count) {
  // First what is free now, then what waits no more: an admission in between sees both or neither.
  Status refreshed = co_await refresh_space();
  HF_CO_TRY(refreshed);
  if (!mutant(StoreMutant::kTailAdvancedEarly)) {
    Status moved = co_await write_next_checkpoint(checkpoint_after(count, false));
    HF_CO_TRY(moved);
  }
  release_books(batches_[count - 1]->sequence);
  for (size_t i = 0; i < count; ++i) {
    std::unique_ptr<Batch> batch = std::move(batches_.front());
    batches_.pop_front();
    for (Record& record : batch->records) {
      account(record, false);
      if (record.is_intent()) direct_undrained_ -= record.entry.length;
      if (record.replica != nullptr) record.replica->overlay().erase(record);
    }
    for (const std::shared_ptr<Segment>& segment : batch->pinned) {
      if (--segment->pins == 0) --pinned_segments_;
    }
    overlay_payload_ -= batch->payload_bytes;
    stats_.drained_bytes += batch->payload_bytes;
    writer_->release(batch->consumed);
    if (i % kReleasedPerTurn == kReleasedPerTurn - 1) co_await yield();
  }
  ++stats_.drains;
  co_return Status();
}

// --- the public face --------------------------------------------------------------------------------

PoolStats PoolImpl::stats() const {
  PoolStats stats = stats_;
  stats.data_total_bytes = space_.total;
  stats.data_free_bytes = data_free_;
  stats.writable_bytes = space_.free;
  stats.reserve_bytes = space_.reserve;
  stats.at_watermark = !fits(kMetadataOverhead, space_.reserve);
  stats.held_writes = held_writes_;
  if (full_since_) stats.full_for = world_.clock.now() - *full_since_;
  stats.refuses_data = refusing_;
  stats.journal_bytes = writer_->ring().bytes();
  stats.journal_used_bytes = writer_->ring().used();
  stats.overlay_bytes = overlay_payload_;
  stats.replicas = static_cast<uint32_t>(replicas_.size());
  stats.failed = failure_.has_value();
  if (failure_) stats.failure = failure_->message();
  return stats;
}

std::shared_ptr<Replica> PoolImpl::find(ReplicaId id) const {
  const auto found = replicas_.find(id);
  return found == replicas_.end() ? nullptr : found->second;
}

std::vector<ReplicaInfo> PoolImpl::list() const {
  std::vector<ReplicaInfo> out;
  for (const auto& [id, replica] : replicas_) {
    ReplicaInfo info;
    info.replica = id;
    info.volume = replica->volume();
    info.lineage = replica->lineage();
    info.size_bytes = replica->size();
    info.segment_bytes = replica->segment_bytes();
    info.promised_epoch = replica->promised_epoch();
    info.snapshots = static_cast<uint32_t>(replica->snapshots().size());
    out.push_back(info);
  }
  std::sort(out.begin(), out.end(),
            [](const ReplicaInfo& a, const ReplicaInfo& b) { return a.replica < b.replica; });
  return out;
}

Task<Status> PoolImpl::wait_drained() {
  Gate::Pass pass(calls_);
  if (!pass) co_return make_error(ErrorCode::kClosed, "pool {} is closed", id().to_string());
  co_return co_await drain_->wait_for(last_durable_sequence());
}

Task<Status> PoolImpl::stop() {
  HF_ASSERT(!stopped_, "stopped twice");
  co_await calls_.close();
  release_held();
  std::vector<std::shared_ptr<ReplicaImpl>> all;
  for (const auto& [id, replica] : replicas_) all.push_back(replica);
  for (const std::shared_ptr<ReplicaImpl>& replica : all) co_await replica->gate().close();
  cancel_watch_.cancel();
  if (writer_) {
    writer_->stop();
    if (drain_) drain_->stop();
    co_await tasks_.close();
  }
  stopped_ = true;
  Status result = failure_ ? Status(*failure_) : Status();
  if (writer_ && !failure_) {
    HF_ASSERT(batches_.empty(), "{} batches left", batches_.size());
    result = co_await write_next_checkpoint(checkpoint_after(0, true));
  }
  batches_.clear();
  with_books_.clear();
  replicas_.clear();
  journal_.reset();  // and with it the lock
  co_return result;
}

}  // namespace hf
