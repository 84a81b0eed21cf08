#include "node/mount_adapter.h"

#include "mount/identity.h"
#include "mount/superblock.h"

namespace hf::node {
namespace {

bool is_kernel_device(const std::string& device) { return device.starts_with('/'); }

}  // namespace

Task<Status> MountAdapter::identify(std::shared_ptr<BlockDevice> device, FilesystemSpec spec) {
  co_return co_await mount::give_identity(*device, std::move(spec));
}
Task<Result<bool>> MountAdapter::reads_sound(std::shared_ptr<BlockDevice> device, spec::FsType fs) {
  co_return co_await mount::reads_sound(*device, fs);
}
Task<Result<std::string>> MountAdapter::contents(std::string device) {
  return mounter_.contents(std::move(device));
}
Task<Status> MountAdapter::prepare(std::string device, FilesystemSpec spec) {
  return mounter_.prepare(std::move(device), std::move(spec));
}
Task<Status> MountAdapter::mount(std::string device, std::string path, FilesystemSpec spec) {
  return mounter_.mount(std::move(device), std::move(path), std::move(spec));
}
Task<Status> MountAdapter::bind(std::string from, std::string to, bool read_only) {
  return mounter_.bind(std::move(from), std::move(to), read_only);
}
Task<Result<std::string>> MountAdapter::place(std::string path) { return mounter_.place(std::move(path)); }
Task<Status> MountAdapter::unmount(std::string path) { return mounter_.unmount(std::move(path)); }
Task<Status> MountAdapter::grow(std::string device, std::string path, spec::FsType fs) {
  return mounter_.grow(std::move(device), std::move(path), fs);
}
// What has no device in this kernel is not mounted here.
Task<Result<std::vector<std::string>>> MountAdapter::mounts_of(std::string device) {
  if (!is_kernel_device(device)) co_return std::vector<std::string>();
  co_return co_await mounter_.mounts_of(std::move(device));
}
Task<Result<bool>> MountAdapter::in_use(std::string device) {
  if (!is_kernel_device(device)) co_return false;
  co_return co_await mounter_.in_use(std::move(device));
}
Task<Result<bool>> MountAdapter::mounted_elsewhere(std::string device, std::string path) {
  if (!is_kernel_device(device)) co_return false;
  co_return co_await mounter_.mounted_elsewhere(std::move(device), std::move(path));
}

Task<Status> MountAdapter::freeze(std::string path, Duration limit) {
  return mounter_.freeze(std::move(path), limit);
}
Task<Result<bool>> MountAdapter::thaw(std::string path) { return mounter_.thaw(std::move(path)); }

}  // namespace hf::node
