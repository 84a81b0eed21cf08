#include "uring/timer_heap.h"

#include <gtest/gtest.h>

#include <deque>
#include <map>

#include "base/prng.h"

namespace hf {
namespace {

void ignore(Timer&) {}

TEST(TimerHeap, EqualDeadlinesComeInTheOrderOfArming) {
  TimerHeap heap;
  std::deque<Timer> timers;
  for (int i = 0; i < 20; ++i) heap.arm(timers.emplace_back(&ignore), MonoTime{7});
  EXPECT_EQ(heap.pop_due(MonoTime{6}), nullptr);
  for (Timer& timer : timers) EXPECT_EQ(heap.pop_due(MonoTime{7}), &timer);
  EXPECT_TRUE(heap.empty());
}

// Against a sorted map, with removals from the middle.
TEST(TimerHeap, AgreesWithAModel) {
  Prng prng(11);
  TimerHeap heap;
  std::deque<Timer> timers;
  for (int i = 0; i < 300; ++i) timers.emplace_back(&ignore);
  std::map<std::pair<int64_t, uint64_t>, Timer*> model;
  for (int step = 0; step < 20'000; ++step) {
    Timer& timer = timers[prng.below(timers.size())];
    if (timer.is_armed()) {
      ASSERT_EQ(model.erase({timer.at.ns, timer.order}), 1u);
      heap.disarm(timer);
      EXPECT_FALSE(timer.is_armed());
    } else {
      heap.arm(timer, MonoTime{static_cast<int64_t>(prng.below(100))});
      model.emplace(std::pair(timer.at.ns, timer.order), &timer);
    }
    if (prng.below(4) == 0) {
      const MonoTime now{static_cast<int64_t>(prng.below(110))};
      Timer* due = heap.pop_due(now);
      if (model.empty() || model.begin()->first.first > now.ns) {
        ASSERT_EQ(due, nullptr);
      } else {
        ASSERT_EQ(due, model.begin()->second);
        model.erase(model.begin());
      }
    }
    ASSERT_EQ(heap.size(), model.size());
  }
  for (Timer& timer : timers) heap.disarm(timer);
}

}  // namespace
}  // namespace hf
