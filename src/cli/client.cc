#include "cli/client.h"

#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "base/error_trailer.h"
#include "base/known_code.h"

namespace hf::cli {
namespace {

constexpr size_t kMaxSocketPath = 107;  // of sockaddr_un, with its end

// "HF1007 no_space" → kNoSpace, if this version knows the number.
std::optional<ErrorCode> parse_code(std::string_view text) {
  if (!text.starts_with("HF")) return std::nullopt;
  const long number = std::strtol(std::string(text.substr(2)).c_str(), nullptr, 10);
  return number > 0 ? known_code(static_cast<uint64_t>(number)) : std::nullopt;
}

}  // namespace

Client::Client(std::string socket_path) : socket_path_(std::move(socket_path)) {
  grpc::ChannelArguments arguments;
  arguments.SetString(GRPC_ARG_DEFAULT_AUTHORITY, "localhost");
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);  // no other connection's pauses
  channel_ = grpc::CreateCustomChannel("unix:" + socket_path_, grpc::InsecureChannelCredentials(),
                                       arguments);
}

Error Client::to_error(const grpc::Status& status, const grpc::ClientContext& context) const {
  const auto& trailers = context.GetServerTrailingMetadata();
  if (auto it = trailers.find(kErrorTrailer); it != trailers.end()) {
    if (auto code = parse_code({it->second.data(), it->second.size()})) {
      return Error(*code, status.error_message());
    }
  }
  switch (status.error_code()) {
    case grpc::StatusCode::UNAVAILABLE:
      return why_unreachable();
    case grpc::StatusCode::DEADLINE_EXCEEDED:
      return make_error(ErrorCode::kTimeout,
                        "no answer after {} s; the operation may go on: look with "
                        "\"holdfast volume inspect\"",
                        kCallTimeout.count());
    case grpc::StatusCode::CANCELLED:  // by a daemon that was asked to end
      return make_error(ErrorCode::kCancelled,
                        "holdfastd ended while it worked on this, which may have happened or not; "
                        "ask again when it is back");
    case grpc::StatusCode::UNIMPLEMENTED:
      return make_error(ErrorCode::kNotSupported,
                        "this daemon does not know that call; it may be older than this command");
    default:
      return make_error(ErrorCode::kInternal, "gRPC status {}: {}",
                        static_cast<int>(status.error_code()), status.error_message());
  }
}

Status Client::check_socket_path(const std::string& path) {
  if (path.empty() || path.size() > kMaxSocketPath) {
    return make_error(ErrorCode::kInvalidArgument,
                      "the socket path \"{}\" has {} bytes; a Unix socket's path has 1 to {}: give "
                      "another --socket",
                      path.substr(0, 64), path.size(), kMaxSocketPath);
  }
  return {};
}

Error Client::why_unreachable() const {
  const int err = ::access(socket_path_.c_str(), W_OK) == 0 ? 0 : errno;
  if (err == EACCES || err == EPERM) {
    return make_error(ErrorCode::kPermissionDenied,
                      "{} may be opened by root only; run the command as root (sudo holdfast …)",
                      socket_path_);
  }
  return make_error(ErrorCode::kUnavailable,
                    "no daemon answers at {}{}; is holdfastd running (systemctl status holdfastd)? "
                    "Another socket is named by --socket",
                    socket_path_, err == ENOENT ? ": there is no such socket" : "");
}

}  // namespace hf::cli
