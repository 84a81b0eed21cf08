// What the superblock of a file system says of it, without a program: whether a mount is all that it needs. Read through
// the BlockDevice, so only before anybody can have written through the kernel's device.
#pragma once

#include <cstdint>

#include "base/bytes.h"
#include "base/error.h"
#include "runtime/task.h"
#include "volume/block_device.h"
#include "volume/filesystem_spec.h"

namespace hf::mount {

// A superblock of that kind begins within this many bytes from superblock_offset() on, which is block-aligned.
inline constexpr uint64_t kSuperblockBytes = 4096;
uint64_t superblock_offset(spec::FsType fs);

// True: a file system of the kind, with a checksum that is right; not marked as damaged; unmounted in order, or with a
// journal that the mount replays; and as large as its device (only ext4 is grown before a mount). False: look closer
// (Mounter::prepare), it may still be fine. Pure; any bytes.
// ext4: Linux Documentation/filesystems/ext4/super.rst. xfs: XFS Algorithms & Data Structures, "Superblocks". btrfs: the
// on-disk format of its wiki.
bool superblock_is_sound(ByteSpan block, spec::FsType fs, uint64_t device_bytes);

Task<Result<bool>> reads_sound(BlockDevice& device, spec::FsType fs);

}  // namespace hf::mount
