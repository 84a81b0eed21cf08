// UringFile: a file by io_uring. See runtime/file.h for what is durable when.
//
// The hot path (read, write, durable write) allocates nothing: the request lies in the waiting
// coroutine's frame and its address is the kernel's user data.
#pragma once

#include "runtime/file.h"
#include "uring/blocking_pool.h"
#include "uring/owned_fd.h"
#include "uring/uring_loop.h"

struct io_uring_sqe;

namespace hf {

class UringFile final : public File {
 public:
  UringFile(UringLoop& loop, BlockingPool& blocking, std::string path, OwnedFd fd, bool direct,
            bool block_device);
  ~UringFile() override;

  Result<uint64_t> size() const override;
  Task<Status> set_size(uint64_t size) override;
  // flock(2): it also keeps udev and mkfs away from a block device.
  Status try_lock() override;
  void drop_cache() override;
  void submit(IoRequest& request) override;

  int fd() const { return fd_.get(); }

  // For UringLoop. Fills the kernel's entry for what is left of the request.
  static void fill(IoRequest& request, io_uring_sqe* sqe);
  // Takes in a completion: true when the request is done (its result is set), false when more is
  // left.
  static bool advance(IoRequest& request, int32_t result);

 private:
  bool take_bytes(IoRequest& request, uint64_t moved) const;

  UringLoop& loop_;
  BlockingPool& blocking_;
  OwnedFd fd_;
  const bool block_device_;
  uint32_t in_flight_ = 0;
};

}  // namespace hf
