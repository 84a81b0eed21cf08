// Files of dirty maps: pages of one bit per 64 KiB of the volume, each page in two copies that say
// the same.
//
//   file:  [page 0, copy 0][page 0, copy 1][page 1, copy 0] …      a hole is an empty page
//
// Both copies are written at each change, one durably before the other, while the journal still has
// what changes. So when one is broken the other holds all that has left the journal.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "base/bytes.h"
#include "base/error.h"
#include "base/id.h"
#include "base/stamp.h"

namespace hf {

inline constexpr uint32_t kDirtyMapVersion = 1;
inline constexpr uint64_t kDirtyMapMagic = 0x3150414d44464831;  // "1HFDMAP1"
inline constexpr uint64_t kUnitsPerPage = 32'000;
// Slots of absent members come first; this is the replica's own window.
inline constexpr uint32_t kWindowSlot = 8;
inline constexpr uint32_t kMapSlots = 9;

// "dirty-3.map", "window.map"
std::string dirty_map_name(uint32_t slot);

struct DirtyMapPage {
  uint64_t generation = 0;  // 0: never written
  // Of the window: no write that marked here has a higher stamp.
  Stamp newest;
  std::array<uint64_t, kUnitsPerPage / 64> bits{};

  bool get(uint64_t unit) const { return (bits[unit / 64] >> (unit % 64) & 1) != 0; }
  void set(uint64_t first, uint64_t count, bool value);
  uint64_t count() const;
  // The first unit at or after `from` whose bit is `value`; kUnitsPerPage when there is none.
  uint64_t find(uint64_t from, bool value) const;
  bool operator==(const DirtyMapPage&) const = default;
};

// Whose page it is: one in the wrong place is broken.
struct DirtyMapPlace {
  ReplicaId replica;
  uint32_t slot = 0;
  uint64_t page = 0;
};

constexpr uint64_t dirty_map_offset(uint64_t page, uint32_t copy) {
  return (page * 2 + copy) * kBlockSize;
}

// `out` is one block.
void encode_dirty_map_page(const DirtyMapPage& page, const DirtyMapPlace& place,
                           MutableByteSpan out);
// A block of zeroes is an empty page of generation 0. kCorruption, kNewerFormat.
Result<DirtyMapPage> decode_dirty_map_page(ByteSpan block, const DirtyMapPlace& place);

}  // namespace hf
