// What a pool is, at a glance.
#include "store/map_view.h"
#include "store/offline_pool.h"

namespace hf {
namespace {

constexpr size_t kRangesAtOnce = 4096;

Books books_of(const OfflinePool& pool, const Superblock& superblock) {
  Books books;
  books.advance(superblock.commit);
  for (const std::unique_ptr<Batch>& batch : pool.scan.batches) {
    if (batch->sequence < superblock.birth_batch) continue;
    for (const Record& record : batch->records) {
      if (record.entry.replica == superblock.replica) books.note(record.entry, batch->sequence);
    }
  }
  // What is above the commit, in whole units, as if it left the ring now.
  if (!pool.scan.batches.empty()) books.take_leaving(pool.scan.batches.back()->sequence);
  return books;
}

Task<Result<uint64_t>> bytes_in_map(FileSystem& fs, const OfflineReplica& replica,
                                    const Books& books, uint32_t slot) {
  MapView view;
  view.path = replica.directory + "/" + dirty_map_name(slot);
  view.replica = replica.superblock.replica;
  view.slot = slot;
  view.has_file = (replica.superblock.maps >> slot & 1) != 0;
  view.size = replica.superblock.size_bytes;
  uint64_t bytes = 0;
  for (uint64_t from = 0;;) {
    Result<std::vector<ByteRange>> ranges =
        co_await read_map_ranges(fs, view, books, from, kRangesAtOnce);
    HF_CO_TRY(ranges);
    if (ranges->empty()) co_return bytes;
    for (const ByteRange& range : *ranges) bytes += range.length;
    from = ranges->back().end();
  }
}

Task<Result<ReplicaBooks>> inspect_books(FileSystem& fs, const OfflinePool& pool,
                                         const OfflineReplica& replica) {
  const Books books = books_of(pool, replica.superblock);
  ReplicaBooks out;
  out.commit = books.commit();
  for (uint32_t slot = 0; slot < kMapSlots; ++slot) {
    Result<uint64_t> bytes = co_await bytes_in_map(fs, replica, books, slot);
    HF_CO_TRY(bytes);
    (slot == kWindowSlot ? out.window_bytes : out.dirty_bytes[slot]) = *bytes;
  }
  co_return out;
}

uint32_t pending_snapshots(const OfflinePool& pool, const Superblock& superblock) {
  uint32_t count = 0;
  for (const Record* record : undrained_records(pool, superblock)) {
    count += record->entry.type == EntryType::kSnapshot && !record->entry.snapshot.is_nil();
  }
  return count;
}

}  // namespace

Task<Result<PoolInspection>> inspect_pool(World world, PoolConfig config) {
  Result<OfflinePool> pool = co_await load_offline(world.fs, config);
  HF_CO_TRY(pool);
  if (!pool->replica_errors.empty()) co_return pool->replica_errors.front();
  PoolInspection out;
  out.pool = pool->identity.pool;
  out.cluster = pool->identity.cluster;
  out.node = pool->identity.node;
  out.format = pool->identity.format;
  out.journal_error = pool->journal_error;
  out.journal_bytes = pool->scan.checkpoint.ring_bytes;
  out.clean = pool->scan.checkpoint.clean;
  for (const std::unique_ptr<Batch>& batch : pool->scan.batches) {
    ++out.undrained_batches;
    out.undrained_records += batch->records.size();
    out.undrained_bytes += batch->payload_bytes;
  }
  for (const OfflineReplica& replica : pool->replicas) {
    const Superblock& superblock = replica.superblock;
    ReplicaInfo info;
    info.replica = superblock.replica;
    info.volume = superblock.volume;
    info.lineage = superblock.lineage;
    info.size_bytes = superblock.size_bytes;
    info.segment_bytes = superblock.segment_bytes;
    info.promised_epoch = superblock.promised_epoch;
    info.snapshots =
        static_cast<uint32_t>(superblock.snapshots.size()) + pending_snapshots(*pool, superblock);
    out.replicas.push_back(info);
    Result<ReplicaBooks> books = co_await inspect_books(world.fs, *pool, replica);
    HF_CO_TRY(books);
    out.books.push_back(*books);
  }
  co_return std::move(out);
}

}  // namespace hf
