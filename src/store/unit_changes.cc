#include "store/unit_changes.h"

namespace hf {

std::map<uint64_t, UnitChanges::Run>::const_iterator UnitChanges::first_touching(
    uint64_t unit) const {
  auto it = runs_.upper_bound(unit);
  if (it != runs_.begin()) {
    const auto before = std::prev(it);
    if (before->first + before->second.count > unit) it = before;
  }
  return it;
}

void UnitChanges::assign(uint64_t first, uint64_t count, bool set) {
  if (count == 0) return;
  uint64_t end = first + count;
  // Of a run that sticks out on either side that part stays; equal neighbours become one.
  auto it = runs_.lower_bound(first);
  if (it != runs_.begin()) {
    const auto before = std::prev(it);
    const uint64_t before_end = before->first + before->second.count;
    if (before_end >= first && before->second.set == set) {
      if (before_end >= end) return;  // inside already
      first = before->first;
      runs_.erase(before);
    } else if (before_end > first) {
      if (before_end > end) runs_[end] = Run{before_end - end, before->second.set};
      before->second.count = first - before->first;
    }
  }
  it = runs_.lower_bound(first);
  while (it != runs_.end() && it->first <= end) {
    const uint64_t it_end = it->first + it->second.count;
    if (it->second.set == set) {
      end = std::max(end, it_end);
    } else if (it_end > end) {
      if (it->first < end) {
        const Run rest{it_end - end, it->second.set};
        runs_.erase(it);
        runs_[end] = rest;
      }
      break;
    }
    it = runs_.erase(it);
  }
  runs_[first] = Run{end - first, set};
}

void UnitChanges::put_under(UnitChanges earlier) {
  if (all_cleared_) return;
  for (const auto& [first, run] : runs_) earlier.assign(first, run.count, run.set);
  *this = std::move(earlier);
}

}  // namespace hf
