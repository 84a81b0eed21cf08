// UringLoop: the real Loop. One thread, one io_uring.
//
// A turn: run what was posted, resume what is ready (bounded), fire due timers, hand all new
// entries to the kernel in one system call, reap completions. With nothing to do the thread sleeps
// in that same call until a completion, a post or the earliest timer: an idle loop costs no CPU.
//
// The ring is bound to the thread that first runs the loop, and the loop must be run by that thread
// ever after. Nothing here but post() and stop() may be called from another thread.
//
// Bounds: `entries` operations are handed over per system call; at most kMaxFileOps file operations
// are in flight, more wait in the loop first come first served.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "base/error.h"
#include "runtime/clock.h"
#include "runtime/loop.h"
#include "runtime/task.h"
#include "uring/owned_fd.h"
#include "uring/timer_heap.h"

struct io_uring;
struct io_uring_sqe;

namespace hf {

struct IoRequest;

// One kernel operation in flight; embedded in what waits for it, and must live until `complete` was
// called for the last time (multishot operations: the first time without IORING_CQE_F_MORE).
// `complete` runs on the loop's stack between resumptions; it must not resume a coroutine, only
// ready it.
struct UringOp {
  using Complete = void (*)(UringOp& op, int32_t result, uint32_t flags);
  explicit UringOp(Complete c) : complete(c) {}
  UringOp(const UringOp&) = delete;
  UringOp& operator=(const UringOp&) = delete;
  Complete complete;
};

struct UringOptions {
  uint32_t entries = 256;   // submission queue; a power of two, 8 to 4096
  bool plain_ring = false;  // no COOP_TASKRUN and friends, as on a kernel before 5.19 (for tests)
};

class UringLoop final : public Loop {
 public:
  static constexpr uint32_t kMaxFileOps = 2048;

  // kMissingFeature, with what to change, where the kernel has no io_uring or forbids it.
  static Result<std::unique_ptr<UringLoop>> create(const UringOptions& options);
  // Every operation must have completed, except watches that were closed (waits for these).
  ~UringLoop() override;

  // Runs until stop(). Asserts that no loop runs on this thread.
  void run();
  // Makes run() return after its current turn; posts are dropped from then on. Any thread. For
  // good.
  void stop();
  // Runs until `task` has ended. For tools and tests, and for the main task of a daemon; may be
  // called again. Posts made between two calls wait for the next one.
  void run_until(Task<void> task);
  void post(std::function<void()> fn) override;

  // For the rest of this room.
  // A blank entry whose completion calls `op`; fill it before the next co_await. Never null.
  io_uring_sqe* prepare(UringOp& op);
  // Asks the kernel to end `op` early: it still completes, with −ECANCELED or with what it did.
  void cancel(UringOp& op);
  // Starts or goes on with a file operation (uring_file.cc).
  void start_file_op(IoRequest& request);
  TimerHeap& timers() { return timers_; }
  static MonoTime now();

  // "single_issuer", "coop_taskrun" or "plain": what the kernel gave us.
  const char* mode() const { return mode_; }
  // Entries given to the kernel and not yet completed, without the loop's own wake-up.
  uint32_t in_flight() const { return in_flight_; }
  uint64_t turns() const { return turns_; }

 private:
  UringLoop();
  void bind_thread();
  void unbind_thread();
  void turn(const bool* done);
  void fire_timers();
  void run_posts();
  void enter_kernel(bool sleep);
  void reap();
  void arm_wake();
  void wake();
  io_uring_sqe* next_sqe();
  io_uring_sqe* prepare_file(IoRequest& request);
  void finish_file_op();
  void drain_closed_ops();

  std::unique_ptr<io_uring> ring_;
  const char* mode_ = "plain";
  bool taskrun_flag_ = false;  // the kernel tells by a flag that completions wait to be fetched
  bool enabled_ = false;
  std::thread::id thread_;
  uint32_t in_flight_ = 0;
  uint32_t file_ops_ = 0;
  uint64_t turns_ = 0;
  IntrusiveList<ReadyItem> waiting_file_ops_;
  TimerHeap timers_;

  OwnedFd wake_fd_;  // eventfd; a read of it is always in flight while the loop runs
  UringOp wake_op_;
  uint64_t wake_value_ = 0;
  bool wake_armed_ = false;
  std::atomic<bool> wake_sent_{false};
  std::atomic<bool> stop_{false};
  std::atomic<bool> posts_waiting_{false};
  std::mutex posts_mutex_;
  std::vector<std::function<void()>> posts_;  // guarded by posts_mutex_
  bool posts_closed_ = false;                 // guarded by posts_mutex_
  std::vector<std::function<void()>> running_posts_;
};

}  // namespace hf
