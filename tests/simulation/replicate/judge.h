// Judge: the protocol's invariants, looked at whenever something happens, in what the replicas must
// hold (their shadows), in the configuration as the state store has it, and in what clients were
// told.
//
//   I1  each in-sync replica has, of each block, what anybody was ever told of it, or newer
//   I2  no operation that began after a later epoch was active succeeds under an older one
//   I3  promises never decrease, restarts included; nothing is taken under less than the promised
//       epoch
//   I4  the register of each block is linearizable (register_history.h)
//   I5  active and nothing in flight: in-sync replicas are alike
//   I6  who changes in_sync and the members, and how
//   I7  where one that is out of sync differs, the map of each that is in sync, or its own window,
//       tells
//   I8  generations grow; no replica knows more than the state store
//   I9  as I2, of reads: whoever is served by an old epoch began before the next one was active
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "format/config_format.h"
#include "register_history.h"
#include "shadow.h"
#include "state/memory_store.h"

namespace hf::replicate_sim {

class Judge {
 public:
  Judge(const state::MemoryServer& state, std::string key, uint64_t blocks)
      : state_(state), key_(std::move(key)), vis_(blocks), history_(blocks) {}

  // Until then it lets everything pass: for tests that drive by hand.
  void begin(std::map<ReplicaId, Shadow*> shadows);
  bool judging() const { return !shadows_.empty(); }
  // "" or the first thing that must not be.
  const std::string& failure() const { return failure_; }
  void fail(const std::string& what) {
    if (failure_.empty()) failure_ = what;
  }
  RegisterHistory& history() { return history_; }
  const VolumeConfig& config() const { return config_; }
  // Called when the configuration has changed, and when nothing is in flight any more.
  void on_rest(std::function<void()> look) { on_rest_ = std::move(look); }

  // --- clients: operations of coordinators
  struct Call {
    uint64_t epoch = 0, active_then = 0, tick = 0;
    uint64_t first = 0;
    std::vector<uint64_t> values;
  };
  Call write_begins(uint64_t epoch, uint64_t first, uint64_t count);
  void write_ended(const Call& call, const Status& status);
  Call read_begins(uint64_t epoch, uint64_t first);
  void read_ended(const Call& call, const std::vector<uint64_t>& values);
  bool is_written_now(uint64_t block) const;

  // --- replicas
  void taken(Stamp stamp, const std::vector<uint64_t>& values);
  void applied(ReplicaId replica, uint64_t epoch, uint64_t promised, uint64_t first,
               const std::vector<uint64_t>& values);
  void promised(ReplicaId replica, uint64_t epoch);
  void given_config(ReplicaId replica, const std::string& config);

  // Looks whether the configuration has changed.
  void look();
  // Of a replica: somebody has begun to change it; somebody was told.
  void may_be_member(ReplicaId replica) { told_.erase(replica); }
  void is_member(ReplicaId replica, bool it_is);
  uint64_t member_changes = 0;

 private:
  struct Epoch {
    uint64_t calls = 0;  // writes in flight
    bool over = false;   // one of them has ended without being known to have happened or not
    std::map<uint64_t, uint64_t> blocks;
  };
  Stamp stamp(uint64_t value) const { return value < stamps_.size() ? stamps_[value] : Stamp(); }
  void changed(const VolumeConfig& was, const VolumeConfig& now, bool one_step);
  void members_changed(const VolumeConfig& was, const VolumeConfig& now, bool may);
  const Shadow& shadow(uint8_t slot) const { return *shadows_.at(config_.member(slot)->replica); }
  void must_have(uint8_t slot, uint64_t block, const char* when);
  void seen(uint64_t block, uint64_t value, const char* when);
  void compare();

  const state::MemoryServer& state_;
  const std::string key_;
  std::map<ReplicaId, Shadow*> shadows_;
  std::map<ReplicaId, bool> told_;  // of which somebody knows whether it is a member
  std::vector<Stamp> stamps_;       // by value
  std::vector<uint64_t> vis_;       // by block: the newest value that anybody was told of
  std::map<uint64_t, Epoch> epochs_;
  uint64_t active_ = 0;  // the highest epoch that was ever active
  VolumeConfig config_;
  state::Revision revision_ = 0;
  RegisterHistory history_;
  std::string failure_;
  std::function<void()> on_rest_;
};

}  // namespace hf::replicate_sim
