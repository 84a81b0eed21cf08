// IORING_OP_URING_CMD: commands to drivers (ublk, NVMe, FUSE). Real world only.
//
// The kernel's rule: a command carries 16 bytes in a normal entry and 80 in a 128-byte one, and the
// driver says which it needs. ublk's I/O commands (struct ublksrv_io_cmd, 16 bytes) go through the
// loop's own ring by submit_command(), without allocation; its control commands (struct
// ublksrv_ctrl_cmd, 32 bytes) need a ring with SQE128: CommandRing.
#pragma once

#include <cstdint>
#include <memory>

#include "base/bytes.h"
#include "base/error.h"
#include "runtime/cancel.h"
#include "runtime/task.h"
#include "uring/fd_watch.h"
#include "uring/uring_loop.h"

namespace hf {

inline constexpr size_t kSmallCommandBytes = 16;
inline constexpr size_t kLargeCommandBytes = 80;

// Starts a command on the loop's ring; `op` completes with the driver's result. `cmd` is copied.
void submit_command(UringLoop& loop, UringOp& op, int fd, uint32_t cmd_op, ByteSpan cmd);

// A small ring of its own for rare commands of up to 80 bytes, reaped by the loop.
class CommandRing {
 public:
  static constexpr uint32_t kEntries = 32;

  static Result<std::unique_ptr<CommandRing>> create(UringLoop& loop);
  // None of its commands may be in flight.
  ~CommandRing();
  CommandRing(const CommandRing&) = delete;
  CommandRing& operator=(const CommandRing&) = delete;

  // The driver's result (≥ 0), or an error that names `what`. `cmd` is copied; memory that it
  // points to must live until the end. At most kEntries at once, more are refused with
  // kLimitExceeded.
  Task<Result<int>> command(std::string what, int fd, uint32_t cmd_op, ByteSpan cmd);
  // The same, with the driver's −errno as a result: for those that decide by it.
  // A cancel ends a command whose driver waits in a way that can be interrupted, mostly with -EINTR
  // or -ECANCELED; where it cannot, the command goes on to its end.
  Task<Result<int>> raw_command(std::string what, int fd, uint32_t cmd_op, ByteSpan cmd,
                                CancelToken cancel = CancelToken());

 private:
  struct Call;
  CommandRing();
  void cancel(Call& call);
  void reap();

  std::unique_ptr<io_uring> ring_;
  std::unique_ptr<FdWatch> watch_;
  uint32_t in_flight_ = 0;
};

}  // namespace hf
