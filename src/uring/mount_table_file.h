// Reads a table of mounts of the kernel (parsed by base/mount_table.h). Blocks for as long as /proc takes: pool
// thread, or before the loop runs.
#pragma once

#include <string>

#include "base/error.h"

namespace hf {

inline constexpr char kOwnMountTable[] = "/proc/self/mountinfo";

// The text of /proc/<pid>/mountinfo. kNotFound where the process has ended, kLimitExceeded above 64 MiB.
Result<std::string> read_mount_table(const std::string& path = kOwnMountTable);

}  // namespace hf
