// A replica's identity, superblock, promise, files.
#include <algorithm>

#include "base/log.h"
#include "runtime/fault_point.h"
#include "store/mutants.h"
#include "store/pool_impl.h"
#include "store/replica_impl.h"

namespace hf {
namespace {

constexpr Duration kAllocatedAge = 1s;

}  // namespace

ReplicaImpl::ReplicaImpl(PoolImpl& pool, uint64_t number, std::string directory,
                         Superblock superblock)
    : pool_(pool), directory_(std::move(directory)), superblock_(std::move(superblock)) {
  place_.owner = number;
  place_.directory = directory_ + "/" + kSegmentsName;
  place_.family = superblock_.family;
  place_.geometry.segment_bytes = superblock_.segment_bytes;
  promised_ = superblock_.promised_epoch;
  write_layer_ = superblock_.head_layer;
  books_.advance(superblock_.commit);
  if (has_map(kWindowSlot)) books_.found_window_file();
}

ReplicaImpl::~ReplicaImpl() = default;

ReplicaStats ReplicaImpl::stats() const {
  ReplicaStats stats = stats_;
  stats.size_bytes = size();
  stats.promised_epoch = promised_;
  stats.commit = books_.commit();
  stats.newest = books_.newest();
  stats.snapshots = static_cast<uint32_t>(superblock_.snapshots.size() + pending_.size());
  stats.head_layer = write_layer_;
  for (const auto& [first, extent] : overlay_.extents()) {
    if (extent.record->is_data()) stats.undrained_bytes += extent.count * kBlockSize;
  }
  return stats;
}

Task<Status> ReplicaImpl::store_next(Superblock next) {
  next.generation = superblock_.generation + 1;
  next.commit = std::max(next.commit, books_.commit());
  Status room = co_await reserve_rows(next.snapshots.size());
  HF_CO_TRY(room);
  const std::string path = directory_ + "/" + kSuperblockName;
  Status stored = co_await store_superblock(pool_.world().fs, path, next);
  if (!stored.ok()) {
    pool_.fail(stored.error());
    co_return stored;
  }
  superblock_ = std::move(next);
  co_return Status();
}

Task<Status> ReplicaImpl::reserve_rows(size_t snapshots) {
  const uint64_t bytes = superblock_encoded_bytes(snapshots);
  if (bytes <= superblock_room_ || mutant(StoreMutant::kRoomNotReserved)) co_return Status();
  HF_PROBE("store.superblock_grows");
  Status reserved =
      co_await reserve_superblock(pool_.world().fs, directory_ + "/" + kSuperblockName, bytes);
  if (!reserved.ok()) {
    if (reserved.code() != ErrorCode::kNoSpace) pool_.fail(reserved.error());
    co_return reserved;
  }
  superblock_room_ = std::max(superblock_room_, bytes);
  co_return Status();
}

Task<Status> ReplicaImpl::promise(uint64_t epoch) {
  Gate::Pass pass(gate_);
  if (!pass) co_return make_error(ErrorCode::kClosed, "replica {} is closed", id().to_string());
  Status running = pool_.check_running();
  HF_CO_TRY(running);
  if (epoch < promised_) {
    co_return make_error(ErrorCode::kFenced, "replica {}: {} is promised, epoch {} comes too late",
                         id().to_string(), promised_, epoch);
  }
  // From now on older epochs are refused; those already queued must end before we answer, so that the
  // answer's window has them. Who waits for room is none of these, and may wait for ever.
  promised_ = epoch;
  ++promises_;
  pool_.wake_held();
  held_changed_.notify_all();
  co_await appends_.wait_empty();
  co_await superblock_mutex_.lock();
  MutexGuard guard(superblock_mutex_);
  if (superblock_.promised_epoch >= epoch) co_return Status();
  Superblock next = superblock_;
  next.promised_epoch = epoch;
  if (mutant(StoreMutant::kPromiseNotDurable)) {
    superblock_ = next;
    co_return Status();
  }
  co_return co_await store_next(std::move(next));
}

Task<Status> ReplicaImpl::set_config(std::string config) {
  Gate::Pass pass(gate_);
  if (!pass) co_return make_error(ErrorCode::kClosed, "replica {} is closed", id().to_string());
  Status running = pool_.check_running();
  HF_CO_TRY(running);
  if (config.size() > kMaxConfigBytes) {
    co_return make_error(ErrorCode::kLimitExceeded, "replica {}: a configuration of {} bytes, at most {}",
                         id().to_string(), config.size(), kMaxConfigBytes);
  }
  co_await superblock_mutex_.lock();
  MutexGuard guard(superblock_mutex_);
  Superblock next = superblock_;
  next.config = std::move(config);
  co_return co_await store_next(std::move(next));
}

Task<Status> ReplicaImpl::wait_drained() {
  Gate::Pass pass(gate_);
  if (!pass) co_return make_error(ErrorCode::kClosed, "replica {} is closed", id().to_string());
  co_return co_await pool_.drain().wait_for(pool_.last_durable_sequence());
}

Task<Result<uint64_t>> ReplicaImpl::allocated_bytes() {
  Gate::Pass pass(gate_);
  if (!pass) co_return make_error(ErrorCode::kClosed, "replica {} is closed", id().to_string());
  Status loaded = co_await load();
  HF_CO_TRY(loaded);
  const MonoTime now = pool_.world().clock.now();
  const bool current = allocated_version_ == allocation_version_;
  if (current || (allocated_version_ != 0 && now - allocated_at_ < kAllocatedAge)) {
    co_return allocated_;
  }
  const uint64_t version = allocation_version_;
  uint64_t bytes = 0;
  const std::vector<SegmentKey> keys = map_.visible_all(superblock_.head_layer);
  for (const SegmentKey& key : keys) {
    std::string path = place_.directory + "/" + segment_name(key.index, key.layer);
    Result<FileInfo> info = co_await pool_.world().fs.stat(std::move(path));
    if (info.code() == ErrorCode::kNotFound) continue;  // replaced meanwhile
    HF_CO_TRY(info);
    bytes += info->allocated_bytes;
  }
  allocated_ = bytes;
  allocated_version_ = version;
  allocated_at_ = now;
  co_return bytes;
}

Task<Status> ReplicaImpl::load() {
  if (loaded_) co_return Status();
  co_await load_mutex_.lock();
  MutexGuard guard(load_mutex_);
  if (loaded_) co_return Status();
  FileSystem& fs = pool_.world().fs;
  Result<std::vector<DirectoryEntry>> entries = co_await fs.list(place_.directory);
  HF_CO_TRY(entries);
  std::vector<SegmentKey> keys;
  bool removed = false;
  for (const DirectoryEntry& entry : *entries) {
    const std::optional<SegmentKey> key = parse_segment_name(entry.name);
    if (key && key->layer <= superblock_.head_layer) {
      keys.push_back(*key);
      continue;
    }
    // Temporary files, and layers of a restore that did not finish.
    if (!key && !entry.name.ends_with(kTemporarySuffix)) continue;
    HF_PROBE("store.leftover_removed");
    std::string path = place_.directory + "/" + entry.name;
    Status gone = co_await fs.unlink(std::move(path));
    HF_CO_TRY(gone);
    removed = true;
  }
  if (removed) {
    Status synced = co_await fs.sync_dir(place_.directory);
    HF_CO_TRY(synced);
  }
  map_.assign(std::move(keys));
  loaded_ = true;
  co_return co_await collect_garbage();
}

std::vector<uint32_t> ReplicaImpl::needed_layers() const {
  std::vector<uint32_t> layers = pinned_;
  layers.push_back(superblock_.head_layer);
  for (const SnapshotRow& row : superblock_.snapshots) layers.push_back(row.layer);
  // A barrier that waits for its drain closes layers from the present head on.
  for (const SnapshotRow& row : pending_) layers.push_back(row.layer);
  return layers;
}

void ReplicaImpl::unpin(uint32_t layer) {
  const auto at = std::find(pinned_.begin(), pinned_.end(), layer);
  HF_ASSERT(at != pinned_.end());
  pinned_.erase(at);
}

Task<Status> ReplicaImpl::collect_garbage() {
  const std::vector<uint32_t> layers = needed_layers();
  co_return co_await unlink_segments(map_.unneeded(layers));
}

Task<Status> ReplicaImpl::collect_garbage_of(uint32_t index) {
  const std::vector<uint32_t> layers = needed_layers();
  co_return co_await unlink_segments(map_.unneeded_of(index, layers));
}

// Names that come back after power loss are collected again at the next load.
Task<Status> ReplicaImpl::unlink_segments(std::vector<SegmentKey> keys) {
  for (const SegmentKey& key : keys) {
    HF_PROBE("store.segment_collected");
    map_.erase(key);
    allocation_changes();
    pool_.cache().drop(place_.owner, key);
  }
  for (const SegmentKey& key : keys) {
    std::string path = place_.directory + "/" + segment_name(key.index, key.layer);
    Status gone = co_await pool_.world().fs.unlink(std::move(path));
    if (!gone.ok() && gone.code() != ErrorCode::kNotFound) co_return gone;
  }
  co_return Status();
}

}  // namespace hf
