// The contract of Loop and BlockingPool, and of the sync kit on a loop that waits for real
// (runtime/loop.h, process.h, sync.h). See world_factory.h.
#pragma once

#include <memory>
#include <vector>

#include "runtime/clock.h"
#include "runtime/contract/contract_support.h"
#include "runtime/contract/world_factory.h"
#include "runtime/process.h"
#include "runtime/sync.h"

namespace hf::contract {

class LoopContract : public WorldTest {};

inline Task<void> post_and_wait(World& world, std::vector<int>* order) {
  EXPECT_EQ(Loop::current_or_null(), &world.loop);
  Event last;
  for (int i = 0; i < 100; ++i) {
    world.loop.post([order, i] { order->push_back(i); });
  }
  world.loop.post([&last] { last.set(); });
  EXPECT_TRUE(order->empty()) << "a post ran on the poster's stack";
  co_await last.wait();
}
TEST_P(LoopContract, PostsRunLaterInTheOrderOfPosting) {
  std::vector<int> order;
  run(post_and_wait(world(), &order));
  ASSERT_EQ(order.size(), 100u);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(order[static_cast<size_t>(i)], i);
}

inline Task<void> post_from_post(World& world, int* depth) {
  Event done;
  std::function<void()> again = [&] {
    if (++*depth == 1000) {
      done.set();
    } else {
      world.loop.post(again);
    }
  };
  world.loop.post(again);
  co_await done.wait();
}
TEST_P(LoopContract, APostMayPost) {
  int depth = 0;
  run(post_from_post(world(), &depth));
  EXPECT_EQ(depth, 1000);
}

inline Task<void> take_turns(std::vector<int>* order, int id, int times) {
  for (int i = 0; i < times; ++i) {
    order->push_back(id);
    co_await yield();
  }
}
inline Task<void> round_robin(std::vector<int>* order) {
  Gate gate;
  for (int id = 0; id < 3; ++id) spawn(gate, take_turns(order, id, 4));
  co_await gate.close();
}
TEST_P(LoopContract, WhatYieldsIsResumedInTurn) {
  std::vector<int> order;
  run(round_robin(&order));
  EXPECT_EQ(order, (std::vector<int>{0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2}));
}

inline Task<void> spin_until(const bool* flag) {
  while (!*flag) co_await yield();
}
inline Task<void> spin_beside_timer(World& world) {
  Gate gate;
  bool flag = false;
  spawn(gate, spin_until(&flag));
  Status slept = co_await world.clock.sleep_for(2ms, CancelToken());
  EXPECT_TRUE(slept.ok());
  flag = true;
  co_await gate.close();
}
TEST_P(LoopContract, ACoroutineThatSpinsDoesNotStarveTimers) {
  run(spin_beside_timer(world()));
}

inline Task<void> hold_for_a_while(World& world, Semaphore& semaphore, int* inside, int* most) {
  co_await semaphore.acquire(1);
  SemaphoreUnits held(semaphore, 1);
  *most = std::max(*most, ++*inside);
  Status slept = co_await world.clock.sleep_for(200us, CancelToken());
  EXPECT_TRUE(slept.ok());
  --*inside;
}
inline Task<void> crowd(World& world, int* most) {
  Semaphore semaphore(3);
  Gate gate;
  int inside = 0;
  for (int i = 0; i < 50; ++i) spawn(gate, hold_for_a_while(world, semaphore, &inside, most));
  co_await gate.close();
  EXPECT_EQ(semaphore.free_units(), 3u);
}
TEST_P(LoopContract, ASemaphoreBoundsThoseInside) {
  int most = 0;
  run(crowd(world(), &most));
  EXPECT_EQ(most, 3);
}

inline Task<void> tell_later(World& world, OneShot<std::string>& shot) {
  Status slept = co_await world.clock.sleep_for(1ms, CancelToken());
  EXPECT_TRUE(slept.ok());
  shot.set("told");
}
inline Task<void> hear(World& world, std::string* heard) {
  Gate gate;
  OneShot<std::string> shot;
  spawn(gate, tell_later(world, shot));
  std::string value = co_await shot.wait();
  *heard = value;
  co_await gate.close();
}
TEST_P(LoopContract, AOneShotCarriesItsValueAcrossTurns) {
  std::string heard;
  run(hear(world(), &heard));
  EXPECT_EQ(heard, "told");
}

class BlockingContract : public WorldTest {};

inline Task<void> compute(World& world, int* out) {
  std::function<int()> fn = [] { return 42; };
  *out = co_await run_blocking<int>(world.blocking, std::move(fn));
  EXPECT_EQ(Loop::current_or_null(), &world.loop);
}
TEST_P(BlockingContract, TheValueComesBackToTheLoopThatCalled) {
  int out = 0;
  run(compute(world(), &out));
  EXPECT_EQ(out, 42);
}

inline Task<void> refuse(World& world) {
  std::function<Result<std::string>()> fn = [] {
    return Result<std::string>(make_error(ErrorCode::kNotFound, "no such thing"));
  };
  Result<std::string> out =
      co_await run_blocking<Result<std::string>>(world.blocking, std::move(fn));
  EXPECT_EQ(out.code(), ErrorCode::kNotFound);
}
TEST_P(BlockingContract, ErrorsComeBackAsValues) {
  run(refuse(world()));
}

inline Task<void> add_in_pool(World& world, int i, int* sum) {
  std::function<int()> fn = [i] { return i; };
  const int value = co_await run_blocking<int>(world.blocking, std::move(fn));
  *sum += value;
}
inline Task<void> many_calls(World& world, int* sum) {
  Gate gate;
  for (int i = 1; i <= 1000; ++i) spawn(gate, add_in_pool(world, i, sum));
  co_await gate.close();
}
TEST_P(BlockingContract, ManyCallsAtOnceAllComplete) {
  int sum = 0;
  run(many_calls(world(), &sum));
  EXPECT_EQ(sum, 500'500);
}

inline Task<void> check_captures(World& world, std::weak_ptr<int>* weak) {
  Event done;
  {
    auto owned = std::make_shared<int>(1);
    *weak = owned;
    std::function<void()> fn = [owned] { ++*owned; };
    owned.reset();
    std::function<void()> finish = [&done] { done.set(); };
    world.blocking.submit(std::move(fn), std::move(finish));
  }
  co_await done.wait();
  EXPECT_TRUE(weak->expired()) << "the call's captures outlive its end";
}
TEST_P(BlockingContract, WhatACallHoldsIsGoneWhenTheCallerGoesOn) {
  std::weak_ptr<int> weak;
  run(check_captures(world(), &weak));
}

}  // namespace hf::contract
