// Space: what a pool at its watermark takes. Pure decisions; the pool feeds in what the file system says.
//
// Everything that was acknowledged must still fit when it drains. So a write is admitted only while
//   free − (what undrained records may still allocate) − (what this one may) ≥ reserve.
// A record may allocate its payload, and once per segment touched since the last drain a CRC table and
// the metadata of a reflink or of new extents.
//
// The reserve below the watermark is for what a file system above us must be able to write when the pool is
// full, or it breaks: who writes only a little gets the first quarter of it, its journal and tables and
// whatever is overwritten the second. What finds no room there waits for it, however long that takes. Only
// what is surely no more than data is refused, after a while.
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

// A sparse image takes its blocks from the file system that it lies in, which others fill as well: what can
// really be written may be less than what is free inside. Blocks that the image has and its file system does not
// use may be written again; its log, which is no part of its total, and its tables are among those and may not.
inline constexpr uint64_t kImageTables = 64 * kMiB;

inline uint64_t writable_in_image(uint64_t image_bytes, uint64_t image_allocated, uint64_t inside_total,
                                  uint64_t inside_free, uint64_t below_free) {
  const uint64_t log = image_bytes - std::min(image_bytes, inside_total);
  const uint64_t taken = inside_total - std::min(inside_total, inside_free) + log + kImageTables;
  const uint64_t spare = image_allocated - std::min(image_allocated, taken);
  return std::min(inside_free, below_free + spare);
}

// What a write is to the file system that made it.
enum class WriteKind : uint8_t {
  kData,   // large, and of blocks that were never written
  kSmall,  // may be anything: a new directory, an extent tree
  kVital,  // overwrites, or a journal or a table that the file system cannot live without (fs_vitals.h)
};

// A write of at most so much may be a file system's metadata; data comes in larger ones, but for its ends.
inline constexpr uint64_t kSmallWriteBytes = 64 * kKiB;

// What has to stay free when such a write has been let in.
inline uint64_t reserve_for(WriteKind kind, uint64_t reserve) {
  switch (kind) {
    case WriteKind::kData: return reserve;
    case WriteKind::kSmall: return reserve - reserve / 4;
    case WriteKind::kVital: return reserve / 2;
  }
  return reserve;
}

// What becomes of a write.
enum class Admit : uint8_t { kYes, kWait, kNo };

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
