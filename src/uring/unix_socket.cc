#include "uring/unix_socket.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

#include <cerrno>

namespace hf {
namespace {

constexpr int kLockTries = 200;
constexpr long kLockPauseNs = 10'000'000;

Status lock_directory(int fd, const std::string& path) {
  for (int i = 0; i < kLockTries; ++i) {
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) return Status();
    if (errno != EWOULDBLOCK && errno != EINTR) {
      return Error::from_errno(errno, "lock the directory of " + path);
    }
    const timespec pause{.tv_sec = 0, .tv_nsec = kLockPauseNs};
    nanosleep(&pause, nullptr);
  }
  return make_error(ErrorCode::kUnavailable,
                    "listen on {}: another process holds the lock of its directory; try again",
                    path);
}

// Makes the name free: ok if nothing is there or its owner is dead (then it is gone).
Status clear_stale(const UnixPlace& place, const std::string& path) {
  struct stat info {};
  if (fstatat(place.directory.get(), place.name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) {
    if (errno == ENOENT) return Status();
    return Error::from_errno(errno, "stat " + path);
  }
  if (!S_ISSOCK(info.st_mode)) {
    return make_error(ErrorCode::kAlreadyExists,
                      "listen on {}: there is something that is no socket", path);
  }
  // A datagram socket cannot connect to a listener: the kernel says EPROTOTYPE where a socket lives
  // behind the name and ECONNREFUSED where none does, and the listener sees nothing of it.
  const OwnedFd probe(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!probe.valid()) return Error::from_errno(errno, "socket");
  if (::connect(probe.get(), place.address.get(), place.address.length) == 0 ||
      errno == EPROTOTYPE) {
    return make_error(ErrorCode::kInUse, "listen on {}: another process listens there", path);
  }
  if (errno != ECONNREFUSED) return Error::from_errno(errno, "listen on " + path + ": probe");
  if (unlinkat(place.directory.get(), place.name.c_str(), 0) != 0 && errno != ENOENT) {
    return Error::from_errno(errno, "remove the stale socket " + path);
  }
  return Status();
}

}  // namespace

Result<UnixPlace> unix_place(const std::string& path) {
  UnixPlace place;
  const size_t slash = path.rfind('/');
  const std::string directory = slash == 0 ? "/" : path.substr(0, slash);
  place.name = path.substr(slash + 1);
  if (place.name.size() > 64) {
    return make_error(ErrorCode::kInvalidArgument, "socket {}: its name has more than 64 bytes",
                      path);
  }
  place.directory = OwnedFd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!place.directory.valid()) return Error::from_errno(errno, "directory of socket " + path);
  place.address = unix_address_at(place.directory.get(), place.name);
  return place;
}

Result<OwnedFd> listen_unix(const std::string& path, int type, uint32_t mode, int backlog,
                            UnixSocketFile* file) {
  Result<UnixPlace> place = unix_place(path);
  if (!place.ok()) return place.error();
  HF_TRY(lock_directory(place->directory.get(), path));
  HF_TRY(clear_stale(*place, path));
  OwnedFd fd(::socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return Error::from_errno(errno, "socket");
  // The mode of the socket before bind is, less the umask, that of the name: never wider than
  // asked.
  if (fchmod(fd.get(), mode) != 0) return Error::from_errno(errno, "fchmod of socket " + path);
  if (::bind(fd.get(), place->address.get(), place->address.length) != 0) {
    return Error::from_errno(errno, "bind " + path);
  }
  struct stat info {};
  // Nobody can connect before listen; what the umask took is given back here.
  if (fchmodat(place->directory.get(), place->name.c_str(), mode, 0) != 0 ||
      fstatat(place->directory.get(), place->name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) {
    return Error::from_errno(errno, "mode of " + path);
  }
  if (::listen(fd.get(), backlog) != 0) return Error::from_errno(errno, "listen on " + path);
  *file = UnixSocketFile{path, info.st_dev, info.st_ino};
  return fd;
}

void remove_unix_socket(const UnixSocketFile& file) {
  struct stat info {};
  if (lstat(file.path.c_str(), &info) != 0) return;
  if (info.st_dev == file.device && info.st_ino == file.inode) (void)::unlink(file.path.c_str());
}

}  // namespace hf
