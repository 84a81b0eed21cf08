// A bounded FIFO in one allocation made at construction. Full is an answer, not an error: the caller
// decides whether to wait or to refuse.
#pragma once

#include <cstddef>
#include <utility>
#include <vector>

#include "base/assert.h"

namespace hf {

template <typename T>
class RingQueue {
 public:
  explicit RingQueue(size_t capacity) : slots_(capacity) { HF_ASSERT(capacity > 0); }
  bool empty() const { return size_ == 0; }
  bool full() const { return size_ == slots_.size(); }
  size_t size() const { return size_; }
  size_t capacity() const { return slots_.size(); }
  // False, and nothing taken, when full.
  [[nodiscard]] bool try_push(T&& item) {
    if (full()) return false;
    slots_[(head_ + size_) % slots_.size()] = std::move(item);
    ++size_;
    return true;
  }
  T& front() {
    HF_ASSERT(!empty());
    return slots_[head_];
  }
  T pop() {
    HF_ASSERT(!empty());
    T item = std::move(slots_[head_]);
    slots_[head_] = T{};
    head_ = (head_ + 1) % slots_.size();
    --size_;
    return item;
  }

 private:
  std::vector<T> slots_;
  size_t head_ = 0;
  size_t size_ = 0;
};

}  // namespace hf
