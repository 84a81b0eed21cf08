// The file `replica`: reading and replacing the superblock.
#pragma once

#include <string>

#include "format/superblock_format.h"
#include "runtime/file.h"

namespace hf {

inline constexpr uint64_t kSuperblockFileBytes = 2 * kSuperblockStride;

// What both copies surely have room for: a file is made with as much.
inline constexpr uint64_t kSuperblockFirstRoom = 2 * kBlockSize;

// Makes the file with both copies and syncs it, not its name.
Task<Status> create_superblock(FileSystem& fs, std::string path, const Superblock& superblock);
// The valid copy of the higher generation. kCorruption when neither is. `settle`: makes what was read
// stable first (a process that died may have left a copy that is visible and not yet on the medium).
Task<Result<Superblock>> load_superblock(FileSystem& fs, std::string path, bool settle);
// Replaces both copies, one after the other, durably, and reads them back: promises and layers must not
// get lost. The caller has set the generation to the last one + 1.
Task<Status> store_superblock(FileSystem& fs, std::string path, const Superblock& superblock);

// Allocates room for copies of so many bytes, durably: writing them then takes no space. kNoSpace:
// nothing has changed.
Task<Status> reserve_superblock(FileSystem& fs, std::string path, uint64_t copy_bytes);

}  // namespace hf
