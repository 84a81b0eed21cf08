#include "uring/uring_loop.h"

#include <liburing.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "runtime/file.h"
#include "runtime/gate.h"
#include "uring/uring_file.h"

namespace hf {
namespace {

// Items resumed before I/O is reaped again: long enough to amortise the system call, short enough
// that a completion waits well under a millisecond.
constexpr size_t kReadyPerTurn = 256;
constexpr uint32_t kCompletionsPerEntry = 16;
// How long the destructor waits for operations that were cancelled.
constexpr int kDrainSeconds = 10;

// user_data: 0 for entries whose completion nobody wants, a pointer otherwise; the lowest bit tells
// IoRequest from UringOp.
constexpr uint64_t kFileTag = 1;

Error setup_error(int err) {
  switch (err) {
    case ENOSYS:
      return make_error(
          ErrorCode::kMissingFeature,
          "this kernel has no io_uring; Holdfast needs Linux 6.1 or newer with CONFIG_IO_URING=y");
    case EPERM:
      return make_error(ErrorCode::kMissingFeature,
                        "io_uring is forbidden here: set it free with 'sysctl "
                        "kernel.io_uring_disabled=0', or, in a "
                        "container, allow the system calls io_uring_setup, io_uring_enter and "
                        "io_uring_register in its "
                        "seccomp profile");
    case ENOMEM:
      return make_error(
          ErrorCode::kLimitExceeded,
          "io_uring: out of memory for a ring; raise the limit of locked memory (ulimit -l, "
          "LimitMEMLOCK=)");
    default:
      return Error::from_errno(err, "io_uring_setup");
  }
}

struct RingMode {
  const char* name;
  unsigned flags;
};
constexpr unsigned kAlways = IORING_SETUP_R_DISABLED | IORING_SETUP_SUBMIT_ALL;
// Best first. R_DISABLED lets the thread that runs the loop, not the one that makes it, own the
// ring. No DEFER_TASKRUN: it wakes the sleeper for the first completion of a burst, and a device
// that serves what it was given together (docs/performance.md) gets one request, then all the
// others.
constexpr RingMode kModes[] = {
    {"single_issuer",
     IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG},
    {"coop_taskrun", IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG},
    {"plain", 0},
};

}  // namespace

UringLoop::UringLoop()
    : ring_(std::make_unique<io_uring>()), wake_op_([](UringOp& op, int32_t result, uint32_t) {
        UringLoop& loop = static_cast<UringLoop&>(*Loop::current_or_null());
        HF_ASSERT(&op == &loop.wake_op_);
        HF_ASSERT(result == sizeof loop.wake_value_ || result == -ECANCELED, "eventfd {}", result);
        loop.wake_armed_ = false;
        loop.wake_sent_.store(false, std::memory_order_release);
      }) {}

Result<std::unique_ptr<UringLoop>> UringLoop::create(const UringOptions& options) {
  HF_ASSERT(options.entries >= 8 && options.entries <= 4096, "{}", options.entries);
  std::unique_ptr<UringLoop> loop(new UringLoop());
  loop->wake_fd_ = OwnedFd(eventfd(0, EFD_CLOEXEC));
  if (!loop->wake_fd_.valid()) return Error::from_errno(errno, "eventfd");
  int err = 0;
  for (const RingMode& mode : kModes) {
    if (options.plain_ring && mode.flags != 0) continue;
    io_uring_params params{};
    params.flags = mode.flags | kAlways | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;
    params.cq_entries = options.entries * kCompletionsPerEntry;
    err = -io_uring_queue_init_params(options.entries, loop->ring_.get(), &params);
    if (err == 0) {
      loop->mode_ = mode.name;
      loop->taskrun_flag_ = (mode.flags & IORING_SETUP_TASKRUN_FLAG) != 0;
      const unsigned needed = IORING_FEAT_NODROP | IORING_FEAT_EXT_ARG | IORING_FEAT_SUBMIT_STABLE;
      if ((params.features & needed) != needed) {
        return make_error(ErrorCode::kMissingFeature,
                          "this kernel's io_uring is too old; Holdfast needs Linux 6.1 or newer");
      }
      return loop;
    }
    loop->ring_->ring_fd = -1;
    if (err != EINVAL) break;
  }
  loop->ring_.reset();
  return setup_error(err);
}

UringLoop::~UringLoop() {
  if (!ring_ || ring_->ring_fd < 0) return;
  if (enabled_) drain_closed_ops();
  io_uring_queue_exit(ring_.get());
}

// Operations whose owners are gone (closed watches) still refer to memory that their completion
// frees.
void UringLoop::drain_closed_ops() {
  HF_ASSERT(file_ops_ == 0, "loop destroyed with {} file operations in flight", file_ops_);
  if (thread_ == std::this_thread::get_id()) {
    Enter enter(*this);
    if (wake_armed_) cancel(wake_op_);
    const MonoTime until = now() + std::chrono::seconds(kDrainSeconds);
    while ((in_flight_ > 0 || wake_armed_) && now() < until) {
      __kernel_timespec wait{.tv_sec = 1, .tv_nsec = 0};
      io_uring_cqe* cqe = nullptr;
      io_uring_submit_and_wait_timeout(ring_.get(), &cqe, 1, &wait, nullptr);
      reap();
    }
  }
  HF_ASSERT(in_flight_ == 0, "loop destroyed with {} operations in flight", in_flight_);
}

MonoTime UringLoop::now() {
  timespec ts{};
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return MonoTime{ts.tv_sec * 1'000'000'000 + ts.tv_nsec};
}

void UringLoop::bind_thread() {
  HF_ASSERT(Loop::current_or_null() == nullptr, "a loop runs on this thread already");
  if (!enabled_) {
    // liburing 2.3 declares io_uring_enable_rings() and does not export it.
    const long err =
        syscall(SYS_io_uring_register, ring_->ring_fd, IORING_REGISTER_ENABLE_RINGS, nullptr, 0);
    HF_ASSERT(err >= 0, "IORING_REGISTER_ENABLE_RINGS: {}", errno);
    thread_ = std::this_thread::get_id();
    enabled_ = true;
  }
  HF_ASSERT(thread_ == std::this_thread::get_id(), "a loop is run by one thread only");
  // Saves a descriptor look-up per system call; a kernel or limit that refuses costs only that.
  (void)io_uring_register_ring_fd(ring_.get());
}

void UringLoop::unbind_thread() {
  (void)io_uring_unregister_ring_fd(ring_.get());
}

void UringLoop::run() {
  bind_thread();
  {
    Enter enter(*this);
    while (!stop_.load(std::memory_order_acquire)) turn(nullptr);
    const std::lock_guard lock(posts_mutex_);
    posts_closed_ = true;
    posts_.clear();
  }
  unbind_thread();
}

namespace {
Task<void> run_and_tell(Task<void> task, bool* done) {
  co_await std::move(task);
  { Task<void> ended = std::move(task); }
  *done = true;
}
}  // namespace

void UringLoop::run_until(Task<void> task) {
  bind_thread();
  {
    Enter enter(*this);
    Gate gate;
    bool done = false;
    spawn(gate, run_and_tell(std::move(task), &done));
    // The gate opens one resumption after `done`.
    while (gate.inside() > 0) turn(&done);
  }
  unbind_thread();
}

void UringLoop::stop() {
  stop_.store(true, std::memory_order_release);
  wake();
}

void UringLoop::post(std::function<void()> fn) {
  {
    const std::lock_guard lock(posts_mutex_);
    if (posts_closed_) return;
    posts_.push_back(std::move(fn));
    posts_waiting_.store(true, std::memory_order_release);
  }
  if (Loop::current_or_null() != this) wake();
}

void UringLoop::wake() {
  if (wake_sent_.exchange(true, std::memory_order_acq_rel)) return;
  const uint64_t one = 1;
  const ssize_t n = ::write(wake_fd_.get(), &one, sizeof one);
  HF_ASSERT(n == sizeof one, "eventfd write: {}", errno);
}

void UringLoop::run_posts() {
  if (!posts_waiting_.load(std::memory_order_acquire)) return;
  {
    const std::lock_guard lock(posts_mutex_);
    running_posts_.swap(posts_);
    posts_waiting_.store(false, std::memory_order_relaxed);
  }
  for (std::function<void()>& fn : running_posts_) {
    // Freed before the next one runs: it may own what its effect refers to.
    const std::function<void()> run = std::move(fn);
    run();
  }
  running_posts_.clear();
}

void UringLoop::turn(const bool* done) {
  // run_until() does not look at stop(): a task that winds down after it needs its turns.
  ++turns_;
  arm_wake();
  run_posts();
  const bool more = run_ready(kReadyPerTurn);
  fire_timers();
  const bool busy = more || has_ready() || posts_waiting_.load(std::memory_order_acquire) ||
                    (done != nullptr ? *done : stop_.load(std::memory_order_acquire));
  enter_kernel(!busy);
  reap();
}

void UringLoop::fire_timers() {
  if (timers_.empty()) return;
  const MonoTime at = now();
  while (Timer* timer = timers_.pop_due(at)) timer->fire(*timer);
}

void UringLoop::arm_wake() {
  if (wake_armed_) return;
  wake_armed_ = true;
  io_uring_sqe* sqe = next_sqe();
  io_uring_prep_read(sqe, wake_fd_.get(), &wake_value_, sizeof wake_value_, 0);
  io_uring_sqe_set_data64(sqe, reinterpret_cast<uint64_t>(&wake_op_));
}

// One system call that hands over new entries, runs the completions' task work and, if `sleep`,
// waits.
void UringLoop::enter_kernel(bool sleep) {
  io_uring* ring = ring_.get();
  if (sleep && io_uring_cq_ready(ring) == 0) {
    int result;
    if (timers_.empty()) {
      result = io_uring_submit_and_wait(ring, 1);
    } else {
      const int64_t ns = std::max<int64_t>(0, (timers_.earliest() - now()).count());
      __kernel_timespec wait{.tv_sec = ns / 1'000'000'000, .tv_nsec = ns % 1'000'000'000};
      io_uring_cqe* cqe = nullptr;
      result = io_uring_submit_and_wait_timeout(ring, &cqe, 1, &wait, nullptr);
    }
    // EBUSY: more completions than the queue holds; they are reaped now. EINTR: a signal.
    HF_ASSERT(result >= 0 || result == -ETIME || result == -EINTR || result == -EBUSY ||
                  result == -EAGAIN,
              "io_uring_enter: {}", result);
    return;
  }
  const bool task_work = !taskrun_flag_ ||
                         (IO_URING_READ_ONCE(*ring->sq.kflags) & IORING_SQ_TASKRUN) != 0 ||
                         io_uring_cq_has_overflow(ring);
  if (io_uring_sq_ready(ring) == 0 && !(task_work && in_flight_ > 0)) return;
  const int result = io_uring_submit_and_get_events(ring);
  HF_ASSERT(result >= 0 || result == -EINTR || result == -EBUSY || result == -EAGAIN,
            "io_uring_enter: {}", result);
}

void UringLoop::reap() {
  io_uring* ring = ring_.get();
  // What is there now; completions that come meanwhile are for the next turn.
  unsigned left = io_uring_cq_ready(ring);
  for (; left > 0; --left) {
    io_uring_cqe* cqe = nullptr;
    if (io_uring_peek_cqe(ring, &cqe) != 0 || cqe == nullptr) break;
    const uint64_t data = cqe->user_data;
    const int32_t result = cqe->res;
    const uint32_t flags = cqe->flags;
    io_uring_cqe_seen(ring, cqe);
    if (data == 0) continue;
    if ((data & kFileTag) != 0) {
      --in_flight_;
      IoRequest& request = *reinterpret_cast<IoRequest*>(data & ~kFileTag);
      if (UringFile::advance(request, result)) {
        finish_file_op();
        ready(request);
      } else {
        UringFile::fill(request, prepare_file(request));
      }
      continue;
    }
    UringOp& op = *reinterpret_cast<UringOp*>(data);
    if (&op != &wake_op_ && (flags & IORING_CQE_F_MORE) == 0) --in_flight_;
    op.complete(op, result, flags);
  }
}

io_uring_sqe* UringLoop::next_sqe() {
  io_uring_sqe* sqe = io_uring_get_sqe(ring_.get());
  // The queue is full: hand it over. The kernel takes every entry unless it is out of memory; that
  // and EBUSY (completion queue overflowing) pass when what is complete has been fetched.
  for (int tries = 0; sqe == nullptr; ++tries) {
    HF_ASSERT(tries < 1000, "io_uring takes no more entries");
    if (tries == 0) {
      (void)io_uring_submit(ring_.get());
    } else {
      (void)io_uring_submit_and_get_events(ring_.get());
    }
    sqe = io_uring_get_sqe(ring_.get());
  }
  return sqe;
}

io_uring_sqe* UringLoop::prepare(UringOp& op) {
  HF_ASSERT(Loop::current_or_null() == this, "operation started off its loop");
  io_uring_sqe* sqe = next_sqe();
  std::memset(sqe, 0, sizeof *sqe);
  io_uring_sqe_set_data64(sqe, reinterpret_cast<uint64_t>(&op));
  ++in_flight_;
  return sqe;
}

void UringLoop::cancel(UringOp& op) {
  io_uring_sqe* sqe = next_sqe();
  io_uring_prep_cancel64(sqe, reinterpret_cast<uint64_t>(&op), 0);
  io_uring_sqe_set_data64(sqe, 0);
}

io_uring_sqe* UringLoop::prepare_file(IoRequest& request) {
  io_uring_sqe* sqe = next_sqe();
  ++in_flight_;
  sqe->user_data = reinterpret_cast<uint64_t>(&request) | kFileTag;
  return sqe;
}

void UringLoop::start_file_op(IoRequest& request) {
  HF_ASSERT(Loop::current_or_null() == this, "operation started off its loop");
  if (file_ops_ >= kMaxFileOps) {
    waiting_file_ops_.push_back(request);
    return;
  }
  ++file_ops_;
  UringFile::fill(request, prepare_file(request));
}

void UringLoop::finish_file_op() {
  --file_ops_;
  if (waiting_file_ops_.empty()) return;
  IoRequest& next = static_cast<IoRequest&>(waiting_file_ops_.pop_front());
  ++file_ops_;
  UringFile::fill(next, prepare_file(next));
}

}  // namespace hf
