#include "uring/uring_stream.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "uring/uring_call.h"

namespace hf {
namespace {

// Segments per system call; a longer write takes several.
constexpr size_t kIovecs = 64;
// Bytes per receive or send: what fits the kernel's int result with room to spare.
constexpr size_t kMaxTransfer = 1u << 30;

// The next bytes to send, behind the first `sent` of `segments`. Returns how many entries were
// filled.
unsigned gather(std::span<const ByteSpan> segments, size_t sent, std::array<iovec, kIovecs>* out) {
  unsigned count = 0;
  size_t total = 0;
  for (const ByteSpan segment : segments) {
    if (sent >= segment.size()) {
      sent -= segment.size();
      continue;
    }
    const ByteSpan rest = segment.subspan(sent);
    sent = 0;
    if (count == kIovecs || total + rest.size() > kMaxTransfer) {
      if (count > 0) break;
    }
    iovec& vec = (*out)[count++];
    vec.iov_base = const_cast<std::byte*>(rest.data());
    vec.iov_len = std::min(rest.size(), kMaxTransfer);
    total += vec.iov_len;
  }
  return count;
}

}  // namespace

UringStream::UringStream(UringLoop& loop, OwnedFd fd, bool is_socket, std::string peer)
    : loop_(loop), fd_(std::move(fd)), is_socket_(is_socket), peer_(std::move(peer)) {}

UringStream::~UringStream() {
  HF_ASSERT(reading_ == nullptr && writing_ == nullptr, "stream {} destroyed in use", peer_);
}

Error UringStream::closed_error() const {
  return make_error(ErrorCode::kClosed, "connection to {} is closed", peer_);
}

Error UringStream::io_error(const char* what, int err) const {
  if (closed_) return closed_error();
  return Error::from_errno(err, fmt::format("{} {}", what, peer_));
}

Task<Result<size_t>> UringStream::read_some(MutableByteSpan out) {
  HF_ASSERT(reading_ == nullptr, "two reads of {} at once", peer_);
  HF_ASSERT(!out.empty());
  const size_t size = std::min(out.size(), kMaxTransfer);
  while (true) {
    if (closed_) co_return closed_error();
    UringCall call(loop_);
    if (is_socket_) {
      io_uring_prep_recv(call.sqe(), fd_.get(), out.data(), size, 0);
    } else {
      io_uring_prep_read(call.sqe(), fd_.get(), out.data(), static_cast<unsigned>(size),
                         static_cast<uint64_t>(-1));
    }
    reading_ = &call;
    const int n = co_await call;
    reading_ = nullptr;
    if (n == -EINTR || n == -EAGAIN) continue;
    if (n < 0) co_return io_error("receive from", -n);
    if (n == 0 && closed_) co_return closed_error();
    co_return static_cast<size_t>(n);
  }
}

Task<Status> UringStream::write_all(std::span<const ByteSpan> segments) {
  HF_ASSERT(writing_ == nullptr, "two writes to {} at once", peer_);
  size_t total = 0;
  for (const ByteSpan segment : segments) total += segment.size();
  size_t sent = 0;
  std::array<iovec, kIovecs> vecs;
  while (sent < total) {
    if (closed_) co_return closed_error();
    msghdr message{};
    message.msg_iov = vecs.data();
    message.msg_iovlen = gather(segments, sent, &vecs);
    UringCall call(loop_);
    if (is_socket_) {
      // MSG_WAITALL: the kernel goes on after a short send by itself.
      io_uring_prep_sendmsg(call.sqe(), fd_.get(), &message, MSG_NOSIGNAL | MSG_WAITALL);
    } else {
      io_uring_prep_writev(call.sqe(), fd_.get(), vecs.data(),
                           static_cast<unsigned>(message.msg_iovlen), static_cast<uint64_t>(-1));
    }
    writing_ = &call;
    const int n = co_await call;
    writing_ = nullptr;
    if (n == -EINTR || n == -EAGAIN) continue;
    if (n < 0) co_return io_error("send to", -n);
    sent += static_cast<size_t>(n);
  }
  co_return Status();
}

void UringStream::close() {
  if (std::exchange(closed_, true)) return;
  // Wakes what waits for the peer, and tells the peer; what is in a kernel worker is cancelled.
  if (is_socket_ && fd_.valid()) (void)::shutdown(fd_.get(), SHUT_RDWR);
  if (reading_ != nullptr) reading_->cancel();
  if (writing_ != nullptr) writing_->cancel();
  if (reading_ == nullptr && writing_ == nullptr) fd_.reset();
}

OwnedFd UringStream::release_fd() {
  HF_ASSERT(reading_ == nullptr && writing_ == nullptr, "stream {} in use", peer_);
  closed_ = true;
  return std::move(fd_);
}

std::unique_ptr<UringStream> adopt_stream(UringLoop& loop, OwnedFd fd, std::string peer) {
  struct stat info {};
  const bool is_socket = fstat(fd.get(), &info) == 0 && S_ISSOCK(info.st_mode);
  if (is_socket) {
    // Fails on Unix sockets, which have no such thing.
    const int on = 1;
    (void)setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  }
  return std::make_unique<UringStream>(loop, std::move(fd), is_socket, std::move(peer));
}

}  // namespace hf
