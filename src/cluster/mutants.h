// Deliberate bugs, switched on by tests only, to show that the tests catch them (cluster_mutant_test.cc).
// Never set in production: nothing but tests assigns t_control_mutant.
#pragma once

#include <cstdint>

namespace hf::cluster {

enum class ControlMutant : uint8_t {
  kNone = 0,
  kReplicaBeforeRecord,   // create makes the replica before anything is recorded
  kRecordGoneFirst,       // delete forgets the volume before its replica is gone
  kNameKept,              // delete does not give the name back
  kFormatNotRecorded,     // mkfs is not recorded before the first mount
  kEpochNotBumped,        // a takeover serves under the epoch of the daemon before it
  kBegunSnapshotFinished, // a snapshot that a crash cut short is finished later, of another moment
  kNotMountedBack,        // a refused release leaves the files of its users unmounted
  kResizeRecordedFirst,   // the new size is recorded before the replica has it
  kRestoreNotIntended,    // restore changes the replica without an intent
  kCloneFsOfHead,         // a clone believes its file system to be that of the volume, not of the snapshot
  kAmbiguousIsDone,       // a write whose outcome is unknown is taken for done
  kBindNotIntended,       // a bind mount is made before its holder is recorded
  kGraceIgnored,          // a docker holder is stale before its container has mounted
  kNotSettled,            // operations do not finish what was begun before them
  kStrayDeleted,          // a replica that no record knows is deleted
  kLostMadeAnew,          // a replica that is missing is made anew, empty
  kCloneKeepsUuid,        // a clone's file system goes into the kernel under its origin's UUID
  kFormatWithoutLooking,  // mkfs on a device that does not read as empty
  kFormatNotIntended,     // mkfs is begun before anything is recorded
  kNotFrozen,             // a snapshot is said to be of a frozen file system, and is not
  kFreezeNotIntended,     // a file system is frozen before anything is recorded
  kPromotedOverUnknown,   // an older replica is promoted over one that nobody has called lost
  kGroupNotGuarded,       // two volumes of one group may be placed at the same time
  kHalfMadeHandedOut,     // a device with a half made file system is given to somebody, and formatted later
};

inline thread_local ControlMutant t_control_mutant = ControlMutant::kNone;

inline bool mutant(ControlMutant which) { return t_control_mutant == which; }

}  // namespace hf::cluster
