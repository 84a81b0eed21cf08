#include "uring/uring_fs.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>

#include <cerrno>

#include "uring/fs_calls.h"
#include "uring/uring_call.h"
#include "uring/uring_file.h"

namespace hf {
namespace {

open_how how_of(const OpenOptions& options) {
  open_how how{};
  how.flags = O_CLOEXEC | O_NOFOLLOW | (options.write ? O_RDWR : O_RDONLY);
  if (options.create) how.flags |= O_CREAT;
  if (options.create && options.exclusive) how.flags |= O_EXCL;
  if (options.truncate) how.flags |= O_TRUNC;
  if (options.direct) how.flags |= O_DIRECT;
  if (options.create) how.mode = options.mode;
  return how;
}

void check_absolute(const std::string& path) {
  HF_ASSERT(!path.empty() && path[0] == '/', "'{}' is not absolute", path);
}

}  // namespace

Task<Result<std::unique_ptr<File>>> UringFileSystem::open(std::string path, OpenOptions options) {
  check_absolute(path);
  open_how how = how_of(options);
  UringCall call(loop_);
  io_uring_prep_openat2(call.sqe(), AT_FDCWD, path.c_str(), &how);
  const int result = co_await call;
  if (result == -EINVAL && options.direct) {
    co_return make_error(
        ErrorCode::kMissingFeature,
        "open {}: its file system has no direct I/O (O_DIRECT); it takes ext4, XFS, "
        "Btrfs or a block device",
        path);
  }
  if (result < 0) co_return fs_calls::path_error(-result, "open", path);
  OwnedFd fd(result);
  struct stat info {};
  if (fstat(fd.get(), &info) != 0) co_return fs_calls::path_error(errno, "stat", path);
  const FileType type = fs_calls::type_of_mode(info.st_mode);
  if (type != FileType::kRegular && type != FileType::kBlockDevice) {
    co_return make_error(ErrorCode::kInvalidArgument,
                         "open {}: it is neither a regular file nor a block device", path);
  }
  std::unique_ptr<File> file =
      std::make_unique<UringFile>(loop_, blocking_, std::move(path), std::move(fd), options.direct,
                                  type == FileType::kBlockDevice);
  co_return file;
}

Task<Result<FileInfo>> UringFileSystem::stat(std::string path) {
  check_absolute(path);
  std::function<Result<FileInfo>()> fn = [&path] { return fs_calls::stat(path); };
  co_return co_await run_blocking<Result<FileInfo>>(blocking_, std::move(fn));
}

Task<Result<std::vector<DirectoryEntry>>> UringFileSystem::list(std::string path) {
  check_absolute(path);
  using Entries = Result<std::vector<DirectoryEntry>>;
  std::function<Entries()> fn = [&path] { return fs_calls::list(path); };
  co_return co_await run_blocking<Entries>(blocking_, std::move(fn));
}

Task<Status> UringFileSystem::make_directory(std::string path, mode_t mode) {
  check_absolute(path);
  UringCall call(loop_);
  io_uring_prep_mkdirat(call.sqe(), AT_FDCWD, path.c_str(), mode);
  const int result = co_await call;
  if (result < 0) co_return fs_calls::path_error(-result, "make directory", path);
  co_return Status();
}

Task<Status> UringFileSystem::remove_directory(std::string path) {
  check_absolute(path);
  UringCall call(loop_);
  io_uring_prep_unlinkat(call.sqe(), AT_FDCWD, path.c_str(), AT_REMOVEDIR);
  const int result = co_await call;
  if (result < 0) co_return fs_calls::path_error(-result, "remove directory", path);
  co_return Status();
}

Task<Status> UringFileSystem::unlink(std::string path) {
  check_absolute(path);
  UringCall call(loop_);
  io_uring_prep_unlinkat(call.sqe(), AT_FDCWD, path.c_str(), 0);
  const int result = co_await call;
  if (result < 0) co_return fs_calls::path_error(-result, "unlink", path);
  co_return Status();
}

Task<Status> UringFileSystem::rename(std::string from, std::string to) {
  check_absolute(from);
  check_absolute(to);
  UringCall call(loop_);
  io_uring_prep_renameat(call.sqe(), AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), 0);
  const int result = co_await call;
  if (result < 0) co_return fs_calls::path_error(-result, "rename", from, to);
  co_return Status();
}

Task<Status> UringFileSystem::link(std::string from, std::string to) {
  check_absolute(from);
  check_absolute(to);
  UringCall call(loop_);
  io_uring_prep_linkat(call.sqe(), AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), 0);
  const int result = co_await call;
  if (result < 0) co_return fs_calls::path_error(-result, "link", from, to);
  co_return Status();
}

Task<Status> UringFileSystem::reflink(std::string from, std::string to) {
  check_absolute(from);
  check_absolute(to);
  std::function<Status()> fn = [&from, &to] { return fs_calls::reflink(from, to); };
  co_return co_await run_blocking<Status>(blocking_, std::move(fn));
}

Task<Status> UringFileSystem::sync_dir(std::string path) {
  check_absolute(path);
  std::function<Status()> fn = [&path] { return fs_calls::sync_dir(path); };
  co_return co_await run_blocking<Status>(blocking_, std::move(fn));
}

Task<Result<SpaceInfo>> UringFileSystem::space(std::string path) {
  check_absolute(path);
  std::function<Result<SpaceInfo>()> fn = [&path] { return fs_calls::space(path); };
  co_return co_await run_blocking<Result<SpaceInfo>>(blocking_, std::move(fn));
}

}  // namespace hf
