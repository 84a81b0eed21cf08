// SocketAddress: the text form of an address (runtime/net.h) taken apart. Pure but for resolve().
#pragma once

#include <sys/socket.h>
#include <sys/un.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace hf {

class SocketAddress {
 public:
  enum class Kind : uint8_t { kUnix, kTcp };

  // "unix:/run/x.sock" (absolute, no NUL) or "tcp:HOST:PORT" (HOST a name, an IPv4 address, or an
  // IPv6 address in brackets; PORT 0 to 65535). kInvalidArgument otherwise.
  static Result<SocketAddress> parse(std::string_view text);

  Kind kind() const { return kind_; }
  const std::string& path() const { return path_; }  // of kUnix
  const std::string& host() const { return host_; }  // of kTcp, without brackets
  uint16_t port() const { return port_; }
  std::string to_string() const;

 private:
  SocketAddress() = default;
  Kind kind_ = Kind::kUnix;
  std::string path_;
  std::string host_;
  uint16_t port_ = 0;
};

// What bind(2) and connect(2) take.
struct RawAddress {
  sockaddr_storage storage{};
  socklen_t length = 0;
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
};

// The addresses of a TCP host, numeric ones without asking anybody; a name may block (run it in the
// pool).
Result<std::vector<RawAddress>> resolve_numeric(const SocketAddress& address);
Result<std::vector<RawAddress>> resolve_name(const SocketAddress& address);
// The address that this machine shows to what lies behind its default route, without a packet being
// sent. kNotFound where there is none.
Result<std::string> own_address();
// "tcp:127.0.0.1:1234", "unix:" for an unnamed peer.
std::string address_text(const RawAddress& raw);
// The name `name` in the directory open as `dir_fd`: the kernel's 108 bytes suffice for a path of
// any length.
RawAddress unix_address_at(int dir_fd, const std::string& name);

}  // namespace hf
