// Large writes: the data goes straight into the head's segment files, not through the ring.
//
//   intent in a journal batch, durable ─► data into the files ─► one sync for all that is written ─► answer
//          (range, CRCs)                                          (group_sync.h)
//   later:  CRC table pages by the drain ─► ring freed
//
// Order. A write, discard or read that overlaps one in flight waits for it. One that overlaps a record which
// is queued or not yet drained goes through the journal itself. So at most one large write is on its way
// to a block, and no older record can be drained over it. A drain stops before the first batch whose
// intents are in flight: so a snapshot's barrier, a reflink, a restore, a clone and a deletion wait.
//
// What is here is pure; large_write.cc has the I/O, intents.h what recovery makes of intents.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "base/intrusive_list.h"
#include "base/units.h"
#include "runtime/sync.h"
#include "runtime/task.h"

namespace hf {

// On their way into the image: what a recovery has to read.
inline constexpr uint64_t kMaxDirectInFlight = 32 * kMiB;
// A longer one goes through the journal.
inline constexpr uint64_t kMaxDirectBytes = 16 * kMiB;
// Written, and their CRCs not yet in the tables on the medium: bounds the tables that recovery touches.
// Beyond it they go through the journal, which pushes back.
inline constexpr uint64_t kMaxDirectUndrained = 4 * kGiB;
// A drain is due from here on.
inline constexpr uint64_t kDirectUndrainedDue = kMaxDirectUndrained / 4;

// What decides how a write goes; all of it known without waiting.
struct WriteFacts {
  uint64_t length = 0;
  uint64_t large = 0;          // PoolConfig::large_write_bytes
  bool files = false;          // the head has a segment file of its own for all of it, with a durable name
  bool one_layer = false;      // no snapshot's barrier waits for its drain
  bool overlay_clear = false;  // no undrained record on any of its blocks
  bool queue_clear = false;    // nor one on its way into the journal
  bool room = false;           // of what may be undrained
};

inline bool is_large(uint64_t length, uint64_t large) {
  return large != 0 && length >= large && length <= kMaxDirectBytes;
}

inline bool goes_direct(const WriteFacts& f) {
  return is_large(f.length, f.large) && f.files && f.one_layer && f.overlay_clear && f.queue_clear &&
         f.room;
}

// Blocks [first, first + count).
struct BlockRange {
  uint64_t first = 0;
  uint64_t count = 0;
  bool overlaps(uint64_t other_first, uint64_t other_count) const {
    return first < other_first + other_count && other_first < first + count;
  }
};

// A journal entry's range from its queueing until the overlay has it; lives in the frame that waits.
struct QueuedRange : ListHook, BlockRange {};

// A write that waits for room in the pool, or behind such a one; lives in the frame that waits.
struct HeldWrite : ListHook, BlockRange {
  bool for_room = false;
  uint64_t sequence = 0;  // of the journal when it began to wait: what may still be given back lies before it
  uint64_t first_look = 0;  // of the pool's watch, then
};

// A large write in flight; lives in its frame.
struct DirectWrite : BlockRange {
  uint32_t layer = 0;
};

// The large writes in flight of one replica, and the ranges of those that ended lately, so that a read
// whose block does not match its CRC can tell "was being written" from "is damaged".
class DirectWrites {
 public:
  void begin(DirectWrite& write);
  void end(DirectWrite& write);
  bool empty() const { return in_flight_.empty(); }
  bool overlaps(uint64_t first, uint64_t count) const;
  const std::vector<DirectWrite*>& in_flight() const { return in_flight_; }
  // How many have ended.
  uint64_t ended() const { return ended_; }
  // May one have touched the range after that many had ended? Never no when it has; yes without need when
  // too many have ended since.
  bool touched_since(uint64_t ended, uint64_t first, uint64_t count) const;
  // Until none overlaps.
  Task<void> wait_clear(uint64_t first, uint64_t count);
  // Until none of this layer or below is left.
  Task<void> wait_layer(uint32_t layer);

 private:
  static constexpr size_t kRemembered = 64;
  std::vector<DirectWrite*> in_flight_;
  std::array<BlockRange, kRemembered> last_{};  // the n-th that ended is at n % kRemembered
  uint64_t ended_ = 0;
  Signal changed_;
};

// One at a time per segment: who makes its head file.
class SegmentLocks {
 public:
  bool is_locked(uint32_t index) const;
  size_t size() const { return locked_.size(); }
  Task<void> lock(uint32_t index);
  void unlock(uint32_t index);

 private:
  std::vector<uint32_t> locked_;
  Signal changed_;
};

}  // namespace hf
