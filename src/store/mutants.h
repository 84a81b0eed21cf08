// Deliberate bugs, switched on by tests only, to show that the tests catch them. Never set in production:
// nothing but tests assigns t_store_mutants.
#pragma once

#include <cstdint>

namespace hf {

enum class StoreMutant : uint8_t {
  kNone = 0,
  kAckBeforeDurable,      // a write is answered when its batch has been submitted
  kFreeBeforeSync,        // the drain does not sync segment files before it frees the ring
  kNoChainCheck,          // recovery follows batches without sequence and link
  kNoReadCrc,             // reads do not check block CRCs
  kBarrierIgnored,        // the drain coalesces across snapshot barriers
  kOneSuperblockCopy,     // superblock always written to the same slot
  kReflinkNotSynced,      // a segment file gets its name before its content is durable
  kTailAdvancedEarly,     // the checkpoint moves before the drain has written
  kNoDirectorySync,       // new names are not made durable before the ring is freed
  kNoPayloadCheck,        // recovery takes a batch with a torn payload
  kNoTableReadBack,       // lost writes of CRC tables go unnoticed
  kOverlayDroppedEarly,   // the overlay forgets a record before its drain
  kOldestWins,            // the drain prefers the older of two records
  kCloneSharesHead,       // a clone of the head does not close the layer
  kPromiseNotDurable,     // promise answers before the superblock is written
  kBirthIgnored,          // records of a deleted replica apply to its successor
  kOldNamesTrusted,       // names that an earlier process made are taken to be durable
  kVisibleTrusted,        // recovery does not sync what it has read
  kGapIgnored,            // recovery takes any broken batch for a torn tail
  kRoomNotReserved,       // a snapshot is acknowledged before its superblock has room for it
  kDirectAckBeforeSync,   // a large write is answered before its data is synced
  kDataBeforeIntent,      // the data of a large write does not wait for its intent
  kMismatchAccepted,      // recovery takes what lies there for a large write that had ended
  kIntentCrcsNotDrained,  // the ring is freed before the CRCs of large writes are in the tables
  kDrainPassesIntents,    // the drain does not wait for large writes in flight: barriers, reflinks
  kDirectOverOverlay,     // a large write goes straight over records that wait for their drain
  kReadPassesDirect,      // reads do not wait for the large writes that they overlap
  kWritePassesDirect,     // nor do writes
  kWritePassesHeld,       // writes do not wait for those held back that they overlap
  kHeldForEver,           // data is held back until there is room, however long that takes
  kVitalRefused,          // what a file system needs is refused like data
  kHeadFileNotNamed,      // a large write goes into a file whose name is not durable
  kMarkNotDurable,        // recovery takes no marks for absent members from the records
  kCommitAtApply,         // a replica takes what it has itself for what all have
  kWindowNotKept,         // a record above the commit leaves the ring without its coarse mark
  kClearNotDurable,       // clear_dirty answers without its record
  kMapNotSynced,          // the ring is freed before a dirty map's file is durable
  kOneMapCopy,            // only one copy of a dirty map's page is written
  kBrokenMapEmpty,        // a page of a dirty map with two broken copies counts as empty
  kDirectEvicted,         // segments with CRCs that are only in memory are evicted
};

inline thread_local StoreMutant t_store_mutant = StoreMutant::kNone;

inline bool mutant(StoreMutant which) { return t_store_mutant == which; }

}  // namespace hf
