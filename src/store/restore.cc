// Restore: the head becomes a snapshot again, by hard links one layer above the head; the superblock then
// moves the head above them, so that the linked files stay immutable.
//
//   layer        1(snap)  2(head)      3 = links   4 = new head
//   segment 0    ●        ●            0.3 → 0.1
//   segment 1             ●            1.3 blank (the snapshot has none)
#include <bit>

#include "runtime/fault_point.h"
#include "store/pool_impl.h"
#include "store/replica_impl.h"

namespace hf {

Task<Status> ReplicaImpl::link_or_blank(SegmentKey head, uint32_t from_layer, uint32_t to_layer) {
  FileSystem& fs = pool_.world().fs;
  const std::optional<SegmentKey> from = map_.visible(head.index, from_layer);
  if (from == head) co_return Status();
  const std::string to = place_.directory + "/" + segment_name(head.index, to_layer);
  Status gone = co_await fs.unlink(to);  // of a restore that failed
  if (!gone.ok() && gone.code() != ErrorCode::kNotFound) co_return gone;
  if (from) {
    std::string path = place_.directory + "/" + segment_name(from->index, from->layer);
    co_return co_await fs.link(std::move(path), to);
  }
  HF_PROBE("store.restore_blank_segment");
  OpenOptions options;
  options.write = options.create = options.direct = true;
  Result<std::unique_ptr<File>> file = co_await fs.open(to, options);
  HF_CO_TRY(file);
  Status sized = co_await (*file)->set_size(place_.geometry.file_bytes());
  HF_CO_TRY(sized);
  CrcTable table(place_.geometry, place_.family, head.index);
  table.initialise();
  AlignedBuffer copies(place_.geometry.tables_bytes());
  table.encode_fresh(copies.span());
  Result<size_t> written =
      co_await (*file)->write_at(place_.geometry.page_offset(0, 0), copies.span());
  HF_CO_TRY(written);
  Result<size_t> synced = co_await (*file)->sync_data();
  HF_CO_TRY(synced);
  co_return Status();
}

Task<Status> ReplicaImpl::link_for_restore(uint32_t from_layer, uint32_t to_layer) {
  const std::vector<SegmentKey> heads = map_.visible_all(superblock_.head_layer);
  for (const SegmentKey& head : heads) {
    Status linked = co_await link_or_blank(head, from_layer, to_layer);
    HF_CO_TRY(linked);
  }
  // A segment that only the snapshot has cannot be: files vanish only when no later layer sees them.
  co_return co_await pool_.world().fs.sync_dir(place_.directory);
}

Task<Status> ReplicaImpl::restore(WriteHeader header, SnapshotId id) {
  Gate::Pass pass(gate_);
  if (!pass) co_return make_error(ErrorCode::kClosed, "replica {} is closed", this->id().to_string());
  Status running = pool_.check_running();
  HF_CO_TRY(running);
  co_await maintenance_.lock();
  MutexGuard maintenance(maintenance_);
  const SnapshotRow* row = find_snapshot(id);
  if (row == nullptr) {
    co_return make_error(ErrorCode::kNotFound, "replica {} has no snapshot {}",
                         this->id().to_string(), id.to_string());
  }
  // The books have it before anything changes; the drain that we wait for keeps it.
  std::vector<ByteRange> all;
  const uint64_t maps = static_cast<uint64_t>(std::popcount(header.absent)) + (header.sequence != 0);
  if (maps > 0) {
    all.push_back(ByteRange{0, std::max(size(), row->size_bytes)});
    // Full maps: the drain must not wait for space that we ask for only then.
    const uint64_t pages = all[0].length / kDirtyUnitBytes / kUnitsPerPage + 1;
    Status known = co_await pool_.refresh_space();
    HF_CO_TRY(known);
    Status room = co_await pool_.admit_metadata(kMetadataOverhead + maps * pages * 2 * kBlockSize);
    HF_CO_TRY(room);
  }
  Status noted = co_await journal_books(header, EntryType::kMarkDirty, header.absent, std::move(all));
  HF_CO_TRY(noted);
  // New writes wait, so that nothing undrained belongs to the layers that we link over.
  restoring_ = true;
  Status done = co_await restore_quiesced(id);
  restoring_ = false;
  resumed_.notify_all();
  co_return done;
}

Task<Status> ReplicaImpl::restore_quiesced(SnapshotId id) {
  co_await appends_.wait_empty();
  Status drained = co_await pool_.drain().wait_for(pool_.last_durable_sequence());
  HF_CO_TRY(drained);
  Status loaded = co_await load();
  HF_CO_TRY(loaded);
  HF_ASSERT(overlay_.empty() && pending_.empty() && write_layer_ == superblock_.head_layer);
  co_await superblock_mutex_.lock();
  MutexGuard guard(superblock_mutex_);
  const SnapshotRow row = *find_snapshot(id);
  const uint32_t to_layer = superblock_.head_layer + 1;
  Status linked = co_await link_for_restore(row.layer, to_layer);
  HF_CO_TRY(linked);
  std::vector<SegmentKey> made;
  for (const SegmentKey& head : map_.visible_all(superblock_.head_layer)) {
    if (map_.visible(head.index, row.layer) != head) made.push_back({head.index, to_layer});
  }
  Superblock next = superblock_;
  next.head_layer = to_layer + 1;
  next.size_bytes = row.size_bytes;
  Status stored = co_await store_next(std::move(next));
  HF_CO_TRY(stored);
  for (const SegmentKey& key : made) map_.insert(key);
  allocation_changes();
  write_layer_ = superblock_.head_layer;
  guard.unlock();
  co_return co_await collect_garbage();
}

}  // namespace hf
