// The records that the cluster keeps in the state store: typed values and their written form.
//
//   volume 1 9ae0daaf⏎{"id":"…","name":"pg",…}
//   kind, schema version, CRC32C of everything else; then one JSON object (docs/formats/state.md)
//
// A record of a newer schema is refused (kNewerFormat), never half understood; anything that
// encode() cannot have written is kCorruption. Pure. No secret is ever part of a record.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/id.h"
#include "cluster/control.h"
#include "runtime/clock.h"
#include "volume/spec/volume_spec.h"

namespace hf::cluster {

// Every record carries these two, so that two writings never have equal bytes and a lost answer can
// be settled by reading back.
struct Stamp {
  Stamp() = default;
  uint64_t generation = 0;  // grows with every writing of the record
  uint64_t writer = 0;      // the incarnation of the daemon that wrote it
};

// Of volumes, snapshots and pools: an intent is recorded before the world is changed.
enum class LifeState : uint8_t { kCreating, kReady, kDeleting };

// Who may serve the volume; see the replication protocol's takeover.
enum class VolumePhase : uint8_t { kDetached, kRecovering, kActive };

enum class MemberState : uint8_t {
  kMember,
  kJoining,  // is made on its node, then taken into the configuration, then brought in sync
  kLeaving,  // is taken out of the configuration, then removed on its node; it never comes back
};

struct MemberRecord {
  MemberRecord() = default;
  NodeId node;
  PoolId pool;
  ReplicaId replica;
  uint64_t left_generation = 0;  // when it left the in-sync set; 0: it is in it
  MemberState state = MemberState::kMember;
  WallTime away_since;  // its node or pool has not been there since; 0: it is
};

// What a clone is made from; kept until it is made.
struct CloneSource {
  CloneSource() = default;
  VolumeId volume;
  ReplicaId replica;
  SnapshotId snapshot;
  uint64_t size_bytes = 0;  // of the snapshot
};

// What is known of the file system on a volume's blocks, at a point in time.
struct FsRecord {
  FsRecord() = default;
  bool formatted = false;   // mkfs has ended: never again
  bool formatting = false;  // an mkfs was begun on an empty device that nobody else has had since
  std::string uuid;         // of the volume whose identity it has: a clone has its origin's at first
  uint64_t bytes = 0;       // the size that it was made for or last grown to
};

struct VolumeRecord {
  VolumeRecord() = default;
  static constexpr std::string_view kKind = "volume";
  // 2: fs.formatting; 3: replicated; 4: members' state, away_since_ns
  static constexpr uint32_t kVersion = 4;
  Stamp stamp;
  VolumeId id;
  std::string name;
  VolumeSpec created_spec;
  VolumeSpec spec;  // as it is now
  LifeState state = LifeState::kCreating;
  uint64_t size_bytes = 0;
  WallTime created;
  std::string parent;  // for people: "volume" or "volume@snapshot"
  // The configuration of the replication protocol.
  uint64_t epoch = 0;
  VolumePhase phase = VolumePhase::kDetached;
  NodeId coordinator;
  uint64_t coordinator_instance = 0;
  LineageId lineage;
  std::vector<MemberRecord> members;
  std::vector<ReplicaId> in_sync;
  // It has a configuration in the state store (docs/formats/replication.md), which then says who is in
  // sync and who serves. Without one it has one replica, on the node that made it.
  bool replicated = false;
  FsRecord fs;
  // Intents; empty when there is nothing to finish.
  uint64_t resizing_to_bytes = 0;
  SnapshotId restoring;
  std::optional<CloneSource> source;
};

struct SnapshotRecord {
  SnapshotRecord() = default;
  static constexpr std::string_view kKind = "snapshot";
  static constexpr uint32_t kVersion = 2;  // 2: fs.formatting, frozen
  Stamp stamp;
  SnapshotId id;
  std::string name;  // empty for an internal one, made for a clone and removed after it
  VolumeId volume;
  LifeState state = LifeState::kCreating;
  uint64_t size_bytes = 0;
  WallTime created;
  std::map<std::string, std::string> labels;
  FsRecord fs;
  bool frozen = false;  // its file system was frozen for the cut
};

enum class HolderState : uint8_t {
  kArriving,  // its bind is being made; nobody was told yet
  kHeld,
  kLeaving,  // its bind is being undone
};

struct HolderRecord {
  HolderRecord() = default;
  std::string holder;
  std::string target;  // empty: uses the primary mount
  bool read_only = false;
  uint32_t count = 1;  // above 1 for docker only
  HolderState state = HolderState::kHeld;
  WallTime since;  // of its last mount
};

struct AttachmentRecord {
  AttachmentRecord() = default;
  static constexpr std::string_view kKind = "attachment";
  static constexpr uint32_t kVersion = 2;  // 2: freezing
  Stamp stamp;
  VolumeId volume;
  NodeId node;
  std::string boot;  // of the kernel that has the device: a reboot ends every attachment
  uint64_t epoch = 0;
  bool attached = false;  // false: being attached; nobody was told yet
  bool pinned = false;    // asked for by attach_volume: stays without holders
  bool mounted = false;   // the primary mount is meant to be there
  bool freezing = false;  // intent: its file system may be frozen, and is to be thawed
  ExportKind kind = ExportKind::kNone;
  std::string device;
  WallTime since;
  std::vector<HolderRecord> holders;
};

struct ScrubRecord {
  ScrubRecord() = default;
  static constexpr std::string_view kKind = "scrub";
  static constexpr uint32_t kVersion = 1;
  Stamp stamp;
  VolumeId volume;
  WallTime begun;  // of the round that is not at its end; 0: there is none
  ScrubFindings so_far;
  WallTime ended;  // of the last whole one; 0: never
  ScrubFindings last;
  std::string message;  // why the present one does not go on
};

struct PoolRecord {
  PoolRecord() = default;
  static constexpr std::string_view kKind = "pool";
  static constexpr uint32_t kVersion = 1;
  Stamp stamp;
  PoolId id;
  NodeId node;
  std::string path;
  LifeState state = LifeState::kCreating;
  uint64_t size_bytes = 0;  // as asked for; 0: chosen by the pool
  uint32_t io_class = 1;
  WallTime created;
};

struct NodeRecord {
  NodeRecord() = default;
  static constexpr std::string_view kKind = "node";
  static constexpr uint32_t kVersion = 3;  // 2: draining; 3: region, zone, rack
  Stamp stamp;
  NodeId id;
  std::string name;
  std::string address;
  std::string version;
  WallTime started;
  bool draining = false;  // its replicas are moved to others, and it gets no new ones
  FailureDomain domain;   // as its own configuration says
};

// A name of a volume, of a snapshot within its volume, of a pool's path: the key is the name, so
// that it exists once by compare-and-set.
struct NameRecord {
  NameRecord() = default;
  static constexpr std::string_view kKind = "name";
  static constexpr uint32_t kVersion = 1;
  Stamp stamp;
  std::string id;  // of what has the name
};

template <typename Record>
std::string encode_record(const Record& record);
// `key` is named in errors.
template <typename Record>
Result<Record> decode_record(std::string_view key, std::string_view text);

extern template std::string encode_record(const VolumeRecord&);
extern template std::string encode_record(const SnapshotRecord&);
extern template std::string encode_record(const AttachmentRecord&);
extern template std::string encode_record(const ScrubRecord&);
extern template std::string encode_record(const PoolRecord&);
extern template std::string encode_record(const NodeRecord&);
extern template std::string encode_record(const NameRecord&);
extern template Result<VolumeRecord> decode_record(std::string_view, std::string_view);
extern template Result<SnapshotRecord> decode_record(std::string_view, std::string_view);
extern template Result<AttachmentRecord> decode_record(std::string_view, std::string_view);
extern template Result<ScrubRecord> decode_record(std::string_view, std::string_view);
extern template Result<PoolRecord> decode_record(std::string_view, std::string_view);
extern template Result<NodeRecord> decode_record(std::string_view, std::string_view);
extern template Result<NameRecord> decode_record(std::string_view, std::string_view);

}  // namespace hf::cluster
