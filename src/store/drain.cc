#include "store/drain.h"

#include <algorithm>
#include <cstring>
#include <unordered_map>

#include "base/log.h"
#include "runtime/fault_point.h"
#include "store/mutants.h"
#include "store/pool_impl.h"

namespace hf {
namespace {

constexpr uint64_t kMaxDrainBytes = 64 * kMiB;

// Batches planned before others get a turn of the loop: writers wait for it.
constexpr size_t kBatchesPerTurn = 16;

// Batches may be added behind the prefix meanwhile.
Task<std::vector<DrainReplica>> plan_prefix(const std::deque<std::unique_ptr<Batch>>& batches,
                                            size_t count) {
  std::vector<ReplicaImpl*> order;
  std::unordered_map<ReplicaImpl*, DrainPlanner> planners;
  for (size_t i = 0; i < count; ++i) {
    for (const Record& record : batches[i]->records) {
      ReplicaImpl* replica = record.replica.get();
      if (record.skip || replica == nullptr || replica->is_deleted()) continue;
      // A layer whose barrier has been applied is complete and immutable.
      if (record.entry.layer < replica->superblock().head_layer) continue;
      const auto [planner, added] = planners.try_emplace(replica, replica->blocks_per_segment(),
                                                         replica->size() / kBlockSize);
      if (added) order.push_back(replica);
      planner->second.add(record);
    }
    if (i % kBatchesPerTurn == kBatchesPerTurn - 1) co_await yield();
  }
  std::vector<DrainReplica> plan;
  for (ReplicaImpl* replica : order) {
    DrainReplica work;
    work.replica = replica;
    work.steps = planners.at(replica).finish();
    plan.push_back(std::move(work));
  }
  co_return plan;
}

bool is_ready(const Batch& batch) {
  return batch.in_flight == 0 || mutant(StoreMutant::kDrainPassesIntents);
}

bool has_barrier(const Batch& batch) {
  return std::any_of(batch.records.begin(), batch.records.end(), [](const Record& record) {
    return !record.skip && record.entry.type == EntryType::kSnapshot;
  });
}

void forget_records(const std::deque<std::unique_ptr<Batch>>& batches, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    for (const Record& record : batches[i]->records) {
      if (record.replica != nullptr) record.replica->overlay().erase(record);
    }
  }
}

}  // namespace

void Drain::request(uint64_t sequence) {
  requested_ = std::max(requested_, sequence);
  changed_.notify_all();
}

void Drain::stop() {
  stopping_ = true;
  cancel_tick_.cancel();
  changed_.notify_all();
}

Task<Status> Drain::wait_for(uint64_t sequence) {
  request(sequence);
  while (!pool_.failure() && !pool_.batches().empty() &&
         pool_.batches().front()->sequence <= sequence) {
    co_await progressed_.wait();
  }
  co_return pool_.failure() ? pool_.check_running() : Status();
}

Task<Status> Drain::try_for(uint64_t sequence) {
  request(sequence);
  while (!pool_.failure() && !no_space_ && !pool_.batches().empty() &&
         pool_.batches().front()->sequence <= sequence) {
    co_await progressed_.wait();
  }
  co_return pool_.failure() ? pool_.check_running() : Status();
}

bool Drain::is_due() const {
  if (pool_.batches().empty() || !is_ready(*pool_.batches().front())) return false;
  if (stopping_ || due_ || requested_ >= pool_.batches().front()->sequence) return true;
  const Ring& ring = pool_.writer().ring();
  return ring.used() >= ring.bytes() / 4 ||
         pool_.overlay_payload_ >= pool_.config().overlay_bytes / 4 || pool_.must_drain_direct();
}

size_t Drain::choose_prefix() const {
  uint64_t bytes = 0;
  size_t count = 0;
  const uint64_t limit = std::min(kMaxDrainBytes, pool_.writer().ring().bytes() / 2);
  for (const std::unique_ptr<Batch>& batch : pool_.batches()) {
    if (!is_ready(*batch)) break;
    bytes += batch->consumed;
    if (count > 0 && (bytes > limit || HF_FAULT_POINT("store.short_drain"))) break;
    ++count;
    // A snapshot makes the drain copy what it shares: each is a drain of its own, so that the ring is
    // freed after each.
    if (has_barrier(*batch)) break;
  }
  return count;
}

// Makes what waits due after the drain delay.
Task<void> Drain::tick() {
  while (!stopping_ && !pool_.failure()) {
    if (pool_.batches().empty()) {
      co_await changed_.wait();
      continue;
    }
    Status slept = co_await pool_.world().clock.sleep_for(pool_.config().drain_delay, cancel_tick_);
    if (!slept.ok()) break;
    due_ = true;
    changed_.notify_all();
    if (pool_.batches().empty()) continue;
    co_await progressed_.wait();
  }
}

Task<void> Drain::run() {
  spawn(ticker_, tick());
  for (;;) {
    while (!pool_.failure() && !is_due() && !(stopping_ && pool_.batches().empty())) {
      co_await changed_.wait();
    }
    if (pool_.failure() || pool_.batches().empty()) {
      if (pool_.failure() || stopping_) break;
      continue;
    }
    due_ = false;
    Status drained = co_await drain_once();
    if (drained.code() == ErrorCode::kNoSpace && !pool_.failure()) {
      // Nothing is lost: the records stay in the ring. New data is refused meanwhile.
      HF_PROBE("store.drain_no_space");
      if (!no_space_) HF_LOG(kError, "store", "drain_no_space pool={} {}", pool_.id().to_string(),
                             drained.error().message());
      no_space_ = true;
      progressed_.notify_all();
      if (stopping_) {
        pool_.fail(drained.error());
        break;
      }
      Status slept = co_await pool_.world().clock.sleep_for(1s, cancel_tick_);
      if (!slept.ok() && !stopping_) pool_.fail(slept.error());
      continue;
    }
    no_space_ = false;
    if (!drained.ok()) pool_.fail(drained.error());
    progressed_.notify_all();
  }
  stopping_ = true;
  cancel_tick_.cancel();
  changed_.notify_all();
  progressed_.notify_all();
  co_await ticker_.close();
}

Task<Status> Drain::drain_once() {
  const size_t count = choose_prefix();
  if (count == 0) co_return Status();
  measure(count);
  if (mutant(StoreMutant::kTailAdvancedEarly)) {
    Status early = co_await pool_.write_next_checkpoint(pool_.checkpoint_after(count, false));
    HF_CO_TRY(early);
  }
  if (mutant(StoreMutant::kOverlayDroppedEarly)) forget_records(pool_.batches(), count);
  std::vector<DrainReplica> plan = co_await plan_prefix(pool_.batches(), count);
  Gate gate;
  std::optional<Error> error;
  for (DrainReplica& work : plan) spawn(gate, replica_task(work, error));
  co_await gate.close();
  if (!error) {
    Status kept = co_await pool_.write_maps(pool_.batches()[count - 1]->sequence);
    if (!kept.ok()) error = kept.error();
  }
  if (error) {
    draining_bytes_ = 0;
    co_return *error;
  }
  Status released = co_await pool_.release_batches(count);
  measured();
  co_return released;
}

void Drain::measure(size_t count) {
  draining_bytes_ = 0;
  // What drains at leisure tells nothing of how fast it could.
  const Ring& ring = pool_.writer().ring();
  if (ring.used() < ring.bytes() / 4) return;
  for (size_t i = 0; i < count; ++i) draining_bytes_ += pool_.batches()[i]->consumed;
  draining_since_ = pool_.world().clock.now();
}

void Drain::measured() {
  if (draining_bytes_ == 0) return;
  const double now = rate_under_way();
  rate_ = rate_ == 0 ? now : (rate_ + now) / 2;
  draining_bytes_ = 0;
}

double Drain::rate_under_way() const {
  const Duration took = std::max<Duration>(pool_.world().clock.now() - draining_since_, 1us);
  return static_cast<double>(draining_bytes_) / std::chrono::duration<double>(took).count();
}

double Drain::bytes_per_second() const {
  if (draining_bytes_ == 0 || rate_ == 0) return rate_;
  return std::min(rate_, rate_under_way());
}

Task<void> Drain::replica_task(DrainReplica& work, std::optional<Error>& error) {
  Status drained = co_await drain_replica(work);
  if (!drained.ok() && !error) error = drained.error();
}

Task<Status> Drain::drain_replica(DrainReplica& work) {
  ReplicaImpl& replica = *work.replica;
  Status loaded = co_await replica.load();
  HF_CO_TRY(loaded);
  for (const DrainStep& step : work.steps) {
    Status done = co_await drain_step(replica, step);
    HF_CO_TRY(done);
  }
  co_return Status();
}

Task<Status> Drain::drain_step(ReplicaImpl& replica, const DrainStep& step) {
  StepState state;
  for (const DrainSegment& segment : step.segments) {
    co_await state.slots.acquire();
    if (state.error) {
      state.slots.release();
      break;
    }
    spawn(state.gate, segment_task(replica, step.layer, segment, state));
  }
  co_await state.gate.close();
  if (state.error) co_return *state.error;
  const bool old_ones = replica.names_made() == 1;
  const bool trusted = old_ones && mutant(StoreMutant::kOldNamesTrusted);
  if (!replica.is_named(replica.names_made()) && !trusted &&
      !mutant(StoreMutant::kNoDirectorySync)) {
    Status named = co_await sync_names(replica);
    HF_CO_TRY(named);
  }
  if (step.barrier == nullptr) co_return Status();
  co_return co_await replica.apply_barrier(*step.barrier);
}

Task<Status> Drain::sync_names(ReplicaImpl& replica) {
  const uint64_t made = replica.names_made();
  Status named = co_await pool_.world().fs.sync_dir(replica.segment_directory());
  HF_CO_TRY(named);
  replica.set_names_synced(made);
  co_return Status();
}

Task<Status> Drain::make_head_file(ReplicaImpl& replica, uint32_t index) {
  Status loaded = co_await replica.load();
  HF_CO_TRY(loaded);
  // Who clones or restores links the files that are there now.
  if (!replica.maintenance().try_lock()) co_return Status();
  MutexGuard maintenance(replica.maintenance());
  co_await replica.file_makers().lock(index);
  Status made = co_await make_head_file_locked(replica, index);
  replica.file_makers().unlock(index);
  HF_CO_TRY(made);
  co_return co_await sync_names(replica);
}

Task<Status> Drain::make_head_file_locked(ReplicaImpl& replica, uint32_t index) {
  const SegmentKey target{index, replica.superblock().head_layer};
  const std::optional<SegmentKey> visible = replica.segments().visible(index, target.layer);
  if (visible == target) co_return Status();
  HF_PROBE("store.head_file_ahead");
  DrainSegment nothing;
  nothing.index = index;
  Status made = co_await into_new_file(replica, visible, target, nothing);
  HF_CO_TRY(made);
  co_return co_await replica.collect_garbage_of(index);
}

Task<void> Drain::segment_task(ReplicaImpl& replica, uint32_t layer, const DrainSegment& work,
                               StepState& state) {
  Status done = co_await drain_segment(replica, layer, work);
  if (!done.ok() && !state.error) state.error = done.error();
  state.slots.release();
}

namespace {

bool holds_data(const DrainSegment& work) {
  return std::any_of(work.runs.begin(), work.runs.end(),
                     [](const DrainRun& run) { return run.record->is_data(); });
}

bool has_intents(const DrainSegment& work) {
  return std::any_of(work.runs.begin(), work.runs.end(),
                     [](const DrainRun& run) { return run.record->is_intent(); });
}

bool covers_all(const DrainSegment& work, uint64_t blocks) {
  uint64_t covered = 0;
  for (const DrainRun& run : work.runs) covered += run.count;
  return covered == blocks;
}

}  // namespace

Task<Status> Drain::drain_segment(ReplicaImpl& replica, uint32_t layer, const DrainSegment& work) {
  co_await replica.file_makers().lock(work.index);
  Status done = co_await drain_locked_segment(replica, layer, work);
  replica.file_makers().unlock(work.index);
  co_return done;
}

Task<Status> Drain::drain_locked_segment(ReplicaImpl& replica, uint32_t layer,
                                         const DrainSegment& work) {
  std::optional<SegmentKey> visible = replica.segments().visible(work.index, layer);
  if (visible && visible->layer == layer) co_return co_await in_place(replica, *visible, work);
  HF_ASSERT(!has_intents(work) || mutant(StoreMutant::kDrainPassesIntents), "segment {} of layer {}",
            work.index, layer);
  if (!visible && !holds_data(work)) co_return Status();
  if (visible && covers_all(work, replica.blocks_per_segment())) visible.reset();
  const SegmentKey target{work.index, layer};
  Status made = co_await into_new_file(replica, visible, target, work);
  HF_CO_TRY(made);
  co_return co_await replica.collect_garbage_of(work.index);
}

Task<Status> Drain::in_place(ReplicaImpl& replica, SegmentKey key, const DrainSegment& work) {
  Result<std::shared_ptr<Segment>> segment = co_await pool_.cache().get(replica.place(), key);
  HF_CO_TRY(segment);
  (*segment)->begin_drain();
  Status written = co_await write_segment(**segment, replica.place().geometry, work, false);
  (*segment)->end_drain();
  replica.allocation_changes();
  co_return written;
}

Task<Status> Drain::into_new_file(ReplicaImpl& replica, std::optional<SegmentKey> source,
                                  SegmentKey target, const DrainSegment& work) {
  FileSystem& fs = pool_.world().fs;
  const SegmentPlace& place = replica.place();
  const std::string path = place.directory + "/" + segment_name(target.index, target.layer);
  const std::string temporary = path + std::string(kTemporarySuffix);
  Status gone = co_await fs.unlink(temporary);  // of an attempt that found no space
  if (!gone.ok() && gone.code() != ErrorCode::kNotFound) co_return gone;
  CrcTable table(place.geometry, place.family, target.index);
  OpenOptions options;
  options.write = options.direct = true;
  if (source) {
    HF_PROBE("store.reflink_at_drain");
    Result<std::shared_ptr<Segment>> old = co_await pool_.cache().get(place, *source);
    HF_CO_TRY(old);
    table.copy_from((*old)->table);
    const std::string from = place.directory + "/" + segment_name(source->index, source->layer);
    co_await reflinks_.acquire();
    SemaphoreUnits held(reflinks_, 1);
    Status shared = co_await fs.reflink(from, temporary);
    held.reset();
    HF_CO_TRY(shared);
  } else {
    table.initialise();
    options.create = true;
  }
  Result<std::unique_ptr<File>> file = co_await fs.open(temporary, options);
  HF_CO_TRY(file);
  if (!source) {
    Status sized = co_await (*file)->set_size(place.geometry.file_bytes());
    HF_CO_TRY(sized);
    AlignedBuffer copies(place.geometry.tables_bytes());
    table.encode_fresh(copies.span());
    Result<size_t> tabled = co_await (*file)->write_at(place.geometry.page_offset(0, 0), copies.span());
    HF_CO_TRY(tabled);
  }
  std::shared_ptr<Segment> segment = std::make_shared<Segment>(std::move(*file), std::move(table));
  Status written = co_await write_segment(*segment, place.geometry, work, true);
  HF_CO_TRY(written);
  Status renamed = co_await fs.rename(temporary, path);
  HF_CO_TRY(renamed);
  segment->name = replica.new_name();
  // From here on readers see the new file; the overlay still covers the blocks just written.
  replica.segments().insert(target);
  pool_.cache().drop(place.owner, target);
  pool_.cache().put(place, target, std::move(segment));
  replica.allocation_changes();
  co_return Status();
}

namespace {

// One vectored write: blocks one behind the other in the file.
class RunWriter {
 public:
  explicit RunWriter(Segment& segment) : segment_(segment) {}

  bool continues(uint64_t block) const {
    return !pieces_.empty() && block == next_ && pieces_.size() < kMaxIoSegments &&
           bytes_ + kMaxEntryBytes <= kMaxIoBytes;
  }
  void add(uint64_t block, ByteSpan data) {
    if (pieces_.empty()) first_ = block;
    // Memory that follows on is one piece.
    if (!pieces_.empty() && pieces_.back().data() + pieces_.back().size() == data.data()) {
      pieces_.back() = ByteSpan(pieces_.back().data(), pieces_.back().size() + data.size());
    } else {
      pieces_.push_back(data);
    }
    next_ = block + data.size() / kBlockSize;
    bytes_ += data.size();
  }
  Task<Status> flush() {
    if (pieces_.empty()) co_return Status();
    Result<size_t> written = co_await segment_.file->write_many_at(first_ * kBlockSize, pieces_);
    pieces_.clear();
    bytes_ = 0;
    HF_CO_TRY(written);
    co_return Status();
  }

 private:
  Segment& segment_;
  std::vector<ByteSpan> pieces_;
  uint64_t first_ = 0, next_ = 0, bytes_ = 0;
};

// The blocks become a hole.
Task<Status> zero_blocks(Segment& segment, uint32_t first, uint32_t count) {
  for (uint32_t b = first; b < first + count; ++b) segment.table.set(b, 0);
  Result<size_t> punched =
      co_await segment.file->punch_hole(first * kBlockSize, count * kBlockSize);
  HF_CO_TRY(punched);
  co_return Status();
}

// Blocks of a data run that are all zeroes become holes too.
Task<Status> write_run(Segment& segment, RunWriter& writer, uint64_t segment_start,
                       const DrainRun& run) {
  const uint32_t end = run.first + run.count;
  for (uint32_t b = run.first; b < end;) {
    uint32_t zeroes = 0;
    while (b + zeroes < end && all_zero(run.record->block_data(segment_start + b + zeroes))) {
      ++zeroes;
    }
    if (zeroes > 0) {
      HF_PROBE("store.zero_block_to_hole");
      Status zeroed = co_await zero_blocks(segment, b, zeroes);
      HF_CO_TRY(zeroed);
      b += zeroes;
      continue;
    }
    if (!writer.continues(b)) {
      Status flushed = co_await writer.flush();
      HF_CO_TRY(flushed);
    }
    writer.add(b, run.record->block_data(segment_start + b));
    segment.table.set(b, run.record->block_crc(segment_start + b));
    ++b;
  }
  co_return Status();
}

// Table pages that the runs touch, ascending.
std::vector<uint32_t> touched_pages(const DrainSegment& work) {
  std::vector<uint32_t> pages;
  for (const DrainRun& run : work.runs) {
    if (run.record->is_intent() && mutant(StoreMutant::kIntentCrcsNotDrained)) continue;
    const uint32_t last = CrcTable::page_of(run.first + run.count - 1);
    for (uint32_t p = CrcTable::page_of(run.first); p <= last; ++p) {
      if (pages.empty() || pages.back() < p) pages.push_back(p);
    }
  }
  return pages;
}

// The pages as they are now, sealed: large writes that end meanwhile change those in memory.
AlignedBuffer sealed_pages(Segment& segment, const std::vector<uint32_t>& pages) {
  AlignedBuffer copies(pages.size() * kBlockSize);
  for (size_t i = 0; i < pages.size(); ++i) {
    segment.table.seal(pages[i]);
    std::memcpy(copies.data() + i * kBlockSize, segment.table.page_bytes(pages[i]).data(), kBlockSize);
  }
  return copies;
}

Task<Status> write_table_pages(Segment& segment, SegmentGeometry geometry,
                               const std::vector<uint32_t>& pages, ByteSpan sealed) {
  for (size_t i = 0; i < pages.size(); ++i) {
    const uint64_t at = geometry.page_offset(pages[i], segment.table.target_copy(pages[i]));
    Result<size_t> written =
        co_await segment.file->write_at(at, sealed.subspan(i * kBlockSize, kBlockSize));
    HF_CO_TRY(written);
  }
  co_return Status();
}

// A lost write of a page that says "never written" would turn data into zeroes without a sound.
Task<Status> check_table_pages(Segment& segment, SegmentGeometry geometry,
                               const std::vector<uint32_t>& pages, ByteSpan sealed) {
  AlignedBuffer back(kBlockSize);
  for (size_t i = 0; i < pages.size(); ++i) {
    const uint64_t at = geometry.page_offset(pages[i], segment.table.target_copy(pages[i]));
    Result<size_t> n = co_await segment.file->read_at(at, back.span());
    HF_CO_TRY(n);
    if (*n != kBlockSize ||
        std::memcmp(back.data(), sealed.data() + i * kBlockSize, kBlockSize) != 0) {
      HF_PROBE("store.lost_table_write");
      co_return make_error(ErrorCode::kIo, "{}: the device lost a write of the CRC table at {}",
                           segment.file->path(), at);
    }
  }
  co_return Status();
}

}  // namespace

Task<Status> write_segment(Segment& segment, SegmentGeometry geometry, const DrainSegment& work,
                           bool fresh) {
  const uint64_t start = uint64_t{work.index} * geometry.blocks();
  RunWriter writer(segment);
  for (const DrainRun& run : work.runs) {
    if (run.record->is_intent()) continue;  // data and CRCs are where they belong
    if (run.record->is_data()) {
      Status written = co_await write_run(segment, writer, start, run);
      HF_CO_TRY(written);
    } else {
      Status zeroed = co_await zero_blocks(segment, run.first, run.count);
      HF_CO_TRY(zeroed);
    }
  }
  Status flushed = co_await writer.flush();
  HF_CO_TRY(flushed);
  const std::vector<uint32_t> pages = touched_pages(work);
  const AlignedBuffer sealed = sealed_pages(segment, pages);
  Status tabled = co_await write_table_pages(segment, geometry, pages, sealed.span());
  HF_CO_TRY(tabled);
  const bool unsynced = mutant(fresh ? StoreMutant::kReflinkNotSynced : StoreMutant::kFreeBeforeSync);
  if (!unsynced) {
    Result<size_t> synced = co_await segment.file->sync_data();
    if (synced.code() == ErrorCode::kNoSpace) {  // final, unlike a write's
      co_return make_error(ErrorCode::kIo, "{}", synced.error().message());
    }
    HF_CO_TRY(synced);
  }
  if (!mutant(StoreMutant::kNoTableReadBack)) {
    Status there = co_await check_table_pages(segment, geometry, pages, sealed.span());
    HF_CO_TRY(there);
  }
  for (const uint32_t page : pages) segment.table.commit(page);
  co_return Status();
}

}  // namespace hf
