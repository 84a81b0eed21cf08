// Making a pool, and opening one: identity, lock, recovery.
#include <algorithm>

#include "store/mutants.h"
#include "store/pool_impl.h"

namespace hf {
namespace {

Status check_config(const PoolConfig& config) {
  if (config.journal_dir.empty() || config.data_dir.empty() || config.journal_dir[0] != '/' ||
      config.data_dir[0] != '/') {
    return make_error(ErrorCode::kInvalidArgument,
                      "a pool needs absolute paths for its journal and its data, not '{}' and '{}'",
                      config.journal_dir, config.data_dir);
  }
  const uint64_t smallest = std::max(config.journal_bytes_min, kSmallestJournalBytes);
  if (config.journal_bytes < smallest || config.journal_bytes > kMaxJournalBytes ||
      !is_aligned(config.journal_bytes, kBlockSize)) {
    return make_error(ErrorCode::kInvalidArgument,
                      "a journal of {} bytes: it must be a multiple of 4 KiB from {} to {}",
                      config.journal_bytes, format_size(smallest),
                      format_size(kMaxJournalBytes));
  }
  if (config.overlay_bytes < kMaxBatchPayload || config.open_files < 8) {
    return make_error(ErrorCode::kInvalidArgument,
                      "an overlay of {} bytes and {} open files: at least 1 MiB and 8",
                      config.overlay_bytes, config.open_files);
  }
  return Status();
}

Task<Status> check_empty(FileSystem& fs, const PoolConfig& config) {
  Result<FileInfo> pool = co_await fs.stat(config.journal_dir + "/" + kPoolFileName);
  if (pool.ok()) {
    co_return make_error(ErrorCode::kAlreadyExists, "{} is a pool already", config.journal_dir);
  }
  if (pool.code() != ErrorCode::kNotFound) co_return pool.error();
  Result<std::vector<DirectoryEntry>> volumes =
      co_await fs.list(config.data_dir + "/" + kVolumesName);
  if (volumes.code() == ErrorCode::kNotFound) co_return Status();
  HF_CO_TRY(volumes);
  if (!volumes->empty()) {
    co_return make_error(ErrorCode::kNotEmpty, "{}/{} holds volumes of some other pool",
                         config.data_dir, kVolumesName);
  }
  co_return Status();
}

// A reflink of a probe file: without them snapshots could not be O(1).
Task<Status> check_reflink(FileSystem& fs, std::string directory) {
  const std::string from = directory + "/probe" + std::string(kTemporarySuffix);
  const std::string to = directory + "/probe2" + std::string(kTemporarySuffix);
  OpenOptions options;
  options.write = options.create = true;
  Result<std::unique_ptr<File>> file = co_await fs.open(from, options);
  HF_CO_TRY(file);
  Result<size_t> written = co_await (*file)->write_at(0, as_bytes("probe"));
  HF_CO_TRY(written);
  Status shared = co_await fs.reflink(from, to);
  Status first_gone = co_await fs.unlink(from);
  HF_CO_TRY(first_gone);
  if (!shared.ok()) {
    co_return make_error(ErrorCode::kMissingFeature,
                         "the file system of {} cannot share blocks between files ({}); use XFS made "
                         "with reflink=1",
                         directory, shared.error().message());
  }
  co_return co_await fs.unlink(to);
}

Task<Result<std::unique_ptr<Pool>>> run_pool(World world, PoolConfig config, PoolFile identity,
                                             std::unique_ptr<File> journal,
                                             JournalCheckpoint checkpoint) {
  if (!checkpoint.clean && !mutant(StoreMutant::kVisibleTrusted)) {
    Result<size_t> synced = co_await journal->sync_data();
    HF_CO_TRY(synced);
  }
  Result<JournalScan> scan = co_await scan_journal(*journal, checkpoint);
  HF_CO_TRY(scan);
  auto pool = std::make_unique<PoolImpl>(world, std::move(config), identity, std::move(journal));
  Status started = co_await pool->start(std::move(*scan));
  if (!started.ok()) {
    pool->fail(started.error());
    Status stopped = co_await pool->stop();
    (void)stopped;  // the first error says more
    co_return started.error();
  }
  co_return std::unique_ptr<Pool>(std::move(pool));
}

}  // namespace

Task<Result<PoolFile>> read_pool_identity(FileSystem& fs, const PoolConfig& config) {
  const std::string path = config.journal_dir + "/" + kPoolFileName;
  Result<std::string> text = co_await fs.read_file(path, kMaxPoolFileBytes);
  if (text.code() == ErrorCode::kNotFound) {
    co_return make_error(ErrorCode::kNotFound, "{} is not a pool (it has no {})", config.journal_dir,
                         kPoolFileName);
  }
  HF_CO_TRY(text);
  Result<PoolFile> identity = decode_pool_file(*text);
  if (!identity.ok()) co_return identity.error().with_context(config.journal_dir);
  if (!config.cluster.is_nil() && config.cluster != identity->cluster) {
    co_return make_error(ErrorCode::kWrongOwner, "pool {} in {} belongs to cluster {}, not to {}",
                         identity->pool.to_string(), config.journal_dir,
                         identity->cluster.to_string(), config.cluster.to_string());
  }
  if (!config.node.is_nil() && config.node != identity->node) {
    co_return make_error(ErrorCode::kWrongOwner, "pool {} in {} belongs to node {}, not to {}",
                         identity->pool.to_string(), config.journal_dir, identity->node.to_string(),
                         config.node.to_string());
  }
  if (!config.pool.is_nil() && config.pool != identity->pool) {
    co_return make_error(ErrorCode::kWrongOwner,
                         "{} holds pool {}, not pool {}: it is a pool already; give another place, or remove "
                         "what is left of that pool",
                         config.journal_dir, identity->pool.to_string(), config.pool.to_string());
  }
  co_return *identity;
}

Task<Result<std::unique_ptr<Pool>>> Pool::create(World world, PoolConfig config) {
  Status valid = check_config(config);
  HF_CO_TRY(valid);
  FileSystem& fs = world.fs;
  Status empty = co_await check_empty(fs, config);
  HF_CO_TRY(empty);
  Status made = co_await fs.make_directory(config.data_dir + "/" + kVolumesName, 0700);
  if (!made.ok() && made.code() != ErrorCode::kAlreadyExists) co_return made.error();
  Status reflink = co_await check_reflink(fs, config.data_dir + "/" + kVolumesName);
  HF_CO_TRY(reflink);
  Status synced = co_await fs.sync_dir(config.data_dir);
  HF_CO_TRY(synced);
  PoolFile identity;
  identity.pool = config.pool.is_nil() ? new_id<PoolId>(world.random) : config.pool;
  identity.cluster = config.cluster;
  identity.node = config.node;
  JournalCheckpoint first;
  first.pool = identity.pool;
  first.ring_bytes = config.journal_bytes - kRingOffset;
  first.generation = 1;
  first.clean = true;
  first.era = world.random.next();
  first.start_sequence = 1;
  Result<std::unique_ptr<File>> journal = co_await create_journal(
      fs, config.journal_dir + "/" + kJournalName, first, config.journal_bytes);
  HF_CO_TRY(journal);
  // The pool exists from here on.
  Status named = co_await fs.write_file_atomic(config.journal_dir + "/" + kPoolFileName,
                                               encode_pool_file(identity), 0600);
  HF_CO_TRY(named);
  co_return co_await run_pool(world, std::move(config), identity, std::move(*journal), first);
}

Task<Result<std::unique_ptr<Pool>>> Pool::open(World world, PoolConfig config) {
  FileSystem& fs = world.fs;
  Result<PoolFile> identity = co_await read_pool_identity(fs, config);
  HF_CO_TRY(identity);
  OpenOptions options;
  options.write = options.direct = true;
  const std::string path = config.journal_dir + "/" + kJournalName;
  Result<std::unique_ptr<File>> journal = co_await fs.open(path, options);
  if (journal.code() == ErrorCode::kNotFound) {
    co_return make_error(ErrorCode::kCorruption, "the journal {} of pool {} is missing", path,
                         identity->pool.to_string());
  }
  HF_CO_TRY(journal);
  Status locked = (*journal)->try_lock();
  if (locked.code() == ErrorCode::kLocked) {
    co_return make_error(ErrorCode::kLocked, "pool {} in {} is in use by another process",
                         identity->pool.to_string(), config.journal_dir);
  }
  HF_CO_TRY(locked);
  Result<JournalCheckpoint> checkpoint = co_await read_checkpoint(**journal, identity->pool);
  HF_CO_TRY(checkpoint);
  config.journal_bytes = checkpoint->ring_bytes + kRingOffset;
  Status valid = check_config(config);
  HF_CO_TRY(valid);
  co_return co_await run_pool(world, std::move(config), *identity, std::move(*journal),
                              *checkpoint);
}

}  // namespace hf
