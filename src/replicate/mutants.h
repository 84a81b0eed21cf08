// Deliberate bugs, switched on by tests only, to show that the simulation catches them. The numbers
// are those of the protocol's list of classic bugs (M10 and M11 are bugs of the store:
// kAckBeforeDurable and kPromiseNotDurable of store/mutants.h). Never set in production: nothing
// but tests assigns t_replicate_mutant.
#pragma once

#include <cstdint>

namespace hf {

enum class ReplicateMutant : uint8_t {
  kNone = 0,
  kNoEpochCheck,     // M1 a replica takes writes of any epoch and session
  kAckBeforeShrink,  // M2 acknowledged although the configuration still names who has not answered
  kNoReconcile,      // M3 a takeover copies nothing between the members
  kJoinerWindowIgnored,  // M4 a resync copies the dirty map alone
  kWindowNotMarked,      // M5 a takeover does not mark the windows for those that are away
  kLeaseNotAwaited,      // M6 a takeover serves before the old coordinator's leases have ended
  kInFlightRead,         // M7 a read does not wait for the writes that it overlaps
  kJoinBeforeMandatory,  // M8 a member joins before its answers are waited for
  kOutsiderIsSource,     // M9 a takeover uses a member outside the in-sync set
  kNoResend,             // M12 what is in flight is not sent again after a shrink
  kMapsNotInherited,     // M13 a joiner does not learn what the others who are away lack
  kCommitAtIssue,     // M14 the commit point is the last write sent, not the last answered by all
  kOldSessionServed,  // a fence does not end what an older session still carries
  kRestartForgetsLease,     // a restarted replica does not know that it may have given a lease
  kCopyOverWrites,          // the copy of a resync does not keep writes out of its range
  kBitsDroppedEarly,        // dirty bits are dropped before the joiner is in the configuration
  kNewMemberInSync,         // a member that is added counts as in sync at once
  kNewMemberNotWhole,       // of one that is added the maps of its slot are believed
  kLastMemberRemoved,       // the last in-sync member that is reachable may be removed
  kRemovedStays,            // who was removed stays among those who are asked
  kRemovedBeforeRecorded,   // who is being removed need not answer before that is recorded
  kUnknownNotSettled,       // a change that was given up, and may still come, is forgotten
  kScrubGuesses,            // of two copies that differ a scrub takes the first
  kRollbackByGeneration,    // a state store that was rolled back is believed once claims have made it look newer
  kTargetsDataIgnored,      // a whole copy leaves what only the target has
  kRemoteReadWithoutLease,  // only reads of the local replica need the others' leases
};

inline thread_local ReplicateMutant t_replicate_mutant = ReplicateMutant::kNone;

inline bool mutant(ReplicateMutant which) {
  return t_replicate_mutant == which;
}

}  // namespace hf
