// Ranges of bytes as sectors and pages.
#pragma once

#include <algorithm>

#include "sim/page.h"

namespace hf::sim {

// The sectors that [at, at + length) of a page touches.
inline SectorMask sectors_of(size_t at, size_t length) {
  const unsigned first = static_cast<unsigned>(at / kSectorSize);
  const unsigned last = static_cast<unsigned>((at + length - 1) / kSectorSize);
  return static_cast<SectorMask>((0xffu >> (7 - last)) & (0xffu << first));
}

// Calls visit(page, offset in page, length, offset in range) for each page that a range touches.
template <typename F>
bool for_each_piece(uint64_t offset, uint64_t length, F&& visit) {
  for (uint64_t done = 0; done < length;) {
    const uint64_t at = (offset + done) % kPageSize;
    const uint64_t n = std::min(length - done, kPageSize - at);
    if (!visit((offset + done) / kPageSize, static_cast<size_t>(at), static_cast<size_t>(n),
               done)) {
      return false;
    }
    done += n;
  }
  return true;
}

}  // namespace hf::sim
