// The identity of a clone's file system. A clone has its origin's blocks, and with them its UUID. btrfs takes two
// devices of one UUID for one file system, whichever is mounted, and a kernel with udev looks at every device that
// appears: so the UUID is changed before the clone's device is in the kernel, through the BlockDevice. ext4 and xfs
// keep it: the kernel mounts them side by side (xfs with nouuid).
#pragma once

#include <string_view>

#include "base/bytes.h"
#include "base/error.h"
#include "runtime/task.h"
#include "volume/block_device.h"
#include "volume/filesystem_spec.h"

namespace hf::mount {

inline constexpr uint64_t kBtrfsSuperBytes = 4096;

// The file system on `device` has spec.uuid afterwards, where that is needed. Idempotent, and safe against a crash at
// any point: each copy of the superblock is one 4 KiB write, the one that counts comes last. Nothing else is written:
// the tree blocks keep the old UUID as their "metadata UUID" (Linux 5.0), and a log of fsyncs keeps its generation.
// What is no sound btrfs superblock is left alone. kFailedPrecondition: it spans several devices, or is just being
// changed by btrfstune; kNotSupported: another checksum than CRC32C.
Task<Status> give_identity(BlockDevice& device, FilesystemSpec spec);

// Pure: one copy of the superblock, at `offset`. True: it was changed.
Result<bool> stamp_btrfs_superblock(MutableByteSpan block, uint64_t offset, std::string_view uuid);

}  // namespace hf::mount
