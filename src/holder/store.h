// What the holder holds: named descriptors, each with its opaque state, and what a request does to
// them. No I/O but closing.
#pragma once

#include <unistd.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "holder/protocol.h"

namespace hf::holder {

class HeldFd {
 public:
  HeldFd() = default;
  explicit HeldFd(int fd) : fd_(fd) {}
  HeldFd(HeldFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  HeldFd& operator=(HeldFd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~HeldFd() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_ = -1;
};

class Store {
 public:
  // Answers one request; takes `fd` (-1: none came). `*reply_fd` is the descriptor to send, still
  // held here, or -1.
  Message handle(const Message& request, size_t received, int fd, int* reply_fd);
  size_t size() const { return entries_.size(); }
  // A client asked for the end while nothing was held.
  bool ended() const { return ended_; }

 private:
  struct Entry {
    HeldFd fd;
    std::vector<std::byte> state;
  };
  ReplyStatus put(const std::string& name, ByteSpan state, HeldFd fd);

  std::map<std::string, Entry> entries_;
  bool ended_ = false;
};

}  // namespace hf::holder
