#include "uring/timer_heap.h"

namespace hf {

void TimerHeap::arm(Timer& timer, MonoTime at) {
  HF_ASSERT(!timer.is_armed(), "armed twice");
  HF_ASSERT(heap_.size() < Timer::kNowhere);
  timer.at = at;
  timer.order = next_order_++;
  heap_.push_back(&timer);
  timer.index = static_cast<uint32_t>(heap_.size() - 1);
  sift_up(timer.index);
}

void TimerHeap::disarm(Timer& timer) {
  if (!timer.is_armed()) return;
  const size_t index = timer.index;
  HF_ASSERT(index < heap_.size() && heap_[index] == &timer, "timer of another heap");
  timer.index = Timer::kNowhere;
  Timer* last = heap_.back();
  heap_.pop_back();
  if (last == &timer) return;
  place(index, last);
  sift_up(index);
  sift_down(last->index);
}

Timer* TimerHeap::pop_due(MonoTime now) {
  if (heap_.empty() || heap_.front()->at > now) return nullptr;
  Timer* timer = heap_.front();
  disarm(*timer);
  return timer;
}

void TimerHeap::sift_up(size_t index) {
  Timer* timer = heap_[index];
  while (index > 0) {
    const size_t parent = (index - 1) / 2;
    if (!before(*timer, *heap_[parent])) break;
    place(index, heap_[parent]);
    index = parent;
  }
  place(index, timer);
}

void TimerHeap::sift_down(size_t index) {
  Timer* timer = heap_[index];
  while (true) {
    size_t child = 2 * index + 1;
    if (child >= heap_.size()) break;
    if (child + 1 < heap_.size() && before(*heap_[child + 1], *heap_[child])) ++child;
    if (!before(*heap_[child], *timer)) break;
    place(index, heap_[child]);
    index = child;
  }
  place(index, timer);
}

}  // namespace hf
