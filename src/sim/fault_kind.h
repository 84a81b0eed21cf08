// The names of what a simulated disk may do wrong. README.md says of each who is to blame and who
// must notice.
#pragma once

#include <array>
#include <cstdint>

namespace hf::sim {

enum class FaultKind : uint8_t {
  kReadError,         // transient EIO on a read
  kLatentSector,      // a sector that can no longer be read, until it is written
  kWriteError,        // EIO on a write; any part of it may be there
  kSyncError,         // EIO on a sync or durable write; dirty pages are dropped
  kNoSpace,           // ENOSPC although there is room
  kBitRot,            // a bit of a sector at rest has flipped
  kLostWrite,         // acknowledged as durable, and not there
  kMisdirectedWrite,  // acknowledged as durable, and somewhere else
  kMisdirectVictim,   // overwritten by somebody else's misdirected write
  kStaleSector,       // an acknowledged durable sector that a lying device lost at power loss
  kHang,              // answers only after a long time
  kCount,
};
inline constexpr size_t kFaultKinds = static_cast<size_t>(FaultKind::kCount);

constexpr const char* fault_name(FaultKind kind) {
  constexpr std::array<const char*, kFaultKinds> kNames = {
      "read_error", "latent_sector",     "write_error",      "sync_error",   "no_space", "bit_rot",
      "lost_write", "misdirected_write", "misdirect_victim", "stale_sector", "hang"};
  return kNames[static_cast<size_t>(kind)];
}

// Bits, one per kind: what has hit a place.
using FaultMask = uint32_t;
constexpr FaultMask fault_bit(FaultKind kind) {
  return 1u << static_cast<unsigned>(kind);
}

// Those after which stored content is not what was acknowledged: whoever reads such a place must
// say "corruption" (or EIO), never return the content as good.
inline constexpr FaultMask kContentFaults =
    fault_bit(FaultKind::kBitRot) | fault_bit(FaultKind::kLostWrite) |
    fault_bit(FaultKind::kMisdirectedWrite) | fault_bit(FaultKind::kMisdirectVictim) |
    fault_bit(FaultKind::kStaleSector);

}  // namespace hf::sim
