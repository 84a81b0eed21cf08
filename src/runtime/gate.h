// Gate: structured lifetime. Whoever runs inside has entered; close() lets nobody else in and waits
// until everybody has left. spawn(gate, task) is the only way to run a task that nobody awaits.
#pragma once

#include <cstdint>
#include <utility>

#include "base/error.h"
#include "runtime/sync.h"
#include "runtime/task.h"

namespace hf {

class Gate {
 public:
  Gate() = default;
  Gate(const Gate&) = delete;
  Gate& operator=(const Gate&) = delete;
  ~Gate() { HF_ASSERT(inside_ == 0, "gate destroyed with {} inside", inside_); }

  // False once close() has begun.
  [[nodiscard]] bool try_enter() {
    if (closed_) return false;
    ++inside_;
    return true;
  }
  void leave() {
    HF_ASSERT(inside_ > 0);
    if (--inside_ == 0) empty_.notify_all();
  }
  bool is_closed() const { return closed_; }
  uint64_t inside() const { return inside_; }

  // Closes and waits until empty. May be called more than once.
  Task<void> close() {
    closed_ = true;
    while (inside_ > 0) co_await empty_.wait();
  }
  // Waits until empty without closing (join of what was spawned so far).
  Task<void> wait_empty() {
    while (inside_ > 0) co_await empty_.wait();
  }

  // Enters for a scope.
  class Pass {
   public:
    explicit Pass(Gate& gate) : gate_(gate.try_enter() ? &gate : nullptr) {}
    Pass(Pass&& other) noexcept : gate_(std::exchange(other.gate_, nullptr)) {}
    Pass& operator=(Pass&&) = delete;
    ~Pass() {
      if (gate_ != nullptr) gate_->leave();
    }
    explicit operator bool() const { return gate_ != nullptr; }

   private:
    Gate* gate_;
  };

 private:
  uint64_t inside_ = 0;
  bool closed_ = false;
  Signal empty_;
};

namespace gate_detail {
// A coroutine that owns itself: runs at once, frees its frame when it ends.
struct Detached {
  struct promise_type {
    Detached get_return_object() const noexcept { return {}; }
    std::suspend_never initial_suspend() const noexcept { return {}; }
    std::suspend_never final_suspend() const noexcept { return {}; }
    void return_void() const noexcept {}
    void unhandled_exception() noexcept { std::terminate(); }
  };
};
Detached run_detached(Gate& gate, Task<void> task);
}  // namespace gate_detail

// Runs `task` on this loop now (up to its first suspension on the caller's stack); it leaves the gate
// when it ends. False, and the task is destroyed unstarted, when the gate is closed.
bool spawn(Gate& gate, Task<void> task);

}  // namespace hf
