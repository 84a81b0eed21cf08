#include "base/log.h"
#include "replicate/coordinator_core.h"
#include "runtime/fault_point.h"

namespace hf {
namespace {

constexpr Duration kDetachWithin = 5s;    // for the state store to record a planned end
constexpr Duration kQuiesceWithin = 15s;  // for calls in flight, before a planned end

}  // namespace

CoordinatorCore::CoordinatorCore(std::shared_ptr<Replica> replica, uint64_t epoch)
    : epoch_(epoch), size_(replica->size()) {
  VolumeMember member;
  member.replica = replica->id();
  record_.config.volume = replica->volume();
  record_.config.epoch = epoch;
  record_.config.in_sync = required_ = slot_bit(0);
  record_.config.members.push_back(member);
  Peer& peer = add_peer(member);
  peer.port =
      std::make_shared<LocalPort>(std::make_shared<ReplicaService>(std::move(replica), nullptr));
}

CoordinatorCore::CoordinatorCore(CoordinatorSpec spec) : spec_(spec) {}

// With one member and no configuration nobody else can know anything: the promise alone counts.
Task<Status> CoordinatorCore::open_alone() {
  Session session;
  session.epoch = epoch_;
  session.number = 1;
  Result<FenceAnswer> fenced = co_await peers_.front()->port->fence(session);
  HF_CO_TRY(fenced);
  co_return Status();
}

Error CoordinatorCore::refusal() const {
  if (fenced_) {
    return make_error(ErrorCode::kFenced,
                      "epoch {} of volume {} is over: the volume is attached elsewhere", epoch_,
                      config().volume.to_string());
  }
  return make_error(ErrorCode::kClosed, "volume {} is being detached", config().volume.to_string());
}

Status CoordinatorCore::check_range(uint64_t offset, uint64_t length) const {
  if (!is_aligned(offset, kBlockSize) || !is_aligned(length, kBlockSize) || offset > size_ ||
      length > size_ - offset) {
    return make_error(ErrorCode::kInvalidArgument,
                      "volume {}: range {}+{} is not in whole blocks inside {} bytes",
                      config().volume.to_string(), offset, length, size_);
  }
  return Status();
}

void CoordinatorCore::fence_self(const Error& why) {
  if (fenced_) return;
  HF_PROBE("replicate.fenced");
  fenced_ = true;
  fence_ = why;
  HF_LOG(kWarn, "replicate", "volume {}: epoch {} is over: {}", config().volume.to_string(), epoch_,
         why.to_string());
  end_operations(refusal());
  stop_.cancel();
  for (const auto& peer : peers_) {
    if (peer->port == nullptr || !spec_) continue;
    peer->port->close();
    peer->port = nullptr;
  }
  changed_.notify_all();
}

void CoordinatorCore::end_operations(const Error& why) {
  while (!in_flight_.empty()) {
    const OperationPtr op = in_flight_.begin()->second;
    finish(op, why);
  }
}

void CoordinatorCore::start_background() {
  tending_ = true;
  for (const auto& peer : peers_) (void)spawn(background_, tend(*peer));
  (void)spawn(background_, govern());
}

Task<void> CoordinatorCore::stop_background() {
  stop_.cancel();
  changed_.notify_all();
  co_await background_.close();
}

std::vector<MemberStatus> CoordinatorCore::members() const {
  std::vector<MemberStatus> all;
  for (const auto& peer : peers_) {
    MemberStatus& member = all.emplace_back();
    const VolumeMember* now = record_.config.member(peer->info.slot);
    member.member = now != nullptr ? *now : peer->info;
    member.in_sync = (record_.config.in_sync & peer->bit) != 0;
    member.reachable = peer->port != nullptr;
    member.resyncing = peer->resyncing;
    member.resync_bytes_total = peer->copy_total;
    member.resync_bytes_done = peer->copy_done;
    if (peer->trouble) member.trouble = peer->trouble->to_string();
  }
  return all;
}

Task<void> CoordinatorCore::cancel_at(Clock& clock, MonoTime at,
                                      std::shared_ptr<CancelSource> ended, CancelSource& target) {
  Status slept = co_await clock.sleep_until(at, CancelToken(*ended));
  if (slept.ok() && !ended->is_cancelled()) target.cancel();
}

// Of the record as it is. kCancelled: not known until then, and it may have happened, or may still.
Task<Result<ConfigChange>> CoordinatorCore::replace_until(VolumeConfig next, MonoTime until,
                                                          CancelSource* or_when) {
  auto ended = std::make_shared<CancelSource>();
  CancelSource late;
  const std::function<void()> give_up = [&late] { late.cancel(); };
  CancelCallback stopped(or_when, give_up);
  Gate alarm;
  Clock& clock = spec_->clock;
  (void)spawn(alarm, cancel_at(clock, until, ended, late));
  Result<ConfigChange> change =
      co_await spec_->configs.replace(record_, std::move(next), CancelToken(late));
  ended->cancel();
  co_await alarm.close();
  co_return change;
}

// Wakes those who wait for a change at that time.
Task<void> CoordinatorCore::alarm(MonoTime at) {
  Status slept = co_await spec_->clock.sleep_until(at, CancelToken(stop_));
  (void)slept;
  changed_.notify_all();
}

Task<void> CoordinatorCore::close_gate() {
  co_await gate_.close();
  changed_.notify_all();
}

// No new calls, and nothing in flight, which a repair may be, too; false: some of it has waited for
// too long.
Task<bool> CoordinatorCore::quiesce() {
  const MonoTime until = spec_->clock.now() + kQuiesceWithin;
  (void)spawn(background_, close_gate());
  (void)spawn(background_, alarm(until));
  while (gate_.inside() > 0 || !in_flight_.empty()) {
    if (!running() || spec_->clock.now() >= until) co_return false;
    co_await changed_.wait();
  }
  co_return true;
}

Task<Status> CoordinatorCore::release() {
  if (!spec_) {
    co_await gate_.close();
    co_return Status();
  }
  bool quiet = co_await quiesce();
  if (fenced_) co_return refusal();
  if (!quiet) {
    HF_PROBE("replicate.not_quiet");
    co_return make_error(ErrorCode::kTimeout,
                         "volume {} is not released: {} calls still wait after {} s, for members "
                         "or for the state store",
                         config().volume.to_string(), gate_.inside(), kQuiesceWithin / 1s);
  }
  stop_.cancel();
  changed_.notify_all();
  // No call runs and none can come: nothing reads under the leases any more.
  for (Peer* peer : everybody()) {
    const PortPtr port = peer->port;
    if (port == nullptr || (record_.config.in_sync & peer->bit) == 0) continue;
    Stamp all;
    all.epoch = epoch_;
    all.sequence = sequence_;
    const std::shared_ptr<CancelSource> in_time = watch(port, kSuspectAfter);
    Status settled = co_await port->heartbeat(all);
    if (settled.ok()) settled = co_await port->release();
    in_time->cancel();
  }
  co_await background_.close();
  for (const auto& peer : peers_) {
    if (peer->port != nullptr) peer->port->close();
  }
  if (fenced_) co_return refusal();
  const MonoTime until = spec_->clock.now() + kDetachWithin;
  while (true) {
    VolumeConfig next = record_.config;
    next.phase = VolumePhase::kDetached;
    next.coordinator = NodeId();
    Result<ConfigChange> change = co_await replace_until(std::move(next), until, nullptr);
    HF_CO_TRY(change);
    record_ = std::move(change->now);
    if (change->done) co_return Status();
    // An earlier change of ours that came late is no takeover.
    if (record_.config.epoch == epoch_) continue;
    co_return make_error(ErrorCode::kFenced, "volume {} was taken over while it was released",
                         config().volume.to_string());
  }
}

Task<void> CoordinatorCore::close() {
  co_await gate_.close();
  if (!spec_) co_return;
  co_await stop_background();
  for (const auto& peer : peers_) {
    if (peer->port != nullptr) peer->port->close();
  }
}

// At once, as far as it is ours: whoever waits for something is told.
void CoordinatorCore::give_up() {
  abandoned_ = true;
  end_operations(refusal());
  stop_.cancel();
  for (const auto& peer : peers_) {
    if (peer->port != nullptr) peer->port->close();
  }
  const std::vector<PortPtr> opening = opening_;
  for (const PortPtr& port : opening) port->close();
  changed_.notify_all();
}

Task<void> CoordinatorCore::abandon() {
  give_up();
  co_await gate_.close();
  co_await background_.close();
}

}  // namespace hf
