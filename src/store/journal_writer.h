// JournalWriter: group commit. Entries queue first come first served; one batch is in flight at a time;
// what arrives meanwhile forms the next one (at most 1 MiB).
//
//   append() ─► queue ─► [batch buffer: header, payload] ─► one durable write ─► sink ─► waiters
//
// One in flight, because then nothing can lie behind a torn batch: recovery may call any later valid
// batch behind a broken one corruption, never a reordered tail.
#pragma once

#include <memory>
#include <optional>

#include "base/intrusive_list.h"
#include "runtime/clock.h"
#include "runtime/file.h"
#include "runtime/gate.h"
#include "runtime/sync.h"
#include "store/record.h"
#include "store/ring.h"

namespace hf {

// One entry on its way into the journal; lives in the frame that waits for `done`.
struct Append : ListHook {
  JournalEntry entry;
  ByteSpan payload;  // kWrite: entry.length bytes; read until done. kIntent: none, entry.crcs is given
  std::shared_ptr<ReplicaImpl> replica;
  Event done;
  Status status;
  uint64_t batch_sequence = 0;  // of the batch that it went into
};

// What the writer tells its pool; called on the loop, must not block.
class BatchSink {
 public:
  virtual ~BatchSink() = default;
  // The batch is on stable media; its waiters are told after this returns.
  virtual void batch_durable(std::unique_ptr<Batch> batch) = 0;
  // A durable write failed: final.
  virtual void journal_failed(const Error& error) = 0;
  // May `bytes` more of payload wait for the drain?
  virtual bool room_in_overlay(uint64_t bytes) const = 0;
  // The writer waits for room in the ring or in the overlay.
  virtual void room_wanted() = 0;
  // How long to hold back a batch of so many bytes (pace.h).
  virtual Duration pause(uint64_t bytes) const = 0;
  // The data of all intents in durable batches of lower sequences is durable too.
  virtual uint64_t settled_below() = 0;
};

class JournalWriter {
 public:
  // Goes on where recovery ended.
  struct Position {
    PoolId pool;
    uint64_t era = 0;
    uint64_t next_sequence = 0;
    uint32_t link = 0;  // of the last batch
    uint64_t head = 0;  // in the ring
    uint64_t used = 0;
    uint64_t ring_bytes = 0;
  };
  JournalWriter(File& file, BatchSink& sink, Clock& clock, Position position);

  // Queues; `append.done` is set when it is durable or has failed (append.status).
  void enqueue(Append& append);
  // Writes the first batch of a new era: after it, nothing that recovery did not take can ever become
  // part of the chain. Before run(). False in the result: the ring has no room, drain first.
  Task<Result<bool>> write_seal(uint64_t new_era);
  // Serves the queue until stop() and the queue is empty.
  Task<void> run();
  void stop();
  // Fails everything queued and to come.
  void fail(const Error& error);

  // Gives ring space back (after the checkpoint that no longer needs it).
  void release(uint64_t consumed);
  // To be called when the overlay has room again.
  void room_changed() { changed_.notify_all(); }

  uint64_t next_sequence() const { return position_.next_sequence; }
  uint64_t era() const { return position_.era; }
  uint32_t link() const { return position_.link; }
  const Ring& ring() const { return ring_; }
  // Payload that is queued or in flight.
  uint64_t queued_bytes() const { return queued_bytes_; }

 private:
  struct Plan {
    size_t entries = 0;
    uint64_t header_bytes = 0;
    uint64_t payload_bytes = 0;
  };
  Plan plan_batch();
  void finish(IntrusiveList<Append>& list, const Status& status);
  std::unique_ptr<Batch> build(const Plan& plan, const Ring::Place& place,
                               IntrusiveList<Append>& taken);
  Task<bool> wait_for_room(const Plan& plan, Ring::Place* place);
  Task<Status> write(Batch& batch);
  Task<void> keep_pace();

  File& file_;
  BatchSink& sink_;
  Clock& clock_;
  Position position_;
  Ring ring_;
  IntrusiveList<Append> queue_;
  Signal changed_;
  uint64_t queued_bytes_ = 0;
  bool stopping_ = false;
  std::optional<Error> failure_;
};

}  // namespace hf
