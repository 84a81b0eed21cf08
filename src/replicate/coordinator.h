// Coordinator: the one writer of a volume, under one epoch.
//
// Loop thread of the volume. Overlapping writes take effect in the order of the calls. What is
// acknowledged is durable on every in-sync replica (here: the local one). After kFenced nothing is
// acknowledged again. close() waits for the calls in flight; later ones get kClosed.
#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <vector>

#include "base/error.h"
#include "runtime/gate.h"
#include "runtime/task.h"
#include "store/replica.h"

namespace hf {

class Coordinator {
 public:
  // Promises `epoch` on the replica (durable before it returns), then serves. kFenced when the replica
  // has promised a newer one.
  static Task<Result<std::unique_ptr<Coordinator>>> open(std::shared_ptr<Replica> replica,
                                                         uint64_t epoch);

  uint64_t size() const { return replica_->size(); }
  uint64_t epoch() const { return epoch_; }
  bool is_fenced() const { return fenced_; }

  Task<Status> read(uint64_t offset, MutableByteSpan out);
  Task<Status> write(uint64_t offset, ByteSpan data);
  Task<Status> write_zeroes(uint64_t offset, uint64_t length);
  Task<Status> discard(uint64_t offset, uint64_t length);
  Task<Status> flush();
  Task<Result<std::vector<DataExtent>>> extents(uint64_t offset, uint64_t length, size_t limit);
  // Between the writes called before and those called after.
  Task<Result<SnapshotInfo>> snapshot(SnapshotId id);
  Task<Status> resize(uint64_t size_bytes);

  // Idempotent. The replica stays open in its pool.
  Task<void> close() { return gate_.close(); }

 private:
  Coordinator(std::shared_ptr<Replica> replica, uint64_t epoch)
      : replica_(std::move(replica)), epoch_(epoch) {}
  // The stamp of the next write. Commit: with one replica, everything below the first that has not been
  // answered.
  WriteHeader next_header();
  // The write has ended: the replica knows at once how far all have been answered.
  void answered(const WriteHeader& header);
  Stamp commit() const {
    return Stamp{epoch_, in_flight_.empty() ? sequence_ : *in_flight_.begin() - 1};
  }
  Error refusal() const;
  bool may_serve() const { return !fenced_ && !gate_.is_closed(); }
  // Notices a fence in an answer.
  template <typename T>
  T seen(T result) {
    if (result.code() == ErrorCode::kFenced) fenced_ = true;
    return result;
  }

  std::shared_ptr<Replica> replica_;
  uint64_t epoch_;
  uint64_t sequence_ = 0;
  std::set<uint64_t> in_flight_;
  bool fenced_ = false;
  Gate gate_;
};

}  // namespace hf
