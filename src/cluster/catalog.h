// Catalog: the cluster's records in the state store, typed. Keys and their meaning:
// docs/formats/state.md.
//
// Reading gives records with the revision at which they were read; writing goes through a Batch,
// whose comparisons make sure that nothing has changed since. One batch is one transaction. Errors
// besides the store's own (state/kv_store.h): kConflict (somebody else wrote; read again and decide
// anew), kCorruption and kNewerFormat of records.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "cluster/records.h"
#include "state/kv_store.h"

namespace hf::cluster {

// Bounds on what one cluster keeps; beyond it lists would not fit one answer.
inline constexpr size_t kMaxVolumes = 20'000;
inline constexpr size_t kMaxSnapshots = 100'000;
inline constexpr size_t kMaxSnapshotsPerVolume = 1000;
inline constexpr size_t kMaxPools = 1000;
inline constexpr size_t kMaxNodes = 1000;
inline constexpr size_t kMaxHolders = 1024;

// A record and the revision at which it was read or written; 0: not in the store.
template <typename Record>
struct Kept {
  Kept() = default;
  explicit Kept(Record r) : record(std::move(r)) {}
  Record record;
  state::Revision revision = 0;
  Record* operator->() { return &record; }
  const Record* operator->() const { return &record; }
};
using KeptVolume = Kept<VolumeRecord>;
using KeptSnapshot = Kept<SnapshotRecord>;
using KeptAttachment = Kept<AttachmentRecord>;
using KeptScrub = Kept<ScrubRecord>;
using KeptPool = Kept<PoolRecord>;
using KeptNode = Kept<NodeRecord>;
using KeptName = Kept<NameRecord>;

// What volumes have been promised of a pool.
struct PoolPromise {
  uint64_t bytes = 0;
  uint32_t replicas = 0;
};

class Catalog;

// Changes that happen together. Stamps what it writes: the records given must stay until commit()
// has ended; when it failed they hold what was to be written and must be read again.
class Batch {
 public:
  explicit Batch(Catalog& catalog) : catalog_(catalog) {}
  // Writes it anew, or over the revision at which it was read.
  template <typename Record>
  Batch& put(Kept<Record>& kept);
  template <typename Record>
  Batch& remove(Kept<Record>& kept);
  // Names are taken (must be free) and given back.
  Batch& take_name(const std::string& key, const std::string& id);
  Batch& free_name(const KeptName& name, const std::string& key);
  // Volumes of one placement group are placed one after the other: who places one writes this anew. `there`: of the
  // same key, as it was read before the group's volumes were.
  Batch& place_in_group(const std::string& key, const std::optional<KeptName>& there, const std::string& volume) {
    return leave_behind(key, there, volume);
  }
  // A volume was taken over from a node that did not answer: until that one has cleared away what it had,
  // this says that it may. `name` of the volume, which may be gone by then.
  // `there`: of the same key.
  Batch& leave_behind(const std::string& key, const std::optional<KeptName>& there, const std::string& name);
  // The record must be as it was read, without being written.
  template <typename Record>
  Batch& require(const Kept<Record>& kept);

 private:
  friend class Catalog;
  Catalog& catalog_;
  state::Txn txn_;
  std::vector<state::Revision*> written_;
  std::vector<state::Revision*> removed_;
};

class Catalog {
 public:
  // `writer`: of this incarnation, random. The references stay valid for the catalog's life.
  Catalog(state::KvStore& store, Clock& clock, uint64_t writer)
      : store_(store), clock_(clock), writer_(writer) {}

  Task<Result<std::optional<KeptVolume>>> volume(VolumeId id);
  Task<Result<std::optional<KeptAttachment>>> attachment(VolumeId id);
  Task<Result<std::optional<KeptScrub>>> scrub(VolumeId id);
  Task<Result<std::optional<KeptPool>>> pool(PoolId id);
  Task<Result<std::optional<KeptNode>>> node(NodeId id);
  Task<Result<std::optional<KeptName>>> name(std::string key);

  Task<Result<std::vector<KeptVolume>>> volumes();
  Task<Result<std::vector<KeptAttachment>>> attachments();
  Task<Result<std::vector<KeptSnapshot>>> snapshots();
  Task<Result<std::vector<KeptSnapshot>>> snapshots_of(VolumeId id);
  Task<Result<std::vector<KeptScrub>>> scrubs();
  Task<Result<std::vector<KeptPool>>> pools();
  Task<Result<std::vector<KeptNode>>> nodes();

  // What others have taken over from this node, by volume. free_name() strikes it off.
  Task<Result<std::map<VolumeId, KeptName>>> left_behind(NodeId node);

  // Summed over all volumes. Reads every record, and decodes those that are new or changed since the
  // last call: a create among thousands of volumes needs it.
  Task<Result<std::map<PoolId, PoolPromise>>> promises();

  // Durable when ok.
  Task<Status> commit(Batch batch);

  static std::string key_of(const VolumeRecord& r) { return "volumes/" + r.id.to_string(); }
  static std::string key_of(const AttachmentRecord& r) {
    return "attachments/" + r.volume.to_string();
  }
  static std::string key_of(const SnapshotRecord& r) {
    return "snapshots/" + r.volume.to_string() + "/" + r.id.to_string();
  }
  static std::string key_of(const ScrubRecord& r) { return "scrubs/" + r.volume.to_string(); }
  static std::string key_of(const PoolRecord& r) { return "pools/" + r.id.to_string(); }
  static std::string key_of(const NodeRecord& r) { return "nodes/" + r.id.to_string(); }
  static std::string left_key(NodeId node) { return "left/" + node.to_string() + "/"; }
  static std::string group_key(const std::string& group) { return "groups/" + group; }
  static std::string volume_name_key(const std::string& name) { return "names/volume/" + name; }
  static std::string snapshot_name_key(VolumeId volume, const std::string& name) {
    return "names/snapshot/" + volume.to_string() + "/" + name;
  }

 private:
  friend class Batch;
  template <typename Record>
  Task<Result<std::optional<Kept<Record>>>> read(std::string key);
  template <typename Record>
  Task<Result<std::vector<Kept<Record>>>> read_all(std::string prefix, size_t limit);

  state::KvStore& store_;
  Clock& clock_;
  uint64_t writer_;

  // A volume's members as of a revision: the same revision is the same record.
  struct Promised {
    state::Revision revision = 0;
    uint64_t bytes = 0;
    std::vector<PoolId> pools;
  };
  std::map<std::string, Promised> promised_;  // by key; at most kMaxVolumes
};

}  // namespace hf::cluster
