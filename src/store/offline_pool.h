// What the offline tools share: a pool as it lies on the disk, nothing changed, nothing locked.
#pragma once

#include <optional>
#include <vector>

#include "format/pool_file.h"
#include "runtime/file.h"
#include "store/extent_map.h"
#include "store/intents.h"
#include "store/journal_recovery.h"
#include "store/offline.h"
#include "store/segment_map.h"
#include "store/superblock_file.h"

namespace hf {

struct OfflineReplica {
  OfflineReplica() = default;
  std::string directory;
  Superblock superblock;
  SegmentMap segments;  // files up to the head layer
};

struct OfflinePool {
  OfflinePool() = default;
  PoolFile identity;
  JournalScan scan;
  std::optional<Error> journal_error;  // then the scan is empty
  std::vector<OfflineReplica> replicas;
  std::vector<Error> replica_errors;   // directories whose superblock cannot be read
};

// Errors only when it is no pool, or not one of this version or owner.
Task<Result<OfflinePool>> load_offline(FileSystem& fs, const PoolConfig& config);

// Records of the ring that the image of this replica does not have yet, in their order.
std::vector<const Record*> undrained_records(const OfflinePool& pool, const Superblock& superblock);

// What the ring's intents say of blocks in the head's own files, by segment.
std::vector<DrainSegment> undrained_intents(const OfflinePool& pool, const Superblock& superblock);

// A segment file's data and table, opened for reading; its doubtful pages settled.
struct OfflineSegment {
  OfflineSegment(std::unique_ptr<File> f, CrcTable t) : file(std::move(f)), table(std::move(t)) {}
  std::unique_ptr<File> file;
  CrcTable table;
  CrcTable::Loaded loaded;
};
// With what the intents say of it, as a recovery would have it.
Task<Result<std::unique_ptr<OfflineSegment>>> open_offline_segment(
    FileSystem& fs, const OfflineReplica& replica, SegmentKey key,
    const std::vector<DrainSegment>& intents);

}  // namespace hf
