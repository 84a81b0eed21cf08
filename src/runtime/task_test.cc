#include "runtime/task.h"

#include <gtest/gtest.h>

#include <string>

#include "runtime/sync.h"
#include "runtime/test_loop.h"

namespace hf {
namespace {

Task<int> add(int a, int b) { co_return a + b; }

Task<int> add_after(Event& event, int a, int b) {
  co_await event.wait();
  co_return a + b;
}

Task<void> store_sum(Event& event, int* out) {
  int first = co_await add(1, 2);
  int second = co_await add_after(event, first, 4);
  *out = second;
}

TEST(Task, RunsWhenAwaitedAndResumesThroughTheLoop) {
  TestLoop loop;
  Gate gate;
  Event event;
  int out = 0;
  ASSERT_TRUE(spawn(gate, store_sum(event, &out)));
  loop.run();
  EXPECT_EQ(out, 0);
  event.set();
  EXPECT_EQ(out, 0);  // never on the signaller's stack
  loop.run();
  EXPECT_EQ(out, 7);
  EXPECT_EQ(gate.inside(), 0u);
}

TEST(Task, IsLazy) {
  TestLoop loop;
  int out = 0;
  Event event;
  {
    Task<void> never = store_sum(event, &out);
  }
  loop.run();
  EXPECT_EQ(out, 0);
}

Task<void> count_down(int depth, Event& event, int* done) {
  if (depth > 0) {
    co_await count_down(depth - 1, event, done);
  } else {
    co_await event.wait();
  }
  ++*done;
}

TEST(Task, LongChainsOfCompletionsDoNotGrowTheStack) {
  TestLoop loop;
  Gate gate;
  Event event;
  int done = 0;
  ASSERT_TRUE(spawn(gate, count_down(2000, event, &done)));
  event.set();
  loop.run();
  EXPECT_EQ(done, 2001);
}

Task<void> sync_loop(int turns, int* sum) {
  for (int i = 0; i < turns; ++i) {
    int v = co_await add(i, 1);
    *sum += v > 0;
  }
}

TEST(Task, ChildrenThatEndAtOnceDoNotGrowTheStack) {
  TestLoop loop;
  Gate gate;
  int sum = 0;
  ASSERT_TRUE(spawn(gate, sync_loop(1'000'000, &sum)));
  loop.run();
  EXPECT_EQ(sum, 1'000'000);
}

struct Counted {
  explicit Counted(int* live) : live_(live) { ++*live_; }
  Counted(Counted&& other) noexcept : live_(other.live_) { ++*live_; }
  Counted(const Counted& other) : live_(other.live_) { ++*live_; }
  ~Counted() { --*live_; }
  int* live_;
};

Task<Result<std::string>> takes_by_value(Counted counted, std::string text, Event& event) {
  co_await event.wait();
  if (text.empty()) co_return make_error(ErrorCode::kInvalidArgument, "empty");
  co_return text + std::to_string(*counted.live_);
}

Task<void> call_by_value(int* live, Event& event, std::string* out) {
  Counted counted(live);
  Result<std::string> r = co_await takes_by_value(std::move(counted), "live=", event);
  HF_ASSERT(r.ok());
  *out = *r;
  Result<std::string> e = co_await takes_by_value(Counted(live), std::string(), event);
  HF_ASSERT(e.code() == ErrorCode::kInvalidArgument);
}

TEST(Task, ParametersAreDestroyedOnce) {
  TestLoop loop;
  Gate gate;
  Event event;
  int live = 0;
  std::string out;
  ASSERT_TRUE(spawn(gate, call_by_value(&live, event, &out)));
  event.set();
  loop.run();
  EXPECT_EQ(live, 0);
  // The local, the argument and its copy in the frame.
  EXPECT_EQ(out, "live=3");
}

struct AggregateWithString {
  std::string text;
  int n;
};
struct PlainAggregate {
  int a, b;
};

TEST(Task, ParameterRulesAreChecked) {
  static_assert(!task_detail::parameter_is_safe<AggregateWithString>());
  static_assert(task_detail::parameter_is_safe<const AggregateWithString&>());
  static_assert(task_detail::parameter_is_safe<PlainAggregate>());
  static_assert(task_detail::parameter_is_safe<std::string>());
  auto lambda = [](int) {};
  static_assert(!task_detail::parameter_is_safe<decltype(lambda)&>());
  static_assert(!task_detail::parameter_is_safe<const decltype(lambda)&>());
}

}  // namespace
}  // namespace hf
