// Which mount options a volume's spec may give. An allow-list: an option of the kernel that undoes a promise
// (nobarrier, norecovery, dev= …) must not get in by a typo. Pure.
#pragma once

#include <string>
#include <vector>

#include "base/error.h"
#include "mount/make_fs.h"

namespace hf::mount {

// The text behind -o: ours (discard, data=journal, nouuid, errors=remount-ro) and the spec's.
// kInvalidSpec names the option and what is accepted.
Result<std::string> mount_options(const FilesystemSpec& spec);

}  // namespace hf::mount
