// The books of a replica: what is asked of them, and their files.
#include <algorithm>
#include <deque>

#include "base/log.h"
#include "runtime/fault_point.h"
#include "store/dirty_map_file.h"
#include "store/map_view.h"
#include "store/mutants.h"
#include "store/pool_impl.h"
#include "store/replica_impl.h"

namespace hf {
namespace {

// Sorted, what touches or overlaps made one, at most `max`.
std::vector<ByteRange> merged(std::vector<ByteRange> ranges, size_t max) {
  std::sort(ranges.begin(), ranges.end(),
            [](const ByteRange& a, const ByteRange& b) { return a.offset < b.offset; });
  std::vector<ByteRange> out;
  for (const ByteRange& range : ranges) {
    if (range.length == 0) continue;
    if (!out.empty() && range.offset <= out.back().end()) {
      out.back().length = std::max(out.back().end(), range.end()) - out.back().offset;
    } else {
      out.push_back(range);
    }
  }
  if (out.size() > max) out.resize(max);
  return out;
}

}  // namespace

// --- through the journal
// ----------------------------------------------------------------------------

void ReplicaImpl::note_books(const JournalEntry& entry, uint64_t batch) {
  books_.note(entry, batch);
  // Also when the commit may have come past all that the window's file holds: it goes before the record that
  // says so leaves the ring.
  if (books_listed_ || (books_.idle() && !has_map(kWindowSlot))) return;
  books_listed_ = true;
  pool_.list_books(shared_from_this());
}

bool ReplicaImpl::books_released(uint64_t through) {
  books_.released(through);
  // A commit may have come since the maps were written; the file goes before its record leaves the ring.
  const bool file_due = has_map(kWindowSlot) && books_.window_file_settled();
  books_listed_ = !books_.idle() || file_due;
  return books_listed_;
}

Task<Status> ReplicaImpl::journal_books(WriteHeader header, EntryType type, SlotMask slots,
                                        std::vector<ByteRange> ranges) {
  Gate::Pass pass(gate_);
  if (!pass) co_return make_error(ErrorCode::kClosed, "replica {} is closed", id().to_string());
  Status running = pool_.check_running();
  HF_CO_TRY(running);
  if (!pool_.admission().try_lock()) co_await pool_.admission().lock();
  MutexGuard admission(pool_.admission());
  Status fence = check_header(header);
  HF_CO_TRY(fence);
  Gate::Pass appending(appends_);
  HF_ASSERT(appending);
  std::deque<Append> appends;
  for (const ByteRange& range : ranges) {
    Append& append = appends.emplace_back();
    begin_entry(append, header, type);
    JournalEntry& entry = append.entry;
    entry.absent = slots;
    entry.offset = range.offset;
    entry.length = range.length;
    if (type == EntryType::kClearDirty && mutant(StoreMutant::kClearNotDurable)) {
      books_.note(entry, 0);
      append.done.set();
      continue;
    }
    pool_.writer().enqueue(append);
  }
  admission.unlock();
  co_return co_await wait_appended(appends);
}

Task<Status> ReplicaImpl::settle_window(WriteHeader header) {
  header.sequence = 0;
  std::vector<ByteRange> nothing(1);
  co_return co_await journal_books(header, EntryType::kCommit, 0, std::move(nothing));
}

Task<Status> ReplicaImpl::mark_dirty(WriteHeader header, SlotMask slots,
                                     std::vector<ByteRange> ranges) {
  if (ranges.size() > kMaxRangesPerCall) {
    co_return make_error(ErrorCode::kLimitExceeded,
                         "replica {}: {} ranges to mark in one call, at most {}", id().to_string(),
                         ranges.size(), kMaxRangesPerCall);
  }
  for (const ByteRange& range : ranges) {
    Status valid = check_range(range.offset, range.length, size());
    HF_CO_TRY(valid);
  }
  if (slots == 0) ranges.clear();
  std::erase_if(ranges, [](const ByteRange& range) { return range.length == 0; });
  header.sequence = 0;
  co_return co_await journal_books(header, EntryType::kMarkDirty, slots, std::move(ranges));
}

Task<Status> ReplicaImpl::clear_dirty(WriteHeader header, SlotMask slots) {
  header.sequence = 0;
  std::vector<ByteRange> everything(slots == 0 ? 0 : 1);
  co_return co_await journal_books(header, EntryType::kClearDirty, slots, std::move(everything));
}

Task<Status> ReplicaImpl::clear_dirty_range(WriteHeader header, uint32_t slot, ByteRange range) {
  Status known = check_slot(slot);
  HF_CO_TRY(known);
  Status valid = check_range(range.offset, range.length, size());
  HF_CO_TRY(valid);
  const UnitRange units = units_inside(range.offset, range.length, size());
  std::vector<ByteRange> whole;
  if (units.count > 0) {
    whole.push_back(ByteRange{units.first * kDirtyUnitBytes, units.count * kDirtyUnitBytes});
  }
  header.sequence = 0;
  co_return co_await journal_books(header, EntryType::kClearDirty,
                                   static_cast<SlotMask>(1u << slot), std::move(whole));
}

Status ReplicaImpl::check_slot(uint32_t slot) const {
  if (slot < kMemberSlots) return Status();
  return make_error(ErrorCode::kInvalidArgument, "replica {}: member slot {}, the last one is {}",
                    id().to_string(), slot, kMemberSlots - 1);
}

// --- what they say
// ----------------------------------------------------------------------------------

Task<Result<std::vector<ByteRange>>> ReplicaImpl::map_ranges(uint32_t slot, uint64_t from,
                                                             size_t max_ranges) {
  MapView view;
  view.path = map_path(slot);
  view.replica = id();
  view.slot = slot;
  view.has_file = has_map(slot);
  view.size = size();
  co_return co_await read_map_ranges(pool_.world().fs, view, books_, from, max_ranges);
}

Task<Result<std::vector<ByteRange>>> ReplicaImpl::dirty(uint32_t slot, uint64_t from,
                                                        size_t max_ranges) {
  Gate::Pass pass(gate_);
  if (!pass) co_return make_error(ErrorCode::kClosed, "replica {} is closed", id().to_string());
  Status known = check_slot(slot);
  HF_CO_TRY(known);
  co_await maps_mutex_.lock();
  MutexGuard guard(maps_mutex_);
  co_return co_await map_ranges(slot, from, max_ranges);
}

Task<Result<uint64_t>> ReplicaImpl::dirty_bytes(uint32_t slot) {
  constexpr size_t kAtOnce = 4096;
  uint64_t bytes = 0;
  for (uint64_t from = 0;;) {
    Result<std::vector<ByteRange>> ranges = co_await dirty(slot, from, kAtOnce);
    HF_CO_TRY(ranges);
    if (ranges->empty()) co_return bytes;
    for (const ByteRange& range : *ranges) bytes += range.length;
    from = ranges->back().end();
  }
}

std::vector<ByteRange> ReplicaImpl::window_in_memory(uint64_t from, uint64_t end) {
  std::vector<ByteRange> ranges;
  const auto add = [&](uint64_t offset, uint64_t length) {
    const ByteRange range = clipped(ByteRange{offset, length}, from, end);
    if (range.length > 0) ranges.push_back(range);
  };
  books_.visit_window(add);
  queued_.for_each(
      [&](QueuedRange& range) { add(range.first * kBlockSize, range.count * kBlockSize); });
  for (const DirectWrite* write : direct_.in_flight()) {
    add(write->first * kBlockSize, write->count * kBlockSize);
  }
  return ranges;
}

Task<Result<std::vector<ByteRange>>> ReplicaImpl::window(uint64_t from, size_t max_ranges) {
  Gate::Pass pass(gate_);
  if (!pass) co_return make_error(ErrorCode::kClosed, "replica {} is closed", id().to_string());
  co_await maps_mutex_.lock();
  MutexGuard guard(maps_mutex_);
  Status known = co_await read_window_stamps();
  HF_CO_TRY(known);
  std::vector<ByteRange> ranges;
  uint64_t end = size();
  if (!books_.window_file_settled()) {
    Result<std::vector<ByteRange>> coarse = co_await map_ranges(kWindowSlot, from, max_ranges);
    HF_CO_TRY(coarse);
    ranges = std::move(*coarse);
    if (ranges.size() >= max_ranges && !ranges.empty()) end = ranges.back().end();
  }
  const std::vector<ByteRange> exact = window_in_memory(from, end);
  ranges.insert(ranges.end(), exact.begin(), exact.end());
  co_return merged(std::move(ranges), max_ranges);
}

// --- the files
// --------------------------------------------------------------------------------------

bool ReplicaImpl::maps_due(uint64_t through) const {
  if (books_.must_keep(through) || !books_.changed().empty()) return true;
  return has_map(kWindowSlot) && (!books_.window_file_known() || books_.window_file_settled());
}

Task<Status> ReplicaImpl::write_maps(uint64_t through) {
  co_await maps_mutex_.lock();
  MutexGuard guard(maps_mutex_);
  Status known = co_await read_window_stamps();
  HF_CO_TRY(known);
  books_.take_leaving(through);
  if (has_map(kWindowSlot) && books_.window_file_settled()) {
    HF_PROBE("store.window_file_settled");
    books_.drop_window_file();
  }
  for (const uint32_t slot : books_.changed()) {
    UnitChanges changes = books_.take_changes(slot);
    Status written = co_await write_map(slot, changes);
    if (!written.ok()) {
      books_.put_back(slot, std::move(changes));
      co_return written;
    }
  }
  co_return Status();
}

// What an earlier process left in the window's file: once.
Task<Status> ReplicaImpl::read_window_stamps() {
  if (books_.window_file_known()) co_return Status();
  // Nothing that it could take is above this.
  Stamp newest{superblock_.promised_epoch, UINT64_MAX};
  OpenOptions options;
  options.direct = true;
  Result<std::unique_ptr<File>> file =
      co_await pool_.world().fs.open(map_path(kWindowSlot), options);
  if (file.code() != ErrorCode::kNotFound) {
    HF_CO_TRY(file);
    Result<uint64_t> pages = map_pages_in(**file);
    HF_CO_TRY(pages);
    Stamp found;
    for (uint64_t page = 0; page < *pages; page += kMapPagesAtOnce) {
      DirtyMapPlace place;
      place.replica = id();
      place.slot = kWindowSlot;
      place.page = page;
      Result<std::vector<LoadedMapPage>> loaded =
          co_await read_map_pages(**file, place, std::min(kMapPagesAtOnce, *pages - page));
      HF_CO_TRY(loaded);
      for (const LoadedMapPage& one : *loaded) {
        found = std::max(found, one.lost ? newest : one.page.newest);
      }
    }
    newest = found;
  }
  books_.set_window_file_newest(newest);
  co_return Status();
}

Task<Status> ReplicaImpl::write_map(uint32_t slot, const UnitChanges& changes) {
  if (changes.all_cleared() && has_map(slot)) {
    Status dropped = co_await drop_map(slot);
    HF_CO_TRY(dropped);
  }
  const bool sets = std::any_of(changes.runs().begin(), changes.runs().end(),
                                [](const auto& run) { return run.second.set; });
  if (!sets && (!has_map(slot) || changes.runs().empty())) co_return Status();
  bool made = false, lost = false;
  Result<std::unique_ptr<File>> file = co_await open_map(slot, &made, &lost);
  HF_CO_TRY(file);
  MapUpdate update;
  update.place.replica = id();
  update.place.slot = slot;
  update.newest = slot == kWindowSlot ? books_.leaving_newest() : Stamp();
  update.newest_if_lost = Stamp{superblock_.promised_epoch, UINT64_MAX};
  update.all_lost = lost;
  update.last_unit = (size() - 1) / kDirtyUnitBytes;
  Status updated = co_await update_map(**file, update, changes);
  HF_CO_TRY(updated);
  if (!made) co_return Status();
  Status named = co_await pool_.world().fs.sync_dir(directory_);
  HF_CO_TRY(named);
  co_return co_await record_map(slot, true);
}

Task<Result<std::unique_ptr<File>>> ReplicaImpl::open_map(uint32_t slot, bool* made, bool* lost) {
  FileSystem& fs = pool_.world().fs;
  OpenOptions options;
  options.write = options.direct = true;
  if (has_map(slot)) {
    Result<std::unique_ptr<File>> file = co_await fs.open(map_path(slot), options);
    if (file.code() != ErrorCode::kNotFound) co_return file;
    HF_PROBE("store.map_missing");
    HF_LOG(kError, "store", "map_missing {}: all of the volume counts as changed", map_path(slot));
    *lost = true;
  }
  // Left over from a map that was dropped, or that was not finished.
  Status gone = co_await fs.unlink(map_path(slot));
  if (!gone.ok() && gone.code() != ErrorCode::kNotFound) co_return gone.error();
  HF_PROBE("store.map_made");
  options.create = options.exclusive = true;
  *made = true;
  co_return co_await fs.open(map_path(slot), options);
}

// The superblock says which maps there are: a file that it does not know is never believed, and one
// that it knows and that is missing is missed.
Task<Status> ReplicaImpl::record_map(uint32_t slot, bool there) {
  co_await superblock_mutex_.lock();
  MutexGuard guard(superblock_mutex_);
  Superblock next = superblock_;
  next.maps = there ? next.maps | 1u << slot : next.maps & ~(1u << slot);
  co_return co_await store_next(std::move(next));
}

Task<Status> ReplicaImpl::drop_map(uint32_t slot) {
  HF_PROBE("store.map_dropped");
  Status recorded = co_await record_map(slot, false);
  HF_CO_TRY(recorded);
  if (slot == kWindowSlot) books_.window_file_dropped();
  Status gone = co_await pool_.world().fs.unlink(map_path(slot));
  if (!gone.ok() && gone.code() != ErrorCode::kNotFound) co_return gone;
  co_return Status();
}

}  // namespace hf
