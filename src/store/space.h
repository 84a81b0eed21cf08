// Space: when a pool must refuse new data. Pure decisions; the pool feeds in what the file system says.
//
// Everything that was acknowledged must still fit when it drains. So a write is admitted only while
//   free − (what undrained records may still allocate) − (what this one may) ≥ reserve.
// A record may allocate its payload, and once per segment touched since the last drain a CRC table and
// the metadata of a reflink or of new extents.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/units.h"

namespace hf {

// Per segment that undrained records touch: table pages, inode, extent blocks of a reflinked file.
inline constexpr uint64_t kSegmentOverhead = 64 * kKiB;
// A new replica or snapshot: directories, superblocks.
inline constexpr uint64_t kMetadataOverhead = 256 * kKiB;
// Per block written: an extent record in the worst fragmentation, rounded up.
inline constexpr uint64_t kBlockOverhead = 64;

inline uint64_t default_reserve(uint64_t total_bytes) {
  return std::min<uint64_t>(total_bytes / 20, 1 * kGiB);
}

struct SpaceState {
  uint64_t total = 0;
  uint64_t free = 0;
  uint64_t reserve = 0;
  uint64_t pending = 0;  // what undrained records may allocate
};

inline uint64_t worst_case_bytes(uint64_t payload_bytes, uint64_t new_segments) {
  return payload_bytes + payload_bytes / kBlockSize * kBlockOverhead +
         new_segments * kSegmentOverhead;
}

inline bool admits(const SpaceState& space, uint64_t worst_case) {
  return space.free >= space.reserve && space.free - space.reserve >= space.pending &&
         space.free - space.reserve - space.pending >= worst_case;
}

}  // namespace hf
