#include "state/testing/free_ports.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdio>

#include "base/assert.h"

namespace hf::state {
namespace {

constexpr int kFirst = 20000;
constexpr int kEnd = 32768;  // where the kernel's own range begins, unless somebody moved it

// An abstract socket's name is free again when its process has ended, however it ended.
bool claimed(int port) {
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  HF_ASSERT(fd >= 0, "{}", errno);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const int size = std::snprintf(address.sun_path + 1, sizeof address.sun_path - 1,
                                 "holdfast-test-port-%d", port);
  const auto length =
      static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + static_cast<size_t>(size));
  if (::bind(fd, reinterpret_cast<sockaddr*>(&address), length) == 0) return true;  // kept open
  HF_ASSERT(errno == EADDRINUSE, "{}", errno);
  ::close(fd);
  return false;
}

bool nobody_has(int port) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  HF_ASSERT(fd >= 0, "{}", errno);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const bool free = ::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  ::close(fd);
  return free;
}

}  // namespace

std::vector<int> free_ports(size_t count) {
  // Each process begins elsewhere: a claim that another one has is passed over, not waited for.
  static int next = kFirst + static_cast<int>(::getpid() * 37L % (kEnd - kFirst));
  std::vector<int> ports;
  for (int tries = 0; ports.size() < count; ++tries) {
    HF_ASSERT(tries < kEnd - kFirst, "no loopback port from {} to {} is free", kFirst, kEnd - 1);
    const int port = next;
    next = port + 1 == kEnd ? kFirst : port + 1;
    if (claimed(port) && nobody_has(port)) ports.push_back(port);
  }
  return ports;
}

}  // namespace hf::state
