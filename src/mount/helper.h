// Helper programs of this room (mkfs, mount, …).
#pragma once

#include <string>
#include <vector>

#include "base/error.h"
#include "runtime/process.h"
#include "runtime/task.h"

namespace hf::mount {

// `argv` under the device's lock. A helper outlives a daemon that is killed: what the next daemon does to the device then
// waits for it. udev keeps off a locked device as well.
std::vector<std::string> alone_with(const std::string& device, std::vector<std::string> argv);

// What a program said, in one line of at most 300 bytes.
std::string in_one_line(const std::string& output);

// Runs one that must succeed. Another exit than zero is kIo with its last words; kMissingFeature names the packages.
Task<Status> must_run(Process& process, std::vector<std::string> argv, Duration limit);

}  // namespace hf::mount
