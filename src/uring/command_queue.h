// CommandQueue: driver commands that stay in the kernel for as long as a device lives (ublk's
// fetches), on a ring of their own, so that dropping the queue gives them up: the loop's own ring
// has to see the end of each of its operations. Real world only.
//
// What is given up stays in the kernel until the process ends. The ring is not closed under it:
// Linux 6.12 crashed when a living process closed a ring with ublk's fetches in flight and then
// exited (NULL dereference in io_ring_exit_work, seen); the end of a process, killed or not, is
// what ublk's recovery is made for.
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
  // No call back after this. With commands in flight the ring stays open until the process ends.
  ~CommandQueue();
  CommandQueue(const CommandQueue&) = delete;
  CommandQueue& operator=(const CommandQueue&) = delete;

  // Makes credentials that lack one capability (CAP_SYS_ADMIN and the like), for prepare(). No
  // thread of this process loses it but one that lives in here for that. Blocks for microseconds.
  Result<uint16_t> personality_without(int capability);
  // `cmd` is copied. Asserts that there is room. The driver sees the credentials of `personality`,
  // or with 0 the thread's.
  void prepare(uint16_t tag, int fd, uint32_t cmd_op, ByteSpan cmd, uint16_t personality = 0);
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
