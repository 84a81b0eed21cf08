// Ring: which part of the journal's ring is in use. Pure arithmetic.
//
// A batch is contiguous. Where the end of the ring leaves too little room it goes to position 0 and the
// rest of the ring is wasted until the batch is released.
#pragma once

#include <cstdint>
#include <optional>

#include "base/assert.h"
#include "base/units.h"

namespace hf {

class Ring {
 public:
  // `head` is where the next batch may go; `used` bytes lie before it.
  Ring(uint64_t bytes, uint64_t head, uint64_t used) : bytes_(bytes), head_(head), used_(used) {
    HF_ASSERT(head <= bytes && used <= bytes, "head {} used {} of {}", head, used, bytes);
  }
  struct Place {
    uint64_t position = 0;
    uint64_t consumed = 0;
  };
  // Room for `need` contiguous bytes while `keep` bytes stay free behind it; nothing is taken yet.
  std::optional<Place> find(uint64_t need, uint64_t keep) const {
    HF_ASSERT(need > 0 && need <= bytes_);
    const uint64_t tail_room = bytes_ - head_;
    const Place place = need <= tail_room ? Place{head_, need} : Place{0, tail_room + need};
    if (used_ + place.consumed + keep > bytes_) return std::nullopt;
    return place;
  }
  void take(const Place& place, uint64_t need) {
    used_ += place.consumed;
    head_ = place.position + need;
    HF_ASSERT(used_ <= bytes_ && head_ <= bytes_);
  }
  void release(uint64_t consumed) {
    HF_ASSERT(consumed <= used_, "{} of {}", consumed, used_);
    used_ -= consumed;
  }
  uint64_t head() const { return head_; }
  uint64_t used() const { return used_; }
  uint64_t bytes() const { return bytes_; }

 private:
  uint64_t bytes_;
  uint64_t head_;
  uint64_t used_;
};

}  // namespace hf
