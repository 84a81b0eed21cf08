// UblkQueue: serves the one queue of a ublk device.
//
//   kernel ── completion of a tag's fetch ──▶ dispatch() ──spawn──▶ one coroutine per request
//   kernel ◀── commit-and-fetch of the tag ◀───────────────────────  │ AlignFilter → BlockDevice
//   data: pread/pwrite on /dev/ublkcN (USER_COPY), so that idle tags hold no memory
//
// Loop thread only. open() must be followed by START_DEV or END_USER_RECOVERY of the device.
#pragma once

#include <deque>
#include <memory>
#include <string>

#include "block/ublk/ublk_wire.h"
#include "runtime/cancel.h"
#include "runtime/gate.h"
#include "runtime/sync.h"
#include "uring/command_queue.h"
#include "uring/owned_fd.h"
#include "volume/block_device.h"

namespace hf::ublk {

class UblkQueue {
 public:
  // `budget`: in blocks, shared by all queues. All outlive this.
  UblkQueue(UringLoop& loop, std::string name, BlockDevice& device, Semaphore& budget)
      : loop_(loop), name_(std::move(name)), device_(device), budget_(budget) {}
  ~UblkQueue();

  // Opens /dev/ublkcN, sends all fetches in one system call, maps the descriptors, starts serving.
  // The order matters: docs/facts-block.md, 3.4.
  Status open(int number);
  // Serves nothing new; waits until what runs has been answered. Then drops the queue: the kernel
  // keeps the device and its requests for the next server, which gets them once this process has
  // ended.
  Task<void> stop();
  // After STOP_DEV, which ends all fetches.
  bool ended() const { return ended_tags_ > 0; }
  // Cancelled when the kernel gives a fetch back without a request: it refused it, or the device is
  // being stopped. What waits for the queue to be complete (START_DEV, END_USER_RECOVERY) would
  // wait for ever.
  CancelToken refused() { return refused_; }
  // Fetches that the kernel has.
  uint32_t in_flight() const { return commands_ ? commands_->in_flight() : 0; }

 private:
  Status fetch_all();
  void on_complete(uint16_t tag, int32_t result);
  Task<void> dispatch();
  Task<void> run(uint16_t tag);
  Task<Status> perform(uint16_t tag, IoDescriptor request, uint64_t offset, uint64_t length);
  Task<Status> transfer(uint16_t tag, IoDescriptor request, uint64_t offset, uint64_t length);
  void commit(uint16_t tag, int32_t result);

  UringLoop& loop_;
  const std::string name_;
  BlockDevice& device_;
  Semaphore& budget_;
  OwnedFd fd_;
  const IoDescriptor* descriptors_ = nullptr;
  std::unique_ptr<CommandQueue> commands_;
  std::deque<uint16_t> arrived_;  // at most kQueueDepth
  Signal changed_;
  bool unsubmitted_ = false;
  bool stopping_ = false;
  uint32_t ended_tags_ = 0;
  CancelSource refused_;
  Gate requests_;
  Gate dispatcher_;
};

}  // namespace hf::ublk
