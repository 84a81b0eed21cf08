// Unix sockets as plain calls, of any type (stream for Network, seqpacket for FdChannel).
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "base/error.h"
#include "uring/owned_fd.h"
#include "uring/socket_address.h"

namespace hf {

// Which file a listening socket made, so that it removes only its own.
struct UnixSocketFile {
  std::string path;
  dev_t device = 0;
  ino_t inode = 0;
};

// A directory opened to name something in it.
struct UnixPlace {
  OwnedFd directory;
  std::string name;
  RawAddress address;  // valid while `directory` is open
};

// Blocks at most about 2 s (run it in the pool): waits for the lock of the directory. Replaces the
// path of a dead owner. kInUse where one answers, kAlreadyExists where the path is no socket.
// Close-on-exec. Fills `file`.
Result<OwnedFd> listen_unix(const std::string& path, int type, uint32_t mode, int backlog,
                            UnixSocketFile* file);
// Unlinks the path if it still is the file that the listener made.
void remove_unix_socket(const UnixSocketFile& file);
// The directory of `path`, opened, and its address. kNotFound where the directory is missing.
Result<UnixPlace> unix_place(const std::string& path);

}  // namespace hf
