// RangeSet: a set of bytes of a volume as sorted ranges that neither overlap nor touch. Pure.
#pragma once

#include <cstdint>
#include <map>

#include "base/assert.h"

namespace hf {

class RangeSet {
 public:
  void add(uint64_t offset, uint64_t length);
  void add_all(const RangeSet& other) {
    for (const auto& [begin, end] : other.ranges_) add(begin, end - begin);
  }
  // What lies at or behind `size` goes.
  void cut_at(uint64_t size);
  bool overlaps(uint64_t offset, uint64_t length) const;
  // All of it.
  bool contains(uint64_t offset, uint64_t length) const;
  bool empty() const { return ranges_.empty(); }
  uint64_t bytes() const;
  // Begin → end.
  const std::map<uint64_t, uint64_t>& ranges() const { return ranges_; }
  bool operator==(const RangeSet&) const = default;

 private:
  std::map<uint64_t, uint64_t> ranges_;
};

}  // namespace hf
