#include "replicate/decide.h"

#include <algorithm>

#include "replicate/mutants.h"

namespace hf {

Verdict judge(const Answers& a) {
  if (a.held || (a.required & ~(a.answered | a.refused)) != 0) return Verdict::kWait;
  const uint8_t refused = a.required & a.refused & static_cast<uint8_t>(~a.answered);
  if (refused == 0) return Verdict::kAcknowledge;
  return (a.required & a.answered) == 0 ? Verdict::kRefuse : Verdict::kDropRefusers;
}

AnswerKind kind_of(ErrorCode code) {
  switch (code) {
    case ErrorCode::kOk:
      return AnswerKind::kDone;
    case ErrorCode::kNoSpace:
    case ErrorCode::kLimitExceeded:
    case ErrorCode::kNotFound:
      return AnswerKind::kRefused;
    case ErrorCode::kFenced:
      return AnswerKind::kFenced;
    case ErrorCode::kUnavailable:
    case ErrorCode::kTimeout:
    case ErrorCode::kClosed:
    case ErrorCode::kConflict:
    case ErrorCode::kProtocol:
      return AnswerKind::kUnreachable;
    default:
      return AnswerKind::kBroken;
  }
}

uint8_t to_drop(const Attendance& a) {
  const uint8_t drop = a.required & a.overdue & static_cast<uint8_t>(~a.reachable);
  const uint8_t stay = a.in_sync & a.reachable;
  return stay == 0 ? 0 : drop;
}

uint8_t choose_source(uint8_t candidates, uint8_t local) {
  if ((candidates & local) != 0) candidates &= local;
  const std::vector<uint8_t> slots = slots_of(candidates);
  return slots.empty() ? kNobody : slots.front();
}

VolumeConfig without(VolumeConfig config, uint8_t dropped) {
  config.in_sync &= static_cast<uint8_t>(~dropped);
  for (VolumeMember& member : config.members) {
    if ((slot_bit(member.slot) & dropped) != 0) member.left_generation = config.generation + 1;
  }
  return config;
}

VolumeConfig with(VolumeConfig config, uint8_t joined) {
  config.in_sync |= joined;
  for (VolumeMember& member : config.members) {
    if ((slot_bit(member.slot) & joined) == 0) continue;
    member.left_generation = 0;
    member.whole = false;
  }
  return config;
}

uint8_t free_slot(uint8_t taken) {
  for (uint8_t slot = 0; slot < kMaxMembers; ++slot) {
    if ((taken & slot_bit(slot)) == 0) return slot;
  }
  return kNobody;
}

VolumeConfig with_new(VolumeConfig config, VolumeMember member) {
  member.whole = !mutant(ReplicateMutant::kNewMemberNotWhole);
  member.left_generation = config.generation + 1;
  if (mutant(ReplicateMutant::kNewMemberInSync)) config.in_sync |= slot_bit(member.slot);
  config.members.push_back(member);
  return config;
}

VolumeConfig without_member(VolumeConfig config, uint8_t slot) {
  config.in_sync &= static_cast<uint8_t>(~slot_bit(slot));
  std::erase_if(config.members, [slot](const VolumeMember& member) { return member.slot == slot; });
  return config;
}

const VolumeMember* find_member(const VolumeConfig& config, ReplicaId replica) {
  for (const VolumeMember& member : config.members) {
    if (member.replica == replica) return &member;
  }
  return nullptr;
}

Result<VolumeConfig> promoted(VolumeConfig config, ReplicaId replica, LineageId lineage) {
  const VolumeMember* chosen = find_member(config, replica);
  if (chosen == nullptr) return make_error(ErrorCode::kNotFound, "replica {} is no member", replica.to_string());
  if (chosen->whole) {
    return make_error(ErrorCode::kFailedPrecondition,
                      "replica {} was added and has never had all of the volume: it is no copy of any time", replica.to_string());
  }
  const uint8_t slot = chosen->slot;
  for (VolumeMember& member : config.members) {
    const bool is_it = member.slot == slot;
    if ((config.in_sync & slot_bit(member.slot)) != 0) member.left_generation = config.generation;
    if (is_it) member.left_generation = 0;
    if (!is_it) member.whole = true;
  }
  config.in_sync = slot_bit(slot);
  config.lineage = lineage;
  config.phase = VolumePhase::kDetached;
  ++config.epoch;
  config.generation += 2;  // a change beside the new epoch: see is_newer()
  return config;
}

int64_t lead_of(const VolumeConfig& config) {
  return static_cast<int64_t>(config.generation) - static_cast<int64_t>(config.epoch);
}

bool is_newer(const VolumeConfig& copy, const VolumeConfig& now, int64_t lead) {
  if (mutant(ReplicateMutant::kRollbackByGeneration)) return copy.generation > now.generation;
  if (copy.volume != now.volume) return false;
  const bool of_this_term = copy.epoch == now.epoch && copy.instance == now.instance;
  return !of_this_term && (copy.epoch > now.epoch || lead_of(copy) > lead);
}

void add_size_difference(RangeSet& set, uint64_t one_size, uint64_t other_size) {
  const uint64_t low = std::min(one_size, other_size), high = std::max(one_size, other_size);
  set.add(low, high - low);
}

std::vector<std::pair<uint64_t, uint64_t>> chunks_of(const RangeSet& set, uint64_t chunk) {
  std::vector<std::pair<uint64_t, uint64_t>> chunks;
  for (const auto& [begin, end] : set.ranges()) {
    for (uint64_t at = begin; at < end;) {
      const uint64_t stop = std::min(end, (at / chunk + 1) * chunk);
      chunks.emplace_back(at, stop - at);
      at = stop;
    }
  }
  return chunks;
}

}  // namespace hf
