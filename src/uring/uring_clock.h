// UringClock: CLOCK_MONOTONIC, CLOCK_REALTIME, and sleeping by the loop's timer heap (no kernel
// timer of its own per sleeper, no allocation beyond the task).
#pragma once

#include "runtime/clock.h"
#include "uring/uring_loop.h"

namespace hf {

class UringClock final : public Clock {
 public:
  explicit UringClock(UringLoop& loop) : loop_(loop) {}
  MonoTime now() const override { return UringLoop::now(); }
  WallTime wall() const override;
  Task<Status> sleep_until(MonoTime at, CancelToken cancel) override;

 private:
  UringLoop& loop_;
};

}  // namespace hf
