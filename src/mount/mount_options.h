// The mount options of a volume. Those of its spec were checked when it was created or updated, and are checked
// again here by the same list (volume/spec/mount_options.h): a record may be older than the list. Pure.
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
