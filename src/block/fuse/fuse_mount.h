// Mounting, unmounting and aborting FUSE connections. Every call blocks: blocking pool only,
// because the kernel may ask the connection's server, which is this process's own loop, before it
// answers.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/error.h"
#include "uring/owned_fd.h"

namespace hf::fuse {

// Whether this machine can do FUSE and loop devices. kMissingFeature with the way out.
Status probe();

// Makes `directory` (0700, with parents), and mounts a new connection on it. The descriptor is the
// only one, non-blocking, close-on-exec; INIT waits in it.
Result<OwnedFd> mount_connection(const std::string& directory);

struct MountedConnection {
  std::string directory;
  uint32_t connection = 0;  // the name below /sys/fs/fuse/connections
};
// Ours below `parent`, in this mount namespace.
Result<std::vector<MountedConnection>> list_mounts(const std::string& parent);

// Ends a connection for good: whoever waits for it gets an error now. Success when it is gone
// already.
Status abort_connection(uint32_t connection);

// Unmounts and removes the directory. Success when nothing is there. kInUse while something is open
// in it; `lazily` takes it out of sight in any case.
Status unmount(const std::string& directory, bool lazily);

}  // namespace hf::fuse
