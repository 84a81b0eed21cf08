// The control commands of ublk devices (docs/facts-block.md, 3.2). They run in the kernel's own
// workers: none blocks the loop, some wait until the queue is served.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "block/ublk/ublk_wire.h"
#include "runtime/cancel.h"
#include "runtime/sync.h"
#include "runtime/task.h"
#include "uring/owned_fd.h"
#include "uring/uring_command.h"

namespace hf::ublk {

// kNotFound, of all but create(), features() and add(): there is no such device.
class UblkControl {
 public:
  // kMissingFeature, with the way out, where the kernel has no ublk.
  static Result<std::unique_ptr<UblkControl>> create(UringLoop& loop);

  // Zero where the kernel is too old to tell (before 6.5).
  Task<uint64_t> features();
  // A new device, not yet started; its number.
  Task<Result<int>> add(uint64_t our_flags);
  Task<Status> set_params(int number, uint64_t size_bytes);
  // These two wait until the queue is complete; kCancelled when `give_up` comes first.
  Task<Status> start(int number, CancelToken give_up);
  Task<Status> end_recovery(int number, CancelToken give_up);
  Task<Result<DeviceInfo>> info(int number);
  Task<Status> start_recovery(int number);
  Task<Status> update_size(int number, uint64_t size_bytes);
  // I/O that waits ends with errors. Success when it is stopped already.
  Task<Status> stop(int number);
  // Its number is free again when nobody has it open any more.
  Task<Status> remove(int number);

  // Numbers of the ublk devices of this machine, anybody's. A look at /sys: blocking pool only.
  static std::vector<int> list();

 private:
  UblkControl(OwnedFd fd, std::unique_ptr<CommandRing> ring)
      : fd_(std::move(fd)), ring_(std::move(ring)) {}
  Task<Result<int>> command(std::string what, uint32_t operation, ControlCommand command,
                            CancelToken cancel = CancelToken());
  Task<Status> simple(const char* what, uint32_t operation, int number, uint64_t data,
                      CancelToken cancel = CancelToken());

  OwnedFd fd_;
  std::unique_ptr<CommandRing> ring_;
  // More commands than the ring takes wait: all volumes of a node may be attached at once.
  Semaphore slots_{CommandRing::kEntries};
};

}  // namespace hf::ublk
