#include "uring/fs_calls.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>

#include "uring/owned_fd.h"

namespace hf::fs_calls {
namespace {

FileType type_of_dirent(unsigned char type) {
  switch (type) {
    case DT_REG:
      return FileType::kRegular;
    case DT_DIR:
      return FileType::kDirectory;
    case DT_BLK:
      return FileType::kBlockDevice;
    case DT_LNK:
      return FileType::kSymlink;
    default:
      return FileType::kOther;
  }
}

std::string what(std::string_view verb, const std::string& from, const std::string& to) {
  return to.empty() ? fmt::format("{} {}", verb, from) : fmt::format("{} {} to {}", verb, from, to);
}

}  // namespace

Error path_error(int sys_errno, std::string_view verb, const std::string& path) {
  return path_error(sys_errno, verb, path, std::string());
}

Error path_error(int sys_errno, std::string_view verb, const std::string& from,
                 const std::string& to) {
  const std::string done = what(verb, from, to);
  if (sys_errno == ELOOP) {
    return make_error(ErrorCode::kInvalidArgument,
                      "{}: it is a symbolic link, which is not followed; give the real path", done);
  }
  if (sys_errno == EXDEV) {
    return make_error(ErrorCode::kInvalidArgument, "{}: they are on different file systems", done);
  }
  return Error::from_errno(sys_errno, done);
}

FileType type_of_mode(mode_t mode) {
  switch (mode & S_IFMT) {
    case S_IFREG:
      return FileType::kRegular;
    case S_IFDIR:
      return FileType::kDirectory;
    case S_IFBLK:
      return FileType::kBlockDevice;
    case S_IFLNK:
      return FileType::kSymlink;
    default:
      return FileType::kOther;
  }
}

Result<FileInfo> stat(const std::string& path) {
  struct stat raw {};
  if (lstat(path.c_str(), &raw) != 0) return path_error(errno, "stat", path);
  FileInfo info;
  info.type = type_of_mode(raw.st_mode);
  info.size = static_cast<uint64_t>(raw.st_size);
  info.allocated_bytes = static_cast<uint64_t>(raw.st_blocks) * 512;
  info.inode = raw.st_ino;
  info.link_count = static_cast<uint32_t>(raw.st_nlink);
  info.mode = raw.st_mode & 07777;
  info.owner = raw.st_uid;
  if (info.type == FileType::kBlockDevice) {
    const OwnedFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
    if (!fd.valid()) return path_error(errno, "open", path);
    if (ioctl(fd.get(), BLKGETSIZE64, &info.size) != 0) return path_error(errno, "size of", path);
  }
  return info;
}

Result<std::vector<DirectoryEntry>> list(const std::string& path) {
  OwnedFd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
  if (!fd.valid()) return path_error(errno, "list", path);
  const std::unique_ptr<DIR, int (*)(DIR*)> dir(fdopendir(fd.get()), &closedir);
  if (!dir) return path_error(errno, "list", path);
  (void)fd.release();  // closedir's now
  std::vector<DirectoryEntry> entries;
  while (true) {
    errno = 0;
    const dirent* raw = readdir(dir.get());
    if (raw == nullptr) break;
    if (std::strcmp(raw->d_name, ".") == 0 || std::strcmp(raw->d_name, "..") == 0) continue;
    if (entries.size() >= kMaxDirectoryEntries) {
      return make_error(ErrorCode::kLimitExceeded, "{} has more than {} entries", path,
                        kMaxDirectoryEntries);
    }
    DirectoryEntry entry;
    entry.name = raw->d_name;
    entry.type = type_of_dirent(raw->d_type);
    if (raw->d_type == DT_UNKNOWN) {
      struct stat info {};
      if (fstatat(dirfd(dir.get()), raw->d_name, &info, AT_SYMLINK_NOFOLLOW) == 0) {
        entry.type = type_of_mode(info.st_mode);
      }
    }
    entries.push_back(std::move(entry));
  }
  if (errno != 0) return path_error(errno, "list", path);
  std::sort(entries.begin(), entries.end(),
            [](const DirectoryEntry& a, const DirectoryEntry& b) { return a.name < b.name; });
  return entries;
}

namespace {

// At most so much in one call: a file that was written at random takes the kernel 10 µs per 4 KiB, in which it
// gives up neither the processor (PREEMPT_NONE) nor the file's locks (readers wait, before 6.7).
constexpr uint64_t kReflinkPiece = 1 * kMiB;

// Zero or errno. The target has the source's size.
int share_blocks(int source, int target, uint64_t size) {
  for (uint64_t at = 0; at < size; at += kReflinkPiece) {
    file_clone_range range{};
    range.src_fd = source;
    range.src_offset = range.dest_offset = at;
    range.src_length = std::min(kReflinkPiece, size - at);
    if (ioctl(target, FICLONERANGE, &range) != 0) return errno;
  }
  return 0;
}

}  // namespace

Status reflink(const std::string& from, const std::string& to) {
  const OwnedFd source(::open(from.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!source.valid()) return path_error(errno, "reflink", from);
  struct stat info {};
  if (fstat(source.get(), &info) != 0) return path_error(errno, "reflink", from);
  const OwnedFd target(::open(to.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW,
                              info.st_mode & 0777));
  if (!target.valid()) return path_error(errno, "reflink", from, to);
  const bool sized = ::ftruncate(target.get(), info.st_size) == 0;
  const int err = sized ? share_blocks(source.get(), target.get(), static_cast<uint64_t>(info.st_size)) : errno;
  if (err == 0) return Status();
  (void)::unlink(to.c_str());
  if (err == EXDEV) return path_error(err, "reflink", from, to);
  if (err == EOPNOTSUPP || err == ENOTTY || err == EINVAL || err == ENOSYS) {
    return make_error(ErrorCode::kMissingFeature,
                      "reflink {} to {}: this file system cannot share blocks between files; it "
                      "takes XFS (mkfs.xfs -m reflink=1) or Btrfs",
                      from, to);
  }
  return path_error(err, "reflink", from, to);
}

Status sync_dir(const std::string& path) {
  const OwnedFd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
  if (!fd.valid()) return path_error(errno, "sync directory", path);
  if (fsync(fd.get()) != 0) return path_error(errno, "sync directory", path);
  return Status();
}

Result<SpaceInfo> space(const std::string& path) {
  struct statvfs raw {};
  if (statvfs(path.c_str(), &raw) != 0) return path_error(errno, "space of", path);
  SpaceInfo info;
  info.total_bytes = static_cast<uint64_t>(raw.f_blocks) * raw.f_frsize;
  info.free_bytes = static_cast<uint64_t>(raw.f_bfree) * raw.f_frsize;
  info.total_inodes = raw.f_files;
  info.free_inodes = raw.f_ffree;
  return info;
}

}  // namespace hf::fs_calls
