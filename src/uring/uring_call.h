// UringCall: one kernel operation as an awaitable. Of this room alone (it shows liburing).
//
//   UringCall call(loop);
//   io_uring_prep_renameat(call.sqe(), …);
//   const int result = co_await call;      // what the system call would return, or −errno
#pragma once

#include <liburing.h>

#include <cstdint>

#include "runtime/loop.h"
#include "uring/timer_heap.h"
#include "uring/uring_loop.h"

namespace hf {

class UringCall : public UringOp {
 public:
  explicit UringCall(UringLoop& loop) : UringOp(&on_complete), loop_(loop) {}
  ~UringCall() { HF_ASSERT(!started_ || done_, "destroyed in flight"); }

  // Once.
  io_uring_sqe* sqe() {
    HF_ASSERT(!started_);
    started_ = true;
    return loop_.prepare(*this);
  }
  // Asks for an early end; co_await still waits for it.
  void cancel() {
    if (started_ && !done_) loop_.cancel(*this);
  }

  bool await_ready() const { return done_; }
  void await_suspend(std::coroutine_handle<> handle) { item_.handle = handle; }
  int await_resume() const { return result_; }

 private:
  static void on_complete(UringOp& op, int32_t result, uint32_t) {
    UringCall& self = static_cast<UringCall&>(op);
    self.result_ = result;
    self.done_ = true;
    if (self.item_.handle) self.loop_.ready(self.item_);
  }

  UringLoop& loop_;
  ReadyItem item_;
  int result_ = 0;
  bool started_ = false;
  bool done_ = false;
};

// Cancels a call when its time is up. Declared behind the call; make it, await the call, ask
// expired().
class CallDeadline : private Timer {
 public:
  CallDeadline(UringLoop& loop, UringCall& call, MonoTime at)
      : Timer(&on_fire), loop_(loop), call_(call) {
    loop_.timers().arm(*this, at);
  }
  ~CallDeadline() { loop_.timers().disarm(*this); }
  bool expired() const { return expired_; }

 private:
  static void on_fire(Timer& timer) {
    CallDeadline& self = static_cast<CallDeadline&>(timer);
    self.expired_ = true;
    self.call_.cancel();
  }
  UringLoop& loop_;
  UringCall& call_;
  bool expired_ = false;
};

}  // namespace hf
