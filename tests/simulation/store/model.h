// The reference model of a pool: what each block of each replica and snapshot may read as.
//
// A block has a history of values in the order of the calls. A value that was acknowledged, and has
// no later acknowledged one behind it, is the *floor*; a read may see the floor or anything later.
// What was in flight at a crash may have happened or not; the first read after recovery settles it
// for good.
//
// Of a large write in flight at a crash each sector may be old or new (the simulated disk even cuts
// sectors, at a word): a *mixture*. One that was seen gets a value of its own, so that it must
// stay.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/id.h"
#include "runtime/sync.h"
#include "store/types.h"

namespace hf::store_sim {

// Block content: value 0 is zeroes; any other fills the block with words made of it and the block
// number.
void fill_block(MutableByteSpan block, uint64_t value, uint64_t number);
// The value of a block, or nothing if it is garbage: not what any write would have made of this
// block.
std::optional<uint64_t> value_of_block(ByteSpan block, uint64_t number);

// Mixtures that were seen, by value.
class Mixtures {
 public:
  static constexpr uint64_t kFirst = uint64_t{1} << 62;
  // The value of a block that is no mixture, or a known one; else nothing.
  std::optional<uint64_t> value_of(ByteSpan block, uint64_t number) const;
  uint64_t add(ByteSpan block);
  // Is each word of the block that of one of these values?
  bool made_of(ByteSpan block, uint64_t number, const std::set<uint64_t>& values) const;

 private:
  uint64_t word_of(uint64_t value, uint64_t number, size_t word) const;
  std::vector<std::vector<uint64_t>> words_;
};

// What a block may be.
struct Possible {
  std::set<uint64_t> values;
  bool torn = false;   // or a mixture of them
  bool large = false;  // some of them come from large writes
};

struct Version {
  uint64_t order = 0;
  uint64_t value = 0;
  bool acked = false;
  bool large = false;
};

class BlockHistory {
 public:
  void add(uint64_t order, uint64_t value, bool acked, bool large = false) {
    versions_.push_back({order, value, acked, large});
  }
  void acknowledge(uint64_t order);
  uint64_t floor() const;
  // What a read that began when the floor was `floor` may return.
  Possible since(uint64_t floor) const;
  // Everything that a cut at this moment, or a crash, may leave.
  Possible possible() const { return since(floor()); }
  void settle(uint64_t order, uint64_t value) {
    versions_ = {{order, value, true, false}};
    torn_source_ = false;
  }
  void become(uint64_t order, const Possible& possible);
  // Its content may come from a snapshot that has a mixture here.
  bool torn_source() const { return torn_source_; }
  void set_torn_source() { torn_source_ = true; }
  // The order of the write that this value came from; zero: not known.
  uint64_t order_of(uint64_t value) const;
  // True if the value was written here at any time (kept for stale reads that a fault excuses).
  std::string to_string() const;

 private:
  std::vector<Version> versions_{{0, 0, true, false}};
  bool torn_source_ = false;
};

struct ModelSnapshot {
  SnapshotId id;
  std::vector<Possible> blocks;
  bool certain = true;  // acknowledged and not being deleted
};

// What the books of a replica must and may say. A coordinator with other replicas is played by the
// clients: it stamps, leaves members out, tells how far all have answered.
class ModelBooks {
 public:
  struct Write {
    uint64_t order = 0;
    Stamp stamp;
    uint64_t first = 0, count = 0;  // blocks
    SlotMask absent = 0;
    bool happened = false;    // acknowledged
    std::set<uint64_t> seen;  // blocks of it that were seen after a crash
  };

  SlotMask absent = 0;  // members that are away
  Stamp told;           // the highest commit that the replica was told of
  Stamp settled;        // of that, what was acknowledged to be durable
  Stamp newest;         // the highest stamp given to any write

  // A write is called; it is in flight until ended().
  void begin(const Write& write);
  void happened(uint64_t order);
  void seen(uint64_t order, uint64_t block);
  void ended(uint64_t order);
  bool is_in_flight(uint64_t order) const { return in_flight_.contains(order); }
  // After a crash nothing is in flight: what has not been seen to have happened is made good by
  // others.
  void crashed() { in_flight_.clear(); }
  // All writes up to here have ended.
  Stamp answered() const;

  void mark(uint64_t order, SlotMask slots, uint64_t first_unit, uint64_t units, bool durable);
  // Called: nothing marked before has to be there any more. Ended well: nor may it be.
  void clear_begins(uint64_t order, uint32_t slot, uint64_t first_unit, uint64_t units);
  void clear_ended(uint64_t order, uint32_t slot, uint64_t first_unit, uint64_t units,
                   const std::set<uint64_t>& in_flight_then);
  const std::set<uint64_t>& in_flight() const { return in_flight_; }

  // Blocks that the window must hold for what was acknowledged by now.
  std::set<uint64_t> must_be_in_window() const;
  bool all_settled() const { return newest <= settled; }
  const std::set<uint64_t>& must(uint32_t slot) const { return slots_[slot].must; }
  bool may(uint32_t slot, uint64_t unit) const { return slots_[slot].may.contains(unit); }

 private:
  struct Slot {
    std::set<uint64_t> must;
    std::map<uint64_t, std::set<uint64_t>> may;  // unit → orders of what marked it
    std::map<uint64_t, uint64_t> cleared;        // unit → order of the last clear
  };
  std::map<uint64_t, Write> writes_;  // by order; those above `told`
  std::set<uint64_t> in_flight_;
  Slot slots_[kMemberSlots];
};

constexpr uint64_t kBlocksPerUnit = kDirtyUnitBytes / kBlockSize;

struct ModelReplica {
  ModelReplica(ReplicaId replica, VolumeId v) : id(replica), volume(v) {}
  ModelBooks books;
  ReplicaId id;
  VolumeId volume;
  bool certain = true;  // exists for sure; else a create or delete did not end
  // False after a restore or resize that failed: its size is open until the next recovery.
  bool settled = true;
  bool usable() const { return certain && settled; }
  std::vector<BlockHistory> blocks;
  std::optional<uint64_t> other_size;  // in blocks: a resize or restore to it did not end
  std::vector<ModelSnapshot> snapshots;
  // Clones of the head that are being made: a write called meanwhile may be in them.
  std::vector<std::shared_ptr<ModelReplica>> clones;
  void begin(uint64_t block, uint64_t order, uint64_t value, bool large = false) {
    blocks[block].add(order, value, false, large);
    for (const auto& clone : clones) {
      if (block >= clone->blocks.size()) continue;
      clone->blocks[block].add(1, value, true, large);
      if (large) clone->blocks[block].set_torn_source();
    }
  }
  uint64_t promised = 0;  // acknowledged
  uint64_t asked = 0;     // highest asked for
  uint64_t promises = 0;  // how often
  uint64_t sequence = 0;
  Semaphore users{kUsers};  // I/O takes one unit, restore, shrink and delete take all
  static constexpr uint64_t kUsers = 1000;
};

using ReplicaPtr = std::shared_ptr<ModelReplica>;

struct Model {
  std::map<ReplicaId, ReplicaPtr> replicas;
  uint64_t next_order = 1;
  uint64_t next_value = 1;
  Mixtures mixtures;
};

}  // namespace hf::store_sim
