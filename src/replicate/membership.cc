#include <algorithm>
#include <utility>

#include "base/log.h"
#include "replicate/coordinator_core.h"
#include "replicate/mutants.h"
#include "runtime/fault_point.h"

namespace hf {
namespace {

constexpr Duration kLook =
    20ms;  // how often, while another change of the configuration is under way

Error only_one(const VolumeConfig& config) {
  return make_error(ErrorCode::kNotSupported,
                    "volume {} has one replica and no configuration in the state store: it cannot "
                    "have other members",
                    config.volume.to_string());
}

Duration patience() {
  return HF_FAULT_POINT("replicate.impatient_members") ? 100ms : kMembersWithin;
}

}  // namespace

// Not the mutex's own queue: who waits there cannot give up. While it is not known what the
// configuration is, nothing can be said about its members.
Task<Status> CoordinatorCore::lock_config(MonoTime until) {
  while (unsettled_ || !config_mutex_.try_lock()) {
    if (!running() || abandoned_) co_return refusal();
    if (spec_->clock.now() >= until) {
      co_return make_error(
          ErrorCode::kUnavailable,
          "volume {}: another change of its configuration waits for the state store; try again",
          config().volume.to_string());
    }
    Status slept = co_await spec_->clock.sleep_for(kLook, CancelToken(stop_));
    if (!slept.ok()) co_return refusal();
  }
  if (running() && !abandoned_) co_return Status();
  config_mutex_.unlock();
  co_return refusal();
}

// After a change that was given up: it has happened, or never will once the same is written again.
Task<void> CoordinatorCore::settle_members() {
  co_await config_mutex_.lock();
  MutexGuard guard(config_mutex_);
  if (!unsettled_ || !running()) co_return;
  HF_PROBE("replicate.members_settled");
  (void)co_await replace_config(record_.config);
  if (running() && !unsettled_) co_await spread_config(required_);
}

// False: the configuration was another one than we knew.
Task<Result<bool>> CoordinatorCore::change_members(VolumeConfig next, MonoTime until) {
  Result<ConfigChange> change = co_await replace_until(std::move(next), until, &stop_);
  if (!running() || abandoned_) co_return refusal();
  if (!change.ok()) {
    HF_PROBE("replicate.members_not_known");
    unsettled_ = !mutant(ReplicateMutant::kUnknownNotSettled);
    changed_.notify_all();
  }
  if (change.code() == ErrorCode::kCancelled) {
    co_return make_error(ErrorCode::kUnavailable,
                         "volume {}: the state store did not confirm the change of its members "
                         "within {} s; it may have happened; ask again",
                         config().volume.to_string(), kMembersWithin / 1s);
  }
  HF_CO_TRY(change);
  bool done = co_await adopt(std::move(*change));
  if (!running()) co_return refusal();
  co_return done;
}

Task<Status> CoordinatorCore::add_member(VolumeMember member) {
  if (!spec_) co_return only_one(config());
  if (!may_serve()) co_return refusal();
  Gate::Pass pass(gate_);
  const MonoTime until = spec_->clock.now() + patience();
  while (true) {
    Status mine = co_await lock_config(until);
    HF_CO_TRY(mine);
    MutexGuard guard(config_mutex_);
    if (find_member(config(), member.replica) != nullptr) co_return Status();
    member.slot = free_slot(config().member_mask());
    if (member.slot == kNobody) {
      co_return make_error(
          ErrorCode::kLimitExceeded,
          "volume {} has {} members, which is the most there can be; remove one first",
          config().volume.to_string(), kMaxMembers);
    }
    Result<bool> done = co_await change_members(with_new(config(), member), until);
    HF_CO_TRY(done);
    if (!*done) continue;
    HF_PROBE("replicate.member_added");
    HF_LOG(kInfo, "replicate", "volume {}: replica {} is member {} now",
           config().volume.to_string(), member.replica.to_string(), member.slot);
    co_await spread_config(required_);
    co_return Status();
  }
}

// Who is removed keeps its duties until the state store has it: then it cannot be the one that a
// takeover relies on.
Task<Status> CoordinatorCore::remove_member(ReplicaId replica) {
  if (!spec_) co_return only_one(config());
  if (!may_serve()) co_return refusal();
  Gate::Pass pass(gate_);
  const MonoTime until = spec_->clock.now() + patience();
  while (true) {
    Status mine = co_await lock_config(until);
    HF_CO_TRY(mine);
    MutexGuard guard(config_mutex_);
    const VolumeMember* member = find_member(config(), replica);
    if (member == nullptr) co_return Status();
    const uint8_t slot = member->slot;
    const uint8_t others = config().in_sync & static_cast<uint8_t>(~slot_bit(slot));
    if ((others & reachable()) == 0 && !mutant(ReplicateMutant::kLastMemberRemoved)) {
      co_return make_error(ErrorCode::kFailedPrecondition,
                           "volume {}: replica {} stays: no other member that is in sync can be "
                           "reached now, so its data "
                           "would be lost; wait until another one is in sync",
                           config().volume.to_string(), replica.to_string());
    }
    if (mutant(ReplicateMutant::kRemovedBeforeRecorded)) {
      required_ &= static_cast<uint8_t>(~slot_bit(slot));
      consider_all();
    }
    Result<bool> done = co_await change_members(without_member(config(), slot), until);
    HF_CO_TRY(done);
    if (!*done) continue;
    HF_PROBE("replicate.member_removed");
    HF_LOG(kInfo, "replicate", "volume {}: replica {}, which was member {}, is removed",
           config().volume.to_string(), replica.to_string(), slot);
    co_return Status();
  }
}

// Peers are the members of the configuration. True: somebody has left it.
bool CoordinatorCore::follow_members() {
  bool left = false;
  for (Peer* peer : everybody()) {
    const VolumeMember* member = find_member(config(), peer->info.replica);
    if (member != nullptr && member->slot == peer->info.slot) continue;
    if (mutant(ReplicateMutant::kRemovedStays)) continue;
    left = true;
    retire(*peer);
  }
  for (const VolumeMember& member : config().members) {
    const Peer* known = peer(member.slot);
    if (known != nullptr && known->info.replica == member.replica) continue;
    Peer& added = add_peer(member);
    if (tending_) (void)spawn(background_, tend(added));
  }
  return left;
}

// Its session ends; what was sent to it does not count, and it is not asked again.
void CoordinatorCore::retire(Peer& peer) {
  peer.gone = true;
  peer.receives = false;
  peer.unanswered.clear();
  required_ &= static_cast<uint8_t>(~peer.bit);
  const PortPtr port = std::exchange(peer.port, nullptr);
  const auto at = std::find_if(peers_.begin(), peers_.end(),
                               [&peer](const auto& each) { return each.get() == &peer; });
  gone_.push_back(std::move(*at));
  peers_.erase(at);
  if (port != nullptr) port->close();
  changed_.notify_all();
}

}  // namespace hf
