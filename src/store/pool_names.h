// Names of the files of a pool, and its identity.
#pragma once

#include <string_view>

#include "format/pool_file.h"
#include "runtime/file.h"
#include "store/types.h"

namespace hf {

inline constexpr const char* kPoolFileName = "pool.json";
inline constexpr const char* kJournalName = "journal";
inline constexpr const char* kVolumesName = "volumes";
inline constexpr const char* kSuperblockName = "replica";
inline constexpr const char* kSegmentsName = "seg";
inline constexpr std::string_view kCreatingSuffix = ".creating";
inline constexpr std::string_view kDeletingSuffix = ".deleting";
inline constexpr std::string_view kTemporarySuffix = ".tmp";

// kNotFound (not a pool), kCorruption, kNewerFormat, kWrongOwner (config names another cluster or node).
Task<Result<PoolFile>> read_pool_identity(FileSystem& fs, const PoolConfig& config);

}  // namespace hf
