#include <algorithm>

#include "base/log.h"
#include "replicate/coordinator_core.h"
#include "replicate/mutants.h"
#include "runtime/fault_point.h"

namespace hf {
namespace {

constexpr int kClaims = 5;

int64_t in_ms(Duration d) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(d).count();
}

}  // namespace

Task<Status> CoordinatorCore::take_over_unless(CancelToken given_up) {
  const std::function<void()> end = [this] { give_up(); };
  CancelCallback callback(given_up.source(), end);
  Status taken = co_await take_over();
  if (given_up.is_cancelled()) co_return refusal();
  co_return taken;
}

Task<Status> CoordinatorCore::take_over() {
  const MonoTime began = spec_->clock.now();
  Status done = co_await claim();
  HF_CO_TRY(done);
  const MonoTime claimed = spec_->clock.now();
  done = co_await fence_members();
  HF_CO_TRY(done);
  const MonoTime fenced = spec_->clock.now();
  done = co_await reconcile();
  HF_CO_TRY(done);
  // What a failover costs, stage by stage; docs/performance.md explains it by these.
  HF_LOG(kInfo, "replicate", "serves volume={} epoch={} in_sync={:#x} claim_ms={} fence_ms={} leases_ms={} activate_ms={}",
         config().volume.to_string(), epoch_, record_.config.in_sync, in_ms(claimed - began),
         in_ms(fenced - claimed), in_ms(std::max(Duration{}, leases_end_ - fenced)),
         in_ms(spec_->clock.now() - std::max(fenced, leases_end_)));
  start_background();
  co_return Status();
}

// Step 1: the epoch is ours. Whoever had it cannot change the configuration any more.
Task<Status> CoordinatorCore::claim() {
  for (int attempt = 0; attempt < kClaims; ++attempt) {
    Result<StoredConfig> stored = co_await spec_->configs.load(spec_->volume);
    HF_CO_TRY(stored);
    VolumeConfig next = stored->config;
    ++next.epoch;
    next.coordinator = spec_->node;
    next.instance = spec_->instance;
    next.phase = VolumePhase::kRecovering;
    Result<ConfigChange> change =
        co_await spec_->configs.replace(std::move(*stored), next, CancelToken(stop_));
    HF_CO_TRY(change);
    if (!change->done) continue;
    record_ = std::move(change->now);
    epoch_ = record_.config.epoch;
    lead_ = lead_of(record_.config);
    HF_PROBE("replicate.claimed");
    for (const VolumeMember& member : record_.config.members) add_peer(member);
    co_return Status();
  }
  co_return make_error(ErrorCode::kConflict,
                       "volume {} is being taken over by others again and again; try again",
                       spec_->volume.to_string());
}

Task<void> CoordinatorCore::fence_member(Peer& peer, MonoTime until) {
  ++fencing_;
  co_await try_to_fence(peer, until);
  --fencing_;
  changed_.notify_all();
}

Task<void> CoordinatorCore::try_to_fence(Peer& peer, MonoTime until) {
  while (running() && !fencing_over_ && spec_->clock.now() < until) {
    PortPtr port;
    Result<FenceAnswer> answer = co_await open_session(peer, &port, kFenceWithin);
    if (answer.ok() && running() && !fencing_over_) {
      const Status older = check_not_newer(peer.info, *answer);
      if (!older.ok()) {
        port->close();
        quarantine_ = older.error();
        changed_.notify_all();
        co_return;
      }
      const Duration left = lease_wait(answer->lease_left);
      if (left > Duration{}) HF_PROBE("replicate.lease_left");
      leases_end_ = std::max(leases_end_, spec_->clock.now() + left);
      peer.port = std::move(port);
      fenced_members_.emplace(peer.info.slot, std::move(*answer));
      HF_PROBE("replicate.member_fenced");
      co_return;
    }
    if (port != nullptr) port->close();
    if (answer.ok()) co_return;
    peer.trouble = answer.error();
    changed_.notify_all();
    if (answer.code() == ErrorCode::kFenced) {
      fence_refused_ = answer.error();
      co_return;
    }
    Status slept = co_await spec_->clock.sleep_for(kRetryFirst, CancelToken(stop_));
    if (!slept.ok()) co_return;
  }
}

// Of a member that knows more of the volume than the state store does: that has lost changes, and with them who has
// what was acknowledged since.
Status CoordinatorCore::check_not_newer(const VolumeMember& member, const FenceAnswer& answer) const {
  const Result<VolumeConfig> copy = decode_config(answer.config);
  if (!copy.ok() || !is_newer(*copy, record_.config, lead_)) return {};
  HF_PROBE("replicate.newer_member");
  return make_error(ErrorCode::kFailedPrecondition,
                    "volume {} is in quarantine: the state store has lost changes (restored from an old copy?): it was at "
                    "epoch {} and generation {}, and member {} on node {} has known epoch {} and generation {}; rebuild it from the "
                    "replicas",
                    spec_->volume.to_string(), epoch_ - 1, static_cast<int64_t>(epoch_) - 1 + lead_, member.slot,
                    member.node.to_string(), copy->epoch, copy->generation);
}

// Whether a member that has not answered is worth waiting for: not where its node was found not to
// answer anybody, nor where it refuses for as long as a lost one may take to return.
bool CoordinatorCore::may_still_come(uint8_t wanted, MonoTime start) const {
  const bool early = spec_->clock.now() - start < kReturnWithin;
  for (const auto& peer : peers_) {
    if ((wanted & peer->bit) == 0 || fenced_members_.contains(peer->info.slot)) continue;
    if (peer->info.node == spec_->away) continue;
    const bool refuses = peer->trouble && peer->trouble->code() != ErrorCode::kTimeout;
    if (!refuses || early) return true;
  }
  return false;
}

// Step 2: the members promise the epoch. One of the in-sync set is enough for safety: nothing is
// acknowledged without it. The others are waited for a little, so that they need not be left out.
Task<Status> CoordinatorCore::fence_members() {
  const MonoTime start = spec_->clock.now();
  const bool impatient = HF_FAULT_POINT("replicate.impatient");
  const MonoTime patience = start + (impatient ? Duration{} : kTakeoverPatience);
  const MonoTime end = start + kTakeoverGivesUp;
  (void)spawn(background_, alarm(start + kReturnWithin));
  (void)spawn(background_, alarm(patience));
  (void)spawn(background_, alarm(end));
  uint8_t wanted = record_.config.in_sync;
  if (mutant(ReplicateMutant::kOutsiderIsSource)) wanted = record_.config.member_mask();
  for (uint8_t slot : slots_of(wanted)) (void)spawn(background_, fence_member(*peer(slot), end));
  while (running() && !abandoned_ && !fence_refused_ && !quarantine_) {
    const MonoTime now = spec_->clock.now();
    if (fencing_ == 0 || now >= end) break;
    if (!fenced_members_.empty() && (now >= patience || !may_still_come(wanted, start))) break;
    co_await changed_.wait();
  }
  fencing_over_ = true;
  if (!running() || abandoned_) co_return refusal();
  if (fence_refused_) {
    Result<StoredConfig> now = co_await spec_->configs.load(spec_->volume);
    HF_CO_TRY(now);
    if (now->config.epoch > epoch_) co_return *fence_refused_;
    co_return make_error(
        ErrorCode::kFailedPrecondition,
        "volume {} is in quarantine: the state store knows epoch {}, but {}; it has lost changes "
        "(restored from an old copy?); rebuild it from the replicas",
        spec_->volume.to_string(), epoch_, fence_refused_->message());
  }
  if (quarantine_) co_return *quarantine_;
  if (!fenced_members_.empty()) co_return Status();
  std::string why;
  for (uint8_t slot : slots_of(wanted)) {
    const std::optional<Error>& trouble = peer(slot)->trouble;
    why += fmt::format("; member {}: {}", slot, trouble ? trouble->to_string() : "no answer");
  }
  co_return make_error(ErrorCode::kUnavailable, "volume {}: no in-sync member answers{}",
                       spec_->volume.to_string(), why);
}

// Step 3: what only some of them have, all of them get, or lose. Nobody is asked for signs of life
// yet, so each call has its own time: a host that loses its power says nothing.
Task<Status> CoordinatorCore::reconcile() {
  uint8_t good = 0;
  RangeSet windows;
  for (const auto& [slot, answer] : fenced_members_) {
    Peer& member = *peer(slot);
    const PortPtr port = member.port;
    const std::shared_ptr<CancelSource> in_time = watch(port, kStuckAfter);
    Status collected = co_await collect(port, std::nullopt, &windows);
    in_time->cancel();
    if (collected.code() == ErrorCode::kFenced) co_return collected;
    if (collected.ok()) good |= member.bit;
    if (!collected.ok()) lose(member, port, collected.error());
  }
  if (!windows.empty()) HF_PROBE("replicate.reconciles");
  bool done = false;
  while (good != 0 && !done && running() && !abandoned_) {
    done = co_await reconcile_once(&good, windows);
  }
  if (!running() || abandoned_) co_return refusal();
  if (good == 0) {
    co_return make_error(ErrorCode::kUnavailable,
                         "volume {}: its in-sync members were lost while they were reconciled",
                         spec_->volume.to_string());
  }
  co_return co_await activate(good);
}

// False: somebody has fallen out of `good`; what is written must then be marked for more.
Task<bool> CoordinatorCore::reconcile_once(uint8_t* good, const RangeSet& windows) {
  uint8_t slot = choose_source(*good, local_mask());
  if (mutant(ReplicateMutant::kOutsiderIsSource)) slot = slots_of(*good).back();
  Peer& source = *peer(slot);
  size_ = fenced_members_.at(slot).size_bytes;
  const uint8_t before = *good;
  for (uint8_t other : slots_of(*good & static_cast<uint8_t>(~source.bit))) {
    if (mutant(ReplicateMutant::kNoReconcile)) break;
    Peer& target = *peer(other);
    bool alike = co_await make_like(target, source, windows);
    if (alike) continue;
    if (source.port == nullptr) *good &= static_cast<uint8_t>(~source.bit);
    if (target.port == nullptr) *good &= static_cast<uint8_t>(~target.bit);
    if (*good == before) *good = 0;  // fenced
    co_return false;
  }
  const SlotMask absent = record_.config.member_mask() & static_cast<uint8_t>(~*good);
  RangeSet marks = windows;
  marks.cut_at(size_);
  if (absent == 0 || marks.empty() || mutant(ReplicateMutant::kWindowNotMarked)) co_return true;
  for (uint8_t each : slots_of(*good)) {
    Peer& member = *peer(each);
    bool marked = co_await mark(member, member.port, absent, marks);
    if (!marked) *good &= static_cast<uint8_t>(~member.bit);
  }
  co_return *good == before;
}

// Size first, then content. Whoever fails has no port afterwards.
Task<bool> CoordinatorCore::make_like(Peer& target, Peer& source, RangeSet differ) {
  const PortPtr to = target.port, from = source.port;
  uint64_t& size = fenced_members_.at(target.info.slot).size_bytes;
  if (size != size_) {
    add_size_difference(differ, size, size_);
    const std::shared_ptr<CancelSource> in_time = watch(to, kStuckAfter);
    Status resized = co_await to->resize(copy_header(), size_);
    in_time->cancel();
    if (!resized.ok()) {
      lose(target, to, resized.error());
      co_return false;
    }
    size = size_;
  }
  differ.cut_at(size_);
  for (const auto& [offset, length] : chunks_of(differ, kCopyChunk)) {
    auto buffer = std::make_shared<AlignedBuffer>(length);
    const std::shared_ptr<CancelSource> in_time = watch(from, kStuckAfter);
    Status done = co_await from->read(offset, buffer->span());
    in_time->cancel();
    if (!done.ok()) {
      lose(source, from, done.error());
      co_return false;
    }
    HF_PROBE("replicate.reconciled_chunk");
    const std::shared_ptr<CancelSource> written = watch(to, kStuckAfter);
    if (all_zero(buffer->span())) {
      done = co_await to->write_zeroes(copy_header(), offset, length);
    } else {
      done = co_await to->write(copy_header(), offset, WriteData::of(std::move(buffer)));
    }
    written->cancel();
    if (!done.ok()) {
      lose(target, to, done.error());
      co_return false;
    }
  }
  co_return true;
}

// False: the session has ended.
Task<bool> CoordinatorCore::mark(Peer& peer, PortPtr port, SlotMask slots, const RangeSet& set) {
  if (port == nullptr || peer.port != port) co_return false;
  auto at = set.ranges().begin();
  while (at != set.ranges().end()) {
    std::vector<ByteRange> some;
    for (; at != set.ranges().end() && some.size() < kRangesAtATime; ++at) {
      ByteRange& range = some.emplace_back();
      range.offset = at->first;
      range.length = at->second - at->first;
    }
    const std::shared_ptr<CancelSource> in_time = watch(port, kStuckAfter);
    Status marked = co_await port->mark_dirty(copy_header(), slots, std::move(some));
    in_time->cancel();
    if (!marked.ok()) {
      lose(peer, port, marked.error());
      co_return false;
    }
  }
  co_return true;
}

// Step 4. What the old coordinator may still read ends first.
Task<Status> CoordinatorCore::activate(uint8_t good) {
  if (!mutant(ReplicateMutant::kLeaseNotAwaited)) {
    Status waited = co_await spec_->clock.sleep_until(leases_end_, CancelToken(stop_));
    HF_CO_TRY(waited);
  }
  bool done = false;
  while (!done && running()) {
    const uint8_t left_out = record_.config.in_sync & static_cast<uint8_t>(~good);
    VolumeConfig next = without(record_.config, left_out);
    next.in_sync = good;
    next.phase = VolumePhase::kActive;
    done = co_await replace_config(std::move(next));
    if (config_trouble_) co_return *config_trouble_;
  }
  if (!done) co_return refusal();
  HF_PROBE("replicate.activated");
  required_ = good;
  for (const auto& peer : peers_) peer->receives = (good & peer->bit) != 0 && peer->port != nullptr;
  co_await spread_config(good);
  if (!running()) co_return refusal();
  co_return Status();
}

}  // namespace hf
