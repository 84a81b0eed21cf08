// LeaseClock: which leases there are and when they end, and a task that says so in time. Shared by
// the embedded backs; knows nothing of keys.
#pragma once

#include <functional>
#include <map>
#include <vector>

#include "runtime/cancel.h"
#include "runtime/clock.h"
#include "runtime/gate.h"
#include "runtime/sync.h"
#include "state/kv_store.h"

namespace hf::state {

class LeaseClock {
 public:
  // `expire` removes the lease's keys and then calls erase(); it must be quick or itself
  // asynchronous, and may fail: it is called again a second later while the lease is still there.
  using Expire = std::function<Task<void>(LeaseId)>;
  LeaseClock(Clock& clock, Expire expire) : clock_(clock), expire_(std::move(expire)) {}

  // Adds one, or starts its time anew. Starts the task at the first.
  void touch(LeaseId lease, Duration ttl);
  void erase(LeaseId lease) { leases_.erase(lease); }
  // nullopt for one that is gone.
  std::optional<Duration> ttl(LeaseId lease) const;
  size_t size() const { return leases_.size(); }
  // Ends the task and waits for it.
  Task<void> close();

 private:
  struct Held {
    Duration ttl{};
    MonoTime ends;
  };
  Task<void> run();
  MonoTime next_end() const;

  Clock& clock_;
  Expire expire_;
  std::map<LeaseId, Held> leases_;
  Gate gate_;
  bool running_ = false;
  CancelSource cancel_;
};

}  // namespace hf::state
