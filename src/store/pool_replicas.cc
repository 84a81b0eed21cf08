// Replicas of a pool: creating, cloning, deleting. Each appears and goes by one rename.
#include "base/log.h"
#include "runtime/fault_point.h"
#include "store/mutants.h"
#include "store/pool_impl.h"

namespace hf {
namespace {

uint64_t default_segment_bytes(uint64_t size) {
  if (size <= 1 * kTiB) return 16 * kMiB;
  return size <= 16 * kTiB ? 64 * kMiB : 256 * kMiB;
}

Status check_spec(const ReplicaSpec& spec) {
  if (spec.replica.is_nil() || spec.volume.is_nil()) {
    return make_error(ErrorCode::kInvalidArgument, "a replica needs an id and a volume");
  }
  if (spec.size_bytes == 0 || !is_aligned(spec.size_bytes, kBlockSize) ||
      spec.size_bytes > kMaxReplicaBytes) {
    return make_error(ErrorCode::kInvalidArgument,
                      "replica {}: a size of {} bytes is not a multiple of {} up to {}",
                      spec.replica.to_string(), spec.size_bytes, kBlockSize,
                      format_size(kMaxReplicaBytes));
  }
  const uint64_t segment = spec.segment_bytes;
  if (segment != 0 && (segment < kMinSegmentBytes || segment > kMaxSegmentBytes ||
                       !is_aligned(segment, kBlockSize))) {
    return make_error(ErrorCode::kInvalidArgument, "replica {}: segments of {} bytes",
                      spec.replica.to_string(), segment);
  }
  if (spec.config.size() > kMaxConfigBytes) {
    return make_error(ErrorCode::kLimitExceeded, "replica {}: a configuration of {} bytes",
                      spec.replica.to_string(), spec.config.size());
  }
  return Status();
}

}  // namespace

Superblock PoolImpl::first_superblock(const ReplicaSpec& spec) const {
  Superblock superblock;
  superblock.generation = 1;
  superblock.volume = spec.volume;
  superblock.replica = spec.replica;
  superblock.lineage = spec.lineage;
  superblock.family = spec.replica;
  superblock.size_bytes = spec.size_bytes;
  superblock.segment_bytes =
      spec.segment_bytes != 0 ? spec.segment_bytes : default_segment_bytes(spec.size_bytes);
  superblock.head_layer = 1;
  superblock.birth_batch = writer_->next_sequence();
  superblock.created_ns = world_.clock.wall().ns;
  superblock.config = spec.config;
  return superblock;
}

Result<std::shared_ptr<Replica>> PoolImpl::existing(const ReplicaSpec& spec) const {
  const auto found = replicas_.find(spec.replica);
  if (found == replicas_.end()) return std::shared_ptr<Replica>();
  const ReplicaImpl& there = *found->second;
  const bool same = there.volume() == spec.volume && there.lineage() == spec.lineage &&
                    (spec.size_bytes == 0 || there.size() == spec.size_bytes) &&
                    (spec.segment_bytes == 0 || there.segment_bytes() == spec.segment_bytes);
  if (!same) {
    return make_error(ErrorCode::kAlreadyExists,
                      "replica {} is there already, with another volume, lineage or size",
                      spec.replica.to_string());
  }
  return std::shared_ptr<Replica>(found->second);
}

Task<Status> PoolImpl::make_directories(const std::string& directory) {
  FileSystem& fs = world_.fs;
  Status made = co_await fs.make_directory(directory, 0700);
  if (made.code() == ErrorCode::kAlreadyExists) {  // of an attempt that failed
    Status removed = co_await remove_tree(directory);
    HF_CO_TRY(removed);
    made = co_await fs.make_directory(directory, 0700);
  }
  HF_CO_TRY(made);
  co_return co_await fs.make_directory(directory + "/" + kSegmentsName, 0700);
}

// Everything below `creating` is in place: superblock, then the name.
Task<Status> PoolImpl::publish(const std::string& creating, Superblock superblock) {
  FileSystem& fs = world_.fs;
  const std::string directory = replica_directory(superblock.replica);
  Status written = co_await create_superblock(fs, creating + "/" + kSuperblockName, superblock);
  HF_CO_TRY(written);
  Status segments = co_await fs.sync_dir(creating + "/" + kSegmentsName);
  HF_CO_TRY(segments);
  Status synced = co_await fs.sync_dir(creating);
  HF_CO_TRY(synced);
  Status renamed = co_await fs.rename(creating, directory);
  HF_CO_TRY(renamed);
  Status named = co_await fs.sync_dir(volumes_directory());
  if (!named.ok()) {
    fail(named.error());
    co_return named;
  }
  const ReplicaId id = superblock.replica;
  replicas_[id] =
      std::make_shared<ReplicaImpl>(*this, next_number_++, directory, std::move(superblock));
  co_return Status();
}

Task<Result<std::shared_ptr<Replica>>> PoolImpl::create_replica(ReplicaSpec spec) {
  Gate::Pass pass(calls_);
  Status running = check_running();
  HF_CO_TRY(running);
  Status valid = check_spec(spec);
  HF_CO_TRY(valid);
  co_await catalog_.lock();
  MutexGuard guard(catalog_);
  Result<std::shared_ptr<Replica>> there = existing(spec);
  if (!there.ok() || *there != nullptr) co_return there;
  if (replicas_.size() >= kMaxReplicas) {
    co_return make_error(ErrorCode::kLimitExceeded, "pool {} has {} replicas, at most {}",
                         id().to_string(), replicas_.size(), kMaxReplicas);
  }
  Status known = co_await refresh_space();
  HF_CO_TRY(known);
  Status admitted = co_await admit_metadata();
  HF_CO_TRY(admitted);
  const std::string creating = replica_directory(spec.replica) + std::string(kCreatingSuffix);
  Status made = co_await make_directories(creating);
  HF_CO_TRY(made);
  Status published = co_await publish(creating, first_superblock(spec));
  HF_CO_TRY(published);
  co_return find(spec.replica);
}

// --- clone ------------------------------------------------------------------------------------------

Task<Status> PoolImpl::link_files(std::shared_ptr<ReplicaImpl> source, uint32_t layer,
                                  std::string directory) {
  const std::vector<SegmentKey> keys = source->segments().visible_all(layer);
  for (const SegmentKey& key : keys) {
    std::string from = source->segment_directory() + "/" + segment_name(key.index, key.layer);
    std::string to = directory + "/" + kSegmentsName + "/" + segment_name(key.index, 1);
    Status linked = co_await world_.fs.link(std::move(from), std::move(to));
    HF_CO_TRY(linked);
  }
  co_return Status();
}

Task<Status> PoolImpl::clone_into(std::shared_ptr<ReplicaImpl> source, SnapshotId snapshot,
                                  ReplicaSpec spec) {
  uint32_t layer = 0;
  uint64_t size = 0;
  if (snapshot.is_nil()) {
    // A barrier without a snapshot: the head's files become immutable, the source goes on above them.
    layer = source->stats().head_layer;
    size = source->size();
    if (!mutant(StoreMutant::kCloneSharesHead)) {
      Result<SnapshotRow> closed = co_await source->close_layer(source->internal_header(), snapshot);
      HF_CO_TRY(closed);
      layer = closed->layer;
      size = closed->size_bytes;
    }
  } else {
    const SnapshotRow* row = source->find_snapshot(snapshot);
    if (row == nullptr) {
      co_return make_error(ErrorCode::kNotFound, "replica {} has no snapshot {}",
                           source->id().to_string(), snapshot.to_string());
    }
    layer = row->layer;
    size = row->size_bytes;
  }
  if (spec.size_bytes == 0) spec.size_bytes = size;
  if (spec.size_bytes < size) {
    co_return make_error(ErrorCode::kInvalidArgument, "a clone of {} bytes of a source of {} bytes",
                         spec.size_bytes, size);
  }
  source->pin(layer);
  Status drained = co_await drain_->wait_for(last_durable_sequence());
  if (drained.ok()) drained = co_await source->load();
  if (!drained.ok()) {
    source->unpin(layer);
    co_return drained;
  }
  const std::string creating = replica_directory(spec.replica) + std::string(kCreatingSuffix);
  Status made = co_await make_directories(creating);
  if (made.ok()) made = co_await link_files(source, layer, creating);
  source->unpin(layer);
  HF_CO_TRY(made);
  Superblock superblock = first_superblock(spec);
  superblock.segment_bytes = source->segment_bytes();
  superblock.family = source->superblock().family;
  superblock.head_layer = 2;  // the linked files are below it
  co_return co_await publish(creating, std::move(superblock));
}

Task<Result<std::shared_ptr<Replica>>> PoolImpl::clone_replica(ReplicaId source_id,
                                                               SnapshotId snapshot,
                                                               ReplicaSpec spec) {
  Gate::Pass pass(calls_);
  Status running = check_running();
  HF_CO_TRY(running);
  co_await catalog_.lock();
  MutexGuard guard(catalog_);
  Result<std::shared_ptr<Replica>> there = existing(spec);
  if (!there.ok() || *there != nullptr) co_return there;
  const auto found = replicas_.find(source_id);
  if (found == replicas_.end()) {
    co_return make_error(ErrorCode::kNotFound, "pool {} has no replica {}", id().to_string(),
                         source_id.to_string());
  }
  std::shared_ptr<ReplicaImpl> source = found->second;
  ReplicaSpec checked = spec;
  if (checked.size_bytes == 0) checked.size_bytes = source->size();
  checked.segment_bytes = source->segment_bytes();
  Status valid = check_spec(checked);
  HF_CO_TRY(valid);
  Gate::Pass inside(source->gate());
  if (!inside) {
    co_return make_error(ErrorCode::kClosed, "replica {} is closed", source_id.to_string());
  }
  Status known = co_await refresh_space();
  HF_CO_TRY(known);
  Status admitted = co_await admit_metadata();
  HF_CO_TRY(admitted);
  co_await source->maintenance().lock();
  MutexGuard maintenance(source->maintenance());
  Status cloned = co_await clone_into(source, snapshot, std::move(spec));
  HF_CO_TRY(cloned);
  co_return find(checked.replica);
}

// --- delete -----------------------------------------------------------------------------------------

// From this record on recovery deletes the replica itself.
Task<Status> PoolImpl::delete_journaled(std::shared_ptr<ReplicaImpl> replica) {
  Append append;
  append.entry.type = EntryType::kDeleteReplica;
  append.entry.replica = replica->id();
  writer_->enqueue(append);
  co_await append.done.wait();
  co_return append.status;
}

Task<Status> PoolImpl::delete_replica(ReplicaId id) {
  Gate::Pass pass(calls_);
  Status running = check_running();
  HF_CO_TRY(running);
  co_await catalog_.lock();
  MutexGuard guard(catalog_);
  const auto found = replicas_.find(id);
  if (found == replicas_.end()) co_return Status();
  const std::shared_ptr<ReplicaImpl> replica = found->second;
  co_await replica->gate().close();
  // Its files are not touched by a drain after this.
  Status drained = co_await drain_->wait_for(last_durable_sequence());
  HF_CO_TRY(drained);
  Status journaled = co_await delete_journaled(replica);
  HF_CO_TRY(journaled);
  replica->mark_deleted();
  replicas_.erase(id);
  cache_.drop_owner(replica->place().owner);
  const std::string deleting = replica->directory() + std::string(kDeletingSuffix);
  Status renamed = co_await world_.fs.rename(replica->directory(), deleting);
  if (renamed.ok()) renamed = co_await world_.fs.sync_dir(volumes_directory());
  if (!renamed.ok()) {
    fail(renamed.error());
    co_return renamed;
  }
  Status removed = co_await remove_tree(deleting);
  HF_CO_TRY(removed);
  co_return co_await refresh_space();
}

}  // namespace hf
