#include "holder/client.h"

#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>

namespace hf::holder {
namespace {

// A daemon that is stopped and goes on (SIGSTOP, SIGCONT), or whose child ends, is no reason to
// fail.
template <typename Call>
auto until_not_interrupted(const Call& call) {
  auto result = call();
  while (result < 0 && errno == EINTR) result = call();
  return result;
}

}  // namespace

Client::~Client() {
  if (socket_ >= 0) ::close(socket_);
}

Status Client::connect() {
  if (socket_ >= 0) return Status();
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path_.size() >= sizeof address.sun_path) {
    return make_error(
        ErrorCode::kInvalidArgument,
        "the holder's socket path {} is longer than {} bytes: choose a shorter run directory",
        path_, sizeof address.sun_path - 1);
  }
  std::memcpy(address.sun_path, path_.c_str(), path_.size());
  const int fd = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (fd < 0) return Error::from_errno(errno, "make a socket for the holder");
  const timeval timeout{kTimeoutMs / 1000, 0};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
  const int connected = until_not_interrupted(
      [&] { return ::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address); });
  if (connected != 0) {
    const int error = errno;
    ::close(fd);
    return make_error(ErrorCode::kUnavailable, "the holder process does not answer at {}: {}",
                      path_, strerror(error));
  }
  socket_ = fd;
  ++connections_;
  return Status();
}

Result<Held> Client::exchange(const Message& request, int fd) {
  iovec out{const_cast<Message*>(&request), sizeof request};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &out;
  message.msg_iovlen = 1;
  if (fd >= 0) {
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(rights), &fd, sizeof fd);
  }
  const ssize_t sent =
      until_not_interrupted([&] { return sendmsg(socket_, &message, MSG_NOSIGNAL); });
  if (sent != static_cast<ssize_t>(sizeof request)) {
    return Error::from_errno(errno, "send to the holder");
  }
  Message reply;
  iovec in{&reply, sizeof reply};
  message = msghdr{};
  message.msg_iov = &in;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  const ssize_t n =
      until_not_interrupted([&] { return recvmsg(socket_, &message, MSG_CMSG_CLOEXEC); });
  if (n < 0) return Error::from_errno(errno, "receive from the holder");
  if (n == 0) return make_error(ErrorCode::kClosed, "the holder at {} has ended", path_);
  Held held;
  const cmsghdr* rights = CMSG_FIRSTHDR(&message);
  if (rights != nullptr && rights->cmsg_level == SOL_SOCKET && rights->cmsg_type == SCM_RIGHTS) {
    std::memcpy(&held.fd, CMSG_DATA(rights), sizeof held.fd);
  }
  Error error(ErrorCode::kProtocol, "the holder's reply is malformed: is it of another version?");
  if (message_is_valid(reply, static_cast<size_t>(n), kReplyMagic)) {
    switch (static_cast<ReplyStatus>(reply.code)) {
      case ReplyStatus::kOk:
        held.name = message_name(reply);
        held.state.assign(reply.state, reply.state + reply.state_size);
        return held;
      case ReplyStatus::kNotFound:
        error = make_error(ErrorCode::kNotFound, "the holder has no such entry");
        break;
      case ReplyStatus::kFull:
        error = make_error(ErrorCode::kLimitExceeded, "the holder is full: it keeps {} descriptors",
                           kEntriesMax);
        break;
      case ReplyStatus::kBadRequest:
        break;
    }
  }
  if (held.fd >= 0) ::close(held.fd);
  return error;
}

Result<Held> Client::call(Command command, std::string_view name, uint32_t index, ByteSpan state,
                          int fd) {
  if (command != Command::kList && command != Command::kEnd && !name_is_valid(name)) {
    return make_error(ErrorCode::kInvalidArgument, "\"{}\" is no name for the holder", name);
  }
  if (state.size() > kStateMax) {
    return make_error(ErrorCode::kInvalidArgument, "a state of {} bytes is more than {}",
                      state.size(), kStateMax);
  }
  const bool reused = socket_ >= 0;
  HF_TRY(connect());
  const Message request =
      make_message(kRequestMagic, static_cast<uint16_t>(command), name, state, index);
  Result<Held> reply = exchange(request, fd);
  if (reused && reply.code() == ErrorCode::kClosed) {
    // Of a holder that has ended since the last call; all commands may be asked twice.
    ::close(std::exchange(socket_, -1));
    HF_TRY(connect());
    reply = exchange(request, fd);
  }
  // Whatever went wrong in between, a reply that comes late must not be taken for the next one's.
  if (!reply.ok() && reply.code() != ErrorCode::kNotFound &&
      reply.code() != ErrorCode::kLimitExceeded) {
    ::close(std::exchange(socket_, -1));
  }
  return reply;
}

Status Client::ping() {
  const Result<Held> reply = call(Command::kList, "", UINT32_MAX, {}, -1);
  if (!reply.ok() && reply.code() != ErrorCode::kNotFound) return reply.error();
  return Status();
}

Status Client::put(std::string_view name, int fd, ByteSpan state) {
  const Result<Held> reply = call(Command::kPut, name, 0, state, fd);
  if (!reply.ok()) return reply.error().with_context(name);
  return Status();
}

Result<Held> Client::get(std::string_view name) {
  Result<Held> reply = call(Command::kGet, name, 0, {}, -1);
  if (!reply.ok()) return reply.error().with_context(name);
  if (reply->fd < 0) {
    return make_error(ErrorCode::kProtocol, "the holder gave no descriptor for {}", name);
  }
  return reply;
}

Status Client::remove(std::string_view name) {
  const Result<Held> reply = call(Command::kDel, name, 0, {}, -1);
  if (!reply.ok() && reply.code() != ErrorCode::kNotFound) return reply.error().with_context(name);
  return Status();
}

Status Client::end_if_empty() {
  const Result<Held> reply = call(Command::kEnd, "", 0, {}, -1);
  if (reply.ok() || reply.code() == ErrorCode::kUnavailable) return Status();
  if (reply.code() != ErrorCode::kLimitExceeded) return reply.error();
  return make_error(ErrorCode::kInUse, "the holder at {} keeps descriptors of volumes", path_);
}

Result<std::vector<Held>> Client::list(std::string_view prefix) {
  std::vector<Held> found;
  for (uint32_t index = 0; index < kEntriesMax; ++index) {
    Result<Held> reply = call(Command::kList, "", index, {}, -1);
    if (reply.code() == ErrorCode::kNotFound) break;
    if (!reply.ok()) return reply.error();
    if (reply->name.starts_with(prefix)) found.push_back(std::move(*reply));
  }
  return found;
}

}  // namespace hf::holder
