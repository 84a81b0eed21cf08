#include "store/offline_pool.h"

#include "store/journal_file.h"
#include "store/pool_names.h"
#include "store/segment_cache.h"

namespace hf {
namespace {

Task<Status> load_journal(FileSystem& fs, const PoolConfig& config, OfflinePool& pool) {
  OpenOptions options;
  options.direct = true;
  Result<std::unique_ptr<File>> journal =
      co_await fs.open(config.journal_dir + "/" + kJournalName, options);
  HF_CO_TRY(journal);
  Result<JournalCheckpoint> checkpoint = co_await read_checkpoint(**journal, pool.identity.pool);
  HF_CO_TRY(checkpoint);
  pool.scan.checkpoint = *checkpoint;
  Result<JournalScan> scan = co_await scan_journal(**journal, *checkpoint);
  HF_CO_TRY(scan);
  pool.scan = std::move(*scan);
  co_return Status();
}

Task<Result<OfflineReplica>> load_offline_replica(FileSystem& fs, std::string directory) {
  OfflineReplica replica;
  Result<Superblock> superblock =
      co_await load_superblock(fs, directory + "/" + kSuperblockName, false);
  HF_CO_TRY(superblock);
  replica.superblock = std::move(*superblock);
  Result<std::vector<DirectoryEntry>> names = co_await fs.list(directory + "/" + kSegmentsName);
  HF_CO_TRY(names);
  std::vector<SegmentKey> keys;
  for (const DirectoryEntry& entry : *names) {
    const std::optional<SegmentKey> key = parse_segment_name(entry.name);
    if (key && key->layer <= replica.superblock.head_layer) keys.push_back(*key);
  }
  replica.segments.assign(std::move(keys));
  replica.directory = std::move(directory);
  co_return std::move(replica);
}

}  // namespace

Task<Result<OfflinePool>> load_offline(FileSystem& fs, const PoolConfig& config) {
  Result<PoolFile> identity = co_await read_pool_identity(fs, config);
  HF_CO_TRY(identity);
  OfflinePool pool;
  pool.identity = *identity;
  Status journal = co_await load_journal(fs, config, pool);
  if (journal.code() == ErrorCode::kNewerFormat) co_return journal.error();
  if (!journal.ok()) pool.journal_error = journal.error();
  const std::string volumes = config.data_dir + "/" + kVolumesName;
  Result<std::vector<DirectoryEntry>> names = co_await fs.list(volumes);
  HF_CO_TRY(names);
  for (const DirectoryEntry& entry : *names) {
    if (!ReplicaId::parse(entry.name)) continue;
    std::string directory = volumes + "/" + entry.name;
    Result<OfflineReplica> replica = co_await load_offline_replica(fs, std::move(directory));
    if (replica.ok()) {
      pool.replicas.push_back(std::move(*replica));
    } else {
      pool.replica_errors.push_back(replica.error());
    }
  }
  co_return std::move(pool);
}

std::vector<const Record*> undrained_records(const OfflinePool& pool,
                                             const Superblock& superblock) {
  std::vector<const Record*> out;
  for (const std::unique_ptr<Batch>& batch : pool.scan.batches) {
    if (batch->sequence < superblock.birth_batch) continue;
    for (const Record& record : batch->records) {
      if (record.entry.replica != superblock.replica) continue;
      if (record.entry.layer < superblock.head_layer) continue;
      out.push_back(&record);
    }
  }
  return out;
}

std::vector<DrainSegment> undrained_intents(const OfflinePool& pool, const Superblock& superblock) {
  const std::vector<const Record*> records = undrained_records(pool, superblock);
  return newest_intents(records, superblock.head_layer, superblock.segment_bytes / kBlockSize,
                        superblock.size_bytes / kBlockSize);
}

Task<Result<std::unique_ptr<OfflineSegment>>> open_offline_segment(
    FileSystem& fs, const OfflineReplica& replica, SegmentKey key,
    const std::vector<DrainSegment>& intents) {
  SegmentGeometry geometry;
  geometry.segment_bytes = replica.superblock.segment_bytes;
  OpenOptions options;
  options.direct = true;
  const std::string path =
      replica.directory + "/" + kSegmentsName + "/" + segment_name(key.index, key.layer);
  Result<std::unique_ptr<File>> file = co_await fs.open(path, options);
  HF_CO_TRY(file);
  CrcTable table(geometry, replica.superblock.family, key.index);
  AlignedBuffer copies(geometry.tables_bytes());
  Result<size_t> n = co_await (*file)->read_at(geometry.page_offset(0, 0), copies.span());
  HF_CO_TRY(n);
  if (*n != copies.size()) {
    co_return make_error(ErrorCode::kCorruption, "segment file {} is too short for its CRC table",
                         path);
  }
  auto segment = std::make_unique<OfflineSegment>(std::move(*file), std::move(table));
  segment->loaded = segment->table.load(copies.span());
  for (const uint32_t page : segment->loaded.doubtful) {
    Status settled = co_await settle_doubtful_page(*segment->file, segment->table, page);
    HF_CO_TRY(settled);
  }
  for (const DrainSegment& of_segment : intents) {
    if (of_segment.index != key.index || key.layer != replica.superblock.head_layer) continue;
    Status settled =
        co_await settle_intents(*segment->file, segment->table, of_segment, geometry.blocks());
    HF_CO_TRY(settled);
  }
  co_return std::move(segment);
}

}  // namespace hf
