// Recovery: replicas from their superblocks, records from the ring, then a seal.
#include "base/log.h"
#include "runtime/fault_point.h"
#include "store/intents.h"
#include "store/mutants.h"
#include "store/pool_impl.h"

namespace hf {
namespace {

// For the last writes of a process that was killed: a device may hang.
constexpr Duration kLockPause = 20ms;
constexpr int kMaxLockTries = 3000;

}  // namespace

Task<Status> PoolImpl::start(JournalScan scan) {
  checkpoint_ = scan.checkpoint;
  Status settled = co_await settle_names();
  HF_CO_TRY(settled);
  Status loaded = co_await load_replicas();
  HF_CO_TRY(loaded);
  Status refreshed = co_await refresh_space();
  HF_CO_TRY(refreshed);
  JournalWriter::Position position;
  position.pool = id();
  position.era = scan.era;
  position.next_sequence = scan.next_sequence;
  position.link = scan.link;
  position.head = scan.head;
  position.used = scan.used;
  position.ring_bytes = scan.checkpoint.ring_bytes;
  writer_.emplace(*journal_, *this, world_.clock, position);
  drain_.emplace(*this);
  config_.overlay_bytes = std::min(config_.overlay_bytes, position.ring_bytes);
  Status replayed = co_await replay(scan);
  HF_CO_TRY(replayed);
  Status intents = co_await settle_recovered_intents();
  HF_CO_TRY(intents);
  Status sealed = co_await seal(scan);
  HF_CO_TRY(sealed);
  Status deleted = co_await finish_deletes();
  HF_CO_TRY(deleted);
  stats_.recovered_records = stats_.records;
  spawn(tasks_, writer_->run());
  spawn(tasks_, drain_->run());
  co_return Status();
}

// What recovery reads may be visible without being stable: an earlier process may have died between a
// rename and the sync of its directory. Nothing is built on it before it is.
Task<Status> PoolImpl::settle_names() {
  if (checkpoint_.clean || mutant(StoreMutant::kVisibleTrusted)) co_return Status();
  const std::string directories[] = {config_.journal_dir, config_.data_dir, volumes_directory()};
  for (const std::string& directory : directories) {
    Status synced = co_await world_.fs.sync_dir(directory);
    HF_CO_TRY(synced);
  }
  co_return Status();
}

Task<Status> PoolImpl::load_replicas() {
  Result<std::vector<DirectoryEntry>> names = co_await world_.fs.list(volumes_directory());
  HF_CO_TRY(names);
  for (const DirectoryEntry& entry : *names) {
    Status loaded = co_await load_replica(entry.name);
    HF_CO_TRY(loaded);
  }
  co_return Status();
}

Task<Status> PoolImpl::load_replica(const std::string& name) {
  const std::string directory = volumes_directory() + "/" + name;
  if (name.ends_with(kCreatingSuffix) || name.ends_with(kDeletingSuffix)) {
    HF_PROBE("store.unfinished_directory_removed");
    co_return co_await remove_tree(directory);
  }
  const std::optional<ReplicaId> id = ReplicaId::parse(name);
  if (!id) co_return Status();  // not ours
  Result<Superblock> superblock =
      co_await load_superblock(
      world_.fs, directory + "/" + kSuperblockName,
      !checkpoint_.clean && !mutant(StoreMutant::kVisibleTrusted));
  HF_CO_TRY(superblock);
  if (superblock->replica != *id) {
    co_return make_error(ErrorCode::kCorruption, "{} holds the superblock of replica {}", directory,
                         superblock->replica.to_string());
  }
  replicas_[*id] =
      std::make_shared<ReplicaImpl>(*this, next_number_++, directory, std::move(*superblock));
  co_return Status();
}

namespace {

// The sequence of the last batch that deletes each replica.
std::unordered_map<ReplicaId, uint64_t> find_deletes(const JournalScan& scan) {
  std::unordered_map<ReplicaId, uint64_t> deletes;
  for (const std::unique_ptr<Batch>& batch : scan.batches) {
    for (const Record& record : batch->records) {
      if (record.entry.type != EntryType::kDeleteReplica) continue;
      deletes[record.entry.replica] = batch->sequence;
    }
  }
  return deletes;
}

}  // namespace

Status PoolImpl::replay_record(Record& record, uint64_t sequence,
                               const std::unordered_map<ReplicaId, uint64_t>& deletes) {
  const auto found = replicas_.find(record.entry.replica);
  const auto deleted = deletes.find(record.entry.replica);
  record.skip = true;
  if (found == replicas_.end()) {
    if (deleted != deletes.end() && deleted->second >= sequence) return Status();
    return make_error(ErrorCode::kCorruption,
                      "the journal of pool {} holds acknowledged data of replica {}, whose directory "
                      "is missing",
                      id().to_string(), record.entry.replica.to_string());
  }
  ReplicaImpl& replica = *found->second;
  const bool former = sequence < replica.superblock().birth_batch;
  if (former && !mutant(StoreMutant::kBirthIgnored)) {
    HF_PROBE("store.record_of_former_life");
    return Status();
  }
  if (record.entry.type == EntryType::kDeleteReplica) {
    replica.mark_deleted();
    return Status();
  }
  const uint64_t end = record.entry.offset + record.entry.length;
  if (end > kMaxReplicaBytes) {
    return make_error(ErrorCode::kCorruption, "a journal record of replica {} ends at {}",
                      record.entry.replica.to_string(), end);
  }
  if (mutant(StoreMutant::kMarkNotDurable)) record.entry.absent = 0;
  if (record.entry.layer < replica.superblock().head_layer) {
    HF_PROBE("store.record_drained_already");
    replica.note_books(record.entry, sequence);
    return Status();
  }
  record.skip = false;
  record.replica = found->second;
  return Status();
}

Task<Status> PoolImpl::replay(JournalScan& scan) {
  const std::unordered_map<ReplicaId, uint64_t> deletes = find_deletes(scan);
  while (!scan.batches.empty()) {
    std::unique_ptr<Batch> batch = std::move(scan.batches.front());
    scan.batches.pop_front();
    for (Record& record : batch->records) {
      Status replayed = replay_record(record, batch->sequence, deletes);
      HF_CO_TRY(replayed);
    }
    batch_durable(std::move(batch));
  }
  co_return Status();
}

// Large writes that were in flight, or that nobody can say of whether they had ended: their CRCs become those
// of what lies there, before anybody reads it. Those that had ended get theirs from the ring.
Task<Status> PoolImpl::settle_recovered_intents() {
  std::unordered_map<ReplicaImpl*, std::vector<const Record*>> of_replica;
  for (const std::unique_ptr<Batch>& batch : batches_) {
    for (const Record& record : batch->records) {
      if (record.replica != nullptr && !record.skip) {
        of_replica[record.replica.get()].push_back(&record);
      }
    }
  }
  for (const auto& [id, replica] : replicas_) {
    const auto found = of_replica.find(replica.get());
    if (found == of_replica.end() || replica->is_deleted()) continue;
    Status settled = co_await settle_replica_intents(*replica, std::move(found->second));
    HF_CO_TRY(settled);
  }
  co_return Status();
}

Task<Status> PoolImpl::settle_replica_intents(ReplicaImpl& replica,
                                              std::vector<const Record*> records) {
  const std::vector<DrainSegment> intents =
      newest_intents(records, replica.superblock().head_layer, replica.blocks_per_segment(),
                     replica.size() / kBlockSize);
  if (intents.empty()) co_return Status();
  Status loaded = co_await replica.load();
  HF_CO_TRY(loaded);
  for (const DrainSegment& segment : intents) {
    Status settled = co_await settle_segment(replica, segment);
    HF_CO_TRY(settled);
  }
  co_return Status();
}

Task<Status> PoolImpl::settle_segment(ReplicaImpl& replica, const DrainSegment& intents) {
  const SegmentKey key{intents.index, replica.superblock().head_layer};
  if (replica.segments().visible(key.index, key.layer) != key) {
    co_return make_error(ErrorCode::kCorruption,
                         "the journal of pool {} tells of a write to {}/{}, which is missing",
                         id().to_string(), replica.segment_directory(),
                         segment_name(key.index, key.layer));
  }
  Result<std::shared_ptr<Segment>> got = co_await cache_.get(replica.place(), key);
  HF_CO_TRY(got);
  const std::shared_ptr<Segment> segment = *got;
  if (has_open(intents)) {
    // The lock is that of a process that was killed until its last write has ended.
    for (int tries = 0; !segment->locked; ++tries) {
      Status locked = segment->file->try_lock();
      segment->locked = locked.ok();
      if (segment->locked) break;
      if (locked.code() != ErrorCode::kLocked || tries >= kMaxLockTries) co_return locked;
      Status slept = co_await world_.clock.sleep_for(kLockPause, CancelToken());
      HF_CO_TRY(slept);
    }
    if (!mutant(StoreMutant::kVisibleTrusted)) {
      Result<size_t> synced = co_await segment->file->sync_data();
      HF_CO_TRY(synced);
    }
  }
  Status settled = co_await settle_intents(*segment->file, segment->table, intents,
                                           replica.blocks_per_segment());
  HF_CO_TRY(settled);
  pin(batches_.back()->sequence, segment);
  co_return Status();
}

Task<Status> PoolImpl::finish_deletes() {
  for (auto it = replicas_.begin(); it != replicas_.end();) {
    const std::shared_ptr<ReplicaImpl> replica = it->second;
    if (!replica->is_deleted()) {
      ++it;
      continue;
    }
    HF_PROBE("store.delete_finished_at_open");
    it = replicas_.erase(it);
    Status removed = co_await remove_tree(replica->directory());
    HF_CO_TRY(removed);
  }
  co_return Status();
}

// A new era, durable before anything is served: what this recovery did not take can never come back. A
// ring without room for the seal is drained first, which is safe: nothing has been served yet.
Task<Status> PoolImpl::seal(JournalScan& scan) {
  // The mark must go before anything follows it; so must the older version, so that an older program
  // refuses what is to come.
  if (scan.checkpoint.clean || scan.checkpoint.version < kJournalVersion) {
    Status marked = co_await write_next_checkpoint(checkpoint_after(0, false));
    HF_CO_TRY(marked);
  }
  const uint64_t era = world_.random.next();
  Result<bool> sealed = co_await writer_->write_seal(era);
  HF_CO_TRY(sealed);
  while (!*sealed) {
    HF_PROBE("store.drain_before_seal");
    Status drained = co_await drain_->drain_once();
    HF_CO_TRY(drained);
    sealed = co_await writer_->write_seal(era);
    HF_CO_TRY(sealed);
  }
  co_return Status();
}

Task<Status> PoolImpl::remove_tree(std::string directory) {
  FileSystem& fs = world_.fs;
  const std::string segments = directory + "/" + kSegmentsName;
  Result<std::vector<DirectoryEntry>> files = co_await fs.list(segments);
  if (files.ok()) {
    for (const DirectoryEntry& entry : *files) {
      std::string path = segments + "/" + entry.name;
      Status gone = co_await fs.unlink(std::move(path));
      HF_CO_TRY(gone);
    }
    Status removed = co_await fs.remove_directory(segments);
    HF_CO_TRY(removed);
  } else if (files.code() != ErrorCode::kNotFound) {
    co_return files.error();
  }
  Result<std::vector<DirectoryEntry>> others = co_await fs.list(directory);
  HF_CO_TRY(others);
  for (const DirectoryEntry& entry : *others) {  // superblock, dirty maps
    std::string path = directory + "/" + entry.name;
    Status gone = co_await fs.unlink(std::move(path));
    HF_CO_TRY(gone);
  }
  Status removed = co_await fs.remove_directory(directory);
  HF_CO_TRY(removed);
  co_return co_await fs.sync_dir(volumes_directory());
}

}  // namespace hf
