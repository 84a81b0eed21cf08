#include <algorithm>

#include "base/log.h"
#include "replicate/coordinator_core.h"
#include "runtime/fault_point.h"

namespace hf {

Peer* CoordinatorCore::peer(uint8_t slot) {
  for (const auto& peer : peers_) {
    if (peer->info.slot == slot) return peer.get();
  }
  return nullptr;
}

Peer& CoordinatorCore::add_peer(const VolumeMember& member) {
  peers_.push_back(std::make_unique<Peer>(member));
  Peer& added = *peers_.back();
  added.local = !spec_ || spec_->ports.is_local(member);
  if (spec_) added.lost_at = spec_->clock.now();
  return added;
}

std::vector<Peer*> CoordinatorCore::everybody() const {
  std::vector<Peer*> all;
  for (const auto& peer : peers_) all.push_back(peer.get());
  return all;
}

uint8_t CoordinatorCore::reachable() const {
  uint8_t mask = 0;
  for (const auto& peer : peers_) mask |= peer->port != nullptr ? peer->bit : 0;
  return mask;
}

uint8_t CoordinatorCore::local_mask() const {
  uint8_t mask = 0;
  for (const auto& peer : peers_) mask |= peer->local ? peer->bit : 0;
  return mask;
}

Task<void> CoordinatorCore::watchdog(PortPtr port, MonoTime at,
                                     std::shared_ptr<CancelSource> ended) {
  Status slept = co_await spec_->clock.sleep_until(at, CancelToken(*ended));
  if (slept.ok() && !ended->is_cancelled()) port->close();
}

// Closes the port, and so ends what waits for it, unless the returned source is cancelled in time.
std::shared_ptr<CancelSource> CoordinatorCore::watch(const PortPtr& port, Duration within) {
  auto ended = std::make_shared<CancelSource>();
  (void)spawn(background_, watchdog(port, spec_->clock.now() + within, ended));
  return ended;
}

Task<Result<FenceAnswer>> CoordinatorCore::open_session(Peer& peer, PortPtr* port,
                                                        Duration within) {
  Result<PortPtr> opened = co_await spec_->ports.open(peer.info);
  HF_CO_TRY(opened);
  *port = std::move(*opened);
  Session session;
  session.epoch = epoch_;
  session.number = ++session_numbers_;
  if (!running()) (*port)->close();
  opening_.push_back(*port);
  const std::shared_ptr<CancelSource> in_time = watch(*port, within);
  Result<FenceAnswer> answer = co_await (*port)->fence(session);
  in_time->cancel();
  std::erase(opening_, *port);
  if (!answer.ok()) (*port)->close();
  co_return answer;
}

// The life of a member: opened, asked for a sign of life, lost, opened again.
Task<void> CoordinatorCore::tend(Peer& peer) {
  while (running() && !peer.gone) {
    if (peer.port != nullptr) {
      co_await heartbeat(peer);
      drop_stuck(peer);
      Status slept = co_await spec_->clock.sleep_for(kHeartbeat, CancelToken(stop_));
      if (!slept.ok()) break;
      continue;
    }
    // One that is being taken out of the configuration, or whose answers counted before it had
    // joined, comes back as somebody who is away.
    const uint8_t joining = required_ & static_cast<uint8_t>(~record_.config.in_sync);
    if (((dropping_ | joining) & peer.bit) != 0) {
      co_await changed_.wait();
      continue;
    }
    if (spec_->clock.now() < peer.rest_until) {
      Status rested = co_await spec_->clock.sleep_until(peer.rest_until, CancelToken(stop_));
      if (!rested.ok()) break;
      continue;
    }
    PortPtr port;
    Result<FenceAnswer> answer = co_await open_session(peer, &port, kFenceWithin);
    if (!running() || peer.gone) {
      if (port != nullptr) port->close();
      break;
    }
    // It must not be overwritten: nobody else may have what it has.
    if (answer.ok() && spec_) {
      const Status older = check_not_newer(peer.info, *answer);
      if (!older.ok()) answer = older.error();
    }
    if (answer.ok() && (dropping_ & peer.bit) == 0) {
      attach(peer, std::move(port), *answer);
      continue;
    }
    if (port != nullptr) port->close();
    if (answer.ok()) continue;
    if (answer.code() == ErrorCode::kFenced) {
      fence_self(answer.error());
      break;
    }
    peer.trouble = answer.error();
    peer.broken = kind_of(answer.code()) != AnswerKind::kUnreachable;
    Status slept = co_await spec_->clock.sleep_for(peer.retry, CancelToken(stop_));
    if (!slept.ok()) break;
    peer.retry = std::min(peer.retry * 2, kRetryLast);
  }
}

Task<void> CoordinatorCore::heartbeat(Peer& peer) {
  const PortPtr port = peer.port;
  const MonoTime sent = spec_->clock.now();
  const std::shared_ptr<CancelSource> in_time = watch(port, kSuspectAfter);
  const Stamp known = (record_.config.in_sync & peer.bit) != 0 ? commit() : Stamp();
  Status alive = co_await port->heartbeat(known);
  in_time->cancel();
  if (peer.port != port) co_return;
  if (alive.ok()) {
    peer.lease_until = std::max(peer.lease_until, sent + kLeaseTaken);
    changed_.notify_all();
  } else if (alive.code() == ErrorCode::kFenced) {
    fence_self(alive.error());
  } else {
    lose(peer, port, alive.error());
  }
}

void CoordinatorCore::attach(Peer& peer, PortPtr port, const FenceAnswer& answer) {
  HF_ASSERT(peer.port == nullptr);
  peer.port = std::move(port);
  peer.unanswered.clear();
  peer.retry = kRetryFirst;
  peer.broken = false;
  if ((record_.config.in_sync & peer.bit) == 0) {
    (void)spawn(background_, resync(peer, peer.port, answer));
    return;
  }
  // In sync, and only the connection was lost, or the process restarted: what it has answered is
  // there, the rest is sent again, in order.
  HF_PROBE("replicate.member_returned");
  peer.trouble.reset();
  peer.receives = true;
  const std::map<uint64_t, OperationPtr> again = in_flight_;
  for (const auto& [sequence, op] : again) {
    if (op->ended || (op->answered & peer.bit) != 0 || peer.port == nullptr) continue;
    send(op, peer);
  }
  changed_.notify_all();
}

// By value: callers give `peer.port` itself, which is nobody's a moment later.
void CoordinatorCore::lose(Peer& peer, PortPtr port, const Error& why) {
  if (port == nullptr || peer.port != port) return;
  HF_PROBE("replicate.member_lost");
  HF_LOG(kInfo, "replicate", "volume {}: member {} is lost: {}", config().volume.to_string(),
         peer.info.slot, why.to_string());
  peer.port = nullptr;
  peer.receives = false;
  peer.unanswered.clear();
  peer.lost_at = spec_->clock.now();
  peer.trouble = why;
  peer.broken = kind_of(why.code()) != AnswerKind::kUnreachable;
  port->close();
  changed_.notify_all();
}

// A member that answers heartbeats and does not answer writes: a disk that hangs.
void CoordinatorCore::drop_stuck(Peer& peer) {
  if (peer.port == nullptr || (required_ & peer.bit) == 0) return;
  for (const auto& [sequence, op] : in_flight_) {
    if (spec_->clock.now() - op->since < kStuckAfter) return;
    if ((op->answered & peer.bit) != 0 || (op->answered & required_) == 0) continue;
    HF_PROBE("replicate.stuck_dropped");
    lose(peer, peer.port,
         make_error(ErrorCode::kIo, "a write has not been answered for {} s", kStuckAfter / 1s));
    return;
  }
}

}  // namespace hf
