// Loopback ports for the servers that a test starts, and starts again.
#pragma once

#include <cstddef>
#include <vector>

namespace hf::state {

// Ports that nobody has now and that no other test takes as long as this process lives. They lie
// below those that the kernel gives to outgoing connections: of such a one, a connection that is
// tried again and again to a server that is down may get the server's own port, and the server
// could not come back. tests/system/harness/ports.py takes its ports in the same way.
std::vector<int> free_ports(size_t count);

}  // namespace hf::state
