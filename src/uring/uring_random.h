// UringRandom: the kernel's entropy (getrandom). Fit for ids, tokens and keys. Loop thread only.
#pragma once

#include <array>

#include "runtime/random.h"

namespace hf {

class UringRandom final : public Random {
 public:
  uint64_t next() override;
  // Straight from the kernel: nothing of a key stays behind here.
  void fill(MutableByteSpan out) override;

 private:
  // Drawn ahead for next(); each is wiped as it is given out.
  std::array<uint64_t, 32> drawn_{};
  size_t left_ = 0;
};

}  // namespace hf
