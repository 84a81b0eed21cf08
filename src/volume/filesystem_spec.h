// What a volume's device is formatted with and mounted by, from its record. Between the control plane, which
// decides, and the mount room, which does.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "volume/spec/volume_spec.h"

namespace hf {

struct FilesystemSpec {
  FilesystemSpec() = default;
  spec::FsType fs = spec::FsType::kExt4;
  uint32_t block_size = 4096;
  bool journal_data = false;
  bool discard = true;
  std::vector<std::string> mount_options;  // "noatime", "commit=5"
  // It is to be formatted, over whatever lies there: it never was, and the control plane has seen that it is empty, or
  // that nothing but an mkfs of its own, cut short, has written to it.
  bool may_format = false;
  // The volume's id: the UUID that mkfs gives its file system, and that a clone's gets where two of one UUID must not
  // meet on one machine (mount/identity.h).
  std::string uuid;
  std::string label;  // at most 12 bytes (the limit of xfs)
};

}  // namespace hf
