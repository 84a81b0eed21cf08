// FuseSession: serves one FUSE connection, a folder with one file `disk` that is a BlockDevice.
//
//   kernel ──/dev/fuse──▶ serve(): read until EAGAIN, decode ──spawn──▶ one coroutine per request
//                                                                        │ AlignFilter →
//                                                                        BlockDevice
//   kernel ◀──────────────────── one write(2) per reply ◀────────────────┘
//
// Stateless by intent: nodes and handles are constants, so a server that adopts the connection of a
// dead one needs only what INIT agreed on. adopt() asks the kernel to send again what the dead one
// had read and not answered.
//
// Why a request that is sent again may be executed twice. The dead server may have executed it and
// died before its answer. Reads, flushes: nothing changes. Writes, zeroes, discards: the second
// execution writes the same content to the same range; it could only do harm by undoing a *later*
// write there. There is none: a client whose order matters (a file system, a database with
// O_DIRECT, the page cache writing back) starts an overlapping write only after the first was
// answered, and a request that was answered is not sent again. Two overlapping writes both
// unanswered at the kill were concurrent for the client, which has no claim to an order, then as
// now. (Old writes of the dead process must have ended before we start: the pool's lock, held by
// the open journal, sees to it.)
//
// Loop thread only. Errors of the device go to the client as errno; a connection that the kernel
// ended (unmounted, aborted) ends serve() quietly.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/bytes.h"
#include "block/fuse/fuse_buffers.h"
#include "block/fuse/fuse_request.h"
#include "block/kernel_io.h"
#include "runtime/gate.h"
#include "volume/filters/align_filter.h"

namespace hf::fuse {

// What INIT agreed on; kept by the holder beside the descriptor.
struct Negotiated {
  bool initialised = false;
  uint32_t minor = 0;
  uint64_t flags = 0;
  uint32_t max_write = 0;
  bool can_resend() const;
};

// The flags that we ask for, of those the kernel offers.
uint64_t choose_flags(uint64_t offered);

class Session {
 public:
  // `fd` (/dev/fuse, O_NONBLOCK) is borrowed and outlives the session. `name` is for the log.
  Session(block::KernelIo& io, Buffers& buffers, int fd, std::string name, BlockDevice& device);
  ~Session();

  // For a connection that another process served before: no INIT will come (unless it died before
  // it answered). Before start(). kIo when the kernel refuses to send again.
  Status adopt(const Negotiated& agreed);
  void start();
  // Waits until INIT has been answered. kTimeout is the caller's affair; kClosed if the connection
  // ended.
  Task<Status> wait_initialised();
  // Stops reading, lets what runs finish and be answered. The connection stays; requests wait in
  // it.
  Task<void> stop();

  const Negotiated& negotiated() const { return agreed_; }
  bool ended() const { return ended_; }

  struct Counters {
    uint64_t requests = 0;
    uint64_t resent = 0;
    uint64_t refused = 0;  // malformed or out of bounds
  };
  const Counters& counters() const { return counters_; }

 private:
  Task<void> serve();
  bool read_one(Slot slot);
  void dispatch(const Request& request, Slot slot);
  void answer_now(const Request& request);
  void answer_init(const Request& request);
  void answer_lookup(const Request& request);
  void answer_readdir(const Request& request);
  Task<void> run_read(Request request);
  Task<void> run_write(Request request, Slot slot);
  Task<void> run_simple(Request request);
  Task<void> run_lseek(Request request);
  void reply(uint64_t unique, const void* body, size_t size);
  void reply_error(uint64_t unique, int sys_errno);
  void send(const void* message, size_t size, uint64_t unique);

  block::KernelIo& io_;
  Buffers& buffers_;
  Buffers::Share share_;       // requests and their payloads
  Buffers::Share read_share_;  // answers of reads
  const int fd_;
  const std::string name_;
  AlignFilter device_;
  std::unique_ptr<block::ReadWatch> watch_;
  Negotiated agreed_;
  Event initialised_;  // or ended
  bool stopping_ = false;
  bool ended_ = false;
  Counters counters_;
  Gate gate_;
};

}  // namespace hf::fuse
