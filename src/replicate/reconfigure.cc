#include "base/log.h"
#include "replicate/coordinator_core.h"
#include "replicate/mutants.h"
#include "runtime/fault_point.h"

namespace hf {
namespace {

constexpr Duration kLook = 20ms;  // how often, while somebody is lost

}  // namespace

Attendance CoordinatorCore::attendance() const {
  Attendance a;
  a.in_sync = record_.config.in_sync;
  a.required = required_;
  a.reachable = reachable();
  const MonoTime now = spec_->clock.now();
  for (const auto& peer : peers_) {
    if (peer->port != nullptr) continue;
    const bool joined = (a.in_sync & peer->bit) != 0;
    if (!joined || peer->broken || now - peer->lost_at >= kReturnWithin ||
        HF_FAULT_POINT("replicate.no_return")) {
      a.overdue |= peer->bit;
    }
  }
  return a;
}

Task<void> CoordinatorCore::govern() {
  while (running()) {
    const uint8_t drop = to_drop(attendance());
    if (drop != 0) {
      co_await shrink(drop);
    } else if (unsettled_) {
      co_await settle_members();
    } else if ((required_ & ~reachable()) != 0) {
      Status slept = co_await spec_->clock.sleep_for(kLook, CancelToken(stop_));
      if (!slept.ok()) break;
    } else {
      co_await changed_.wait();
    }
  }
}

// Takes members out: first out of the configuration, then everything in flight is sent again, so
// that those who stay mark what the others may lack; only then may it be acknowledged.
Task<void> CoordinatorCore::shrink(uint8_t drop) {
  co_await config_mutex_.lock();
  MutexGuard guard(config_mutex_);
  drop = to_drop(attendance());
  if (drop == 0 || !running()) co_return;
  held_ = true;
  dropping_ = drop;
  bool known = true;
  if ((record_.config.in_sync & drop) != 0) {
    known = co_await replace_config(without(record_.config, drop));
    if (known) HF_PROBE("replicate.shrunk");
  }
  if (known) {
    required_ &= static_cast<uint8_t>(~drop);
    co_await spread_config(required_);
    if (running()) resend_all();
  }
  held_ = false;
  dropping_ = 0;
  consider_all();
}

void CoordinatorCore::consider_all() {
  const std::map<uint64_t, OperationPtr> waiting = in_flight_;
  for (const auto& [sequence, op] : waiting) consider(op);
  changed_.notify_all();
}

// False: nothing has changed for us (fenced, ended, or to be looked at again).
Task<bool> CoordinatorCore::replace_config(VolumeConfig next) {
  config_trouble_.reset();
  Result<ConfigChange> change =
      co_await spec_->configs.replace(record_, std::move(next), CancelToken(stop_));
  if (!change.ok()) {
    config_trouble_ = change.error();
    if (!running() || record_.config.phase == VolumePhase::kRecovering) co_return false;
    HF_LOG(kWarn, "replicate", "volume {}: its configuration cannot be changed: {}",
           config().volume.to_string(), change.error().to_string());
    // Where there is no time any more the process is ending: nothing is to be tried again.
    Status slept = co_await spec_->clock.sleep_for(kRetryLast, CancelToken(stop_));
    if (!slept.ok()) stop_.cancel();
    co_return false;
  }
  co_return co_await adopt(std::move(*change));
}

// What the state store has. False: it is not what we wrote. It may be of ours all the same, an
// earlier writing that came late: whoever is not in it any more has left.
Task<bool> CoordinatorCore::adopt(ConfigChange change) {
  if (change.now.config.epoch != epoch_) {
    fence_self(make_error(ErrorCode::kFenced, "epoch {} has taken over", change.now.config.epoch));
    co_return false;
  }
  record_ = std::move(change.now);
  unsettled_ = false;  // whatever was on its way compares an older revision
  const bool was_held = held_;
  const bool left = follow_members();
  if (!left) co_return change.done;
  // Nobody has to mark anything for who is gone for good, so nothing is sent again; but before
  // anything is acknowledged without it, those who stay know that it does not count.
  held_ = true;
  co_await spread_config(required_);
  held_ = was_held;
  consider_all();
  co_return change.done;
}

Task<void> CoordinatorCore::give_config(Peer& peer, PortPtr port, std::string config) {
  const std::shared_ptr<CancelSource> in_time = watch(port, kSuspectAfter);
  Status stored = co_await port->set_config(std::move(config));
  in_time->cancel();
  if (stored.code() == ErrorCode::kFenced) {
    fence_self(stored.error());
  } else if (!stored.ok()) {
    lose(peer, port, stored.error());
  }
}

// Before anything is acknowledged under it, everybody who is in sync has the configuration: it can
// be found again from the replicas alone. Whoever does not take it is lost.
Task<void> CoordinatorCore::spread_config(uint8_t to) {
  const std::string config = encode_config(record_.config);
  Gate gate;
  for (const auto& peer : peers_) {
    if ((to & peer->bit) == 0 || peer->port == nullptr) continue;
    (void)spawn(gate, give_config(*peer, peer->port, config));
  }
  co_await gate.close();
}

void CoordinatorCore::resend_all() {
  ++round_;
  const std::map<uint64_t, OperationPtr> again = in_flight_;
  if (!again.empty()) HF_PROBE("replicate.resent");
  for (const auto& [sequence, op] : again) {
    op->round = round_;
    if (mutant(ReplicateMutant::kNoResend)) continue;
    op->answered = op->refused = 0;
    send_all(op);
  }
}

}  // namespace hf
