#include "uring/loop_device.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>

#include "base/units.h"
#include "uring/owned_fd.h"

namespace hf::loopdev {
namespace {

// Others take free numbers at the same time; each lost race is one round.
constexpr int kRounds = 64;

std::string path_of(int number) {
  return "/dev/loop" + std::to_string(number);
}

OwnedFd open_fd(const std::string& path, int flags) {
  return OwnedFd(::open(path.c_str(), flags | O_CLOEXEC));
}

bool has_tag(int fd, std::string_view prefix, std::string* tag) {
  loop_info64 info{};
  if (ioctl(fd, LOOP_GET_STATUS64, &info) != 0) return false;
  const auto* name = reinterpret_cast<const char*>(info.lo_file_name);
  const std::string found(name, strnlen(name, LO_NAME_SIZE));
  if (!found.starts_with(prefix)) return false;
  if (tag != nullptr) *tag = found;
  return true;
}

bool is_attached(int number) {
  struct stat st {};
  return ::stat(("/sys/block/loop" + std::to_string(number) + "/loop").c_str(), &st) == 0;
}

Error no_loop_devices() {
  return make_error(
      ErrorCode::kLimitExceeded,
      "all loop devices of this machine are used up: detach volumes or other loop devices "
      "(losetup -a shows them), or raise the kernel's limit (loop.max_loop)");
}

// Opens a device of ours. kNotFound when there is none of that number, kWrongOwner when it is
// another's.
Result<OwnedFd> open_ours(int number, std::string_view tag, int flags) {
  OwnedFd fd = open_fd(path_of(number), O_RDWR | flags);
  if (!fd.valid()) {
    if (errno == ENOENT || errno == ENXIO) {
      return make_error(ErrorCode::kNotFound, "{} does not exist", path_of(number));
    }
    if (errno == EBUSY) {
      return make_error(
          ErrorCode::kInUse,
          "{} is still in use: it is mounted somewhere (perhaps in a container) or claimed "
          "by another device; unmount it first",
          path_of(number));
    }
    return Error::from_errno(errno, "open " + path_of(number));
  }
  std::string found;
  if (!has_tag(fd.get(), "", &found)) {
    return make_error(ErrorCode::kNotFound, "{} is not attached", path_of(number));
  }
  if (found != tag) {
    return make_error(ErrorCode::kWrongOwner, "{} belongs to \"{}\", not to \"{}\"",
                      path_of(number), found, tag);
  }
  return fd;
}

// One try with one number; kConflict when another process was faster.
Result<LoopInfo> try_attach(int backing, int number, std::string_view tag) {
  const OwnedFd fd = open_fd(path_of(number), O_RDWR);
  if (!fd.valid()) {
    if (errno == ENOENT) {
      return make_error(ErrorCode::kMissingFeature,
                        "{} is free but has no node: mount devtmpfs on /dev, or make the node",
                        path_of(number));
    }
    return Error::from_errno(errno, "open " + path_of(number));
  }
  loop_config config{};
  config.fd = static_cast<uint32_t>(backing);
  config.block_size = kBlockSize;
  config.info.lo_flags = LO_FLAGS_DIRECT_IO;
  std::memcpy(config.info.lo_file_name, tag.data(), tag.size());
  if (ioctl(fd.get(), LOOP_CONFIGURE, &config) != 0) {
    if (errno == EBUSY) return make_error(ErrorCode::kConflict, "{} was taken", path_of(number));
    if (errno == EINVAL || errno == ENOTTY) {
      return make_error(
          ErrorCode::kMissingFeature,
          "the kernel refuses a loop device with direct I/O and 4 KiB blocks on {} ({}): "
          "Linux 5.8 or newer is needed",
          path_of(number), strerror(errno));
    }
    return Error::from_errno(errno, "configure " + path_of(number));
  }
  // The kernel falls back to buffered I/O in silence where the backing file cannot do better; then
  // what we acknowledge and what lies in its page cache would differ.
  loop_info64 info{};
  if (ioctl(fd.get(), LOOP_GET_STATUS64, &info) != 0 || (info.lo_flags & LO_FLAGS_DIRECT_IO) == 0) {
    ioctl(fd.get(), LOOP_CLR_FD, 0);
    return make_error(ErrorCode::kMissingFeature, "{} cannot do direct I/O on its backing file",
                      path_of(number));
  }
  LoopInfo made;
  made.number = number;
  made.tag = std::string(tag);
  return made;
}

}  // namespace

Result<LoopInfo> attach(const std::string& backing_path, std::string_view tag) {
  if (tag.empty() || tag.size() > kTagMax) {
    return make_error(ErrorCode::kInvalidArgument, "\"{}\" is no tag for a loop device", tag);
  }
  const OwnedFd backing = open_fd(backing_path, O_RDWR);
  if (!backing.valid()) return Error::from_errno(errno, "open " + backing_path);
  const OwnedFd control = open_fd("/dev/loop-control", O_RDWR);
  if (!control.valid()) {
    return make_error(
        ErrorCode::kMissingFeature,
        "/dev/loop-control cannot be opened ({}): load the kernel's loop module (modprobe "
        "loop) and run as root",
        strerror(errno));
  }
  for (int round = 0; round < kRounds; ++round) {
    const int number = ioctl(control.get(), LOOP_CTL_GET_FREE);
    if (number < 0) {
      if (errno == ENOSPC || errno == ENODEV || errno == ENOMEM || errno == EEXIST)
        return no_loop_devices();
      return Error::from_errno(errno, "ask /dev/loop-control for a free loop device");
    }
    Result<LoopInfo> made = try_attach(backing.get(), number, tag);
    if (made.ok() || made.code() != ErrorCode::kConflict) return made;
  }
  return no_loop_devices();
}

Result<std::vector<LoopInfo>> find(std::string_view prefix) {
  std::vector<LoopInfo> found;
  DIR* dir = opendir("/sys/block");
  if (dir == nullptr) return Error::from_errno(errno, "list /sys/block");
  while (const dirent* entry = readdir(dir)) {
    const std::string_view name = entry->d_name;
    int number = -1;
    if (!name.starts_with("loop")) continue;
    const auto parsed = std::from_chars(name.data() + 4, name.data() + name.size(), number);
    if (parsed.ec != std::errc() || parsed.ptr != name.data() + name.size()) continue;
    if (!is_attached(number)) continue;
    const OwnedFd fd = open_fd(path_of(number), O_RDONLY | O_NONBLOCK);
    LoopInfo info;
    info.number = number;
    if (fd.valid() && has_tag(fd.get(), prefix, &info.tag)) found.push_back(std::move(info));
  }
  closedir(dir);
  return found;
}

Status detach(int number, std::string_view tag) {
  {
    // Exclusive: nobody can mount it between the look and the deed.
    Result<OwnedFd> fd = open_ours(number, tag, O_EXCL);
    if (fd.code() == ErrorCode::kNotFound) return Status();
    if (!fd.ok()) return fd.error();
    if (ioctl(fd->get(), LOOP_CLR_FD, 0) != 0 && errno != ENXIO) {
      return Error::from_errno(errno, "detach " + path_of(number));
    }
  }
  // The kernel lets go with the last close; somebody (udev, blkid) may be looking at it for a
  // moment.
  for (int wait = 0; wait < 500; ++wait) {
    if (!is_attached(number)) return Status();
    usleep(10'000);
  }
  return make_error(ErrorCode::kInUse,
                    "{} is still open in another process; it goes when that closes it",
                    path_of(number));
}

Status detach_later(int number, std::string_view tag) {
  const Result<OwnedFd> fd = open_ours(number, tag, 0);
  if (fd.code() == ErrorCode::kNotFound) return Status();
  if (!fd.ok()) return fd.error();
  if (ioctl(fd->get(), LOOP_CLR_FD, 0) != 0 && errno != ENXIO) {
    return Error::from_errno(errno, "detach " + path_of(number));
  }
  return Status();
}

Status refresh_size(int number, std::string_view tag) {
  const Result<OwnedFd> fd = open_ours(number, tag, 0);
  if (!fd.ok()) return fd.error();
  if (ioctl(fd->get(), LOOP_SET_CAPACITY, 0) != 0) {
    return Error::from_errno(errno, "grow " + path_of(number));
  }
  return Status();
}

Result<uint64_t> size_bytes(int number) {
  const OwnedFd fd = open_fd(path_of(number), O_RDONLY);
  uint64_t bytes = 0;
  if (!fd.valid() || ioctl(fd.get(), BLKGETSIZE64, &bytes) != 0) {
    return Error::from_errno(errno, "ask for the size of " + path_of(number));
  }
  return bytes;
}

Result<bool> is_claimed(const std::string& device) {
  const OwnedFd fd = open_fd(device, O_RDONLY | O_EXCL);
  if (fd.valid()) return false;
  if (errno == EBUSY) return true;
  if (errno == ENOENT || errno == ENXIO) return false;
  return Error::from_errno(errno, "open " + device);
}

}  // namespace hf::loopdev
