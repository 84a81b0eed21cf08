// The way from gRPC's threads to the loop. Unlike a bare Loop::post it can be waited for: once
// drain() has ended, no thread is inside post() any more, so that the loop may go.
#pragma once

#include <atomic>
#include <functional>
#include <memory>

#include "runtime/clock.h"
#include "runtime/loop.h"

namespace hf::state {

class Mailbox {
 public:
  explicit Mailbox(Loop& loop) : loop_(loop) {}
  // Any thread.
  void post(std::function<void()> fn) {
    inside_.fetch_add(1);
    loop_.post(std::move(fn));
    inside_.fetch_sub(1);
  }
  // Loop thread, when nobody begins a post any more.
  Task<void> drain(Clock& clock) {
    while (inside_.load() != 0) {
      Status slept = co_await clock.sleep_for(std::chrono::microseconds(100), CancelToken());
      if (!slept.ok()) co_return;
    }
  }

 private:
  Loop& loop_;
  std::atomic<int> inside_{0};
};

}  // namespace hf::state
