#include "runtime/sync.h"

#include <gtest/gtest.h>

#include <vector>

#include "runtime/cancel.h"
#include "runtime/process.h"
#include "runtime/test_loop.h"

namespace hf {
namespace {

Task<void> hold(Semaphore& semaphore, uint64_t units, Event& until, std::vector<int>* order, int id) {
  co_await semaphore.acquire(units);
  SemaphoreUnits held(semaphore, units);
  order->push_back(id);
  co_await until.wait();
}

TEST(Semaphore, ServesInOrderAndDoesNotStarveTheLargeOne) {
  TestLoop loop;
  Gate gate;
  Semaphore semaphore(4);
  Event first, rest;
  std::vector<int> order;
  spawn(gate, hold(semaphore, 3, first, &order, 1));
  spawn(gate, hold(semaphore, 4, rest, &order, 2));  // does not fit yet
  spawn(gate, hold(semaphore, 1, rest, &order, 3));  // would fit, but came later
  loop.run();
  EXPECT_EQ(order, (std::vector<int>{1}));
  first.set();
  loop.run();
  EXPECT_EQ(order, (std::vector<int>{1, 2}));
  rest.set();
  loop.run();
  EXPECT_EQ(order, (std::vector<int>{1, 2, 3}));
  EXPECT_EQ(semaphore.free_units(), 4u);
}

Task<void> close_gate(Gate& gate, bool* closed) {
  co_await gate.close();
  *closed = true;
}

Task<void> wait_for(Event& event) { co_await event.wait(); }

TEST(Gate, CloseWaitsForThoseInsideAndRefusesNewOnes) {
  TestLoop loop;
  Gate gate, outer;
  Event event;
  bool closed = false;
  EXPECT_TRUE(spawn(gate, wait_for(event)));
  spawn(outer, close_gate(gate, &closed));
  loop.run();
  EXPECT_FALSE(closed);
  EXPECT_FALSE(spawn(gate, wait_for(event)));
  event.set();
  loop.run();
  EXPECT_TRUE(closed);
}

Task<void> take(OneShot<std::string>& shot, std::string* out) {
  std::string value = co_await shot.wait();
  *out = value;
}

TEST(OneShot, DeliversItsValue) {
  TestLoop loop;
  Gate gate;
  OneShot<std::string> shot;
  std::string out;
  spawn(gate, take(shot, &out));
  loop.run();
  shot.set("x");
  loop.run();
  EXPECT_EQ(out, "x");
}

TEST(Cancel, RunsCallbacksOnceAndForgetsDeadOnes) {
  CancelSource source;
  int runs = 0;
  CancelCallback kept(&source, [&] { ++runs; });
  {
    CancelCallback dropped(&source, [&] { runs += 100; });
  }
  source.cancel();
  source.cancel();
  EXPECT_EQ(runs, 1);
  CancelCallback late(&source, [&] { ++runs; });
  EXPECT_EQ(runs, 2);
  EXPECT_TRUE(CancelToken(source).is_cancelled());
  EXPECT_FALSE(CancelToken().is_cancelled());
}

}  // namespace
}  // namespace hf
