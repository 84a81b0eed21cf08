// Stamp: the place of a write in the order of its volume: the epoch of the coordinator that made
// it, then its sequence within that epoch.
#pragma once

#include <compare>
#include <cstdint>

namespace hf {

struct Stamp {
  uint64_t epoch = 0;
  uint64_t sequence = 0;  // from 1 in each epoch; 0: before all of them

  auto operator<=>(const Stamp&) const = default;
};

}  // namespace hf
