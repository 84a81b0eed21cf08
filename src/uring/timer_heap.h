// TimerHeap: deadlines in order. Pure: knows no clock and no kernel.
//
// A Timer is embedded in what waits and is in at most one heap; destroying it while armed is a bug
// (asserted). Equal deadlines come out in the order in which they were armed.
#pragma once

#include <cstdint>
#include <vector>

#include "base/assert.h"
#include "runtime/clock.h"

namespace hf {

class TimerHeap;

struct Timer {
  using Fire = void (*)(Timer& timer);
  explicit Timer(Fire f) : fire(f) {}
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;
  ~Timer() { HF_ASSERT(!is_armed(), "timer destroyed while armed"); }
  bool is_armed() const { return index != kNowhere; }

  static constexpr uint32_t kNowhere = UINT32_MAX;
  Fire fire;  // called by the heap's owner, after the timer has left the heap
  MonoTime at;
  uint64_t order = 0;
  uint32_t index = kNowhere;
};

class TimerHeap {
 public:
  bool empty() const { return heap_.empty(); }
  size_t size() const { return heap_.size(); }
  MonoTime earliest() const { return heap_.front()->at; }
  // O(log n); the memory grows with the largest number armed at once.
  void arm(Timer& timer, MonoTime at);
  // Nothing happens if it is not armed.
  void disarm(Timer& timer);
  // Removes and returns the earliest if it is due at `now`, else null.
  Timer* pop_due(MonoTime now);

 private:
  static bool before(const Timer& a, const Timer& b) {
    return a.at < b.at || (a.at == b.at && a.order < b.order);
  }
  void place(size_t index, Timer* timer) {
    heap_[index] = timer;
    timer->index = static_cast<uint32_t>(index);
  }
  void sift_up(size_t index);
  void sift_down(size_t index);

  std::vector<Timer*> heap_;
  uint64_t next_order_ = 0;
};

}  // namespace hf
