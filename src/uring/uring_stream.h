// UringStream: a Stream over any descriptor: a socket, or a pipe, adopted as it is.
#pragma once

#include <memory>
#include <string>

#include "runtime/net.h"
#include "uring/owned_fd.h"
#include "uring/uring_loop.h"

namespace hf {

class UringCall;

class UringStream final : public Stream {
 public:
  UringStream(UringLoop& loop, OwnedFd fd, bool is_socket, std::string peer);
  ~UringStream() override;
  Task<Result<size_t>> read_some(MutableByteSpan out) override;
  Task<Status> write_all(std::span<const ByteSpan> segments) override;
  void close() override;
  const std::string& peer() const override { return peer_; }

  int fd() const { return fd_.get(); }
  // Takes the descriptor out (to hand it to the kernel or another process); the stream is closed
  // after. None of its operations may be in flight.
  OwnedFd release_fd();

 private:
  Error closed_error() const;
  Error io_error(const char* what, int err) const;

  UringLoop& loop_;
  OwnedFd fd_;
  const bool is_socket_;
  bool closed_ = false;
  const std::string peer_;
  UringCall* reading_ = nullptr;
  UringCall* writing_ = nullptr;
};

// Makes a Stream of a connected descriptor; `peer` names it in errors. TCP sockets get TCP_NODELAY.
std::unique_ptr<UringStream> adopt_stream(UringLoop& loop, OwnedFd fd, std::string peer);

}  // namespace hf
