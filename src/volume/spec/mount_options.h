// Which options a volume may be mounted with. An allow-list with the values: an option that undoes a promise
// (nobarrier, errors=panic), gives programs on the volume powers on the host (suid, dev), mounts something else
// (dev=…), or that the kernel would refuse at the mount, is refused when it is asked for. Pure.
//
// Not part of validate(): a list that a later version makes shorter must not make stored specs unreadable.
#pragma once

#include <map>
#include <string>

#include "base/error.h"
#include "volume/spec/volume_spec.h"

namespace hf::spec {

// Ok, or kInvalidSpec naming the option, the file system and what is accepted for it. An option without a value
// maps to "".
Status check_mount_options(FsType fs, const std::map<std::string, std::string>& options);

}  // namespace hf::spec
