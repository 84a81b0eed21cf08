// Resize: growing is one superblock write; shrinking first zeroes the tail, so that a later growth reads
// zeroes there.
#include "store/pool_impl.h"
#include "store/replica_impl.h"

namespace hf {

Task<Status> ReplicaImpl::resize(WriteHeader header, uint64_t size_bytes) {
  Gate::Pass pass(gate_);
  if (!pass) co_return make_error(ErrorCode::kClosed, "replica {} is closed", id().to_string());
  Status running = pool_.check_running();
  HF_CO_TRY(running);
  if (size_bytes == 0 || !is_aligned(size_bytes, kBlockSize) || size_bytes > kMaxReplicaBytes) {
    co_return make_error(ErrorCode::kInvalidArgument,
                         "replica {}: a size of {} bytes is not a multiple of {} between {} and {}",
                         id().to_string(), size_bytes, kBlockSize, kBlockSize, kMaxReplicaBytes);
  }
  Status fence = check_header(header);
  HF_CO_TRY(fence);
  co_await maintenance_.lock();
  MutexGuard maintenance(maintenance_);
  if (size_bytes < size()) {
    Status zeroed = co_await write_entries(header, EntryType::kWriteZeroes, size_bytes,
                                           size() - size_bytes, ByteSpan());
    HF_CO_TRY(zeroed);
    Status drained = co_await pool_.drain().wait_for(pool_.last_durable_sequence());
    HF_CO_TRY(drained);
  }
  co_await superblock_mutex_.lock();
  MutexGuard guard(superblock_mutex_);
  if (superblock_.size_bytes == size_bytes) co_return Status();
  Superblock next = superblock_;
  next.size_bytes = size_bytes;
  co_return co_await store_next(std::move(next));
}

}  // namespace hf
