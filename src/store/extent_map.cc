#include "store/extent_map.h"

namespace hf {

std::map<uint64_t, ExtentMap::Extent>::const_iterator ExtentMap::first_touching(
    uint64_t block) const {
  auto it = extents_.upper_bound(block);
  if (it != extents_.begin()) {
    auto before = std::prev(it);
    if (before->first + before->second.count > block) return before;
  }
  return it;
}

void ExtentMap::cut(uint64_t first, uint64_t count) {
  const uint64_t end = first + count;
  auto it = extents_.upper_bound(first);
  if (it != extents_.begin()) {
    auto before = std::prev(it);
    if (before->first + before->second.count > first) it = before;
  }
  while (it != extents_.end() && it->first < end) {
    const uint64_t begin = it->first;
    const Extent old = it->second;
    const uint64_t stop = begin + old.count;
    if (begin < first) {
      it->second.count = first - begin;
      ++it;
    } else {
      it = extents_.erase(it);
    }
    if (stop > end) {
      extents_.emplace_hint(it, end, Extent{stop - end, old.record});
      break;
    }
  }
}

void ExtentMap::insert(const Record& record, uint64_t first, uint64_t count) {
  if (count == 0) return;
  HF_ASSERT(first >= record.first_block() &&
            first + count <= record.first_block() + record.blocks());
  cut(first, count);
  extents_.emplace(first, Extent{count, &record});
}

void ExtentMap::erase(const Record& record) {
  const uint64_t end = record.first_block() + record.blocks();
  auto it = extents_.lower_bound(record.first_block());
  while (it != extents_.end() && it->first < end) {
    if (it->second.record == &record) {
      it = extents_.erase(it);
    } else {
      ++it;
    }
  }
}

}  // namespace hf
