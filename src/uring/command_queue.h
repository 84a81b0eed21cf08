// CommandQueue: driver commands that stay in the kernel for as long as a device lives (ublk's
// fetches), on a ring of their own, so that dropping the queue drops them: commands on the loop's
// own ring could not be given up before the loop's end. Real world only.
//
// A command carries a tag and at most kSmallCommandBytes; one per tag at a time. What was prepared
// goes to the kernel by submit(), all of it in one system call, from the thread of the loop.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "base/bytes.h"
#include "base/error.h"
#include "uring/fd_watch.h"
#include "uring/uring_command.h"
#include "uring/uring_loop.h"

namespace hf {

class CommandQueue {
 public:
  // Runs on the loop's stack; may ready coroutines and prepare commands, not destroy the queue.
  using OnComplete = std::function<void(uint16_t tag, int32_t result)>;

  // Room for `entries` commands at once (a power of two).
  static Result<std::unique_ptr<CommandQueue>> create(UringLoop& loop, uint32_t entries,
                                                      OnComplete on_complete);
  // The kernel gives up what is in flight, soon after; no call back after this.
  ~CommandQueue();
  CommandQueue(const CommandQueue&) = delete;
  CommandQueue& operator=(const CommandQueue&) = delete;

  // `cmd` is copied. Asserts that there is room.
  void prepare(uint16_t tag, int fd, uint32_t cmd_op, ByteSpan cmd);
  Status submit();
  uint32_t in_flight() const { return in_flight_; }

 private:
  CommandQueue(UringLoop& loop, OnComplete on_complete);
  void reap();

  UringLoop& loop_;
  OnComplete on_complete_;
  std::unique_ptr<io_uring> ring_;
  std::unique_ptr<FdWatch> watch_;
  uint32_t in_flight_ = 0;
};

}  // namespace hf
