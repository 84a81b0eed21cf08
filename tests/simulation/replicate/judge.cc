#include "judge.h"

#include "replicate/decide.h"

#include <fmt/format.h>

#include <algorithm>

namespace hf::replicate_sim {

void Judge::begin(std::map<ReplicaId, Shadow*> shadows) {
  shadows_ = std::move(shadows);
  look();
}

// --- the configuration

void Judge::look() {
  if (!judging()) return;
  const auto at = state_.entries().find(key_);
  if (at == state_.entries().end() || at->second.mod_revision == revision_) return;
  Result<VolumeConfig> now = decode_config(at->second.value);
  if (!now.ok()) return fail("the configuration cannot be read: " + now.error().to_string());
  const VolumeConfig was = std::move(config_);
  const bool one_step = at->second.mod_revision == revision_ + 1;
  const bool first = revision_ == 0;
  config_ = std::move(*now);
  revision_ = at->second.mod_revision;
  if (!first) changed(was, config_, one_step);
  if (config_.phase == VolumePhase::kActive) active_ = std::max(active_, config_.epoch);
  for (const uint8_t slot : slots_of(config_.in_sync)) {
    for (uint64_t block = 0; block < vis_.size(); ++block) {
      must_have(slot, block, "when the configuration changed");
    }
  }
  compare();
  if (on_rest_) on_rest_();
}

void Judge::changed(const VolumeConfig& was, const VolumeConfig& now, bool one_step) {
  const auto refuse = [&](const char* why) {
    fail(
        fmt::format("{}: epoch {} generation {} phase {} in_sync {:03b} became epoch {} "
                    "generation {} phase {} in_sync {:03b}",
                    why, was.epoch, was.generation, static_cast<int>(was.phase), was.in_sync,
                    now.epoch, now.generation, static_cast<int>(now.phase), now.in_sync));
  };
  if (now.in_sync == 0) refuse("I6: nobody is in sync");
  if (now.generation <= was.generation) refuse("I8: generations must grow");
  if (now.epoch < was.epoch) refuse("I8: epochs must grow");
  if (!one_step) return;
  const bool takes_over = now.epoch != was.epoch;
  if (takes_over && (now.in_sync != was.in_sync || now.phase != VolumePhase::kRecovering)) {
    refuse("I6: a takeover begins with what it finds");
  }
  const bool recovers = !takes_over && was.phase == VolumePhase::kRecovering;
  if (recovers && (now.in_sync & ~was.in_sync) != 0) refuse("I6: a takeover only shrinks");
  const bool is_other = now.coordinator != was.coordinator || now.instance != was.instance;
  if (!takes_over && is_other && now.phase != VolumePhase::kDetached) {
    refuse("I6: somebody else changed it within an epoch");
  }
  members_changed(was, now, !takes_over && !recovers);
}

void Judge::is_member(ReplicaId replica, bool it_is) {
  if (!judging()) return;
  look();
  told_[replica] = it_is;
  if ((find_member(config_, replica) != nullptr) == it_is) return;
  fail(it_is ? "I6: a member was added, and is none" : "I6: a member was removed, and is one");
}

// One at a time comes or goes, and only while somebody serves; who stays keeps its slot.
void Judge::members_changed(const VolumeConfig& was, const VolumeConfig& now, bool may) {
  size_t stay = 0;
  for (const VolumeMember& member : now.members) {
    const VolumeMember* before = find_member(was, member.replica);
    if (before == nullptr) continue;
    ++stay;
    if (before->slot != member.slot) fail("I6: a member has changed its slot");
  }
  const size_t changes = was.members.size() + now.members.size() - 2 * stay;
  if (changes == 0) return;
  ++member_changes;
  for (const auto& [replica, is_one] : told_) {
    if ((find_member(now, replica) != nullptr) != is_one) {
      fail(is_one ? "I6: a member is gone that nobody removed"
                  : "I6: a member is back that nobody added");
    }
  }
  if (changes > 1) fail("I6: more than one member came or went at once");
  if (!may) fail("I6: a takeover changed the members");
}

void Judge::must_have(uint8_t slot, uint64_t block, const char* when) {
  const uint64_t told = vis_[block], has = shadow(slot).content(block);
  if (told == has || stamp(has) >= stamp(told)) return;
  fail(
      fmt::format("I1: {}, the in-sync member {} has of block {} value {} ({}.{}), older than {} "
                  "({}.{}), of which somebody was told (epoch {}, in_sync {:03b})",
                  when, slot, block, has, stamp(has).epoch, stamp(has).sequence, told,
                  stamp(told).epoch, stamp(told).sequence, config_.epoch, config_.in_sync));
}

// I5, if the active coordinator has nothing in flight.
void Judge::compare() {
  if (config_.phase != VolumePhase::kActive) return;
  const auto at = epochs_.find(config_.epoch);
  if (at != epochs_.end() && (at->second.over || at->second.calls > 0)) return;
  const std::vector<uint8_t> slots = slots_of(config_.in_sync);
  for (const uint8_t slot : slots) {
    for (uint64_t block = 0; block < vis_.size(); ++block) {
      const uint64_t one = shadow(slots[0]).content(block), two = shadow(slot).content(block);
      if (one == two) continue;
      return fail(
          fmt::format("I5: at rest in epoch {}, the in-sync members {} and {} have of "
                      "block {} values {} and {}",
                      config_.epoch, slots[0], slot, block, one, two));
    }
  }
}

// --- clients

Judge::Call Judge::write_begins(uint64_t epoch, uint64_t first, uint64_t count) {
  look();
  Call call;
  call.epoch = epoch;
  call.active_then = active_;
  call.tick = history_.tick();
  call.first = first;
  Epoch& in = epochs_[epoch];
  ++in.calls;
  for (uint64_t i = 0; i < count; ++i) {
    const uint64_t value = history_.new_value();
    call.values.push_back(value);
    history_.write_begins(first + i, value, call.tick);
    stamps_.resize(value + 1);
    stamps_[value].epoch = epoch;
    ++in.blocks[first + i];
  }
  return call;
}

void Judge::write_ended(const Call& call, const Status& status) {
  look();
  Epoch& in = epochs_[call.epoch];
  --in.calls;
  for (size_t i = 0; i < call.values.size(); ++i) {
    const auto at = in.blocks.find(call.first + i);
    if (--at->second == 0) in.blocks.erase(at);
  }
  if (!status.ok()) {
    in.over = in.over || status.code() != ErrorCode::kNoSpace;
    return;
  }
  if (call.active_then > call.epoch) {
    fail(fmt::format("I2: a write that began when epoch {} was active succeeded in epoch {}",
                     call.active_then, call.epoch));
  }
  const uint64_t ended = history_.tick();
  for (size_t i = 0; i < call.values.size(); ++i) {
    history_.write_ended(call.first + i, call.values[i], ended);
    seen(call.first + i, call.values[i], "when a write was acknowledged");
  }
  if (in.calls > 0 || call.epoch != config_.epoch) return;
  compare();
  if (on_rest_) on_rest_();
}

Judge::Call Judge::read_begins(uint64_t epoch, uint64_t first) {
  look();
  Call call;
  call.epoch = epoch;
  call.active_then = active_;
  call.tick = history_.tick();
  call.first = first;
  return call;
}

void Judge::read_ended(const Call& call, const std::vector<uint64_t>& values) {
  look();
  if (call.active_then > call.epoch) {
    fail(fmt::format("I9: a read that began when epoch {} was active was served by epoch {}",
                     call.active_then, call.epoch));
  }
  const uint64_t ended = history_.tick();
  for (size_t i = 0; i < values.size(); ++i) {
    history_.read(call.first + i, values[i], call.tick, ended);
    seen(call.first + i, values[i], "when a read returned");
  }
}

// Somebody was told of this value.
void Judge::seen(uint64_t block, uint64_t value, const char* when) {
  if (stamp(value) > stamp(vis_[block])) vis_[block] = value;
  for (const uint8_t slot : slots_of(config_.in_sync)) must_have(slot, block, when);
}

bool Judge::is_written_now(uint64_t block) const {
  const auto at = epochs_.find(config_.epoch);
  return at != epochs_.end() && (at->second.over || at->second.blocks.contains(block));
}

// --- replicas

// Who sees a value first gives it its place within its epoch: copies of it come later.
void Judge::taken(Stamp stamp, const std::vector<uint64_t>& values) {
  if (!judging()) return;
  for (const uint64_t value : values) {
    if (value == 0 || value >= stamps_.size() || stamps_[value].sequence != 0) continue;
    stamps_[value].sequence = stamp.sequence;
  }
}

void Judge::applied(ReplicaId replica, uint64_t epoch, uint64_t promised, uint64_t first,
                    const std::vector<uint64_t>& values) {
  if (!judging()) return;
  look();
  if (epoch < promised) {
    fail(fmt::format("I3: {} took a write of epoch {} after it had promised {}",
                     replica.to_string(), epoch, promised));
  }
  const VolumeMember* member = find_member(config_, replica);
  if (member == nullptr || (config_.in_sync & slot_bit(member->slot)) == 0) return;
  for (size_t i = 0; i < values.size() && first + i < vis_.size(); ++i) {
    must_have(member->slot, first + i, "when it took a write");
  }
}

void Judge::promised(ReplicaId replica, uint64_t epoch) {
  look();
  if (!judging() || epoch <= config_.epoch) return;
  fail(fmt::format("I8: {} has promised epoch {}, the state store knows {}", replica.to_string(),
                   epoch, config_.epoch));
}

void Judge::given_config(ReplicaId replica, const std::string& config) {
  look();
  if (!judging()) return;
  const Result<VolumeConfig> copy = decode_config(config);
  if (!copy.ok()) {
    fail(fmt::format("{} was given a configuration that cannot be read", replica.to_string()));
  } else if (copy->generation > config_.generation) {
    fail(fmt::format("I8: {} was given generation {}, the state store knows {}",
                     replica.to_string(), copy->generation, config_.generation));
  }
}

}  // namespace hf::replicate_sim
