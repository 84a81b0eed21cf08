#include "replicate/range_set.h"

#include <algorithm>

namespace hf {

void RangeSet::add(uint64_t offset, uint64_t length) {
  if (length == 0) return;
  uint64_t begin = offset, end = offset + length;
  auto at = ranges_.upper_bound(begin);
  if (at != ranges_.begin() && std::prev(at)->second >= begin) --at;
  while (at != ranges_.end() && at->first <= end) {
    begin = std::min(begin, at->first);
    end = std::max(end, at->second);
    at = ranges_.erase(at);
  }
  ranges_.emplace_hint(at, begin, end);
}

void RangeSet::cut_at(uint64_t size) {
  ranges_.erase(ranges_.lower_bound(size), ranges_.end());
  if (!ranges_.empty()) {
    uint64_t& end = std::prev(ranges_.end())->second;
    end = std::min(end, size);
  }
}

bool RangeSet::overlaps(uint64_t offset, uint64_t length) const {
  if (length == 0) return false;
  auto at = ranges_.lower_bound(offset + length);
  return at != ranges_.begin() && std::prev(at)->second > offset;
}

bool RangeSet::contains(uint64_t offset, uint64_t length) const {
  if (length == 0) return true;
  auto at = ranges_.upper_bound(offset);
  return at != ranges_.begin() && std::prev(at)->second >= offset + length;
}

uint64_t RangeSet::bytes() const {
  uint64_t sum = 0;
  for (const auto& [begin, end] : ranges_) sum += end - begin;
  return sum;
}

}  // namespace hf
