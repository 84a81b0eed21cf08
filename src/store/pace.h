// Pace: how long a batch is held back, so that a ring that fills faster than it drains fills ever more
// slowly, and no writer stands still until a drain ends. Pure.
//
//   fullness  0 ─────────── 1/2 ─────── 3/4 ─────────── 1
//   allowed       at will    2 × R       R      ever less        R: what drains, bytes per second
//
// So a lasting load settles where it is as fast as the drain.
#pragma once

#include <algorithm>
#include <cstdint>

#include "runtime/clock.h"

namespace hf {

// A pause must not become the stall that it is there to avoid.
inline constexpr Duration kMaxPause = 8ms;

// `used` of `capacity` wait for the drain; a rate of zero is an unknown one.
inline Duration pause_for(uint64_t batch_bytes, uint64_t used, uint64_t capacity,
                          double drained_per_second) {
  if (drained_per_second <= 0 || used <= capacity / 2) return Duration(0);
  const double left =
      used >= capacity ? 0 : static_cast<double>(capacity - used) / static_cast<double>(capacity);
  const double allowed = drained_per_second * 4 * left;
  const double most = std::chrono::duration<double>(kMaxPause).count();
  if (allowed * most <= static_cast<double>(batch_bytes)) return kMaxPause;
  return std::chrono::duration_cast<Duration>(
      std::chrono::duration<double>(static_cast<double>(batch_bytes) / allowed));
}

}  // namespace hf
