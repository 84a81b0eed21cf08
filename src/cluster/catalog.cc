#include "cluster/catalog.h"

#include <algorithm>

#include "cluster/mutants.h"
#include "state/txn_retry.h"

namespace hf::cluster {
namespace {

// Above every other key, so that a store can be shared and the layout can change one day.
const std::string kRoot = "holdfast/v1/";
// How long a write is asked again over a store that is away or ambiguous.
constexpr Duration kCommitPatience = std::chrono::seconds(15);

}  // namespace

template <typename Record>
Batch& Batch::put(Kept<Record>& kept) {
  kept.record.stamp.generation += 1;
  kept.record.stamp.writer = catalog_.writer_;
  const std::string key = kRoot + Catalog::key_of(kept.record);
  txn_.expect(key, kept.revision);
  txn_.put(key, encode_record(kept.record));
  written_.push_back(&kept.revision);
  return *this;
}

template <typename Record>
Batch& Batch::remove(Kept<Record>& kept) {
  const std::string key = kRoot + Catalog::key_of(kept.record);
  txn_.expect(key, kept.revision);
  txn_.remove(key);
  removed_.push_back(&kept.revision);
  return *this;
}

template <typename Record>
Batch& Batch::require(const Kept<Record>& kept) {
  txn_.expect(kRoot + Catalog::key_of(kept.record), kept.revision);
  return *this;
}

template Batch& Batch::put(KeptVolume&);
template Batch& Batch::put(KeptSnapshot&);
template Batch& Batch::put(KeptAttachment&);
template Batch& Batch::put(KeptScrub&);
template Batch& Batch::put(KeptPool&);
template Batch& Batch::put(KeptNode&);
template Batch& Batch::remove(KeptVolume&);
template Batch& Batch::remove(KeptSnapshot&);
template Batch& Batch::remove(KeptAttachment&);
template Batch& Batch::remove(KeptScrub&);
template Batch& Batch::remove(KeptPool&);
template Batch& Batch::remove(KeptNode&);
template Batch& Batch::require(const KeptVolume&);
template Batch& Batch::require(const KeptPool&);

Batch& Batch::take_name(const std::string& key, const std::string& id) {
  NameRecord record;
  record.stamp.generation = 1;
  record.stamp.writer = catalog_.writer_;
  record.id = id;
  txn_.expect_absent(kRoot + key);
  txn_.put(kRoot + key, encode_record(record));
  return *this;
}

Batch& Batch::free_name(const KeptName& name, const std::string& key) {
  txn_.expect(kRoot + key, name.revision);
  txn_.remove(kRoot + key);
  return *this;
}

Batch& Batch::leave_behind(const std::string& key, const std::optional<KeptName>& there, const std::string& name) {
  NameRecord record;
  record.stamp.generation = there ? there->record.stamp.generation + 1 : 1;
  record.stamp.writer = catalog_.writer_;
  record.id = name;
  txn_.expect(kRoot + key, there ? there->revision : 0);
  txn_.put(kRoot + key, encode_record(record));
  return *this;
}

Task<Result<std::map<VolumeId, KeptName>>> Catalog::left_behind(NodeId node) {
  const std::string prefix = kRoot + left_key(node);
  Result<std::vector<state::Entry>> entries = co_await state::range_all(store_, prefix, kMaxVolumes);
  HF_CO_TRY(entries);
  std::map<VolumeId, KeptName> left;
  for (const state::Entry& entry : entries.value()) {
    Result<NameRecord> record = decode_record<NameRecord>(entry.key, entry.value);
    HF_CO_TRY(record);
    const std::optional<VolumeId> id = VolumeId::parse(entry.key.substr(prefix.size()));
    if (!id) co_return make_error(ErrorCode::kCorruption, "{} names no volume", entry.key);
    KeptName& kept = left[*id];
    kept.record = std::move(record).value();
    kept.revision = entry.mod_revision;
  }
  co_return left;
}

template <typename Record>
Task<Result<std::optional<Kept<Record>>>> Catalog::read(std::string key) {
  Result<std::optional<state::Entry>> entry = co_await store_.get(kRoot + key);
  HF_CO_TRY(entry);
  std::optional<Kept<Record>> kept;
  if (!entry.value()) co_return std::move(kept);
  Result<Record> record = decode_record<Record>(key, entry.value()->value);
  HF_CO_TRY(record);
  kept.emplace(std::move(record).value());
  kept->revision = entry.value()->mod_revision;
  co_return std::move(kept);
}

template <typename Record>
Task<Result<std::vector<Kept<Record>>>> Catalog::read_all(std::string prefix, size_t limit) {
  Result<std::vector<state::Entry>> entries =
      co_await state::range_all(store_, kRoot + prefix, limit);
  HF_CO_TRY(entries);
  std::vector<Kept<Record>> all;
  all.reserve(entries->size());
  for (const state::Entry& entry : entries.value()) {
    Result<Record> record = decode_record<Record>(entry.key, entry.value);
    HF_CO_TRY(record);
    all.emplace_back(std::move(record).value());
    all.back().revision = entry.mod_revision;
  }
  co_return std::move(all);
}

Task<Result<std::optional<KeptVolume>>> Catalog::volume(VolumeId id) {
  return read<VolumeRecord>("volumes/" + id.to_string());
}
Task<Result<std::optional<KeptAttachment>>> Catalog::attachment(VolumeId id) {
  return read<AttachmentRecord>("attachments/" + id.to_string());
}
Task<Result<std::optional<KeptScrub>>> Catalog::scrub(VolumeId id) {
  return read<ScrubRecord>("scrubs/" + id.to_string());
}
Task<Result<std::optional<KeptPool>>> Catalog::pool(PoolId id) {
  return read<PoolRecord>("pools/" + id.to_string());
}
Task<Result<std::optional<KeptNode>>> Catalog::node(NodeId id) {
  return read<NodeRecord>("nodes/" + id.to_string());
}
Task<Result<std::optional<KeptName>>> Catalog::name(std::string key) {
  return read<NameRecord>(std::move(key));
}
Task<Result<std::vector<KeptVolume>>> Catalog::volumes() {
  return read_all<VolumeRecord>("volumes/", kMaxVolumes);
}
Task<Result<std::vector<KeptAttachment>>> Catalog::attachments() {
  return read_all<AttachmentRecord>("attachments/", kMaxVolumes);
}
Task<Result<std::vector<KeptSnapshot>>> Catalog::snapshots() {
  return read_all<SnapshotRecord>("snapshots/", kMaxSnapshots);
}
Task<Result<std::vector<KeptSnapshot>>> Catalog::snapshots_of(VolumeId id) {
  return read_all<SnapshotRecord>("snapshots/" + id.to_string() + "/", kMaxSnapshots);
}
Task<Result<std::vector<KeptScrub>>> Catalog::scrubs() {
  return read_all<ScrubRecord>("scrubs/", kMaxVolumes);
}
Task<Result<std::vector<KeptPool>>> Catalog::pools() {
  return read_all<PoolRecord>("pools/", kMaxPools);
}
Task<Result<std::vector<KeptNode>>> Catalog::nodes() {
  return read_all<NodeRecord>("nodes/", kMaxNodes);
}

Task<Result<std::map<PoolId, PoolPromise>>> Catalog::promises() {
  Result<std::vector<state::Entry>> entries =
      co_await state::range_all(store_, kRoot + "volumes/", kMaxVolumes);
  HF_CO_TRY(entries);
  std::map<std::string, Promised> now;
  std::map<PoolId, PoolPromise> sums;
  for (const state::Entry& entry : entries.value()) {
    const auto known = promised_.find(entry.key);
    Promised& promised = now[entry.key];
    if (known != promised_.end() && known->second.revision == entry.mod_revision) {
      promised = known->second;
    } else {
      Result<VolumeRecord> record = decode_record<VolumeRecord>(entry.key, entry.value);
      HF_CO_TRY(record);
      promised.revision = entry.mod_revision;
      promised.bytes = std::max(record->size_bytes, record->resizing_to_bytes);
      for (const MemberRecord& member : record->members) promised.pools.push_back(member.pool);
    }
    for (const PoolId& pool : promised.pools) {
      sums[pool].bytes += promised.bytes;
      sums[pool].replicas += 1;
    }
  }
  promised_ = std::move(now);
  co_return std::move(sums);
}

Task<Status> Catalog::commit(Batch batch) {
  const MonoTime deadline = clock_.now() + kCommitPatience;
  Result<state::TxnOutcome> outcome = state::TxnOutcome();
  if (mutant(ControlMutant::kAmbiguousIsDone)) {
    outcome = co_await store_.transact(batch.txn_);
    if (outcome.code() == ErrorCode::kAmbiguous) co_return Status();
  } else {
    outcome = co_await state::transact_sure(store_, clock_, batch.txn_, deadline);
  }
  HF_CO_TRY(outcome);
  if (!outcome->committed) {
    co_return make_error(ErrorCode::kConflict, "{} was changed meanwhile",
                         batch.txn_.compares().front().key);
  }
  for (state::Revision* revision : batch.written_) *revision = outcome->revision;
  for (state::Revision* revision : batch.removed_) *revision = 0;
  co_return Status();
}

}  // namespace hf::cluster
