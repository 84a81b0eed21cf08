// A loop without a world, for unit tests of the kit: runs what is ready until nothing is.
#pragma once

#include <deque>

#include "runtime/gate.h"
#include "runtime/loop.h"
#include "runtime/task.h"

namespace hf {

class TestLoop : public Loop {
 public:
  TestLoop() : enter_(*this) {}
  void post(std::function<void()> fn) override { posts_.push_back(std::move(fn)); }
  void run() {
    while (has_ready() || !posts_.empty()) {
      run_ready(64);
      while (!posts_.empty()) {
        std::function<void()> fn = std::move(posts_.front());
        posts_.pop_front();
        fn();
      }
    }
  }
  // To be spawned: its result goes to `out`.
  static Task<void> keep(Task<Status> task, Status* out) { *out = co_await std::move(task); }
  // Runs it to its end; one that still waits when nothing is ready has been forgotten by somebody.
  Status run(Task<Status> task) {
    Status status;
    Gate gate;
    const bool spawned = spawn(gate, keep(std::move(task), &status));
    HF_ASSERT(spawned);
    run();
    HF_ASSERT(gate.inside() == 0, "{}", gate.inside());
    return status;
  }

 private:
  std::deque<std::function<void()>> posts_;
  Enter enter_;
};

}  // namespace hf
