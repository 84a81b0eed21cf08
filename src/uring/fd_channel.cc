#include "uring/fd_channel.h"

#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "uring/uring_call.h"

namespace hf {
namespace {

constexpr size_t kControlBytes = CMSG_SPACE(kMaxFdsPerMessage * sizeof(int));

// Takes the descriptors out of a received message's control data.
std::vector<OwnedFd> take_fds(msghdr* message) {
  std::vector<OwnedFd> fds;
  for (cmsghdr* at = CMSG_FIRSTHDR(message); at != nullptr; at = CMSG_NXTHDR(message, at)) {
    if (at->cmsg_level != SOL_SOCKET || at->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (at->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(at) + i * sizeof fd, sizeof fd);
      fds.emplace_back(fd);
    }
  }
  return fds;
}

}  // namespace

FdChannel::~FdChannel() {
  HF_ASSERT(sending_ == nullptr && receiving_ == nullptr, "channel destroyed in use");
}

Error FdChannel::error(const char* what, int err) const {
  if (closed_) return make_error(ErrorCode::kClosed, "the channel is closed");
  return Error::from_errno(err, what);
}

Task<Status> FdChannel::send(ByteSpan bytes, std::span<const int> fds) {
  HF_ASSERT(sending_ == nullptr, "two sends at once");
  HF_ASSERT(!bytes.empty() && bytes.size() <= kMaxFdMessageBytes, "{}", bytes.size());
  HF_ASSERT(fds.size() <= kMaxFdsPerMessage, "{}", fds.size());
  iovec vec{const_cast<std::byte*>(bytes.data()), bytes.size()};
  alignas(cmsghdr) std::array<std::byte, kControlBytes> control{};
  msghdr message{};
  message.msg_iov = &vec;
  message.msg_iovlen = 1;
  if (!fds.empty()) {
    message.msg_control = control.data();
    message.msg_controllen = CMSG_SPACE(fds.size_bytes());
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(header), fds.data(), fds.size_bytes());
  }
  while (true) {
    if (closed_) co_return error("send", 0);
    UringCall call(loop_);
    io_uring_prep_sendmsg(call.sqe(), fd_.get(), &message, MSG_NOSIGNAL);
    sending_ = &call;
    const int n = co_await call;
    sending_ = nullptr;
    if (n == -EINTR || n == -EAGAIN) continue;
    if (n < 0) co_return error("send message with descriptors", -n);
    co_return Status();  // a packet is sent whole
  }
}

Task<Result<FdMessage>> FdChannel::receive() {
  HF_ASSERT(receiving_ == nullptr, "two receives at once");
  FdMessage out;
  out.bytes.resize(kMaxFdMessageBytes);
  iovec vec{out.bytes.data(), out.bytes.size()};
  alignas(cmsghdr) std::array<std::byte, kControlBytes> control{};
  while (true) {
    if (closed_) co_return error("receive", 0);
    msghdr message{};
    message.msg_iov = &vec;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    UringCall call(loop_);
    io_uring_prep_recvmsg(call.sqe(), fd_.get(), &message, MSG_CMSG_CLOEXEC);
    receiving_ = &call;
    const int n = co_await call;
    receiving_ = nullptr;
    if (n == -EINTR || n == -EAGAIN) continue;
    if (n < 0) co_return error("receive message with descriptors", -n);
    out.fds = take_fds(&message);
    if (n == 0) co_return make_error(ErrorCode::kClosed, "the peer closed the channel");
    if ((message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) {
      co_return make_error(
          ErrorCode::kProtocol,
          "a message with more than {} bytes or {} descriptors, or the limit of open "
          "files was reached",
          kMaxFdMessageBytes, kMaxFdsPerMessage);
    }
    out.bytes.resize(static_cast<size_t>(n));
    co_return std::move(out);
  }
}

void FdChannel::close() {
  if (std::exchange(closed_, true)) return;
  (void)::shutdown(fd_.get(), SHUT_RDWR);
  if (sending_ != nullptr) sending_->cancel();
  if (receiving_ != nullptr) receiving_->cancel();
}

Result<uint32_t> FdChannel::peer_uid() const {
  ucred who{};
  socklen_t size = sizeof who;
  if (getsockopt(fd_.get(), SOL_SOCKET, SO_PEERCRED, &who, &size) != 0) {
    return Error::from_errno(errno, "who is the peer");
  }
  return static_cast<uint32_t>(who.uid);
}

Result<std::unique_ptr<FdChannelListener>> FdChannelListener::listen(UringLoop& loop,
                                                                     const std::string& path,
                                                                     uint32_t mode) {
  UnixSocketFile file;
  Result<OwnedFd> fd = listen_unix(path, SOCK_SEQPACKET, mode, 16, &file);
  if (!fd.ok()) return fd.error();
  return std::unique_ptr<FdChannelListener>(
      new FdChannelListener(loop, std::move(*fd), std::move(file)));
}

FdChannelListener::~FdChannelListener() {
  close();
  HF_ASSERT(accepting_ == nullptr, "listener destroyed in use");
}

void FdChannelListener::close() {
  if (std::exchange(closed_, true)) return;
  remove_unix_socket(file_);
  (void)::shutdown(fd_.get(), SHUT_RDWR);
  if (accepting_ != nullptr) accepting_->cancel();
}

Task<Result<std::unique_ptr<FdChannel>>> FdChannelListener::accept() {
  HF_ASSERT(accepting_ == nullptr, "two accepts at once");
  while (!closed_) {
    UringCall call(loop_);
    io_uring_prep_accept(call.sqe(), fd_.get(), nullptr, nullptr, SOCK_CLOEXEC);
    accepting_ = &call;
    const int fd = co_await call;
    accepting_ = nullptr;
    if (fd >= 0) {
      OwnedFd owned(fd);
      if (closed_) break;
      std::unique_ptr<FdChannel> channel = std::make_unique<FdChannel>(loop_, std::move(owned));
      co_return channel;
    }
    if (closed_) break;
    if (fd == -ECONNABORTED || fd == -EINTR || fd == -EAGAIN) continue;
    co_return Error::from_errno(-fd, "accept on " + file_.path);
  }
  co_return make_error(ErrorCode::kClosed, "listener {} is closed", file_.path);
}

Task<Result<std::unique_ptr<FdChannel>>> connect_fd_channel(UringLoop& loop, std::string path,
                                                            Duration timeout) {
  Result<UnixPlace> place = unix_place(path);
  HF_CO_TRY(place);
  OwnedFd fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!fd.valid()) co_return Error::from_errno(errno, "socket");
  UringCall call(loop);
  io_uring_prep_connect(call.sqe(), fd.get(), place->address.get(), place->address.length);
  CallDeadline deadline(loop, call, UringLoop::now() + timeout);
  const int result = co_await call;
  if (deadline.expired() && result != 0) {
    co_return make_error(ErrorCode::kTimeout, "connect to {}: no answer in time", path);
  }
  if (result != 0) co_return Error::from_errno(-result, "connect to " + path);
  std::unique_ptr<FdChannel> channel = std::make_unique<FdChannel>(loop, std::move(fd));
  co_return channel;
}

}  // namespace hf
