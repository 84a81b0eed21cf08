// Tools for a pool that no daemon serves. They open everything read-only, change nothing, take no lock
// (the caller says so if a daemon holds it) and need no cluster.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "runtime/world.h"
#include "store/types.h"

namespace hf {

// What a replica's books hold, as a recovery would have them: what would be copied.
struct ReplicaBooks {
  Stamp commit;
  uint64_t window_bytes = 0;
  std::array<uint64_t, kMemberSlots> dirty_bytes{};  // by slot
};

struct PoolInspection {
  PoolInspection() = default;
  PoolId pool;
  ClusterId cluster;
  NodeId node;
  uint32_t format = 0;
  uint64_t journal_bytes = 0;
  uint64_t undrained_batches = 0, undrained_records = 0, undrained_bytes = 0;
  bool clean = false;                  // stopped in order
  std::optional<Error> journal_error;  // then what the journal holds is not counted
  std::vector<ReplicaInfo> replicas;
  std::vector<ReplicaBooks> books;     // of each of them, in the same order
};

// One thing that is wrong, in words: which file, where, what is expected.
struct VerifyFinding {
  VerifyFinding() = default;
  ErrorCode code = ErrorCode::kCorruption;
  std::string what;
};

inline constexpr size_t kMaxVerifyFindings = 1000;

struct VerifyReport {
  VerifyReport() = default;
  uint64_t replicas = 0, segments = 0, blocks = 0, batches = 0;  // looked at
  uint64_t findings_total = 0;
  std::vector<VerifyFinding> findings;  // the first kMaxVerifyFindings
  // Only when the journal cannot be read (then that is a finding): blocks of the newest layer that
  // do not match their CRC. If the journal holds them anew, a drain that was cut short left them so
  // and nothing is lost; without the journal nobody can tell.
  uint64_t unjudged_blocks = 0;
  std::vector<std::string> unjudged;  // one line per segment file, the first kMaxVerifyFindings
};

// Receives an image from its start; ranges not given are zeroes.
class ExportSink {
 public:
  virtual ~ExportSink() = default;
  virtual Task<Status> data(uint64_t offset, ByteSpan bytes) = 0;
};

Task<Result<PoolInspection>> inspect_pool(World world, PoolConfig config);
// Reads every journal record above the checkpoint, superblock, segment and CRC. The result is an error
// only when the pool cannot be looked at; what is broken is in the report.
Task<Result<VerifyReport>> verify_pool(World world, PoolConfig config);
// The replica's newest content (undrained records included), or a snapshot's when the id is not nil.
// Returns its size. Stops at the first block that fails its checksum.
Task<Result<uint64_t>> export_replica(World world, PoolConfig config, ReplicaId replica,
                                      SnapshotId snapshot, ExportSink& sink);

}  // namespace hf
