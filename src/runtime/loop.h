// Loop: one thread's queue of things to resume. The heart of the async kit.
//
// Every coroutine belongs to the loop on whose thread it runs. A completion (I/O, timer, semaphore,
// child task) links its ReadyItem into the loop's queue; the loop resumes it from its own stack, so the
// stack never grows with the length of a chain of completions.
//
// Implementations: uring/uring_loop.h (real), sim/sim_loop.h (simulated).
#pragma once

#include <coroutine>
#include <cstddef>
#include <functional>

#include "base/intrusive_list.h"

namespace hf {

// One pending resumption; lives in the awaiter or promise, inside the frame that waits.
struct ReadyItem : ListHook {
  std::coroutine_handle<> handle;
};

class Loop {
 public:
  Loop() = default;
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;
  virtual ~Loop() = default;

  // The loop of this thread; asserts that there is one. Set by Loop::Enter.
  static Loop& current();
  static Loop* current_or_null();

  // Queues `item` to be resumed. Loop thread only. The item must not be linked anywhere.
  void ready(ReadyItem& item) { ready_.push_back(item); }
  // Runs `fn` on the loop soon, in the order of posting. Any thread. Not for the data path (allocates).
  // After stop() has returned from the loop's run function, posts are dropped.
  virtual void post(std::function<void()> fn) = 0;

 protected:
  // Resumes what is queued, at most `limit` items (bounded so that I/O is reaped in between).
  // True if something is left.
  bool run_ready(size_t limit);
  bool has_ready() const { return !ready_.empty(); }

  // Makes a loop the thread's current one for a scope.
  class Enter {
   public:
    explicit Enter(Loop& loop);
    ~Enter();
    Enter(const Enter&) = delete;
    Enter& operator=(const Enter&) = delete;

   private:
    Loop* previous_;
  };

 private:
  IntrusiveList<ReadyItem> ready_;
};

// co_await yield(): back of the ready queue, so that a long computation lets others run.
class YieldAwaiter {
 public:
  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> handle) {
    item_.handle = handle;
    Loop::current().ready(item_);
  }
  void await_resume() const noexcept {}

 private:
  ReadyItem item_;
};
inline YieldAwaiter yield() { return YieldAwaiter(); }

}  // namespace hf
