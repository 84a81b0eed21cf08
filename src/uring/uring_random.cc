#include "uring/uring_random.h"

#include <sys/random.h>

#include <cerrno>
#include <utility>

#include "base/assert.h"

namespace hf {

void UringRandom::fill(MutableByteSpan out) {
  while (!out.empty()) {
    const ssize_t n = getrandom(out.data(), out.size(), 0);
    if (n < 0 && errno == EINTR) continue;
    HF_ASSERT(n > 0, "getrandom: errno {}", errno);
    out = out.subspan(static_cast<size_t>(n));
  }
}

uint64_t UringRandom::next() {
  if (left_ == 0) {
    fill(std::as_writable_bytes(std::span(drawn_)));
    left_ = drawn_.size();
  }
  return std::exchange(drawn_[--left_], 0);
}

}  // namespace hf
