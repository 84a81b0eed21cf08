#include "uring/socket_address.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstring>

#include "uring/owned_fd.h"

namespace hf {
namespace {

Error bad_address(std::string_view text, std::string_view why) {
  return make_error(ErrorCode::kInvalidArgument,
                    "address '{}': {} (write unix:/PATH, tcp:HOST:PORT or tcp:[IPV6]:PORT)", text,
                    why);
}

Result<std::vector<RawAddress>> resolve(const SocketAddress& address, int flags) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const std::string port = std::to_string(address.port());
  const int err = getaddrinfo(address.host().c_str(), port.c_str(), &hints, &found);
  if (err != 0) {
    return make_error(err == EAI_AGAIN ? ErrorCode::kUnavailable : ErrorCode::kNotFound,
                      "host '{}' cannot be resolved: {}", address.host(), gai_strerror(err));
  }
  std::vector<RawAddress> out;
  for (const addrinfo* at = found; at != nullptr; at = at->ai_next) {
    if (at->ai_addrlen > sizeof(sockaddr_storage)) continue;
    RawAddress raw;
    std::memcpy(&raw.storage, at->ai_addr, at->ai_addrlen);
    raw.length = at->ai_addrlen;
    out.push_back(raw);
  }
  freeaddrinfo(found);
  return out;
}

}  // namespace

Result<SocketAddress> SocketAddress::parse(std::string_view text) {
  SocketAddress out;
  if (text.find('\0') != std::string_view::npos) return bad_address("", "it has a NUL in it");
  if (text.starts_with("unix:")) {
    out.kind_ = Kind::kUnix;
    out.path_ = text.substr(5);
    if (out.path_.empty() || out.path_[0] != '/')
      return bad_address(text, "the path is not absolute");
    if (out.path_.back() == '/') return bad_address(text, "the path ends in '/'");
    return out;
  }
  if (!text.starts_with("tcp:")) return bad_address(text, "it is neither unix: nor tcp:");
  out.kind_ = Kind::kTcp;
  std::string_view rest = text.substr(4);
  const size_t colon = rest.rfind(':');
  if (colon == std::string_view::npos) return bad_address(text, "the port is missing");
  std::string_view host = rest.substr(0, colon);
  const std::string_view port = rest.substr(colon + 1);
  if (host.starts_with('[') && host.ends_with(']')) {
    host = host.substr(1, host.size() - 2);
  } else if (host.find(':') != std::string_view::npos) {
    return bad_address(text, "an IPv6 address stands in brackets");
  }
  if (host.empty()) return bad_address(text, "the host is missing");
  const auto [end, err] = std::from_chars(port.data(), port.data() + port.size(), out.port_);
  if (err != std::errc() || end != port.data() + port.size()) {
    return bad_address(text, "the port is not a number from 0 to 65535");
  }
  out.host_ = host;
  return out;
}

std::string SocketAddress::to_string() const {
  if (kind_ == Kind::kUnix) return "unix:" + path_;
  const bool v6 = host_.find(':') != std::string::npos;
  return fmt::format("tcp:{}{}{}:{}", v6 ? "[" : "", host_, v6 ? "]" : "", port_);
}

Result<std::vector<RawAddress>> resolve_numeric(const SocketAddress& address) {
  return resolve(address, AI_NUMERICHOST);
}

Result<std::vector<RawAddress>> resolve_name(const SocketAddress& address) {
  return resolve(address, AI_ADDRCONFIG);
}

Result<std::string> own_address() {
  // 192.0.2.1 and 2001:db8::1 are for documentation: nobody has them, so the default route is asked.
  for (const char* far : {"tcp:192.0.2.1:9", "tcp:[2001:db8::1]:9"}) {
    const Result<SocketAddress> address = SocketAddress::parse(far);
    HF_TRY(address);
    const Result<std::vector<RawAddress>> raw = resolve_numeric(*address);
    if (!raw.ok() || raw->empty()) continue;
    const OwnedFd fd(::socket(raw->front().storage.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    if (!fd.valid() || ::connect(fd.get(), raw->front().get(), raw->front().length) != 0) continue;
    RawAddress own;
    own.length = sizeof own.storage;
    if (::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&own.storage), &own.length) != 0) continue;
    const Result<SocketAddress> text = SocketAddress::parse(address_text(own));
    if (text.ok()) return text->host();
  }
  return make_error(ErrorCode::kNotFound, "this machine has no default route, and so no address of "
                                          "which it is clear that others reach it by it");
}

std::string address_text(const RawAddress& raw) {
  char text[INET6_ADDRSTRLEN] = {};
  if (raw.storage.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(raw.storage);
    inet_ntop(AF_INET, &v4.sin_addr, text, sizeof text);
    return fmt::format("tcp:{}:{}", text, ntohs(v4.sin_port));
  }
  if (raw.storage.ss_family == AF_INET6) {
    const auto& v6 = reinterpret_cast<const sockaddr_in6&>(raw.storage);
    inet_ntop(AF_INET6, &v6.sin6_addr, text, sizeof text);
    return fmt::format("tcp:[{}]:{}", text, ntohs(v6.sin6_port));
  }
  return "unix:";
}

RawAddress unix_address_at(int dir_fd, const std::string& name) {
  RawAddress raw;
  auto& un = reinterpret_cast<sockaddr_un&>(raw.storage);
  un.sun_family = AF_UNIX;
  const std::string path = fmt::format("/proc/self/fd/{}/{}", dir_fd, name);
  HF_ASSERT(path.size() < sizeof un.sun_path, "{}", path);
  std::memcpy(un.sun_path, path.c_str(), path.size() + 1);
  raw.length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size() + 1);
  return raw;
}

}  // namespace hf
