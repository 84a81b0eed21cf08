// The coordinator's decisions, as pure functions of masks of members (bit n: the member in slot n).
#pragma once

#include <cstdint>
#include <vector>

#include "base/error.h"
#include "format/config_format.h"
#include "replicate/range_set.h"

namespace hf {

// Of one operation in flight, under the present configuration.
struct Answers {
  uint8_t required = 0;  // must answer before it is acknowledged
  uint8_t answered = 0;  // durable there
  uint8_t refused = 0;   // did nothing, and is well (no space)
  bool held = false;     // the configuration is being changed
};

enum class Verdict : uint8_t {
  kWait,
  kAcknowledge,
  kRefuse,       // all refused: nothing has happened anywhere
  kDropRefusers  // some have it, some refused: those no longer have what the others have
};
Verdict judge(const Answers& answers);

// What an answer says of the replica that gave it.
enum class AnswerKind : uint8_t {
  kDone,
  kRefused,      // nothing happened, and the same request may be refused by all
  kFenced,       // a newer epoch exists
  kUnreachable,  // of the way there: it may be back in a moment
  kBroken,       // of the replica itself: it cannot serve
};
AnswerKind kind_of(ErrorCode code);

// Whose leave-taking is due. Never all: somebody who is reachable and in sync must stay.
struct Attendance {
  uint8_t in_sync = 0;    // by the configuration
  uint8_t required = 0;   // in_sync, and a joiner whose answers count already
  uint8_t reachable = 0;  // has an open session
  uint8_t overdue = 0;    // has had none for longer than is waited for
};
uint8_t to_drop(const Attendance& a);

// Whom to read from: the local one first, then the lowest slot. 0xff: nobody.
inline constexpr uint8_t kNobody = 0xff;
uint8_t choose_source(uint8_t candidates, uint8_t local);

// The configuration without these members in sync, or with this one.
VolumeConfig without(VolumeConfig config, uint8_t dropped);
VolumeConfig with(VolumeConfig config, uint8_t joined);

// The lowest slot that no member has. kNobody: all are taken.
uint8_t free_slot(uint8_t taken);
// The configuration with one member more, which is not in sync and of which no map tells what it
// lacks: a map of its slot is that of an earlier member. With one less, whatever it was.
VolumeConfig with_new(VolumeConfig config, VolumeMember member);
VolumeConfig without_member(VolumeConfig config, uint8_t slot);
const VolumeMember* find_member(const VolumeConfig& config, ReplicaId replica);

// By how much the changes of a configuration outnumber its claims. A claim adds one to epoch and generation, any other
// change to the generation alone: it never shrinks, however often a volume is claimed. So where the state store was rolled
// back, claiming again and again does not make it look newer than the replicas.
int64_t lead_of(const VolumeConfig& config);
// Whether a replica's copy of the configuration is newer than any that the state store can have had before `now`, the
// present one, was claimed. `lead`: of the one that was claimed.
bool is_newer(const VolumeConfig& copy, const VolumeConfig& now, int64_t lead);

// The configuration in which one member that is not in sync is taken for the truth: of another lineage, so that no map of
// an earlier one is believed, and newer than all there were. kNotFound, kFailedPrecondition (it has never been in sync).
Result<VolumeConfig> promoted(VolumeConfig config, ReplicaId replica, LineageId lineage);

// What a change of size adds to what two replicas may differ in.
void add_size_difference(RangeSet& set, uint64_t one_size, uint64_t other_size);

// Pieces of a set that are copied at a time: aligned to `chunk`, inside the ranges.
std::vector<std::pair<uint64_t, uint64_t>> chunks_of(const RangeSet& set, uint64_t chunk);

}  // namespace hf
