// Pool: a journal and a directory of replicas on one node. One process at a time, one loop.
//
//   <journal_dir>/pool.json     identity and format, written once
//   <journal_dir>/journal       the ring (docs/formats/store.md)
//   <data_dir>/volumes/<replica>/replica, seg/<index>.<layer>
//
// Life: create() or open(), any number of calls, stop(), destruction. stop() drains everything; after a
// crash instead, open() recovers in time bounded by the ring. Replicas may be held longer than the pool
// runs (their calls then return kClosed) but must be released before it is destroyed.
//
// Errors of open, each one sentence with the path: kNotFound (not a pool), kLocked (another process
// has it), kNewerFormat, kWrongOwner (another cluster or node), kReadOnly, kCorruption (a record in the
// middle of the journal is broken: nothing is served; `holdfast pool verify` says what).
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "base/error.h"
#include "runtime/task.h"
#include "runtime/world.h"
#include "store/replica.h"
#include "store/types.h"

namespace hf {

class Pool {
 public:
  // Makes a pool in two existing directories (kAlreadyExists if there is one, kNotEmpty if
  // data_dir/volumes is there) and opens it. Durable on return. The ring is written once with zeroes.
  static Task<Result<std::unique_ptr<Pool>>> create(World world, PoolConfig config);
  static Task<Result<std::unique_ptr<Pool>>> open(World world, PoolConfig config);

  virtual ~Pool() = default;
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  // Refuses new calls, waits for those in flight, drains, marks the journal clean. The error tells that
  // the drain failed: the next open() then recovers from the journal. Call once.
  virtual Task<Status> stop() = 0;

  virtual PoolId id() const = 0;
  virtual ClusterId cluster() const = 0;
  virtual NodeId node() const = 0;
  virtual PoolStats stats() const = 0;

  // Durable on return. Again with the same spec: the one that is there; kAlreadyExists with another.
  virtual Task<Result<std::shared_ptr<Replica>>> create_replica(ReplicaSpec spec) = 0;
  // A new replica (spec.size_bytes zero or at least the source's; segment_bytes is the source's) whose
  // content is the source's snapshot, or its head (all writes called before) when the id is nil. Shares
  // all blocks. Durable on return, idempotent like create_replica.
  virtual Task<Result<std::shared_ptr<Replica>>> clone_replica(ReplicaId source, SnapshotId snapshot,
                                                               ReplicaSpec spec) = 0;
  // Null when there is none. Cheap: all replicas of a pool are open.
  virtual std::shared_ptr<Replica> find(ReplicaId id) const = 0;
  virtual std::vector<ReplicaInfo> list() const = 0;
  // Gone durably on return, with its snapshots; space is freed. Its calls in flight end first, later
  // ones return kClosed. A missing one succeeds.
  virtual Task<Status> delete_replica(ReplicaId id) = 0;

  // Returns when everything acknowledged before the call is in the image.
  virtual Task<Status> wait_drained() = 0;
  // Asks the file system for its size and what is free, for stats() and the watermark: after it has
  // grown.
  virtual Task<Status> refresh_space() = 0;
  // Before stop(): writes that are held back for want of room end with kClosed, those that would be as well.
  virtual void release_held() = 0;

 protected:
  Pool() = default;
};

}  // namespace hf
