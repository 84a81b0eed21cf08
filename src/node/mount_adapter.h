// mount::Mounter in the shape of cluster::Mounter.
#pragma once

#include "cluster/ports.h"
#include "mount/mounter.h"

namespace hf::node {

class MountAdapter : public cluster::Mounter {
 public:
  explicit MountAdapter(mount::Mounter& mounter) : mounter_(mounter) {}
  Task<Status> identify(std::shared_ptr<BlockDevice> device, FilesystemSpec spec) override;
  Task<Result<bool>> reads_sound(std::shared_ptr<BlockDevice> device, spec::FsType fs) override;
  Task<Result<std::string>> contents(std::string device) override;
  Task<Status> prepare(std::string device, FilesystemSpec spec) override;
  Task<Status> mount(std::string device, std::string path, FilesystemSpec spec) override;
  Task<Status> bind(std::string from, std::string to, bool read_only) override;
  Task<Result<std::string>> place(std::string path) override;
  Task<Status> unmount(std::string path) override;
  Task<Status> grow(std::string device, std::string path, spec::FsType fs) override;
  Task<Result<std::vector<std::string>>> mounts_of(std::string device) override;
  Task<Result<bool>> mounted_elsewhere(std::string device, std::string path) override;
  Task<Result<bool>> in_use(std::string device) override;
  Task<Status> freeze(std::string path, Duration limit) override;
  Task<Result<bool>> thaw(std::string path) override;

 private:
  mount::Mounter& mounter_;
};

}  // namespace hf::node
