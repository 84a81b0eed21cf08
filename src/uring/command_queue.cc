#include "uring/command_queue.h"

#include <liburing.h>
#include <linux/capability.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace hf {
namespace {

// Never destroyed: see the header.
void keep_until_exit(std::unique_ptr<io_uring> ring) {
  static std::mutex mutex;
  static auto* const kept = new std::vector<std::unique_ptr<io_uring>>();
  const std::lock_guard lock(mutex);
  kept->push_back(std::move(ring));
}

}  // namespace

Result<std::unique_ptr<CommandQueue>> CommandQueue::create(UringLoop& loop, uint32_t entries,
                                                           OnComplete on_complete) {
  std::unique_ptr<CommandQueue> self(new CommandQueue(loop, std::move(on_complete)));
  auto ring = std::make_unique<io_uring>();
  io_uring_params params{};
  const int err = -io_uring_queue_init_params(entries, ring.get(), &params);
  if (err != 0) return Error::from_errno(err, "io_uring ring for driver commands");
  self->ring_ = std::move(ring);
  CommandQueue* raw = self.get();
  self->watch_ = std::make_unique<FdWatch>(loop, self->ring_->ring_fd, POLLIN,
                                           [raw](uint32_t) { raw->reap(); });
  return self;
}

CommandQueue::CommandQueue(UringLoop& loop, OnComplete on_complete)
    : loop_(loop), on_complete_(std::move(on_complete)) {}

CommandQueue::~CommandQueue() {
  watch_.reset();
  if (!ring_) return;
  on_complete_ = [](uint16_t, int32_t) {};
  reap();
  if (in_flight_ == 0) {
    io_uring_queue_exit(ring_.get());
  } else {
    keep_until_exit(std::move(ring_));
  }
}

Result<uint16_t> CommandQueue::personality_without(int capability) {
  int made = 0;
  std::thread lesser([&] {
    __user_cap_header_struct header{};
    header.version = _LINUX_CAPABILITY_VERSION_3;
    __user_cap_data_struct sets[2] = {};
    if (syscall(SYS_capget, &header, sets) != 0) {
      made = -errno;
      return;
    }
    sets[CAP_TO_INDEX(capability)].effective &= ~CAP_TO_MASK(capability);
    if (syscall(SYS_capset, &header, sets) != 0) {
      made = -errno;
      return;
    }
    made = io_uring_register_personality(ring_.get());
  });
  lesser.join();
  if (made < 0) {
    return Error::from_errno(-made,
                             fmt::format("make credentials without capability {}", capability));
  }
  return static_cast<uint16_t>(made);
}

void CommandQueue::prepare(uint16_t tag, int fd, uint32_t cmd_op, ByteSpan cmd,
                           uint16_t personality) {
  HF_ASSERT(Loop::current_or_null() == &loop_, "a driver command off its loop");
  HF_ASSERT(cmd.size() <= kSmallCommandBytes, "{}", cmd.size());
  io_uring_sqe* sqe = io_uring_get_sqe(ring_.get());
  HF_ASSERT(sqe != nullptr, "no room for a command of tag {}", tag);
  std::memset(static_cast<void*>(sqe), 0, sizeof *sqe);
  sqe->opcode = IORING_OP_URING_CMD;
  sqe->fd = fd;
  sqe->cmd_op = cmd_op;
  sqe->personality = personality;
  std::memcpy(reinterpret_cast<std::byte*>(sqe) + offsetof(io_uring_sqe, cmd), cmd.data(),
              cmd.size());
  io_uring_sqe_set_data64(sqe, tag);
  ++in_flight_;
}

Status CommandQueue::submit() {
  while (io_uring_sq_ready(ring_.get()) > 0) {
    const int submitted = io_uring_submit(ring_.get());
    if (submitted == -EINTR || submitted == -EAGAIN || submitted == -EBUSY) continue;
    if (submitted < 0) return Error::from_errno(-submitted, "submit driver commands");
  }
  return Status();
}

void CommandQueue::reap() {
  io_uring_cqe* cqe = nullptr;
  while (io_uring_peek_cqe(ring_.get(), &cqe) == 0 && cqe != nullptr) {
    const auto tag = static_cast<uint16_t>(io_uring_cqe_get_data64(cqe));
    const int32_t result = cqe->res;
    io_uring_cqe_seen(ring_.get(), cqe);
    --in_flight_;
    on_complete_(tag, result);
  }
}

}  // namespace hf
