// The reference model of a pool: what each block of each replica and snapshot may read as.
//
// A block has a history of values in the order of the calls. A value that was acknowledged, and has no
// later acknowledged one behind it, is the *floor*; a read may see the floor or anything later. What was
// in flight at a crash may have happened or not; the first read after recovery settles it for good.
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

// Block content: value 0 is zeroes; any other fills the block with words made of it and the block number.
void fill_block(MutableByteSpan block, uint64_t value, uint64_t number);
// The value of a block, or nothing if it is garbage: not what any write would have made of this block.
std::optional<uint64_t> value_of_block(ByteSpan block, uint64_t number);

struct Version {
  uint64_t order = 0;
  uint64_t value = 0;
  bool acked = false;
};

class BlockHistory {
 public:
  void add(uint64_t order, uint64_t value, bool acked) { versions_.push_back({order, value, acked}); }
  void acknowledge(uint64_t order);
  uint64_t floor() const;
  // May a read that began when the floor was `floor` return this?
  bool allows(uint64_t floor, uint64_t value) const;
  // Everything that a cut at this moment may hold.
  std::set<uint64_t> possible() const;
  void settle(uint64_t order, uint64_t value) { versions_ = {{order, value, true}}; }
  void become(uint64_t order, const std::set<uint64_t>& values);
  // True if the value was written here at any time (kept for stale reads that a fault excuses).
  std::string to_string() const;

 private:
  std::vector<Version> versions_{{0, 0, true}};
};

struct ModelSnapshot {
  SnapshotId id;
  std::vector<std::set<uint64_t>> blocks;
  bool certain = true;   // acknowledged and not being deleted
};

struct ModelReplica {
  ModelReplica(ReplicaId replica, VolumeId v) : id(replica), volume(v) {}
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
  void begin(uint64_t block, uint64_t order, uint64_t value) {
    blocks[block].add(order, value, false);
    for (const auto& clone : clones) {
      if (block < clone->blocks.size()) clone->blocks[block].add(1, value, true);
    }
  }
  uint64_t promised = 0;   // acknowledged
  uint64_t asked = 0;      // highest asked for
  uint64_t sequence = 0;
  Semaphore users{kUsers};  // I/O takes one unit, restore, shrink and delete take all
  static constexpr uint64_t kUsers = 1000;
};

using ReplicaPtr = std::shared_ptr<ModelReplica>;

struct Model {
  std::map<ReplicaId, ReplicaPtr> replicas;
  uint64_t next_order = 1;
  uint64_t next_value = 1;
};

}  // namespace hf::store_sim
