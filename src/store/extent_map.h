// ExtentMap: which record holds the newest content of each block. Used as the overlay of a replica and
// to coalesce a drain. Ranges of blocks, split where a newer record covers part of an older one.
#pragma once

#include <cstdint>
#include <map>

#include "store/record.h"

namespace hf {

class ExtentMap {
 public:
  struct Extent {
    uint64_t count = 0;
    const Record* record = nullptr;
  };

  // The record's range now comes from it.
  void insert(const Record& record) { insert(record, record.first_block(), record.blocks()); }
  // Only its blocks from `first` on.
  void insert(const Record& record, uint64_t first, uint64_t count);
  // Removes what still comes from the record.
  void erase(const Record& record);
  bool empty() const { return extents_.empty(); }
  size_t size() const { return extents_.size(); }

  // Calls visit(first, count, record) over [first, first + count) in order and without gaps; record is
  // null where nothing is known.
  template <typename Visit>
  void visit(uint64_t first, uint64_t count, Visit&& visit) const {
    uint64_t at = first;
    const uint64_t end = first + count;
    for (auto it = first_touching(first); it != extents_.end() && it->first < end; ++it) {
      if (it->first > at) {
        visit(at, it->first - at, static_cast<const Record*>(nullptr));
        at = it->first;
      }
      const uint64_t stop = std::min(end, it->first + it->second.count);
      visit(at, stop - at, it->second.record);
      at = stop;
    }
    if (at < end) visit(at, end - at, static_cast<const Record*>(nullptr));
  }

  const std::map<uint64_t, Extent>& extents() const { return extents_; }

 private:
  std::map<uint64_t, Extent>::const_iterator first_touching(uint64_t block) const;
  // Makes [first, first + count) free, cutting what sticks out.
  void cut(uint64_t first, uint64_t count);

  std::map<uint64_t, Extent> extents_;  // by first block; disjoint
};

}  // namespace hf
