// Memory for the data of requests: page-aligned, so that a volume reads into it and writes from it
// without a copy; sizes are powers of two; what was given back is kept for the next, within a
// bound. One loop. How much may be out at a time is the business of each connection.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "block/nbd/nbd_protocol.h"

namespace hf::nbd {

class BufferPool {
 public:
  // Kept for reuse by all connections of the pool together.
  static constexpr uint64_t kKeptBytesMax = 8 * kMiB;

  // What a request of `bytes` takes: the next power of two, from one block on.
  static uint64_t class_bytes(uint64_t bytes) {
    return std::bit_ceil(bytes < kBlockSize ? kBlockSize : bytes);
  }
  // Not zeroed: holds what some earlier request left.
  AlignedBuffer take(uint64_t bytes) {
    const uint64_t size = class_bytes(bytes);
    std::vector<AlignedBuffer>& kept = kept_[class_of(size)];
    if (kept.empty()) return AlignedBuffer(size);
    AlignedBuffer buffer = std::move(kept.back());
    kept.pop_back();
    kept_bytes_ -= size;
    return buffer;
  }
  void give_back(AlignedBuffer buffer) {
    if (buffer.empty() || kept_bytes_ + buffer.size() > kKeptBytesMax) return;
    kept_bytes_ += buffer.size();
    kept_[class_of(buffer.size())].push_back(std::move(buffer));
  }
  uint64_t kept_bytes() const { return kept_bytes_; }

 private:
  static size_t class_of(uint64_t size) {
    const auto index = static_cast<size_t>(std::countr_zero(size) - std::countr_zero(kBlockSize));
    HF_ASSERT(std::has_single_bit(size) && index < kClasses, "{}", size);
    return index;
  }
  static constexpr size_t kClasses = std::countr_zero(uint64_t{kMaxPayload} / kBlockSize) + 1;
  std::array<std::vector<AlignedBuffer>, kClasses> kept_;
  uint64_t kept_bytes_ = 0;
};

}  // namespace hf::nbd
