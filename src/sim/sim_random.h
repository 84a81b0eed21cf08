// SimRandom: the entropy of a simulated process, from the seed.
#pragma once

#include <algorithm>

#include "base/prng.h"
#include "runtime/random.h"

namespace hf::sim {

class SimRandom : public Random {
 public:
  explicit SimRandom(Prng prng) : prng_(prng) {}
  uint64_t next() override { return prng_.next(); }
  void fill(MutableByteSpan out) override {
    for (size_t at = 0; at < out.size(); at += 8) {
      const uint64_t word = prng_.next();
      std::memcpy(out.data() + at, &word, std::min<size_t>(8, out.size() - at));
    }
  }

 private:
  Prng prng_;
};

}  // namespace hf::sim
