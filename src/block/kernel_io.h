// The little that this room needs of the real kernel beyond the runtime's seams: waiting until a
// descriptor can be read, and turning a socket into a Stream. uring_kernel_io.h implements it.
#pragma once

#include <memory>
#include <string>

#include "base/error.h"
#include "runtime/net.h"
#include "runtime/task.h"

namespace hf::block {

class ReadWatch {
 public:
  // No readable() may be pending.
  virtual ~ReadWatch() = default;
  // Ends when the descriptor can be read, or has failed (the read then says how). kClosed after
  // close().
  virtual Task<Status> readable() = 0;
  // Ends a pending readable(). Idempotent.
  virtual void close() = 0;
};

class KernelIo {
 public:
  virtual ~KernelIo() = default;
  // Does not own `fd`, which outlives the watch.
  virtual std::unique_ptr<ReadWatch> watch(int fd) = 0;
  // Owns `fd`.
  virtual std::unique_ptr<Stream> stream(int fd, std::string peer) = 0;
};

}  // namespace hf::block
