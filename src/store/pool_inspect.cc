// What a pool is, at a glance.
#include "store/offline_pool.h"

namespace hf {
namespace {

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
  }
  co_return std::move(out);
}

}  // namespace hf
