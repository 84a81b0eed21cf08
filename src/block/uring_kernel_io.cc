#include "block/uring_kernel_io.h"

#include "runtime/sync.h"
#include "uring/fd_watch.h"
#include "uring/uring_stream.h"

namespace hf::block {
namespace {

class UringReadWatch final : public ReadWatch {
 public:
  UringReadWatch(UringLoop& loop, int fd) {
    watch_ = std::make_unique<FdWatch>(loop, fd, POLLIN, [this](uint32_t) { edge_.set(); });
  }
  Task<Status> readable() override {
    co_await edge_.wait();
    edge_.reset();
    if (closed_) co_return Error(ErrorCode::kClosed, "the watch was closed");
    co_return Status();
  }
  void close() override {
    closed_ = true;
    watch_.reset();
    edge_.set();
  }

 private:
  bool closed_ = false;
  Event edge_;  // one that comes between the reader's EAGAIN and its wait is kept
  std::unique_ptr<FdWatch> watch_;
};

}  // namespace

std::unique_ptr<ReadWatch> UringKernelIo::watch(int fd) {
  return std::make_unique<UringReadWatch>(loop_, fd);
}

std::unique_ptr<Stream> UringKernelIo::stream(int fd, std::string peer) {
  return adopt_stream(loop_, OwnedFd(fd), std::move(peer));
}

}  // namespace hf::block
