#include "node/mount_adapter.h"

namespace hf::node {
namespace {

mount::FilesystemSpec to_mount(const cluster::FilesystemSpec& from) {
  mount::FilesystemSpec out;
  out.fs = from.fs;
  out.block_size = from.block_size;
  out.journal_data = from.journal_data;
  out.discard = from.discard;
  out.mount_options = from.mount_options;
  out.may_format = from.may_format;
  out.uuid = from.uuid;
  out.inherited_uuid = from.inherited_uuid;
  out.label = from.label;
  return out;
}

bool is_kernel_device(const std::string& device) { return device.starts_with('/'); }

}  // namespace

Task<Status> MountAdapter::prepare(std::string device, cluster::FilesystemSpec spec) {
  return mounter_.prepare(std::move(device), to_mount(spec));
}
Task<Status> MountAdapter::mount(std::string device, std::string path, cluster::FilesystemSpec spec) {
  return mounter_.mount(std::move(device), std::move(path), to_mount(spec));
}
Task<Status> MountAdapter::bind(std::string from, std::string to, bool read_only) {
  return mounter_.bind(std::move(from), std::move(to), read_only);
}
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

}  // namespace hf::node
