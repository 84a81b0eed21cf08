// Random: entropy. The real one asks the kernel (getrandom) and is fit for ids, tokens and keys; the
// simulated one is seeded.
#pragma once

#include <cstdint>

#include "base/bytes.h"

namespace hf {

class Random {
 public:
  virtual ~Random() = default;
  virtual uint64_t next() = 0;
  virtual void fill(MutableByteSpan out) = 0;
};

template <typename IdType>
IdType new_id(Random& random) {
  const uint64_t high = random.next();
  return IdType::from_random(high, random.next());
}

}  // namespace hf
