// UringFileSystem: the real file system.
//
// Single calls that the kernel's io_uring knows (open, mkdir, unlink, rename, link) go through it;
// calls of several steps, and those it does not know (stat of a device, list, reflink, sync_dir,
// space), make one trip to the BlockingPool. Neither ever blocks the loop. Modes are subject to the
// umask.
#pragma once

#include "runtime/file.h"
#include "runtime/process.h"
#include "uring/uring_loop.h"

namespace hf {

class UringFileSystem final : public FileSystem {
 public:
  UringFileSystem(UringLoop& loop, BlockingPool& blocking) : loop_(loop), blocking_(blocking) {}

  Task<Result<std::unique_ptr<File>>> open(std::string path, OpenOptions options) override;
  Task<Result<FileInfo>> stat(std::string path) override;
  Task<Result<std::vector<DirectoryEntry>>> list(std::string path) override;
  Task<Status> make_directory(std::string path, mode_t mode) override;
  Task<Status> remove_directory(std::string path) override;
  Task<Status> unlink(std::string path) override;
  Task<Status> rename(std::string from, std::string to) override;
  Task<Status> link(std::string from, std::string to) override;
  Task<Status> reflink(std::string from, std::string to) override;
  Task<Status> sync_dir(std::string path) override;
  Task<Result<SpaceInfo>> space(std::string path) override;

 private:
  UringLoop& loop_;
  BlockingPool& blocking_;
};

}  // namespace hf
