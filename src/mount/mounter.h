// Mounter: file systems of volumes. Loop thread; what touches a volume's device is a helper program (README).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/mount_table.h"
#include "mount/make_fs.h"
#include "mount/mounts_of_all.h"
#include "runtime/clock.h"
#include "runtime/task.h"
#include "runtime/world.h"

namespace hf::mount {

class Mounter {
 public:
  Mounter(World world, std::string mount_root) : world_(world), root_(std::move(mount_root)) {}

  // Makes the mount root a mount of its own, shared recursively, once. Idempotent.
  Task<Status> start();

  // The calls of cluster::Mounter; ports.h has the contract.
  Task<Result<std::string>> contents(std::string device);
  Task<Status> prepare(std::string device, FilesystemSpec spec);
  Task<Status> mount(std::string device, std::string path, FilesystemSpec spec);
  Task<Status> bind(std::string from, std::string to, bool read_only);
  Task<Result<std::string>> place(std::string path);
  Task<Status> unmount(std::string path);
  Task<Status> grow(std::string device, std::string path, spec::FsType fs);
  Task<Result<std::vector<std::string>>> mounts_of(std::string device);
  // From a look at all processes that is at most two seconds old.
  Task<Result<bool>> mounted_elsewhere(std::string device, std::string path);
  Task<Result<bool>> in_use(std::string device);
  Task<Status> freeze(std::string path, Duration limit);
  Task<Result<bool>> thaw(std::string path);

 private:
  // Checks when the superblock asks for it, and grows what the device outgrew.
  Task<Status> check_ext4(std::string device);
  Task<Status> grow_unmounted_ext4(std::string device, uint64_t fs_bytes);
  Task<Result<std::vector<MountEntry>>> mounts();

  World world_;
  std::string root_;
  std::shared_ptr<const MountsOfAll> looked_;
  MonoTime looked_at_{};
};

}  // namespace hf::mount
