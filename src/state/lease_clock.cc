#include "state/lease_clock.h"

#include <algorithm>

namespace hf::state {
namespace {

// Ends are looked at this often: a lease is never early, and at most this late.
constexpr Duration kLook = std::chrono::milliseconds(500);

}  // namespace

void LeaseClock::touch(LeaseId lease, Duration ttl) {
  leases_[lease] = Held{ttl, clock_.now() + ttl};
  if (running_) return;
  running_ = spawn(gate_, run());
}

std::optional<Duration> LeaseClock::ttl(LeaseId lease) const {
  const auto found = leases_.find(lease);
  if (found == leases_.end()) return std::nullopt;
  return found->second.ttl;
}

MonoTime LeaseClock::next_end() const {
  MonoTime first = clock_.now() + kLook;
  for (const auto& [id, held] : leases_) first = std::min(first, held.ends);
  return std::max(first, clock_.now() + std::chrono::milliseconds(1));
}

Task<void> LeaseClock::run() {
  // Ends with the last lease, so that an idle store wakes nobody.
  while (!leases_.empty()) {
    Status slept = co_await clock_.sleep_until(next_end(), CancelToken(cancel_));
    if (!slept.ok()) break;
    std::vector<LeaseId> due;
    const MonoTime now = clock_.now();
    for (auto& [id, held] : leases_) {
      if (held.ends > now) continue;
      due.push_back(id);
      held.ends = now + std::chrono::seconds(1);  // again then, should it fail
    }
    for (const LeaseId lease : due) co_await expire_(lease);
  }
  running_ = false;
}

Task<void> LeaseClock::close() {
  cancel_.cancel();
  co_await gate_.close();
}

}  // namespace hf::state
