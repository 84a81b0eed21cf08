// /proc/<pid>/mountinfo (proc(5)): one line a mount.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace hf::mount {

struct MountEntry {
  uint32_t major = 0, minor = 0;  // of the device; of btrfs an anonymous number
  std::string root;               // the directory of the file system that is mounted
  std::string mount_point;
  std::string options;            // of this mount, "rw,relatime"
  std::string tags;               // "shared:12 master:3"
  std::string fs_type;
  std::string source;             // "/dev/loop3"
};

// Lines that do not parse are left out. Octal escapes (\040) are undone. In the kernel's order: a later
// mount on the same point hides an earlier one.
std::vector<MountEntry> parse_mountinfo(std::string_view text);

}  // namespace hf::mount
