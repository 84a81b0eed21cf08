// Drain: moves acknowledged records from the ring into the image and frees the ring.
//
//   prefix of batches ─► plan (per replica, layer, segment) ─► data and CRC table written, synced, read
//   back ─► names synced ─► superblock (barriers) ─► checkpoint ─► ring and overlay freed
//
// Of a large write, whose data is in the image already, only the CRCs: as the table in memory has them. A
// prefix ends before the first batch with large writes in flight.
//
// Everything may be done again after a crash: the records stay in the ring until the checkpoint, and a
// layer whose barrier is in the superblock is not touched again.
#pragma once

#include <cstdint>
#include <optional>

#include "runtime/cancel.h"
#include "runtime/clock.h"
#include "runtime/gate.h"
#include "runtime/sync.h"
#include "store/drain_plan.h"
#include "store/segment_cache.h"

namespace hf {

class PoolImpl;

class Drain {
 public:
  explicit Drain(PoolImpl& pool) : pool_(pool) {}

  // Serves until stop(); then drains all that is left (unless the pool has failed).
  Task<void> run();
  void stop();
  // Drain all batches up to this sequence soon.
  void request(uint64_t sequence);
  // Something changed: a batch, a failure.
  void wake() { changed_.notify_all(); }
  // Returns when every batch up to `sequence` has been drained; kFailedPool.
  Task<Status> wait_for(uint64_t sequence);
  // The same, but ends as well when there is no space to drain into.
  Task<Status> try_for(uint64_t sequence);
  // Of the ring, how fast it has been freed lately under load; of a drain that takes longer, what that one
  // makes of it. Zero: not known yet.
  double bytes_per_second() const;
  // One prefix, now; for recovery.
  Task<Status> drain_once();
  // The head gets a segment file of its own, its name durable, before any record asks for it.
  Task<Status> make_head_file(ReplicaImpl& replica, uint32_t index);

 private:
  struct StepState {
    StepState() : slots(kParallelSegments) {}
    Gate gate;
    Semaphore slots;
    std::optional<Error> error;
  };
  static constexpr uint64_t kParallelSegments = 16;
  // A reflink of a file written at random is tens of milliseconds of one processor: never all of them.
  static constexpr uint64_t kParallelReflinks = 2;

  bool is_due() const;
  void measure(size_t count);
  void measured();
  double rate_under_way() const;
  size_t choose_prefix() const;
  Task<void> tick();
  Task<Status> drain_replica(DrainReplica& work);
  Task<void> replica_task(DrainReplica& work, std::optional<Error>& error);
  Task<Status> drain_step(ReplicaImpl& replica, const DrainStep& step);
  Task<void> segment_task(ReplicaImpl& replica, uint32_t layer, const DrainSegment& work,
                          StepState& state);
  Task<Status> drain_segment(ReplicaImpl& replica, uint32_t layer, const DrainSegment& work);
  Task<Status> drain_locked_segment(ReplicaImpl& replica, uint32_t layer, const DrainSegment& work);
  Task<Status> sync_names(ReplicaImpl& replica);
  Task<Status> in_place(ReplicaImpl& replica, SegmentKey key, const DrainSegment& work);
  Task<Status> into_new_file(ReplicaImpl& replica, std::optional<SegmentKey> source,
                             SegmentKey target, const DrainSegment& work);
  Task<Status> make_head_file_locked(ReplicaImpl& replica, uint32_t index);

  PoolImpl& pool_;
  Signal changed_;
  Signal progressed_;
  CancelSource cancel_tick_;
  Gate ticker_;
  uint64_t requested_ = 0;
  bool due_ = false;
  bool stopping_ = false;
  bool no_space_ = false;
  Semaphore reflinks_{kParallelReflinks};
  double rate_ = 0;               // bytes of the ring per second, see bytes_per_second()
  uint64_t draining_bytes_ = 0;   // of the ring, by the drain under way; zero: none
  MonoTime draining_since_;
};

// Writes a segment's runs and its table pages, syncs, reads the pages back. `fresh`: a file that has no
// name yet.
Task<Status> write_segment(Segment& segment, SegmentGeometry geometry, const DrainSegment& work,
                           bool fresh);

}  // namespace hf
