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
};

inline thread_local StoreMutant t_store_mutant = StoreMutant::kNone;

inline bool mutant(StoreMutant which) { return t_store_mutant == which; }

}  // namespace hf
