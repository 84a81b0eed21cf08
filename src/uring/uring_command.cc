#include "uring/uring_command.h"

#include <liburing.h>

#include <cstring>

#include "runtime/sync.h"

namespace hf {
namespace {

void fill_command(io_uring_sqe* sqe, int fd, uint32_t cmd_op, ByteSpan cmd) {
  sqe->opcode = IORING_OP_URING_CMD;
  sqe->fd = fd;
  sqe->cmd_op = cmd_op;
  // `cmd` is the tail of the entry, declared as an array without length.
  std::byte* tail = reinterpret_cast<std::byte*>(sqe) + offsetof(io_uring_sqe, cmd);
  if (!cmd.empty()) std::memcpy(tail, cmd.data(), cmd.size());
}
static_assert(offsetof(io_uring_sqe, cmd) + kSmallCommandBytes == sizeof(io_uring_sqe));
static_assert(offsetof(io_uring_sqe, cmd) + kLargeCommandBytes == 2 * sizeof(io_uring_sqe));

}  // namespace

void submit_command(UringLoop& loop, UringOp& op, int fd, uint32_t cmd_op, ByteSpan cmd) {
  HF_ASSERT(cmd.size() <= kSmallCommandBytes, "{}", cmd.size());
  fill_command(loop.prepare(op), fd, cmd_op, cmd);
}

struct CommandRing::Call {
  Event done;
  int result = 0;
};

Result<std::unique_ptr<CommandRing>> CommandRing::create(UringLoop& loop) {
  std::unique_ptr<CommandRing> self(new CommandRing());
  auto ring = std::make_unique<io_uring>();
  io_uring_params params{};
  params.flags = IORING_SETUP_SQE128;
  const int err = -io_uring_queue_init_params(kEntries, ring.get(), &params);
  if (err != 0) {
    return Error::from_errno(err, "io_uring ring with 128-byte entries (Linux 5.19 or newer)");
  }
  self->ring_ = std::move(ring);
  CommandRing* raw = self.get();
  self->watch_ = std::make_unique<FdWatch>(loop, self->ring_->ring_fd, POLLIN,
                                           [raw](uint32_t) { raw->reap(); });
  return self;
}

CommandRing::CommandRing() = default;

CommandRing::~CommandRing() {
  HF_ASSERT(in_flight_ == 0, "destroyed with {} commands in flight", in_flight_);
  watch_.reset();
  if (ring_) io_uring_queue_exit(ring_.get());
}

Task<Result<int>> CommandRing::command(std::string what, int fd, uint32_t cmd_op, ByteSpan cmd) {
  Result<int> result = co_await raw_command(what, fd, cmd_op, cmd);
  if (result.ok() && *result < 0) co_return Error::from_errno(-*result, what);
  co_return result;
}

// Without room in the ring the command just goes on; its end is waited for anyway.
void CommandRing::cancel(Call& call) {
  io_uring_sqe* sqe = io_uring_get_sqe(ring_.get());
  if (sqe == nullptr) return;
  std::memset(static_cast<void*>(sqe), 0, 2 * sizeof *sqe);
  sqe->opcode = IORING_OP_ASYNC_CANCEL;
  sqe->fd = -1;
  sqe->addr = reinterpret_cast<uint64_t>(&call);
  const int submitted = io_uring_submit(ring_.get());
  HF_ASSERT(submitted == 1, "io_uring_submit: {}", submitted);
}

Task<Result<int>> CommandRing::raw_command(std::string what, int fd, uint32_t cmd_op, ByteSpan cmd,
                                           CancelToken cancel_token) {
  HF_ASSERT(cmd.size() <= kLargeCommandBytes, "{}", cmd.size());
  io_uring_sqe* sqe = in_flight_ < kEntries ? io_uring_get_sqe(ring_.get()) : nullptr;
  if (sqe == nullptr) {
    co_return make_error(ErrorCode::kLimitExceeded, "{}: {} driver commands are waiting already",
                         what, in_flight_);
  }
  std::memset(static_cast<void*>(sqe), 0, 2 * sizeof *sqe);
  fill_command(sqe, fd, cmd_op, cmd);
  Call call;
  io_uring_sqe_set_data(sqe, &call);
  ++in_flight_;
  const int submitted = io_uring_submit(ring_.get());
  HF_ASSERT(submitted == 1, "io_uring_submit: {}", submitted);
  CancelCallback on_cancel(cancel_token.source(), [this, raw = &call] { cancel(*raw); });
  co_await call.done.wait();
  --in_flight_;
  co_return call.result;
}

void CommandRing::reap() {
  io_uring_cqe* cqe = nullptr;
  while (io_uring_peek_cqe(ring_.get(), &cqe) == 0 && cqe != nullptr) {
    auto* call = static_cast<Call*>(io_uring_cqe_get_data(cqe));
    const int result = cqe->res;
    io_uring_cqe_seen(ring_.get(), cqe);
    if (call == nullptr) continue;  // the answer to a cancel
    call->result = result;
    call->done.set();
  }
}

}  // namespace hf
