// FdChannel: messages with open descriptors over a Unix socket (SCM_RIGHTS, SOCK_SEQPACKET), for
// the process that holds exports while the daemon restarts. Real world only.
//
// A message arrives whole or not at all. The peer's uid is checked by whoever accepts (peer_uid()).
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "runtime/clock.h"
#include "runtime/task.h"
#include "uring/owned_fd.h"
#include "uring/unix_socket.h"
#include "uring/uring_loop.h"

namespace hf {

class UringCall;

inline constexpr size_t kMaxFdsPerMessage = 64;
inline constexpr size_t kMaxFdMessageBytes = 64 * 1024;

class FdMessage {
 public:
  FdMessage() = default;
  std::vector<std::byte> bytes;
  std::vector<OwnedFd> fds;
};

// At most one send and one receive at a time (asserted). close() ends what is pending with kClosed.
class FdChannel {
 public:
  FdChannel(UringLoop& loop, OwnedFd fd) : loop_(loop), fd_(std::move(fd)) {}
  ~FdChannel();
  FdChannel(const FdChannel&) = delete;
  FdChannel& operator=(const FdChannel&) = delete;

  // `bytes` (1 to kMaxFdMessageBytes) and `fds` (the peer gets duplicates) stay valid until the
  // end.
  Task<Status> send(ByteSpan bytes, std::span<const int> fds);
  // kClosed when the peer has closed; kProtocol for a message that is larger than the limits.
  // Received descriptors are close-on-exec.
  Task<Result<FdMessage>> receive();
  void close();
  // The effective uid of the process that connected.
  Result<uint32_t> peer_uid() const;

 private:
  Error error(const char* what, int err) const;
  UringLoop& loop_;
  OwnedFd fd_;
  bool closed_ = false;
  UringCall* sending_ = nullptr;
  UringCall* receiving_ = nullptr;
};

class FdChannelListener {
 public:
  // As Network::listen for Unix sockets; blocks at most about 2 s (call it at start, or in the
  // pool).
  static Result<std::unique_ptr<FdChannelListener>> listen(UringLoop& loop, const std::string& path,
                                                           uint32_t mode);
  ~FdChannelListener();
  Task<Result<std::unique_ptr<FdChannel>>> accept();
  void close();

 private:
  FdChannelListener(UringLoop& loop, OwnedFd fd, UnixSocketFile file)
      : loop_(loop), fd_(std::move(fd)), file_(std::move(file)) {}
  UringLoop& loop_;
  OwnedFd fd_;
  const UnixSocketFile file_;
  UringCall* accepting_ = nullptr;
  bool closed_ = false;
};

// kUnavailable where nobody listens, kNotFound where there is no such socket.
Task<Result<std::unique_ptr<FdChannel>>> connect_fd_channel(UringLoop& loop, std::string path,
                                                            Duration timeout);

}  // namespace hf
