#include "uring/fd_watch.h"

#include "uring/uring_call.h"

namespace hf {

struct FdWatch::State : UringOp {
  State(UringLoop& l, int f, uint32_t e, OnReady fn)
      : UringOp(&on_complete), loop(l), fd(f), events(e), on_ready(std::move(fn)) {}

  void arm() {
    io_uring_prep_poll_multishot(loop.prepare(*this), fd, events);
    armed = true;
  }
  static void on_complete(UringOp& op, int32_t result, uint32_t flags) {
    State& self = static_cast<State&>(op);
    self.armed = (flags & IORING_CQE_F_MORE) != 0;
    if (!self.closed) {
      self.in_callback = true;
      self.on_ready(result >= 0 ? static_cast<uint32_t>(result) : POLLNVAL);
      self.in_callback = false;
    }
    if (self.closed) {
      if (!self.armed) delete &self;
    } else if (!self.armed && result >= 0) {
      self.arm();  // the kernel ended the multishot (its queue was full)
    }
  }
  void close() {
    closed = true;
    if (armed) {
      loop.cancel(*this);
    } else if (!in_callback) {
      delete this;
    }
  }

  UringLoop& loop;
  const int fd;
  const uint32_t events;
  OnReady on_ready;
  bool armed = false;
  bool closed = false;
  bool in_callback = false;
};

FdWatch::FdWatch(UringLoop& loop, int fd, uint32_t events, OnReady on_ready)
    : state_(new State(loop, fd, events, std::move(on_ready))) {
  state_->arm();
}

FdWatch::~FdWatch() {
  state_->close();
}

Task<Result<uint32_t>> poll_once(UringLoop& loop, int fd, uint32_t events, CancelToken cancel) {
  if (cancel.is_cancelled()) co_return make_error(ErrorCode::kCancelled, "poll cancelled");
  UringCall call(loop);
  io_uring_prep_poll_add(call.sqe(), fd, events);
  CancelCallback on_cancel(cancel.source(), [&call] { call.cancel(); });
  const int result = co_await call;
  if (result >= 0) co_return static_cast<uint32_t>(result);
  if (result == -ECANCELED) co_return make_error(ErrorCode::kCancelled, "poll cancelled");
  co_return Error::from_errno(-result, "poll");
}

}  // namespace hf
