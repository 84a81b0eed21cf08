// Shadow: what one replica must hold, known at once and without asking it: what it has answered,
// and what may have happened besides. ObservedReplica keeps it: a replica that lets everything
// through and takes note.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "store/replica.h"

namespace hf::replicate_sim {

class Judge;

class Shadow {
 public:
  explicit Shadow(uint64_t blocks) : blocks_(blocks) {}

  // Values are those of the clients (one of its own per write); 0: never written.
  uint64_t content(uint64_t block) const { return blocks_[block].value; }
  bool is_open(uint64_t block) const { return !blocks_[block].open.empty(); }
  uint64_t blocks() const { return blocks_.size(); }
  uint64_t promised() const { return promised_; }
  uint64_t clears(uint8_t slot) const { return clears_[slot]; }

  // A write is called; returns its order.
  uint64_t begin(uint64_t block, const std::vector<uint64_t>& values);
  void done(uint64_t block, const std::vector<uint64_t>& values, uint64_t order);
  // Nothing of it has happened.
  void undone(uint64_t block, const std::vector<uint64_t>& values, uint64_t order);
  void promise(uint64_t epoch) { promised_ = std::max(promised_, epoch); }
  void cleared(SlotMask slots);
  // What a restarted replica shows settles what was open. False: it is nothing that may be there.
  bool settle(uint64_t block, uint64_t value);

 private:
  struct Open {
    uint64_t order, value;
  };
  struct Block {
    uint64_t value = 0, order = 0;
    std::vector<Open> open;  // called and not answered, or answered with an error
  };
  std::vector<Block> blocks_;
  uint64_t orders_ = 0;
  uint64_t promised_ = 0;
  uint64_t clears_[kMemberSlots] = {};
};

// The judge and the shadow outlive it.
std::shared_ptr<Replica> observe(std::shared_ptr<Replica> replica, Shadow& shadow, Judge& judge);

}  // namespace hf::replicate_sim
