// FdWatch: calls back when a descriptor becomes ready (/dev/fuse, a signalfd, a pidfd …), by one
// multishot poll in the kernel. Real world only; for rooms that hold kernel objects (block, node).
#pragma once

#include <poll.h>

#include <cstdint>
#include <functional>

#include "base/error.h"
#include "runtime/cancel.h"
#include "runtime/task.h"
#include "uring/uring_loop.h"

namespace hf {

class FdWatch {
 public:
  // Runs on the loop's stack; may ready coroutines, set Events, spawn tasks, and destroy this
  // FdWatch.
  using OnReady = std::function<void(uint32_t events)>;

  // Watches `fd` for `events` (POLLIN, POLLOUT …). Reports edges: when called back, read (or write)
  // until EAGAIN, or there may be no other call. POLLNVAL, once, when the descriptor cannot be
  // polled; POLLERR and POLLHUP as the kernel gives them, and after them the watch goes on only
  // while edges come.
  FdWatch(UringLoop& loop, int fd, uint32_t events, OnReady on_ready);
  // No call back after this. The caller may close the descriptor then; the kernel lets go of the
  // open file within the loop's next turn.
  ~FdWatch();
  FdWatch(const FdWatch&) = delete;
  FdWatch& operator=(const FdWatch&) = delete;

 private:
  struct State;
  State* state_;  // frees itself with the kernel's last completion
};

// Waits until `fd` is ready for one of `events` and returns those that hold. kCancelled by the
// token.
Task<Result<uint32_t>> poll_once(UringLoop& loop, int fd, uint32_t events, CancelToken cancel);

}  // namespace hf
