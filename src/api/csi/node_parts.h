// What the node's calls share.
#pragma once

#include <string>
#include <vector>

#include "api/csi/context.h"

namespace hf::api::csi_driver {

inline constexpr char kStaged[] = "csi-stage:";   // holders, before the path
inline constexpr char kPublished[] = "csi:";
inline constexpr size_t kMaxPlaceBytes = 480;     // a holder has 512 bytes at most

// Without a '/' at its end. kInvalidArgument.
Result<std::string> plain_place(const char* what, const std::string& path);
// Attached on this node.
bool is_here(const cluster::VolumeInfo& volume);
bool has_holder(const cluster::VolumeInfo& volume, const std::string& holder);
// Its block device on this node; "": none.
std::string device_of(const cluster::VolumeInfo& volume);
Result<std::vector<std::string>> shown_at(Context& context, const std::string& device);
// Whether it is staged or published at the path, on this node.
Result<bool> is_shown(Context& context, const cluster::VolumeInfo& volume, const std::string& path);

Status mount_at(Context& context, const cluster::VolumeInfo& volume, const std::string& holder, const std::string& place,
                bool read_only);
Status unmount_at(Context& context, const cluster::VolumeInfo& volume, const std::string& holder,
                  const std::string& place);

}  // namespace hf::api::csi_driver
