#include "block/fuse/fuse_mount.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/mount_table.h"
#include "uring/mount_table_file.h"

namespace hf::fuse {
namespace {

constexpr char kSource[] = "holdfast";
constexpr char kConnections[] = "/sys/fs/fuse/connections";

Status make_directories(const std::string& directory) {
  for (size_t slash = directory.find('/', 1);; slash = directory.find('/', slash + 1)) {
    const std::string part = directory.substr(0, slash);
    if (mkdir(part.c_str(), 0700) != 0 && errno != EEXIST && errno != EROFS) {
      return Error::from_errno(errno, "make directory " + part);
    }
    if (slash == std::string::npos) return Status();
  }
}

Result<OwnedFd> open_fuse() {
  OwnedFd fd(::open("/dev/fuse", O_RDWR | O_NONBLOCK | O_CLOEXEC));
  if (fd.valid()) return fd;
  return make_error(
      ErrorCode::kMissingFeature,
      "/dev/fuse cannot be opened ({}): load the kernel's fuse module (modprobe fuse) and "
      "run as root",
      strerror(errno));
}

}  // namespace

Status probe() {
  const Result<OwnedFd> fd = open_fuse();
  if (!fd.ok()) return fd.error();
  if (::access("/dev/loop-control", R_OK | W_OK) == 0) return Status();
  return make_error(
      ErrorCode::kMissingFeature,
      "/dev/loop-control cannot be used ({}): load the kernel's loop module (modprobe loop) and "
      "run as root",
      strerror(errno));
}

Result<OwnedFd> mount_connection(const std::string& directory) {
  HF_TRY(make_directories(directory));
  Result<OwnedFd> fd = open_fuse();
  if (!fd.ok()) return fd;
  const std::string options =
      fmt::format("fd={},rootmode=40000,user_id=0,group_id=0,default_permissions", fd->get());
  if (::mount(kSource, directory.c_str(), "fuse", MS_NOSUID | MS_NODEV | MS_NOEXEC,
              options.c_str()) != 0) {
    if (errno == EINVAL || errno == ENODEV) {
      return make_error(ErrorCode::kMissingFeature,
                        "mount FUSE on {}: {}; is /dev/fuse the kernel's own? (modprobe fuse)",
                        directory, strerror(errno));
    }
    return Error::from_errno(errno, "mount FUSE on " + directory);
  }
  return fd;
}

Result<std::vector<MountedConnection>> list_mounts(const std::string& parent) {
  const Result<std::string> text = read_mount_table();
  HF_TRY(text);
  std::vector<MountedConnection> found;
  for (const MountEntry& entry : parse_mount_table(*text)) {
    if (entry.fs_type != "fuse" || entry.source != kSource) continue;
    if (!entry.point.starts_with(parent + "/")) continue;
    MountedConnection mounted;
    mounted.directory = entry.point;
    mounted.connection = entry.minor;
    found.push_back(std::move(mounted));
  }
  return found;
}

Status abort_connection(uint32_t connection) {
  const std::string path = fmt::format("{}/{}/abort", kConnections, connection);
  OwnedFd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd.valid() && errno == ENOENT) {
    // Gone, or the folder of connections is not mounted; mounting it where it is changes nothing
    // (EBUSY).
    if (::mount("none", kConnections, "fusectl", 0, nullptr) != 0 && errno != EBUSY) {
      return Error::from_errno(errno, std::string("mount ") + kConnections);
    }
    fd = OwnedFd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  }
  if (!fd.valid()) {
    if (errno == ENOENT) return Status();
    return Error::from_errno(errno, "open " + path);
  }
  if (::write(fd.get(), "1", 1) != 1) return Error::from_errno(errno, "write " + path);
  return Status();
}

Status unmount(const std::string& directory, bool lazily) {
  if (::umount2(directory.c_str(), UMOUNT_NOFOLLOW | (lazily ? MNT_DETACH : 0)) != 0) {
    if (errno == EBUSY) {
      return make_error(ErrorCode::kInUse, "{} is still in use: something has the file in it open",
                        directory);
    }
    if (errno == ENOENT) return Status();
    if (errno != EINVAL) return Error::from_errno(errno, "unmount " + directory);
  }
  if (::rmdir(directory.c_str()) != 0 && errno != ENOENT && errno != EBUSY) {
    return Error::from_errno(errno, "remove " + directory);
  }
  return Status();
}

}  // namespace hf::fuse
