#include "node/csi_places.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdlib>
#include <memory>

#include "base/mount_table.h"
#include "uring/mount_table_file.h"
#include "uring/owned_fd.h"

namespace hf::node {
namespace {

// With the links of its parents resolved, as the kernel's table has it.
Result<std::string> real_place(const std::string& path) {
  const size_t slash = path.rfind('/');
  const std::string parent = slash == 0 ? "/" : path.substr(0, slash);
  const std::unique_ptr<char, decltype(&std::free)> real(::realpath(parent.c_str(), nullptr), &std::free);
  if (real == nullptr) return Error::from_errno(errno, parent);
  const std::string way = real.get();
  return (way == "/" ? "" : way) + path.substr(slash);
}

Result<std::vector<MountEntry>> read_mounts() {
  const Result<std::string> text = read_mount_table();
  HF_TRY(text);
  return parse_mount_table(*text);
}

const MountEntry* mount_at(const std::vector<MountEntry>& mounts, const std::string& path) {
  const MountEntry* found = nullptr;
  for (const MountEntry& entry : mounts) {
    if (entry.point == path) found = &entry;  // the last one is the visible one
  }
  return found;
}

std::string last_part(const std::string& path) { return path.substr(path.rfind('/') + 1); }

// A bind of a device's node is a mount of the file system that the node is in, at that node.
struct NodeOfDevice {
  std::string name;
  uint32_t major = 0, minor = 0;
  bool is_root_of(const MountEntry& entry) const {
    return entry.major == major && entry.minor == minor && entry.root != "/" && last_part(entry.root) == name;
  }
};

Result<NodeOfDevice> node_of(const std::string& device) {
  struct stat info {};
  if (::stat(device.c_str(), &info) != 0) return Error::from_errno(errno, device);
  if (!S_ISBLK(info.st_mode)) return make_error(ErrorCode::kInvalidArgument, "{} is no block device", device);
  NodeOfDevice node;
  node.name = last_part(device);
  node.major = major(info.st_dev);
  node.minor = minor(info.st_dev);
  return node;
}

Error taken(const MountEntry& entry, const std::string& path) {
  return make_error(ErrorCode::kInUse, "{} ({}) is mounted at {}", entry.source, entry.fs_type, path);
}

Status make_directory_now(const std::string& path) {
  if (::mkdir(path.c_str(), 0750) == 0) return {};
  if (errno != EEXIST) return Error::from_errno(errno, "make the directory " + path);
  struct stat info {};
  if (::lstat(path.c_str(), &info) != 0) return Error::from_errno(errno, path);
  if (S_ISDIR(info.st_mode)) return {};
  return make_error(ErrorCode::kInvalidArgument, "{} is no directory", path);
}

// An empty file that nothing is mounted on, by a descriptor that cannot be led elsewhere.
Result<OwnedFd> open_file(const std::string& path) {
  const OwnedFd made(::open(path.c_str(), O_CREAT | O_EXCL | O_RDONLY | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!made.valid() && errno != EEXIST) return Error::from_errno(errno, "make the file " + path);
  OwnedFd fd(::open(path.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  struct stat info {};
  if (!fd.valid() || ::fstat(fd.get(), &info) != 0) return Error::from_errno(errno, path);
  if (!S_ISREG(info.st_mode)) return make_error(ErrorCode::kInvalidArgument, "{} is no plain file", path);
  if (info.st_size != 0) return make_error(ErrorCode::kNotEmpty, "{} is a file with content", path);
  return fd;
}

Status show_now(const std::string& device, const std::string& path) {
  const Result<NodeOfDevice> node = node_of(device);
  HF_TRY(node);
  const Result<std::string> place = real_place(path);
  HF_TRY(place);
  const Result<std::vector<MountEntry>> mounts = read_mounts();
  HF_TRY(mounts);
  if (const MountEntry* there = mount_at(*mounts, *place)) {
    if (node->is_root_of(*there)) return {};
    return taken(*there, path);
  }
  const Result<OwnedFd> file = open_file(path);
  HF_TRY(file);
  const std::string by_fd = "/proc/self/fd/" + std::to_string(file->get());
  if (::mount(device.c_str(), by_fd.c_str(), nullptr, MS_BIND, nullptr) == 0) return {};
  const Error why = Error::from_errno(errno, "show " + device + " at " + path);
  ::unlink(path.c_str());
  return why;
}

Result<std::vector<std::string>> shown_at_now(const std::string& device) {
  std::vector<std::string> places;
  const Result<NodeOfDevice> node = node_of(device);
  if (node.code() == ErrorCode::kNotFound) return places;
  HF_TRY(node);
  const Result<std::vector<MountEntry>> mounts = read_mounts();
  HF_TRY(mounts);
  for (const MountEntry& entry : *mounts) {
    if (node->is_root_of(entry) && entry.point != device) places.push_back(entry.point);
  }
  return places;
}

Status remove_now(const std::string& path) {
  struct stat info {};
  if (::lstat(path.c_str(), &info) != 0) {
    return errno == ENOENT || errno == ENOTDIR ? Status() : Status(Error::from_errno(errno, path));
  }
  const bool folder = S_ISDIR(info.st_mode);
  if (!folder && !S_ISREG(info.st_mode)) {
    return make_error(ErrorCode::kInvalidArgument, "{} is neither a folder nor a plain file", path);
  }
  if (!folder && info.st_size != 0) return make_error(ErrorCode::kNotEmpty, "{} is a file with content", path);
  if ((folder ? ::rmdir(path.c_str()) : ::unlink(path.c_str())) == 0 || errno == ENOENT) return {};
  if (errno == ENOTEMPTY) return make_error(ErrorCode::kNotEmpty, "the folder {} has files in it; move them away", path);
  return Error::from_errno(errno, "remove " + path);
}

Status clear_now(const std::string& path, const std::string& device) {
  const Result<std::string> place = real_place(path);
  if (place.code() == ErrorCode::kNotFound) return {};
  HF_TRY(place);
  const Result<std::vector<MountEntry>> mounts = read_mounts();
  HF_TRY(mounts);
  if (const MountEntry* there = mount_at(*mounts, *place)) {
    struct stat info {};
    const bool shows_device = there->root != "/" && ::lstat(path.c_str(), &info) == 0 && S_ISBLK(info.st_mode);
    if (!shows_device) return taken(*there, path);
    if (!device.empty()) {
      const Result<NodeOfDevice> node = node_of(device);
      HF_TRY(node);
      if (!node->is_root_of(*there)) return taken(*there, path);
    }
    if (::umount2(path.c_str(), UMOUNT_NOFOLLOW) != 0 && errno != EINVAL) {
      return Error::from_errno(errno, "take the device away from " + path);
    }
  }
  return remove_now(path);
}

Result<bool> is_mounted_now(const std::string& path) {
  const Result<std::string> place = real_place(path);
  if (place.code() == ErrorCode::kNotFound) return false;
  HF_TRY(place);
  const Result<std::vector<MountEntry>> mounts = read_mounts();
  HF_TRY(mounts);
  return mount_at(*mounts, *place) != nullptr;
}

Result<api::PlaceUsage> usage_now(const std::string& path) {
  const Result<bool> mounted = is_mounted_now(path);
  HF_TRY(mounted);
  if (!*mounted) return make_error(ErrorCode::kNotFound, "nothing is mounted at {}", path);
  struct statvfs fs {};
  if (::statvfs(path.c_str(), &fs) != 0) return Error::from_errno(errno, "ask the file system at " + path);
  api::PlaceUsage usage;
  usage.total_bytes = fs.f_blocks * fs.f_frsize;
  usage.used_bytes = (fs.f_blocks - fs.f_bfree) * fs.f_frsize;
  usage.available_bytes = fs.f_bavail * fs.f_frsize;
  usage.total_inodes = fs.f_files;
  usage.used_inodes = fs.f_files - fs.f_ffree;
  usage.available_inodes = fs.f_favail;
  return usage;
}

}  // namespace

Task<Status> CsiPlaces::make_directory(std::string path) {
  std::function<Status()> act = [path] { return make_directory_now(path); };
  co_return co_await run_blocking<Status>(pool_, act);
}

Task<Status> CsiPlaces::show_device(std::string device, std::string path) {
  std::function<Status()> act = [device, path] { return show_now(device, path); };
  co_return co_await run_blocking<Status>(pool_, act);
}

Task<Result<std::vector<std::string>>> CsiPlaces::shown_at(std::string device) {
  std::function<Result<std::vector<std::string>>()> act = [device] { return shown_at_now(device); };
  co_return co_await run_blocking<Result<std::vector<std::string>>>(pool_, act);
}

Task<Status> CsiPlaces::clear(std::string path, std::string device) {
  std::function<Status()> act = [path, device] { return clear_now(path, device); };
  co_return co_await run_blocking<Status>(pool_, act);
}

Task<Result<bool>> CsiPlaces::is_mounted(std::string path) {
  std::function<Result<bool>()> act = [path] { return is_mounted_now(path); };
  co_return co_await run_blocking<Result<bool>>(pool_, act);
}

Task<Result<api::PlaceUsage>> CsiPlaces::usage(std::string path) {
  std::function<Result<api::PlaceUsage>()> act = [path] { return usage_now(path); };
  co_return co_await run_blocking<Result<api::PlaceUsage>>(pool_, act);
}

}  // namespace hf::node
