// VolumePlaces: what a node's CSI calls need of this machine beside the control plane, which mounts file systems:
// the folders that a scheduler asks for, and block devices shown as files. Implemented by the composition root
// (node/csi_places.h). Loop thread only; every call may be repeated. Paths are absolute; links in their last part are
// never followed. The kernel's mount table is the only record.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/error.h"
#include "runtime/task.h"

namespace hf::api {

struct PlaceUsage {
  PlaceUsage() = default;
  uint64_t total_bytes = 0, used_bytes = 0, available_bytes = 0;
  uint64_t total_inodes = 0, used_inodes = 0, available_inodes = 0;
};

class VolumePlaces {
 public:
  virtual ~VolumePlaces() = default;
  // A directory is there afterwards, made (0750) where there was nothing. kNotFound: its parent is not there;
  // kInvalidArgument: something else is at `path`.
  virtual Task<Status> make_directory(std::string path) = 0;
  // `path` is a file, made for it, that shows the block device. kInUse: something else is mounted there;
  // kNotEmpty, kInvalidArgument: a file with content, or no file; kNotFound: the parent, or the device.
  virtual Task<Status> show_device(std::string device, std::string path) = 0;
  // Where show_device() has put it.
  virtual Task<Result<std::vector<std::string>>> shown_at(std::string device) = 0;
  // Nothing is at `path` afterwards: a device that is shown there goes, then the empty file or directory. `device`: only
  // this one; "": any. kInUse: something else is mounted there; kNotEmpty: it has content.
  virtual Task<Status> clear(std::string path, std::string device) = 0;
  virtual Task<Result<bool>> is_mounted(std::string path) = 0;
  // Of the file system that is mounted at `path`.
  virtual Task<Result<PlaceUsage>> usage(std::string path) = 0;
};

}  // namespace hf::api
