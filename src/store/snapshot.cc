// Snapshots: cutting, deleting, reading.
#include <algorithm>

#include "runtime/fault_point.h"
#include "store/pool_impl.h"
#include "store/replica_impl.h"

namespace hf {
namespace {

SnapshotInfo to_info(const SnapshotRow& row) {
  SnapshotInfo info;
  info.id = row.id;
  info.size_bytes = row.size_bytes;
  info.created = WallTime{row.created_ns};
  info.epoch = row.epoch;
  info.sequence = row.sequence;
  info.layer = row.layer;
  return info;
}

}  // namespace

const SnapshotRow* ReplicaImpl::find_snapshot(SnapshotId id) const {
  for (const SnapshotRow& row : superblock_.snapshots) {
    if (row.id == id) return &row;
  }
  for (const SnapshotRow& row : pending_) {
    if (row.id == id) return &row;
  }
  return nullptr;
}

std::vector<SnapshotInfo> ReplicaImpl::snapshots() const {
  std::vector<SnapshotInfo> out;
  for (const SnapshotRow& row : superblock_.snapshots) out.push_back(to_info(row));
  for (const SnapshotRow& row : pending_) out.push_back(to_info(row));
  return out;
}

Task<Result<SnapshotRow>> ReplicaImpl::close_layer(WriteHeader header, SnapshotId id) {
  if (!pool_.admission().try_lock()) co_await pool_.admission().lock();
  MutexGuard admission(pool_.admission());
  // A full pool refuses it here, before anything has changed.
  Status admitted = co_await pool_.admit_metadata();
  HF_CO_TRY(admitted);
  if (!id.is_nil()) {
    const size_t rows = superblock_.snapshots.size() + pending_.size() + cutting_.size();
    Status room = co_await reserve_rows(rows);
    HF_CO_TRY(room);
  }
  while (restoring_) co_await resumed_.wait();
  if (id.is_nil()) header = internal_header();
  Status fence = check_header(header);
  HF_CO_TRY(fence);
  Gate::Pass appending(appends_);
  HF_ASSERT(appending);
  Append append;
  begin_entry(append, header, EntryType::kSnapshot);
  JournalEntry& entry = append.entry;
  entry.snapshot = id;
  entry.snapshot_size = size();
  entry.created_ns = pool_.world().clock.wall().ns;
  HF_ASSERT(write_layer_ < UINT32_MAX - 2);
  ++write_layer_;  // later writes, which queue behind, belong above
  pool_.writer().enqueue(append);
  admission.unlock();
  co_await append.done.wait();
  HF_CO_TRY(append.status);
  // Large writes called before are wholly in it when we answer.
  co_await direct_.wait_layer(entry.layer);
  SnapshotRow row;
  row.id = id;
  row.layer = entry.layer;
  row.size_bytes = entry.snapshot_size;
  row.created_ns = entry.created_ns;
  row.epoch = entry.epoch;
  row.sequence = entry.sequence;
  co_return row;
}

Task<Result<SnapshotInfo>> ReplicaImpl::snapshot(WriteHeader header, SnapshotId id) {
  Gate::Pass pass(gate_);
  if (!pass) co_return make_error(ErrorCode::kClosed, "replica {} is closed", this->id().to_string());
  Status running = pool_.check_running();
  HF_CO_TRY(running);
  if (id.is_nil()) co_return make_error(ErrorCode::kInvalidArgument, "a snapshot needs an id");
  if (const SnapshotRow* row = find_snapshot(id)) co_return to_info(*row);
  Status fence = check_header(header);
  HF_CO_TRY(fence);
  const size_t there = superblock_.snapshots.size() + pending_.size() + cutting_.size();
  if (there >= kMaxSnapshots) {
    co_return make_error(
        ErrorCode::kLimitExceeded,
        "replica {} has {} snapshots, and {} is the most that a volume may have; delete "
        "some first",
        this->id().to_string(), there, kMaxSnapshots);
  }
  if (std::find(cutting_.begin(), cutting_.end(), id) != cutting_.end()) {
    co_return make_error(ErrorCode::kConflict, "snapshot {} is being cut", id.to_string());
  }
  cutting_.push_back(id);
  Result<SnapshotRow> row = co_await close_layer(header, id);
  cutting_.erase(std::find(cutting_.begin(), cutting_.end(), id));
  HF_CO_TRY(row);
  co_return to_info(*row);
}

// The drain has made everything below the barrier durable in the image.
Task<Status> ReplicaImpl::apply_barrier(const Record& barrier) {
  co_await superblock_mutex_.lock();
  MutexGuard guard(superblock_mutex_);
  if (superblock_.head_layer > barrier.entry.layer) co_return Status();
  Superblock next = superblock_;
  next.head_layer = barrier.entry.layer + 1;
  const SnapshotId id = barrier.entry.snapshot;
  const auto row = std::find_if(pending_.begin(), pending_.end(),
                                [&](const SnapshotRow& r) { return r.id == id; });
  if (row != pending_.end()) next.snapshots.push_back(*row);
  Status stored = co_await store_next(std::move(next));
  HF_CO_TRY(stored);
  const auto done = std::find_if(pending_.begin(), pending_.end(),
                                 [&](const SnapshotRow& r) { return r.id == id; });
  if (done != pending_.end()) pending_.erase(done);
  co_return Status();
}

Task<Status> ReplicaImpl::delete_snapshot(SnapshotId id) {
  Gate::Pass pass(gate_);
  if (!pass) co_return make_error(ErrorCode::kClosed, "replica {} is closed", this->id().to_string());
  Status running = pool_.check_running();
  HF_CO_TRY(running);
  co_await maintenance_.lock();
  MutexGuard maintenance(maintenance_);
  if (find_snapshot(id) == nullptr) co_return Status();
  Status drained = co_await pool_.drain().wait_for(pool_.last_durable_sequence());
  HF_CO_TRY(drained);
  Status loaded = co_await load();
  HF_CO_TRY(loaded);
  {
    co_await superblock_mutex_.lock();
    MutexGuard guard(superblock_mutex_);
    Superblock next = superblock_;
    std::erase_if(next.snapshots, [&](const SnapshotRow& row) { return row.id == id; });
    Status stored = co_await store_next(std::move(next));
    HF_CO_TRY(stored);
  }
  Status collected = co_await collect_garbage();
  HF_CO_TRY(collected);
  co_return co_await pool_.refresh_space();
}

Task<Status> ReplicaImpl::read_snapshot(SnapshotId id, uint64_t offset, MutableByteSpan out) {
  Gate::Pass pass(gate_);
  if (!pass) co_return make_error(ErrorCode::kClosed, "replica {} is closed", this->id().to_string());
  const SnapshotRow* row = find_snapshot(id);
  if (row == nullptr) {
    co_return make_error(ErrorCode::kNotFound, "replica {} has no snapshot {}",
                         this->id().to_string(), id.to_string());
  }
  const uint32_t layer = row->layer;
  Status range = check_range(offset, out.size(), row->size_bytes);
  HF_CO_TRY(range);
  if (superblock_.head_layer <= layer) {
    Status drained = co_await pool_.drain().wait_for(pool_.last_durable_sequence());
    HF_CO_TRY(drained);
  }
  // The files stay while we read, even if the snapshot is deleted meanwhile.
  pin(layer);
  AlignedBuffer bounce(out.size());
  Status done = co_await read_layer(layer, offset, bounce.span());
  unpin(layer);
  HF_CO_TRY(done);
  if (!out.empty()) std::memcpy(out.data(), bounce.data(), out.size());
  co_return Status();
}

}  // namespace hf
