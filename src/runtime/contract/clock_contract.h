// The contract of Clock (runtime/clock.h). See world_factory.h.
#pragma once

#include <algorithm>
#include <vector>

#include "runtime/clock.h"
#include "runtime/contract/contract_support.h"
#include "runtime/contract/world_factory.h"

namespace hf::contract {

class ClockContract : public WorldTest {};

inline Task<void> sleep_to_the_end(Clock& clock, Duration d) {
  const MonoTime begin = clock.now();
  Status slept = co_await clock.sleep_for(d, CancelToken());
  EXPECT_TRUE(slept.ok());
  EXPECT_GE((clock.now() - begin).count(), d.count());
}

TEST_P(ClockContract, ASleepEndsNotBeforeItsTime) {
  for (const Duration d :
       {Duration(0), Duration(1), Duration(50us), Duration(3ms), Duration(20ms)}) {
    run(sleep_to_the_end(world().clock, d));
  }
}

inline Task<void> sleep_in_the_past(Clock& clock) {
  const MonoTime past = clock.now() + Duration(-1s);
  Status slept = co_await clock.sleep_until(past, CancelToken());
  EXPECT_TRUE(slept.ok());
}
TEST_P(ClockContract, ATimeInThePastEndsAtOnce) {
  run(sleep_in_the_past(world().clock));
}

inline Task<void> sleep_and_note(Clock& clock, Duration d, CancelToken cancel, int id,
                                 std::vector<int>* order, ErrorCode expected) {
  Status slept = co_await clock.sleep_for(d, cancel);
  EXPECT_EQ(slept.code(), expected) << id;
  order->push_back(id);
}

inline Task<void> wake_and_note(Clock& clock, MonoTime at, int id, std::vector<int>* order) {
  Status slept = co_await clock.sleep_until(at, CancelToken());
  EXPECT_TRUE(slept.ok()) << id;
  order->push_back(id);
}

// From one moment on: between two of these the machine may do something else for long.
inline Task<void> wake_in_order(Clock& clock, std::vector<int>* order) {
  Gate gate;
  const MonoTime begin = clock.now();
  spawn(gate, wake_and_note(clock, begin + Duration(220ms), 3, order));
  spawn(gate, wake_and_note(clock, begin + Duration(20ms), 1, order));
  spawn(gate, wake_and_note(clock, begin + Duration(120ms), 2, order));
  co_await gate.close();
}
TEST_P(ClockContract, WhoSleepsShorterWakesEarlier) {
  std::vector<int> order;
  run(wake_in_order(world().clock, &order));
  EXPECT_EQ(order, (std::vector<int>{1, 2, 3}));
}

inline Task<void> cancel_one_of_two(Clock& clock, std::vector<int>* order) {
  Gate gate;
  CancelSource source;
  const MonoTime begin = clock.now();
  spawn(gate, sleep_and_note(clock, 3600s, source, 1, order, ErrorCode::kCancelled));
  spawn(gate, sleep_and_note(clock, 30ms, CancelToken(), 2, order, ErrorCode::kOk));
  Status slept = co_await clock.sleep_for(1ms, CancelToken());
  EXPECT_TRUE(slept.ok());
  source.cancel();
  source.cancel();
  co_await gate.close();
  EXPECT_LT((clock.now() - begin).count(), Duration(3600s).count());
}
TEST_P(ClockContract, ACancelEndsItsOwnSleepAndNoOther) {
  std::vector<int> order;
  run(cancel_one_of_two(world().clock, &order));
  // On a machine that stands still for 30 ms both end at once.
  std::sort(order.begin(), order.end());
  EXPECT_EQ(order, (std::vector<int>{1, 2}));
}

inline Task<void> sleep_cancelled_before(Clock& clock) {
  CancelSource source;
  source.cancel();
  Status slept = co_await clock.sleep_for(3600s, source);
  EXPECT_EQ(slept.code(), ErrorCode::kCancelled);
  Status none = co_await clock.sleep_for(0s, source);
  EXPECT_EQ(none.code(), ErrorCode::kCancelled);
}
TEST_P(ClockContract, ATokenCancelledBeforeEndsTheSleepAtOnce) {
  run(sleep_cancelled_before(world().clock));
}

inline Task<void> cancel_too_late(Clock& clock) {
  CancelSource source;
  Status slept = co_await clock.sleep_for(1us, source);
  EXPECT_TRUE(slept.ok());
  source.cancel();
}
TEST_P(ClockContract, ACancelAfterTheEndIsNothing) {
  run(cancel_too_late(world().clock));
}

inline Task<void> watch_the_clock(Clock& clock) {
  MonoTime last = clock.now();
  for (int i = 0; i < 2000; ++i) {
    const MonoTime now = clock.now();
    EXPECT_GE(now.ns, last.ns);
    last = now;
    co_await yield();
  }
  EXPECT_GT(clock.wall().ns, 0);
}
TEST_P(ClockContract, MonotonicTimeNeverGoesBack) {
  run(watch_the_clock(world().clock));
}

}  // namespace hf::contract
