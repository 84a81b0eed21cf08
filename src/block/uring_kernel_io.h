// KernelIo of the real world.
#pragma once

#include "block/kernel_io.h"
#include "uring/uring_loop.h"

namespace hf::block {

class UringKernelIo final : public KernelIo {
 public:
  explicit UringKernelIo(UringLoop& loop) : loop_(loop) {}
  std::unique_ptr<ReadWatch> watch(int fd) override;
  std::unique_ptr<Stream> stream(int fd, std::string peer) override;

 private:
  UringLoop& loop_;
};

}  // namespace hf::block
