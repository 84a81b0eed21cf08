// What every process has mounted: one look at /proc/*/mountinfo, once per mount namespace. Never touches a file
// system but /proc. Needs no capability: what may not tell its namespace tells its mounts. A namespace that no process
// lives in (kept by a bind of its file) is not seen.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/error.h"
#include "base/mount_table.h"

namespace hf::mount {

class MountsOfAll {
 public:
  // Takes in one namespace's table.
  void add(std::vector<hf::MountEntry> table, bool own_namespace);
  // True where a mount of the device (by its number, or by its name, since btrfs has numbers of its own) stays when
  // `path` is unmounted in our namespace: at another place, or at the same place of a namespace that is no peer.
  bool has_elsewhere(uint32_t major, uint32_t minor, const std::string& device, std::string_view path) const;

 private:
  struct Seen {
    std::string point;
    bool goes_with_ours;  // at the same place, it is our own mount or a propagated copy of it
  };
  std::unordered_map<std::string, std::vector<Seen>> by_device_;  // "8:1" and "/dev/sda1"
};

// Pool thread. Processes that end meanwhile are left out; kIo when /proc cannot be read at all.
Result<MountsOfAll> look_at_all_mounts();

}  // namespace hf::mount
