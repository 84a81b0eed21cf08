// SegmentMap: which segment files a replica has, and which of them a layer sees. Pure.
//
//   layer      1   2   3(head)
//   segment 0  ●───────●        0.1 seen by snapshots at layers 1 and 2, 0.3 by the head
//   segment 1      ●────        1.2 seen by a snapshot at 2 and by the head; none at 1: zeroes
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "format/segment_format.h"

namespace hf {

class SegmentMap {
 public:
  void assign(std::vector<SegmentKey> keys);
  void insert(SegmentKey key);
  void erase(SegmentKey key);
  // The file that `layer` sees for segment `index`: the one of the highest layer not above it.
  std::optional<SegmentKey> visible(uint32_t index, uint32_t layer) const;
  // All that `layer` sees, by index.
  std::vector<SegmentKey> visible_all(uint32_t layer) const;
  // Files that none of the layers (any order) sees.
  std::vector<SegmentKey> unneeded(std::span<const uint32_t> layers) const;
  // The same for one segment.
  std::vector<SegmentKey> unneeded_of(uint32_t index, std::span<const uint32_t> layers) const;
  const std::vector<SegmentKey>& keys() const { return keys_; }

 private:
  std::vector<SegmentKey> keys_;  // sorted
};

}  // namespace hf
