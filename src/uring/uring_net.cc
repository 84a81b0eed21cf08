#include "uring/uring_net.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>

#include "uring/socket_address.h"
#include "uring/unix_socket.h"
#include "uring/uring_call.h"
#include "uring/uring_stream.h"

namespace hf {
namespace {

void set_option(int fd, int level, int option, int value = 1) {
  (void)setsockopt(fd, level, option, &value, sizeof value);
}

// A peer whose machine died is noticed after about a minute. (Unix sockets have no such thing.)
void set_keepalive(int fd) {
  set_option(fd, SOL_SOCKET, SO_KEEPALIVE);
  set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, 30);
  set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, 10);
  set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, 3);
}

// Who is at the other end of an accepted Unix socket.
std::string unix_peer(int fd, const std::string& address) {
  ucred peer{};
  socklen_t size = sizeof peer;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return "a client of " + address;
  return fmt::format("pid {} on {}", peer.pid, address);
}

class UringListener final : public Listener {
 public:
  UringListener(UringLoop& loop, OwnedFd fd, std::string address, UnixSocketFile file)
      : loop_(loop), fd_(std::move(fd)), address_(std::move(address)), file_(std::move(file)) {}
  ~UringListener() override {
    close();
    HF_ASSERT(accepting_ == nullptr, "listener {} destroyed in use", address_);
  }

  Task<Result<std::unique_ptr<Stream>>> accept() override {
    HF_ASSERT(accepting_ == nullptr, "two accepts of {} at once", address_);
    while (true) {
      if (closed_) co_return closed_error();
      RawAddress peer;
      peer.length = sizeof peer.storage;
      UringCall call(loop_);
      io_uring_prep_accept(call.sqe(), fd_.get(), reinterpret_cast<sockaddr*>(&peer.storage),
                           &peer.length, SOCK_CLOEXEC);
      accepting_ = &call;
      const int fd = co_await call;
      accepting_ = nullptr;
      if (fd >= 0) {
        OwnedFd owned(fd);
        if (closed_) co_return closed_error();
        if (file_.path.empty()) set_keepalive(fd);
        std::string name = file_.path.empty() ? address_text(peer) : unix_peer(fd, address_);
        std::unique_ptr<Stream> stream = adopt_stream(loop_, std::move(owned), std::move(name));
        co_return stream;
      }
      if (closed_) co_return closed_error();
      // The peer gave up before it was accepted; or noise. Not the listener's fault.
      if (fd == -ECONNABORTED || fd == -EINTR || fd == -EAGAIN || fd == -EPROTO) continue;
      co_return Error::from_errno(-fd, "accept on " + address_);
    }
  }

  void close() override {
    if (std::exchange(closed_, true)) return;
    if (!file_.path.empty()) remove_unix_socket(file_);
    (void)::shutdown(fd_.get(), SHUT_RDWR);
    if (accepting_ != nullptr) {
      accepting_->cancel();
    } else {
      fd_.reset();
    }
  }

  const std::string& address() const override { return address_; }

 private:
  Error closed_error() {
    fd_.reset();
    return make_error(ErrorCode::kClosed, "listener {} is closed", address_);
  }

  UringLoop& loop_;
  OwnedFd fd_;
  const std::string address_;
  const UnixSocketFile file_;
  UringCall* accepting_ = nullptr;
  bool closed_ = false;
};

Result<OwnedFd> listen_tcp(const RawAddress& raw, int backlog, const std::string& text) {
  OwnedFd fd(::socket(raw.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return Error::from_errno(errno, "socket for " + text);
  set_option(fd.get(), SOL_SOCKET, SO_REUSEADDR);
  if (raw.storage.ss_family == AF_INET6) set_option(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY);
  if (::bind(fd.get(), raw.get(), raw.length) != 0) return Error::from_errno(errno, "bind " + text);
  if (::listen(fd.get(), backlog) != 0) return Error::from_errno(errno, "listen on " + text);
  return fd;
}

Task<Result<std::vector<RawAddress>>> resolve(BlockingPool& blocking,
                                              const SocketAddress& address) {
  using Addresses = Result<std::vector<RawAddress>>;
  Addresses numeric = resolve_numeric(address);
  if (numeric.ok()) co_return numeric;
  std::function<Addresses()> ask = [&address] { return resolve_name(address); };
  co_return co_await run_blocking<Addresses>(blocking, std::move(ask));
}

Task<Result<OwnedFd>> connect_one(UringLoop& loop, const RawAddress& raw, int type, MonoTime until,
                                  const std::string& text) {
  OwnedFd fd(::socket(raw.storage.ss_family, type | SOCK_CLOEXEC, 0));
  if (!fd.valid()) co_return Error::from_errno(errno, "socket for " + text);
  UringCall call(loop);
  io_uring_prep_connect(call.sqe(), fd.get(), raw.get(), raw.length);
  CallDeadline deadline(loop, call, until);
  const int result = co_await call;
  if (result == 0) co_return std::move(fd);
  if (deadline.expired()) {
    co_return make_error(ErrorCode::kTimeout, "connect to {}: no answer in time", text);
  }
  co_return Error::from_errno(-result, "connect to " + text);
}

}  // namespace

Task<Result<std::unique_ptr<Listener>>> UringNetwork::listen(std::string address,
                                                             ListenOptions options) {
  const Result<SocketAddress> parsed = SocketAddress::parse(address);
  HF_CO_TRY(parsed);
  if (parsed->kind() == SocketAddress::Kind::kUnix) {
    UnixSocketFile file;
    using Listening = Result<OwnedFd>;
    std::function<Listening()> call = [&parsed, &options, &file] {
      return listen_unix(parsed->path(), SOCK_STREAM, options.unix_mode, options.backlog, &file);
    };
    Listening fd = co_await run_blocking<Listening>(blocking_, std::move(call));
    HF_CO_TRY(fd);
    std::unique_ptr<Listener> listener =
        std::make_unique<UringListener>(loop_, std::move(*fd), address, file);
    co_return listener;
  }
  Result<std::vector<RawAddress>> found = co_await resolve(blocking_, *parsed);
  HF_CO_TRY(found);
  if (found->empty()) co_return make_error(ErrorCode::kNotFound, "{} has no address", address);
  Result<OwnedFd> fd = listen_tcp(found->front(), options.backlog, address);
  HF_CO_TRY(fd);
  RawAddress bound;
  bound.length = sizeof bound.storage;
  if (getsockname(fd->get(), reinterpret_cast<sockaddr*>(&bound.storage), &bound.length) != 0) {
    co_return Error::from_errno(errno, "getsockname of " + address);
  }
  std::unique_ptr<Listener> listener =
      std::make_unique<UringListener>(loop_, std::move(*fd), address_text(bound), UnixSocketFile());
  co_return listener;
}

Task<Result<std::unique_ptr<Stream>>> UringNetwork::connect(std::string address, Duration timeout) {
  const MonoTime until = clock_.now() + timeout;
  const Result<SocketAddress> parsed = SocketAddress::parse(address);
  HF_CO_TRY(parsed);
  if (parsed->kind() == SocketAddress::Kind::kUnix) {
    Result<UnixPlace> place = unix_place(parsed->path());
    HF_CO_TRY(place);
    Result<OwnedFd> fd = co_await connect_one(loop_, place->address, SOCK_STREAM, until, address);
    HF_CO_TRY(fd);
    std::unique_ptr<Stream> stream = adopt_stream(loop_, std::move(*fd), address);
    co_return stream;
  }
  Result<std::vector<RawAddress>> found = co_await resolve(blocking_, *parsed);
  HF_CO_TRY(found);
  Error last = make_error(ErrorCode::kNotFound, "{} has no address", address);
  for (const RawAddress& raw : *found) {
    Result<OwnedFd> fd = co_await connect_one(loop_, raw, SOCK_STREAM, until, address);
    if (fd.ok()) {
      set_option(fd->get(), SOL_SOCKET, SO_KEEPALIVE);
      std::unique_ptr<Stream> stream = adopt_stream(loop_, std::move(*fd), address);
      co_return stream;
    }
    last = fd.error();
    if (last.code() == ErrorCode::kTimeout) break;
  }
  co_return last;
}

}  // namespace hf
