// The kernel's table of mounts (/proc/<pid>/mountinfo), parsed. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace hf {

struct MountEntry {
  uint32_t major = 0;
  uint32_t minor = 0;  // of FUSE mounts: the connection's name below /sys/fs/fuse/connections
  std::string root;    // what of the file system is mounted: "/" but for bind mounts
  std::string point;
  std::string options;  // of this mount
  bool shared = false;  // propagates to its peers
  std::string fs_type;  // "ext4", "fuse", "fuse.sshfs"
  std::string source;   // "/dev/loop0"
  std::string super_options;
};

// In the order of the table (a later entry of the same point hides the earlier). Lines that do not
// parse are left out.
std::vector<MountEntry> parse_mount_table(std::string_view text);

}  // namespace hf
