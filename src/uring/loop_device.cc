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
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>

#include "base/units.h"
#include "uring/owned_fd.h"

namespace hf::loopdev {
namespace {

// Others take free numbers at the same time; each lost race is one round.
constexpr int kRounds = 64;
// What the kernel prints behind the path of a file that has lost its name.
constexpr std::string_view kUnlinked = " (deleted)";

std::string path_of(int number) {
  return "/dev/loop" + std::to_string(number);
}

OwnedFd open_fd(const std::string& path, int flags) {
  return OwnedFd(::open(path.c_str(), flags | O_CLOEXEC));
}

Error no_loop_devices() {
  return make_error(
      ErrorCode::kLimitExceeded,
      "all loop devices of this machine are used up: detach volumes or other loop devices "
      "(losetup -a shows them), or raise the kernel's limit (loop.max_loop)");
}

// What a device stands on, from sysfs, which asks nobody. False when it is not attached.
bool read_backing(int number, LoopInfo* info) {
  const std::string path = "/sys/block/loop" + std::to_string(number) + "/loop/backing_file";
  const OwnedFd fd = open_fd(path, O_RDONLY);
  char buffer[4096 + 64];
  const ssize_t n = fd.valid() ? ::read(fd.get(), buffer, sizeof buffer) : -1;
  if (n <= 0) return false;
  std::string text(buffer, static_cast<size_t>(n));
  if (text.ends_with('\n')) text.pop_back();
  info->number = number;
  info->unlinked = text.ends_with(kUnlinked);
  if (info->unlinked) text.resize(text.size() - kUnlinked.size());
  info->backing = std::move(text);
  return true;
}

// "1" and the like from /sys/block/loopN/<what>.
Result<uint64_t> read_number(int number, const char* what) {
  const std::string path = "/sys/block/loop" + std::to_string(number) + "/" + what;
  const OwnedFd fd = open_fd(path, O_RDONLY);
  char buffer[32];
  const ssize_t n = fd.valid() ? ::read(fd.get(), buffer, sizeof buffer) : -1;
  if (n <= 0) return Error::from_errno(n < 0 ? errno : EIO, "read " + path);
  uint64_t value = 0;
  const auto parsed = std::from_chars(buffer, buffer + n, value);
  if (parsed.ec != std::errc()) return Error::from_errno(EIO, "read a number from " + path);
  return value;
}

bool is_still(const LoopInfo& loop) {
  LoopInfo now;
  return read_backing(loop.number, &now) && now.backing == loop.backing;
}

// Opens the device if it stands on what `loop` says. While it is open its number cannot change
// hands: LOOP_CLR_FD by others then waits for our close.
Result<OwnedFd> open_ours(const LoopInfo& loop, int flags) {
  const auto gone = [&] {
    return make_error(ErrorCode::kNotFound, "{} does not stand on {} (any more)", loop.device(),
                      loop.backing);
  };
  if (!is_still(loop)) return gone();
  OwnedFd fd = open_fd(loop.device(), O_RDWR | flags);
  if (!fd.valid()) {
    if (errno == ENOENT || errno == ENXIO) return gone();
    if (errno == EBUSY) {
      return make_error(
          ErrorCode::kInUse,
          "{} is still in use: it is mounted somewhere (perhaps in a container) or claimed "
          "by another device; unmount it first",
          loop.device());
    }
    return Error::from_errno(errno, "open " + loop.device());
  }
  if (!is_still(loop)) return gone();
  return fd;
}

template <typename Wanted>
Result<std::vector<LoopInfo>> find_if(const Wanted& wanted) {
  std::vector<LoopInfo> found;
  DIR* dir = opendir("/sys/block");
  if (dir == nullptr) return Error::from_errno(errno, "list /sys/block");
  while (const dirent* entry = readdir(dir)) {
    const std::string_view name = entry->d_name;
    int number = -1;
    if (!name.starts_with("loop")) continue;
    const auto parsed = std::from_chars(name.data() + 4, name.data() + name.size(), number);
    if (parsed.ec != std::errc() || parsed.ptr != name.data() + name.size()) continue;
    LoopInfo info;
    if (read_backing(number, &info) && wanted(info)) found.push_back(std::move(info));
  }
  closedir(dir);
  return found;
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
  const Result<uint64_t> direct = read_number(number, "loop/dio");
  if (!direct.ok() || *direct != 1) {
    ioctl(fd.get(), LOOP_CLR_FD, 0);
    return make_error(ErrorCode::kMissingFeature, "{} cannot do direct I/O on its backing file",
                      path_of(number));
  }
  LoopInfo made;
  if (!read_backing(number, &made)) {
    return make_error(ErrorCode::kConflict, "{} was detached by another process", path_of(number));
  }
  return made;
}

}  // namespace

Result<std::string> canonical_path(const std::string& path) {
  const std::unique_ptr<char, decltype(&std::free)> found(::realpath(path.c_str(), nullptr),
                                                          &std::free);
  if (!found) return Error::from_errno(errno, "find " + path);
  return std::string(found.get());
}

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

Result<std::vector<LoopInfo>> find(const std::string& backing) {
  return find_if([&](const LoopInfo& info) { return !info.unlinked && info.backing == backing; });
}

Result<std::vector<LoopInfo>> find_below(const std::string& directory) {
  return find_if([&](const LoopInfo& info) { return info.backing.starts_with(directory + "/"); });
}

namespace {

// Nothing: it is gone meanwhile.
Result<std::optional<loop_info64>> status_of(const LoopInfo& loop) {
  const Result<OwnedFd> fd = open_ours(loop, O_NONBLOCK);
  if (fd.code() == ErrorCode::kNotFound) return std::optional<loop_info64>();
  HF_TRY(fd);
  loop_info64 info{};
  if (ioctl(fd->get(), LOOP_GET_STATUS64, &info) != 0) {
    if (errno == ENXIO) return std::optional<loop_info64>();
    return Error::from_errno(errno, "ask whose " + loop.device() + " is");
  }
  return std::optional<loop_info64>(info);
}

}  // namespace

Result<bool> carries(const LoopInfo& loop, std::string_view tag) {
  const Result<std::optional<loop_info64>> info = status_of(loop);
  HF_TRY(info);
  if (!info->has_value()) return false;
  const auto* name = reinterpret_cast<const char*>((*info)->lo_file_name);
  return std::string_view(name, strnlen(name, LO_NAME_SIZE)) == tag;
}

Result<bool> stands_on(const LoopInfo& loop, const std::string& backing) {
  struct stat file {};
  if (::stat(backing.c_str(), &file) != 0) return Error::from_errno(errno, backing);
  const Result<std::optional<loop_info64>> info = status_of(loop);
  HF_TRY(info);
  return info->has_value() && (*info)->lo_inode == file.st_ino && (*info)->lo_device == file.st_dev;
}

Result<OwnedFd> claim(const LoopInfo& loop) {
  return open_ours(loop, O_EXCL);
}

namespace {

// Takes a LOOP_CLR_FD back that waits for the device's last close: otherwise whoever still has it open may mount it
// after all, and it would vanish below a volume that is known as attached. kInUse, or ok when it is gone already.
Status keep(const LoopInfo& loop) {
  const Result<OwnedFd> fd = open_ours(loop, O_NONBLOCK);
  if (fd.code() == ErrorCode::kNotFound) return Status();
  HF_TRY(fd);
  loop_info64 info{};
  if (ioctl(fd->get(), LOOP_GET_STATUS64, &info) != 0) {
    if (errno == ENXIO) return Status();
    return Error::from_errno(errno, "ask the state of " + loop.device());
  }
  info.lo_flags &= ~static_cast<uint32_t>(LO_FLAGS_AUTOCLEAR);
  if (ioctl(fd->get(), LOOP_SET_STATUS64, &info) != 0) {
    if (errno == ENXIO) return Status();
    return Error::from_errno(errno, "keep " + loop.device());
  }
  return make_error(ErrorCode::kInUse, "{} is still open in another process; it stays attached, try again when that is gone",
                    loop.device());
}

}  // namespace

Status release(const LoopInfo& loop, OwnedFd claimed) {
  if (ioctl(claimed.get(), LOOP_CLR_FD, 0) != 0 && errno != ENXIO) {
    return Error::from_errno(errno, "detach " + loop.device());
  }
  claimed.reset();
  // The kernel lets go with the last close; somebody (udev, blkid) may be looking at it for a
  // moment.
  for (int wait = 0; wait < 500; ++wait) {
    if (!is_still(loop)) return Status();
    usleep(10'000);
  }
  return keep(loop);
}

Status detach(const LoopInfo& loop) {
  Result<OwnedFd> claimed = claim(loop);
  if (claimed.code() == ErrorCode::kNotFound) return Status();
  HF_TRY(claimed);
  return release(loop, std::move(*claimed));
}

Status detach_later(const LoopInfo& loop) {
  const Result<OwnedFd> fd = open_ours(loop, 0);
  if (fd.code() == ErrorCode::kNotFound) return Status();
  HF_TRY(fd);
  if (ioctl(fd->get(), LOOP_CLR_FD, 0) != 0 && errno != ENXIO) {
    return Error::from_errno(errno, "detach " + loop.device());
  }
  return Status();
}

Status refresh_size(const LoopInfo& loop) {
  const Result<OwnedFd> fd = open_ours(loop, 0);
  HF_TRY(fd);
  if (ioctl(fd->get(), LOOP_SET_CAPACITY, 0) != 0) {
    return Error::from_errno(errno, "grow " + loop.device());
  }
  return Status();
}

Result<uint64_t> size_bytes(int number) {
  const Result<uint64_t> sectors = read_number(number, "size");
  HF_TRY(sectors);
  return *sectors * 512;
}

Result<bool> is_claimed(const std::string& device) {
  const OwnedFd fd = open_fd(device, O_RDONLY | O_EXCL);
  if (fd.valid()) return false;
  if (errno == EBUSY) return true;
  if (errno == ENOENT || errno == ENXIO) return false;
  return Error::from_errno(errno, "open " + device);
}

}  // namespace hf::loopdev
