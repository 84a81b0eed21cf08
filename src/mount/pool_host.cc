#include "mount/pool_host.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>

#include "base/log.h"
#include "base/mount_table.h"
#include "base/units.h"
#include "mount/helper.h"
#include "mount/probe.h"
#include "runtime/file.h"
#include "runtime/process.h"
#include "uring/loop_device.h"
#include "uring/mount_table_file.h"
#include "uring/owned_fd.h"

namespace hf::mount {
namespace {

constexpr Duration kHelperLimit = 80s;
constexpr char kImage[] = "pool.img";
constexpr char kIdentity[] = "pool.json";

std::string tag_of(PoolId pool) { return "holdfast-pool-" + pool.to_string(); }

struct Place {
  bool is_device = false;
  bool has_image = false;
  bool has_identity = false;
  uint64_t free_bytes = 0;  // of a directory
};

bool exists(const std::string& path) {
  struct stat info {};
  return ::lstat(path.c_str(), &info) == 0;
}

// The directory holds other people's data: nobody but root may swap its files.
Status check_owner(const std::string& path, const struct stat& info) {
  if (info.st_uid != 0) {
    return make_error(ErrorCode::kPermissionDenied, "{} belongs to uid {}, a pool's directory must be root's: "
                      "chown root {}", path, info.st_uid, path);
  }
  if ((info.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
    return make_error(ErrorCode::kPermissionDenied, "{} may be written by others than root: chmod go-w {}", path,
                      path);
  }
  return {};
}

// A direct write to a new file: tells read-only, full and direct-less file systems apart before anything is made.
Status check_directory_works(const std::string& path) {
  const std::string probe = path + "/.holdfast-probe";
  OwnedFd fd(::open(probe.c_str(), O_RDWR | O_CREAT | O_DIRECT | O_CLOEXEC | O_NOFOLLOW, 0600));
  const int err = errno;
  if (!fd.valid()) {
    ::unlink(probe.c_str());
    if (err == EROFS) return make_error(ErrorCode::kReadOnly, "{} is read-only; remount it read-write", path);
    if (err == EINVAL) {
      return make_error(ErrorCode::kMissingFeature,
                        "the file system of {} does not do direct I/O (a tmpfs?); choose a directory on a disk",
                        path);
    }
    return Error::from_errno(err, "make a file in " + path);
  }
  const AlignedBuffer block = AlignedBuffer::zeroed(kBlockSize);
  const ssize_t n = ::pwrite(fd.get(), block.data(), block.size(), 0);
  const int write_errno = errno;
  ::unlink(probe.c_str());
  if (n == static_cast<ssize_t>(block.size())) return {};
  if (n < 0 && write_errno == EINVAL) {
    return make_error(ErrorCode::kMissingFeature, "the file system of {} does not do direct I/O", path);
  }
  return Error::from_errno(n < 0 ? write_errno : ENOSPC, "write in " + path);
}

Result<Place> look_at(const std::string& path) {
  Place place;
  struct stat info {};
  if (path.empty() || path[0] != '/') {
    return make_error(ErrorCode::kInvalidArgument, "\"{}\" is not an absolute path", path);
  }
  if (::stat(path.c_str(), &info) != 0) {
    if (errno == ENOENT) {
      return make_error(ErrorCode::kNotFound, "{} does not exist; make the directory first, or name a block device",
                        path);
    }
    return Error::from_errno(errno, path);
  }
  if (S_ISBLK(info.st_mode)) {
    place.is_device = true;
    return place;
  }
  if (!S_ISDIR(info.st_mode)) {
    return make_error(ErrorCode::kInvalidArgument, "{} is neither a directory nor a block device", path);
  }
  struct stat itself {};
  if (::lstat(path.c_str(), &itself) == 0 && S_ISLNK(itself.st_mode)) {
    const Result<std::string> real = loopdev::canonical_path(path);
    HF_TRY(real);
    return make_error(ErrorCode::kInvalidArgument, "{} is a link, which may lead elsewhere one day; give {}", path, *real);
  }
  HF_TRY(check_owner(path, info));
  place.has_image = exists(path + "/" + kImage);
  place.has_identity = exists(path + "/" + kIdentity);
  struct statvfs space {};
  if (::statvfs(path.c_str(), &space) != 0) return Error::from_errno(errno, "statvfs " + path);
  place.free_bytes = static_cast<uint64_t>(space.f_bavail) * space.f_frsize;
  return place;
}

Result<uint64_t> image_size(const std::string& directory, uint64_t asked, uint64_t free_bytes) {
  const uint64_t size = round_down(asked != 0 ? asked : free_bytes / 100 * kDefaultPoolPercent, kMiB);
  if (size < kMinPoolBytes) {
    return make_error(asked == 0 ? ErrorCode::kNoSpace : ErrorCode::kInvalidArgument,
                      "a pool needs at least {}; {} {}", format_size(kMinPoolBytes),
                      asked == 0 ? "free in " + directory + ":" : "asked for:",
                      format_size(asked == 0 ? free_bytes : asked));
  }
  if (size > free_bytes) {
    return make_error(ErrorCode::kNoSpace, "{} has {} free, less than the {} asked for; give a smaller --size",
                      directory, format_size(free_bytes), format_size(size));
  }
  return size;
}

// The directory's lock holds on this machine whatever path leads to it; the image's also over NFS, where that of a
// directory does not reach the server.
Status claim_now(const std::string& directory, std::vector<OwnedFd>* claimed) {
  const std::string image = directory + "/" + kImage;
  for (const std::string& path : {directory, image}) {
    const int mode = path == image ? O_RDWR | O_NOFOLLOW : O_RDONLY | O_DIRECTORY;
    OwnedFd fd(::open(path.c_str(), mode | O_CLOEXEC));
    if (!fd.valid() && errno == EROFS) fd = OwnedFd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd.valid() && errno == ENOENT) continue;  // none yet
    if (!fd.valid()) return Error::from_errno(errno, "open " + path);
    if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
      if (errno != EWOULDBLOCK) return Error::from_errno(errno, "lock " + path);
      return make_error(ErrorCode::kLocked,
                        "the pool in {} is in use by another process (a second daemon, or holdfast-pool); stop that "
                        "one, or wait until it ends",
                        directory);
    }
    claimed->push_back(std::move(fd));
  }
  return {};
}

Status make_sparse(const std::string& path, uint64_t size) {
  OwnedFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd.valid()) return Error::from_errno(errno, "make " + path);
  if (::ftruncate(fd.get(), static_cast<off_t>(size)) != 0) return Error::from_errno(errno, "size " + path);
  return {};
}

// fsync of the image, its final name, fsync of the directory.
Status publish_image(const std::string& directory) {
  const std::string from = directory + "/" + kImage + ".new", to = directory + "/" + kImage;
  {
    OwnedFd fd(::open(from.c_str(), O_RDWR | O_CLOEXEC));
    if (!fd.valid() || ::fsync(fd.get()) != 0) return Error::from_errno(errno, "sync " + from);
  }
  if (::rename(from.c_str(), to.c_str()) != 0) return Error::from_errno(errno, "rename " + from);
  OwnedFd dir(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!dir.valid() || ::fsync(dir.get()) != 0) return Error::from_errno(errno, "sync " + directory);
  return {};
}

// The pool's loop devices: by the path first, so that no other's device is opened, then by the tag: the same
// path may name another image in another mount namespace.
Result<std::vector<loopdev::LoopInfo>> loops_of(const std::string& directory, const std::string& tag) {
  const Result<std::string> canonical = loopdev::canonical_path(directory);
  HF_TRY(canonical);
  const Result<std::vector<loopdev::LoopInfo>> there = loopdev::find_below(*canonical);
  HF_TRY(there);
  std::vector<loopdev::LoopInfo> ours;
  for (const loopdev::LoopInfo& loop : *there) {
    const Result<bool> tagged = loopdev::carries(loop, tag);
    HF_TRY(tagged);
    if (*tagged) ours.push_back(loop);
  }
  return ours;
}

Result<loopdev::LoopInfo> find_or_attach(const std::string& directory, const std::string& tag) {
  Result<std::vector<loopdev::LoopInfo>> there = loops_of(directory, tag);
  HF_TRY(there);
  if (!there->empty()) return there->front();
  // Two file systems over one image would ruin each other: what is left of a pool that came to nothing, for example.
  const Result<std::string> canonical = loopdev::canonical_path(directory);
  HF_TRY(canonical);
  const std::string image = *canonical + "/" + kImage;
  const Result<std::vector<loopdev::LoopInfo>> others = loopdev::find(image);
  HF_TRY(others);
  for (const loopdev::LoopInfo& other : *others) {
    const Result<bool> same = loopdev::stands_on(other, image);
    HF_TRY(same);
    if (!*same) continue;
    return make_error(ErrorCode::kInUse,
                      "{} is attached as {} already, not for this pool: unmount what is mounted from it (findmnt {}), "
                      "then losetup -d {}",
                      image, other.device(), other.device(), other.device());
  }
  return loopdev::attach(directory + "/" + kImage, tag);
}

Result<bool> is_mounted(const std::string& path, const std::string& device) {
  const Result<std::string> text = read_mount_table();
  HF_TRY(text);
  struct stat info {};
  if (::stat(device.c_str(), &info) != 0) return Error::from_errno(errno, device);
  for (const MountEntry& entry : parse_mount_table(*text)) {
    if (entry.point != path) continue;
    if (entry.major == major(info.st_rdev) && entry.minor == minor(info.st_rdev)) return true;
    return make_error(ErrorCode::kInUse, "{} is mounted at {}, where the pool's {} belongs; unmount it", entry.source,
                      path, device);
  }
  return false;
}

Status mount_xfs(const std::string& device, const std::string& path) {
  Result<bool> mounted = is_mounted(path, device);
  HF_TRY(mounted);
  if (*mounted) return {};
  const std::string parent = path.substr(0, path.rfind('/'));
  for (const std::string& directory : {parent, path}) {
    if (::mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST) return Error::from_errno(errno, "make " + directory);
  }
  if (::mount(device.c_str(), path.c_str(), "xfs", MS_NOATIME | MS_NODEV | MS_NOSUID | MS_NOEXEC, "nouuid") != 0) {
    const int err = errno;
    if (err == EBUSY) {
      return make_error(ErrorCode::kInUse, "{} is in use by another mount or process", device);
    }
    return Error::from_errno(err, "mount the pool's " + device + " at " + path);
  }
  if (::mount(nullptr, path.c_str(), nullptr, MS_PRIVATE, nullptr) != 0) {
    return Error::from_errno(errno, "make " + path + " private");
  }
  return {};
}

Status bring_up_now(PoolStorage* storage, const std::string& tag, const std::string& mount_path) {
  std::string device = storage->path;
  if (!storage->on_device) {
    Result<loopdev::LoopInfo> loop = find_or_attach(storage->path, tag);
    HF_TRY(loop);
    device = loop->device();
  }
  HF_TRY(mount_xfs(device, mount_path));
  storage->data_dir = mount_path;
  if (!storage->on_device) storage->image = storage->path + "/" + kImage;
  storage->journal_dir = storage->on_device ? mount_path : storage->path;
  return {};
}

Status close_now(const PoolStorage& storage, const std::string& tag) {
  if (::umount2(storage.data_dir.c_str(), UMOUNT_NOFOLLOW) != 0 && errno != EINVAL && errno != ENOENT) {
    return Error::from_errno(errno, "unmount " + storage.data_dir);
  }
  if (storage.on_device) return {};
  Result<std::vector<loopdev::LoopInfo>> loops = loops_of(storage.path, tag);
  HF_TRY(loops);
  for (const loopdev::LoopInfo& loop : *loops) HF_TRY(loopdev::detach(loop));
  return {};
}

Status grow_image(const std::string& directory, const std::string& tag, uint64_t asked) {
  const std::string image = directory + "/" + kImage;
  struct stat info {};
  struct statvfs space {};
  if (::stat(image.c_str(), &info) != 0) return Error::from_errno(errno, image);
  if (::statvfs(directory.c_str(), &space) != 0) return Error::from_errno(errno, "statvfs " + directory);
  const uint64_t now = static_cast<uint64_t>(info.st_size), taken = static_cast<uint64_t>(info.st_blocks) * 512;
  const uint64_t free = static_cast<uint64_t>(space.f_bavail) * space.f_frsize;
  const uint64_t most = round_down(taken + free, kMiB);
  const uint64_t size = round_down(asked != 0 ? asked : most / 100 * kDefaultPoolPercent, kMiB);
  if (size < now) {
    return make_error(ErrorCode::kInvalidArgument, "the pool has {} already; it can only grow", format_size(now));
  }
  if (size > most) {
    return make_error(ErrorCode::kNoSpace, "{} has room for a pool of {}, not of {}", directory, format_size(most),
                      format_size(size));
  }
  if (::truncate(image.c_str(), static_cast<off_t>(size)) != 0) return Error::from_errno(errno, "grow " + image);
  Result<std::vector<loopdev::LoopInfo>> loops = loops_of(directory, tag);
  HF_TRY(loops);
  for (const loopdev::LoopInfo& loop : *loops) HF_TRY(loopdev::refresh_size(loop));
  return {};
}

// cowextsize: XFS would otherwise set 128 KiB aside for every 4 KiB written into a shared segment after a
// snapshot, and a pool that the store believes half empty would be full (measured: 100 snapshots under random
// writes filled 8 GiB with 2 GiB of data).
std::vector<std::string> mkfs_xfs(const std::string& target) {
  return {"mkfs.xfs", "-q",      "-f",           "-K", "-s",       "size=4096", "-m", "crc=1,reflink=1",
          "-d",       "cowextsize=1", "-L", "holdfast", target};
}

}  // namespace

Task<Status> PoolHost::make_image(std::string directory, uint64_t size_bytes) {
  const std::string fresh = directory + "/" + kImage + ".new";
  std::function<Status()> sparse = [fresh, size_bytes] { return make_sparse(fresh, size_bytes); };
  Status made = co_await run_blocking<Status>(world_.blocking, sparse);
  HF_CO_TRY(made);
  Status formatted = co_await must_run(world_.process, mkfs_xfs(fresh), kHelperLimit);
  HF_CO_TRY(formatted);
  std::function<Status()> publish = [directory] { return publish_image(directory); };
  co_return co_await run_blocking<Status>(world_.blocking, publish);
}

Task<Status> PoolHost::format_device(std::string device, bool force) {
  std::function<Result<bool>()> ask = [device] { return loopdev::is_claimed(device); };
  Result<bool> claimed = co_await run_blocking<Result<bool>>(world_.blocking, ask);
  HF_CO_TRY(claimed);
  if (*claimed) {
    co_return make_error(ErrorCode::kInUse, "{} is mounted or part of another device; unmount it first", device);
  }
  Result<Content> content = co_await probe(world_.process, device);
  HF_CO_TRY(content);
  if (!content->empty() && !force) {
    co_return make_error(ErrorCode::kNotEmpty,
                         "{} carries {}; give --force to take it for a pool, and its data is lost", device,
                         content->describe());
  }
  co_return co_await must_run(world_.process, mkfs_xfs(device), kHelperLimit);
}

Task<Result<PoolStorage>> PoolHost::bring_up(PoolId pool, PoolStorage storage) {
  const std::string tag = tag_of(pool), at = mount_path(pool);
  PoolStorage* raw = &storage;  // lives in this frame until the work is done
  std::function<Status()> up = [raw, tag, at] { return bring_up_now(raw, tag, at); };
  Status done = co_await run_blocking<Status>(world_.blocking, up);
  HF_CO_TRY(done);
  open_[pool] = storage;
  co_return storage;
}

Task<Status> PoolHost::claim(PoolId pool, std::string directory) {
  if (claims_.contains(pool)) co_return Status();
  std::vector<OwnedFd> claimed;
  std::vector<OwnedFd>* raw = &claimed;  // lives in this frame until the work is done
  std::function<Status()> lock = [raw, directory] { return claim_now(directory, raw); };
  Status done = co_await run_blocking<Status>(world_.blocking, lock);
  HF_CO_TRY(done);
  claims_[pool] = std::move(claimed);
  co_return Status();
}

Task<void> PoolHost::give_up(PoolId pool, ErrorCode why) {
  const auto it = open_.find(pool);
  if (it != open_.end() && it->second.on_device && why == ErrorCode::kLocked) {
    Status closed = co_await close(pool);
    if (!closed.ok()) HF_LOG(kWarn, "mount", "pool_left_mounted pool={} {}", pool.to_string(), closed.error().to_string());
  }
  open_.erase(pool);
  claims_.erase(pool);
}

Task<Result<PoolStorage>> PoolHost::make(PoolId pool, std::string path, uint64_t size_bytes, bool force) {
  Result<PoolStorage> made = co_await make_claimed(pool, std::move(path), size_bytes, force);
  if (!made.ok() && !open_.contains(pool)) claims_.erase(pool);
  co_return made;
}

Task<Result<PoolStorage>> PoolHost::open(PoolId pool, std::string path) {
  if (const auto it = open_.find(pool); it != open_.end()) co_return it->second;
  Result<PoolStorage> opened = co_await open_claimed(pool, std::move(path));
  if (!opened.ok()) claims_.erase(pool);
  co_return opened;
}

Task<Result<PoolStorage>> PoolHost::make_claimed(PoolId pool, std::string path, uint64_t size_bytes, bool force) {
  std::function<Result<Place>()> look = [path] { return look_at(path); };
  Result<Place> place = co_await run_blocking<Result<Place>>(world_.blocking, look);
  HF_CO_TRY(place);
  PoolStorage storage;
  storage.path = path;
  storage.on_device = place->is_device;
  if (!place->is_device) {
    Status claimed = co_await claim(pool, path);
    HF_CO_TRY(claimed);
  }
  if (place->is_device) {
    std::function<Result<bool>()> ask = [path, at = mount_path(pool)] { return is_mounted(at, path); };
    Result<bool> up = co_await run_blocking<Result<bool>>(world_.blocking, ask);
    HF_CO_TRY(up);
    if (!*up) {
      Status formatted = co_await format_device(path, force);
      HF_CO_TRY(formatted);
    }
  } else if (!place->has_image) {
    if (place->has_identity) {
      co_return make_error(ErrorCode::kCorruption, "{} has a pool.json and no pool.img: a pool that lost its image; "
                           "bring the image back, or remove what is left of it", path);
    }
    std::function<Status()> works = [path] { return check_directory_works(path); };
    Status usable = co_await run_blocking<Status>(world_.blocking, works);
    HF_CO_TRY(usable);
    const Result<uint64_t> size = image_size(path, size_bytes, place->free_bytes);
    HF_CO_TRY(size);
    Status made = co_await make_image(path, *size);
    HF_CO_TRY(made);
    claims_.erase(pool);  // anew, with the image
    Status claimed = co_await claim(pool, path);
    HF_CO_TRY(claimed);
  }
  co_return co_await bring_up(pool, std::move(storage));
}

Task<Result<PoolStorage>> PoolHost::open_claimed(PoolId pool, std::string path) {
  std::function<Result<Place>()> look = [path] { return look_at(path); };
  Result<Place> place = co_await run_blocking<Result<Place>>(world_.blocking, look);
  HF_CO_TRY(place);
  if (!place->is_device && !place->has_image) {
    co_return make_error(ErrorCode::kNotFound, "{} has no pool.img: no pool lies there; is its disk mounted?", path);
  }
  PoolStorage storage;
  storage.path = path;
  storage.on_device = place->is_device;
  if (!place->is_device) {
    Status claimed = co_await claim(pool, path);
    HF_CO_TRY(claimed);
  }
  co_return co_await bring_up(pool, std::move(storage));
}

Task<Status> PoolHost::expand(PoolId pool, uint64_t size_bytes) {
  const auto it = open_.find(pool);
  if (it == open_.end()) co_return make_error(ErrorCode::kNotFound, "pool {} is not open", pool.to_string());
  const PoolStorage storage = it->second;
  if (!storage.on_device) {
    const std::string tag = tag_of(pool);
    std::function<Status()> grow = [storage, tag, size_bytes] { return grow_image(storage.path, tag, size_bytes); };
    Status grown = co_await run_blocking<Status>(world_.blocking, grow);
    HF_CO_TRY(grown);
  } else if (size_bytes != 0) {
    co_return make_error(ErrorCode::kInvalidArgument, "a pool on a device has the device's size; leave --size out");
  }
  std::vector<std::string> argv = {"xfs_growfs", storage.data_dir};
  co_return co_await must_run(world_.process, std::move(argv), kHelperLimit);
}

Task<Status> PoolHost::close(PoolId pool) {
  const auto it = open_.find(pool);
  if (it == open_.end()) co_return Status();
  const PoolStorage storage = it->second;
  const std::string tag = tag_of(pool);
  std::function<Status()> down = [storage, tag] { return close_now(storage, tag); };
  Status done = co_await run_blocking<Status>(world_.blocking, down);
  HF_CO_TRY(done);
  open_.erase(pool);
  claims_.erase(pool);
  co_return Status();
}

}  // namespace hf::mount
