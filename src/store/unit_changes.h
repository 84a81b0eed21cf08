// UnitChanges: what the journal says of one dirty map and the map's file does not yet: of each unit
// (64 KiB) the last word, set or cleared. Pure.
//
// The changes are absolute, so that doing them again, from any earlier moment on, ends in the same:
// the file may be behind the journal or ahead of where its ring begins.
#pragma once

#include <cstdint>
#include <map>
#include <optional>

#include "store/types.h"

namespace hf {

class UnitChanges {
 public:
  struct Run {
    uint64_t count = 0;
    bool set = false;
  };

  bool empty() const { return runs_.empty() && !all_cleared_; }
  // What the file says counts no more; the runs say what has been set since.
  bool all_cleared() const { return all_cleared_; }
  const std::map<uint64_t, Run>& runs() const { return runs_; }

  void set(uint64_t first, uint64_t count) { assign(first, count, true); }
  void clear(uint64_t first, uint64_t count) { assign(first, count, false); }
  void clear_all() {
    runs_.clear();
    all_cleared_ = true;
  }
  // Earlier changes that did not reach the file after all.
  void put_under(UnitChanges earlier);

  // Calls visit(first, count, change) over [first, first + count), in order and without gaps; no
  // value: what the file says, or what it would say, counts.
  template <typename Visit>
  void visit(uint64_t first, uint64_t count, Visit&& visit) const {
    const std::optional<bool> rest = all_cleared_ ? std::optional<bool>(false) : std::nullopt;
    uint64_t at = first;
    const uint64_t end = first + count;
    for (auto it = first_touching(first); it != runs_.end() && it->first < end; ++it) {
      if (it->first > at) {
        visit(at, it->first - at, rest);
        at = it->first;
      }
      const uint64_t stop = std::min(end, it->first + it->second.count);
      visit(at, stop - at, std::optional<bool>(it->second.set));
      at = stop;
    }
    if (at < end) visit(at, end - at, rest);
  }
  // The first unit at or after `from` that a run speaks of.
  std::optional<uint64_t> next_change(uint64_t from) const {
    const auto it = first_touching(from);
    if (it == runs_.end()) return std::nullopt;
    return std::max(from, it->first);
  }

 private:
  std::map<uint64_t, Run>::const_iterator first_touching(uint64_t unit) const;
  void assign(uint64_t first, uint64_t count, bool set);

  std::map<uint64_t, Run> runs_;  // disjoint; neighbours differ
  bool all_cleared_ = false;
};

// Units that the range touches.
struct UnitRange {
  uint64_t first = 0;
  uint64_t count = 0;
};
inline UnitRange units_touched(uint64_t offset, uint64_t length) {
  if (length == 0) return {};
  const uint64_t first = offset / kDirtyUnitBytes;
  return {first, (offset + length - 1) / kDirtyUnitBytes - first + 1};
}
// Units that lie wholly in the range, or end at `size` with it.
inline UnitRange units_inside(uint64_t offset, uint64_t length, uint64_t size) {
  const uint64_t first = (offset + kDirtyUnitBytes - 1) / kDirtyUnitBytes;
  const uint64_t end = offset + length >= size ? (size + kDirtyUnitBytes - 1) / kDirtyUnitBytes
                                               : (offset + length) / kDirtyUnitBytes;
  return {first, end > first ? end - first : 0};
}

}  // namespace hf
