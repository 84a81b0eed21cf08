#include "mount/mounter.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>

#include "base/log.h"
#include "mount/freeze.h"
#include "mount/helper.h"
#include "mount/mount_options.h"
#include "runtime/file.h"
#include "runtime/process.h"
#include "uring/loop_device.h"
#include "uring/mount_table_file.h"
#include "uring/owned_fd.h"

namespace hf::mount {
namespace {

constexpr Duration kMkfsLimit = 60s;
constexpr Duration kMountLimit = 60s;
constexpr Duration kCheckLimit = 80s;
// A thousand volumes looked at in one pass need one look at the processes. Far below the grace of a starting container.
constexpr Duration kLookAge = 2s;
constexpr int kUmountBusy = 32;  // umount(8): mount failure

const MountEntry* mount_at(const std::vector<MountEntry>& mounts, const std::string& path) {
  const MountEntry* found = nullptr;
  for (const MountEntry& entry : mounts) {
    if (entry.point == path) found = &entry;  // the last one is the visible one
  }
  return found;
}

// Pool thread. The mount root lies on the host's own file system.
Status share_root(const std::string& root, bool mounted) {
  if (!mounted && ::mount(root.c_str(), root.c_str(), nullptr, MS_BIND, nullptr) != 0) {
    return Error::from_errno(errno, "bind " + root + " on itself");
  }
  if (::mount(nullptr, root.c_str(), nullptr, MS_SHARED | MS_REC, nullptr) != 0) {
    return Error::from_errno(errno, "make " + root + " a shared mount");
  }
  return {};
}

// An existing empty directory, reached without following a link in its last part.
Result<OwnedFd> open_target(const std::string& path) {
  if (path.empty() || path[0] != '/') {
    return make_error(ErrorCode::kInvalidArgument, "\"{}\" is not an absolute path", path);
  }
  OwnedFd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (fd.valid()) return fd;
  if (errno == ENOTDIR || errno == ELOOP) {
    return make_error(ErrorCode::kInvalidArgument, "{} is no directory (links are not followed)", path);
  }
  if (errno == ENOENT) {
    return make_error(ErrorCode::kNotFound, "the directory {} does not exist; make it first", path);
  }
  return Error::from_errno(errno, "open " + path);
}

Status bind_now(const std::string& from, const std::string& to, bool read_only) {
  Result<OwnedFd> target = open_target(to);
  HF_TRY(target);
  std::error_code ec;
  const std::string by_fd = "/proc/self/fd/" + std::to_string(target->get());
  if (!std::filesystem::is_empty(by_fd, ec) || ec) {
    return make_error(ErrorCode::kNotEmpty, "{} is not an empty directory; mounting there would hide its files",
                      to);
  }
  if (::mount(from.c_str(), by_fd.c_str(), nullptr, MS_BIND, nullptr) != 0) {
    return Error::from_errno(errno, "bind " + from + " to " + to);
  }
  if (read_only && ::mount(nullptr, to.c_str(), nullptr, MS_REMOUNT | MS_BIND | MS_RDONLY, nullptr) != 0) {
    const int err = errno;
    ::umount2(to.c_str(), UMOUNT_NOFOLLOW);
    return Error::from_errno(err, "make " + to + " read-only");
  }
  return {};
}

// Of a block device, as sysfs says it, which asks nobody; 0 where it does not.
uint64_t bytes_of(const std::string& device) {
  struct stat info {};
  if (::stat(device.c_str(), &info) != 0 || !S_ISBLK(info.st_mode)) return 0;
  const OwnedFd fd(::open(fmt::format("/sys/dev/block/{}:{}/size", major(info.st_rdev), minor(info.st_rdev)).c_str(),
                          O_RDONLY | O_CLOEXEC));
  char sectors[32] = {};
  if (!fd.valid() || ::read(fd.get(), sectors, sizeof sectors - 1) <= 0) return 0;
  return std::strtoull(sectors, nullptr, 10) * 512;
}

// Who sits in a directory below `path`: "pid 12 (postgres)", at most three.
std::string who_uses(const std::string& path) {
  std::string who;
  int found = 0;
  std::error_code ec;
  for (const auto& process : std::filesystem::directory_iterator("/proc", ec)) {
    const std::string pid = process.path().filename();
    if (pid.find_first_not_of("0123456789") != std::string::npos) continue;
    char link[4096];
    const ssize_t n = ::readlink(("/proc/" + pid + "/cwd").c_str(), link, sizeof link);
    const std::string_view cwd(link, n > 0 ? static_cast<size_t>(n) : 0);
    if (cwd != path && !cwd.starts_with(path + "/")) continue;
    who += (who.empty() ? " (process " : ", ") + pid;
    if (++found == 3) break;
  }
  return who.empty() ? who : who + ")";
}

}  // namespace

Task<Result<std::vector<MountEntry>>> Mounter::mounts() {
  std::function<Result<std::string>()> read = [] { return read_mount_table(); };
  Result<std::string> text = co_await run_blocking<Result<std::string>>(world_.blocking, read);
  HF_CO_TRY(text);
  co_return parse_mount_table(*text);
}

Task<Status> Mounter::start() {
  Result<std::vector<MountEntry>> all = co_await mounts();
  HF_CO_TRY(all);
  const bool mounted = mount_at(*all, root_) != nullptr;
  const std::string root = root_;
  std::function<Status()> share = [root, mounted] { return share_root(root, mounted); };
  co_return co_await run_blocking<Status>(world_.blocking, share);
}

Task<Status> Mounter::check_ext4(std::string device) {
  std::vector<std::string> look = {"dumpe2fs", "-h", device};
  Result<CommandResult> head = co_await world_.process.run(alone_with(device, std::move(look)), kMountLimit);
  HF_CO_TRY(head);
  if (ext4_needs_check(head->output)) {
    HF_LOG(kWarn, "mount", "fsck device={} reason=unclean", device);
    std::vector<std::string> argv = {"e2fsck", "-p", device};
    Result<CommandResult> checked = co_await world_.process.run(alone_with(device, std::move(argv)), kCheckLimit);
    HF_CO_TRY(checked);
    Status sound = judge_e2fsck(device, checked->exit_status, checked->output);
    HF_CO_TRY(sound);
  }
  co_return co_await grow_unmounted_ext4(device, ext4_size_bytes(head->output));
}

Task<Status> Mounter::grow_unmounted_ext4(std::string device, uint64_t fs_bytes) {
  const uint64_t device_bytes = bytes_of(device);
  // mkfs leaves less than a block group's worth unused at the end.
  if (fs_bytes == 0 || device_bytes < fs_bytes + kMiB) co_return Status();
  HF_LOG(kInfo, "mount", "grow_before_mount device={} from_bytes={} to_bytes={}", device, fs_bytes, device_bytes);
  std::vector<std::string> check = {"e2fsck", "-f", "-p", device};
  Result<CommandResult> checked = co_await world_.process.run(alone_with(device, std::move(check)), kCheckLimit);
  HF_CO_TRY(checked);
  Status sound = judge_e2fsck(device, checked->exit_status, checked->output);
  HF_CO_TRY(sound);
  std::vector<std::string> grow = {"resize2fs", device};
  co_return co_await must_run(world_.process, alone_with(device, std::move(grow)), kCheckLimit);
}

Task<Status> Mounter::prepare(std::string device, FilesystemSpec spec) {
  if (spec.fs == spec::FsType::kNone) {
    co_return make_error(ErrorCode::kFailedPrecondition,
                         "the volume has fs=none: it has no file system to mount; attach it and use the "
                         "block device");
  }
  if (spec.may_format) {
    Status made = co_await must_run(world_.process, alone_with(device, mkfs_argv(device, spec)), kMkfsLimit);
    HF_CO_TRY(made);
    std::vector<std::string> argv = empty_root_argv(device, spec.fs);
    if (argv.empty()) co_return Status();
    co_return co_await must_run(world_.process, alone_with(device, std::move(argv)), kMkfsLimit);
  }
  Result<Content> content = co_await probe(world_.process, device);
  HF_CO_TRY(content);
  // A mount(8) that outlived its daemon has ended now, since the probe waited for the device's lock.
  Result<std::vector<std::string>> there = co_await mounts_of(device);
  HF_CO_TRY(there);
  if (!there->empty()) co_return Status();
  const Status sound = check_formatted(device, *content, spec);
  HF_CO_TRY(sound);
  if (spec.fs == spec::FsType::kExt4) co_return co_await check_ext4(device);
  co_return Status();
}

Task<Result<std::string>> Mounter::contents(std::string device) {
  std::vector<std::string> flush = {"blockdev", "--flushbufs", device};
  Status flushed = co_await must_run(world_.process, alone_with(device, std::move(flush)), kMkfsLimit);
  HF_CO_TRY(flushed);
  Result<Content> content = co_await probe(world_.process, device);
  HF_CO_TRY(content);
  co_return content->empty() ? std::string() : content->describe();
}

Task<Status> Mounter::mount(std::string device, std::string path, FilesystemSpec spec) {
  Result<std::string> options = mount_options(spec);
  HF_CO_TRY(options);
  Result<std::vector<std::string>> there = co_await mounts_of(device);
  HF_CO_TRY(there);
  if (std::ranges::find(*there, path) != there->end()) co_return Status();
  Result<std::vector<MountEntry>> all = co_await mounts();
  HF_CO_TRY(all);
  if (const MountEntry* other = mount_at(*all, path)) {
    co_return make_error(ErrorCode::kInUse, "{} is mounted at {} already; {} cannot be mounted over it",
                         other->source, path, device);
  }
  Status made = co_await world_.fs.make_directory(path, 0755);
  if (!made.ok() && made.code() != ErrorCode::kAlreadyExists) co_return made.error();
  std::vector<std::string> argv = {"mount", "-t", std::string(spec::to_string(spec.fs)), "-o", *options,
                                   device, path};
  const Status mounted = co_await must_run(world_.process, alone_with(device, std::move(argv)), kMountLimit);
  if (mounted.ok()) co_return Status();
  // One that outlived its daemon may have been there first: what is asked for stands, then.
  there = co_await mounts_of(device);
  HF_CO_TRY(there);
  if (std::ranges::find(*there, path) != there->end()) co_return Status();
  co_return mounted.error();
}

Task<Status> Mounter::bind(std::string from, std::string to, bool read_only) {
  Result<std::vector<MountEntry>> all = co_await mounts();
  HF_CO_TRY(all);
  const MountEntry* source = mount_at(*all, from);
  const MountEntry* target = mount_at(*all, to);
  if (source == nullptr) {
    co_return make_error(ErrorCode::kFailedPrecondition, "nothing is mounted at {}", from);
  }
  if (target != nullptr && target->source == source->source && target->root == source->root) {
    co_return Status();
  }
  if (target != nullptr) {
    co_return make_error(ErrorCode::kInUse, "{} is mounted at {} already", target->source, to);
  }
  std::function<Status()> bind = [from, to, read_only] { return bind_now(from, to, read_only); };
  co_return co_await run_blocking<Status>(world_.blocking, bind);
}

// Only the way there is looked up: what is mounted at the place itself may wait for its server. By a program, since the
// way may lead through a volume (the rule of helpers).
Task<Result<std::string>> Mounter::place(std::string path) {
  const size_t slash = path.rfind('/');
  HF_ASSERT(slash != std::string::npos, "{}", path);
  const std::string parent = slash == 0 ? "/" : path.substr(0, slash);
  std::vector<std::string> argv = {"realpath", "-ez", "--", parent};
  Result<CommandResult> ran = co_await world_.process.run(std::move(argv), kMountLimit);
  HF_CO_TRY(ran);
  if (ran->exit_status != 0 || !ran->output.starts_with('/')) {
    co_return make_error(ErrorCode::kNotFound, "the directory {} is not there, and {} cannot be in it; make it first",
                         parent, path.substr(slash + 1));
  }
  std::string real = ran->output.substr(0, ran->output.find('\0'));
  if (real == "/") real.clear();
  co_return real + path.substr(slash);
}

Task<Status> Mounter::unmount(std::string path) {
  Result<std::vector<MountEntry>> all = co_await mounts();
  HF_CO_TRY(all);
  if (mount_at(*all, path) == nullptr) co_return Status();
  std::vector<std::string> argv = {"umount", path};
  Result<CommandResult> ran = co_await world_.process.run(std::move(argv), kMountLimit);
  HF_CO_TRY(ran);
  if (ran->exit_status == 0) co_return Status();
  all = co_await mounts();
  HF_CO_TRY(all);
  if (mount_at(*all, path) == nullptr) co_return Status();
  if (ran->exit_status != kUmountBusy) {
    co_return make_error(ErrorCode::kIo, "umount {} failed with {}: {}", path, ran->exit_status,
                         in_one_line(ran->output));
  }
  std::function<std::string()> look = [path] { return who_uses(path); };
  const std::string who = co_await run_blocking<std::string>(world_.blocking, look);
  co_return make_error(ErrorCode::kInUse, "{} is in use{}: {}", path, who, in_one_line(ran->output));
}

Task<Status> Mounter::grow(std::string device, std::string path, spec::FsType fs) {
  std::vector<std::string> argv = grow_argv(device, path, fs);
  if (argv.empty()) co_return Status();
  Result<CommandResult> ran = co_await world_.process.run(std::move(argv), kMkfsLimit);
  HF_CO_TRY(ran);
  if (ran->exit_status == 0) co_return Status();
  if (ran->output.find("Permission denied to resize filesystem") != std::string::npos) {
    co_return make_error(ErrorCode::kMissingFeature,
                         "growing a mounted ext4 needs CAP_SYS_RESOURCE, which this daemon does not have; "
                         "{} grows at its next mount",
                         device);
  }
  co_return make_error(ErrorCode::kIo, "growing the file system on {} failed with {}: {}", device,
                       ran->exit_status, in_one_line(ran->output));
}

Task<Result<std::vector<std::string>>> Mounter::mounts_of(std::string device) {
  Result<std::vector<MountEntry>> all = co_await mounts();
  HF_CO_TRY(all);
  struct stat info {};
  const bool known = ::stat(device.c_str(), &info) == 0 && S_ISBLK(info.st_mode);
  std::vector<std::string> paths;
  for (const MountEntry& entry : *all) {
    const bool by_number = known && entry.major == major(info.st_rdev) && entry.minor == minor(info.st_rdev);
    if (by_number || entry.source == device) paths.push_back(entry.point);
  }
  co_return paths;
}

Task<Result<bool>> Mounter::mounted_elsewhere(std::string device, std::string path) {
  const MonoTime now = world_.clock.now();
  if (looked_ == nullptr || now - looked_at_ > kLookAge) {
    std::function<Result<MountsOfAll>()> look = look_at_all_mounts;
    Result<MountsOfAll> all = co_await run_blocking<Result<MountsOfAll>>(world_.blocking, look);
    HF_CO_TRY(all);
    looked_ = std::make_shared<const MountsOfAll>(std::move(*all));
    looked_at_ = now;
  }
  struct stat info {};
  if (::stat(device.c_str(), &info) != 0) info.st_rdev = 0;
  co_return looked_->has_elsewhere(major(info.st_rdev), minor(info.st_rdev), device, path);
}

Task<Status> Mounter::freeze(std::string path, Duration limit) {
  co_return co_await mount::freeze(world_.process, std::move(path), limit);
}

Task<Result<bool>> Mounter::thaw(std::string path) {
  co_return co_await mount::thaw(world_.process, std::move(path));
}

Task<Result<bool>> Mounter::in_use(std::string device) {
  std::function<Result<bool>()> ask = [device] { return loopdev::is_claimed(device); };
  co_return co_await run_blocking<Result<bool>>(world_.blocking, ask);
}

}  // namespace hf::mount
