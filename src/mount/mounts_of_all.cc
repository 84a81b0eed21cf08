#include "mount/mounts_of_all.h"

#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <unordered_set>

#include "uring/mount_table_file.h"

namespace hf::mount {
namespace {

std::string number_key(uint32_t major, uint32_t minor) { return fmt::format("{}:{}", major, minor); }

std::string namespace_of(const std::string& process) {
  char link[64];
  const ssize_t n = ::readlink((process + "/ns/mnt").c_str(), link, sizeof link);
  return n > 0 ? std::string(link, static_cast<size_t>(n)) : std::string();
}

}  // namespace

void MountsOfAll::add(std::vector<hf::MountEntry> table, bool own_namespace) {
  for (hf::MountEntry& entry : table) {
    if (!entry.source.starts_with('/')) continue;  // proc, tmpfs, overlay …
    const Seen seen{entry.point, own_namespace || entry.shared};
    by_device_[number_key(entry.major, entry.minor)].push_back(seen);
    by_device_[entry.source].push_back(seen);
  }
}

bool MountsOfAll::has_elsewhere(uint32_t major, uint32_t minor, const std::string& device,
                                std::string_view path) const {
  for (const std::string& key : {number_key(major, minor), device}) {
    const auto found = by_device_.find(key);
    if (found == by_device_.end()) continue;
    for (const Seen& seen : found->second) {
      if (seen.point != path || !seen.goes_with_ours) return true;
    }
  }
  return false;
}

Result<MountsOfAll> look_at_all_mounts() {
  MountsOfAll all;
  const std::string own = namespace_of("/proc/self");
  std::unordered_set<std::string> known;
  std::error_code ec;
  std::filesystem::directory_iterator processes("/proc", ec), end;
  for (; !ec && processes != end; processes.increment(ec)) {
    const std::string path = processes->path();
    if (path.find_first_not_of("0123456789", 6) != std::string::npos) continue;  // behind "/proc/"
    const std::string space = namespace_of(path);
    if (!space.empty() && known.contains(space)) continue;
    const Result<std::string> text = read_mount_table(path + "/mountinfo");
    if (!text.ok() || text->empty()) continue;  // a process that ends: another of its namespace tells
    // Whose namespace may not be asked for (it has capabilities that we lack, as a container's processes have under
    // a confined unit, or another user) shows its mounts all the same: told apart by what they are.
    if (!known.insert(space.empty() ? *text : space).second) continue;
    all.add(parse_mount_table(*text), space == own);
  }
  if (ec) return Error::from_errno(ec.value(), "read /proc");
  if (!known.contains(own)) return make_error(ErrorCode::kIo, "/proc does not show this process's own mounts");
  return all;
}

}  // namespace hf::mount
