// The store's vocabulary: what is asked of a pool and of a replica, and what they tell.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/id.h"
#include "base/stamp.h"
#include "base/units.h"
#include "runtime/clock.h"

namespace hf {

// --- bounds -----------------------------------------------------------------------------------------
inline constexpr uint64_t kMinJournalBytes = 16 * kMiB;
inline constexpr uint64_t kSmallestJournalBytes = 4 * kMiB;  // below the minimum: simulations only
inline constexpr uint64_t kDefaultJournalBytes = 256 * kMiB;
inline constexpr uint64_t kMaxJournalBytes = 16 * kGiB;
inline constexpr uint64_t kDefaultOverlayBytes = 256 * kMiB;
inline constexpr uint64_t kDefaultLargeWriteBytes = 0;
// Long enough for a snapshot to be deleted or a pool to be expanded by whoever is alarmed by a machine, and
// for a short peak; well below the 120 s after which the kernel calls a task hung and Docker gives up.
inline constexpr Duration kDefaultFullPatience = 30s;
inline constexpr uint64_t kMaxReplicaBytes = 64 * kTiB;
inline constexpr size_t kMaxSnapshots = 1024;       // per replica
inline constexpr size_t kMaxConfigBytes = 4 * kKiB;  // the replicated configuration, opaque here
inline constexpr size_t kMaxReplicas = 100'000;     // per pool
inline constexpr size_t kMemberSlots = 8;           // per volume
inline constexpr uint64_t kDirtyUnitBytes = 64 * kKiB;  // what one bit of a dirty map stands for
inline constexpr size_t kMaxRangesPerCall = 4096;   // given to mark_dirty

// Zero takes the default. A non-aggregate, so that coroutines may take it by value (R3).
struct PoolConfig {
  PoolConfig() = default;

  std::string journal_dir;  // holds pool.json and journal
  std::string data_dir;     // XFS with reflink; holds volumes/
  std::string image;        // the sparse file that data_dir lies in, if it does, see space.h
  ClusterId cluster;        // nil when opening: any
  NodeId node;              // nil when opening: any
  PoolId pool;              // nil when opening: any; when creating: a random one

  // Of create() only; afterwards pool.json and the journal say.
  uint64_t journal_bytes = kDefaultJournalBytes;
  uint64_t journal_bytes_min = kMinJournalBytes;  // simulations go down to kSmallestJournalBytes

  // Memory for records not yet in the image; never more than the ring.
  uint64_t overlay_bytes = kDefaultOverlayBytes;
  uint64_t table_cache_bytes = 64 * kMiB;  // CRC tables of segments
  uint32_t open_files = 2048;              // segment files held open

  // New data is refused when it would leave less than this free in data_dir. Zero: the smaller of 5 %
  // of the file system and 1 GiB.
  uint64_t reserve_bytes = 0;
  // How long a full pool holds new data back, from the first write that found no room on; then it refuses it,
  // until there has been room again.
  Duration full_patience = kDefaultFullPatience;

  // A write of so many bytes or more goes straight into the image where it can (large_write.h). Zero:
  // none does; so by default until it has been measured on real devices (64 KiB is meant).
  uint64_t large_write_bytes = kDefaultLargeWriteBytes;

  // A record waits at most this long for its drain.
  Duration drain_delay = 500ms;
};

// A set of members of a volume, bit n for the member of number n in the volume's record. The store does not
// know who they are.
using SlotMask = uint8_t;

struct ByteRange {
  uint64_t offset = 0;
  uint64_t length = 0;

  uint64_t end() const { return offset + length; }
  bool operator==(const ByteRange&) const = default;
};

// What the coordinator stamps on a write.
struct WriteHeader {
  uint64_t epoch = 0;       // must equal the replica's promised epoch, else kFenced
  uint64_t generation = 0;  // of the configuration; kept in the record
  // From 1 in each epoch, growing with every write. Zero: outside of the order, never in the window (what
  // a tool does to a volume of one replica).
  uint64_t sequence = 0;
  // Every write up to here has been answered by all that must answer. A coordinator does not count a
  // member that it has not yet joined. One that is lower than what the replica knows changes nothing.
  Stamp commit;
  // Members that do not get this write: its blocks are marked in this replica's map of each of them, by the
  // same journal record, so that whoever has the write has the marks.
  SlotMask absent = 0;

  Stamp stamp() const { return Stamp{epoch, sequence}; }
};

struct ReplicaSpec {
  ReplicaSpec() = default;

  ReplicaId replica;
  VolumeId volume;
  LineageId lineage;
  uint64_t size_bytes = 0;     // a multiple of kBlockSize, at most kMaxReplicaBytes
  uint64_t segment_bytes = 0;  // zero: 16 MiB up to 1 TiB, 64 MiB up to 16 TiB, 256 MiB above
  std::string config;          // at most kMaxConfigBytes
};

struct SnapshotInfo {
  SnapshotId id;
  uint64_t size_bytes = 0;  // of the volume when it was cut
  WallTime created;
  uint64_t epoch = 0;
  uint64_t sequence = 0;
  uint32_t layer = 0;       // internal: the layer that it closed
};

// One run of blocks, for block status and for copying only what is there.
struct DataExtent {
  uint64_t offset = 0;
  uint64_t length = 0;
  bool data = false;  // false: reads as zeroes
};

struct ReplicaStats {
  uint64_t size_bytes = 0;
  uint64_t undrained_bytes = 0;   // payload in the overlay
  uint64_t checksum_errors = 0;   // distinct blocks that failed their CRC since open
  uint64_t reads = 0, writes = 0; // operations completed
  uint64_t direct_writes = 0;     // of the writes, those that went straight into the image
  uint64_t read_bytes = 0, written_bytes = 0;
  uint64_t promised_epoch = 0;
  Stamp commit;
  Stamp newest;                   // highest stamp seen; since the pool was opened, and in its ring then
  uint32_t snapshots = 0;
  uint32_t head_layer = 0;
};

struct PoolStats {
  uint64_t data_total_bytes = 0, data_free_bytes = 0;
  uint64_t writable_bytes = 0;      // data_free_bytes, or less where the file system below has less
  uint64_t reserve_bytes = 0;       // the watermark
  uint64_t journal_bytes = 0, journal_used_bytes = 0;
  uint64_t overlay_bytes = 0;       // undrained payload of all replicas
  uint64_t batches = 0, records = 0;  // journaled since open: records / batches is the group commit
  uint64_t drains = 0, drained_bytes = 0;
  uint64_t recovered_records = 0;   // found in the ring when opened
  uint32_t replicas = 0;
  bool at_watermark = false;  // new replicas and snapshots are refused; new data waits or is refused
  uint64_t held_writes = 0;   // that wait for room
  Duration full_for{0};       // since the first of them found none; zero: there was room since
  bool refuses_data = false;  // the patience is over
  bool failed = false;
  std::string failure;              // the first error, when failed
};

// A replica as the catalog sees it, without opening anything.
struct ReplicaInfo {
  ReplicaId replica;
  VolumeId volume;
  LineageId lineage;
  uint64_t size_bytes = 0;
  uint64_t segment_bytes = 0;
  uint64_t promised_epoch = 0;
  uint32_t snapshots = 0;
};

}  // namespace hf
