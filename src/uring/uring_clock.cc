#include "uring/uring_clock.h"

#include <time.h>

namespace hf {
namespace {

class Sleep : private Timer {
 public:
  Sleep(UringLoop& loop, MonoTime at, CancelToken cancel)
      : Timer(&on_fire), loop_(loop), at_(at), on_cancel_(cancel.source(), [this] { stop(); }) {}
  ~Sleep() { loop_.timers().disarm(*this); }

  bool await_ready() const { return cancelled_; }
  void await_suspend(std::coroutine_handle<> handle) {
    item_.handle = handle;
    loop_.timers().arm(*this, at_);
  }
  // True if it slept to the end.
  bool await_resume() const { return !cancelled_; }

 private:
  static void on_fire(Timer& timer) {
    Sleep& self = static_cast<Sleep&>(timer);
    self.loop_.ready(self.item_);
  }
  void stop() {
    if (item_.handle && !is_armed()) return;  // fired already
    cancelled_ = true;
    if (!is_armed()) return;  // not begun
    loop_.timers().disarm(*this);
    loop_.ready(item_);
  }

  UringLoop& loop_;
  MonoTime at_;
  ReadyItem item_;
  bool cancelled_ = false;
  CancelCallback on_cancel_;  // last: it may call stop() at once
};

}  // namespace

WallTime UringClock::wall() const {
  timespec ts{};
  clock_gettime(CLOCK_REALTIME, &ts);
  return WallTime{ts.tv_sec * 1'000'000'000 + ts.tv_nsec};
}

Task<Status> UringClock::sleep_until(MonoTime at, CancelToken cancel) {
  Sleep sleep(loop_, at, cancel);
  const bool slept = co_await sleep;
  if (!slept) co_return make_error(ErrorCode::kCancelled, "sleep cancelled");
  co_return Status();
}

}  // namespace hf
