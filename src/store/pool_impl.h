// PoolImpl: what a pool's parts share. pool_create.cc, pool_open.cc, pool_replicas.cc, pool.cc.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>

#include "base/error.h"
#include "format/pool_file.h"
#include "runtime/cancel.h"
#include "runtime/clock.h"
#include "runtime/gate.h"
#include "runtime/random.h"
#include "runtime/world.h"
#include "store/drain.h"
#include "store/journal_file.h"
#include "store/journal_recovery.h"
#include "store/journal_writer.h"
#include "store/pool.h"
#include "store/pool_names.h"
#include "store/replica_impl.h"
#include "store/segment_cache.h"
#include "store/space.h"

namespace hf {

class PoolImpl final : public Pool, public BatchSink {
 public:
  PoolImpl(World world, PoolConfig config, PoolFile identity, std::unique_ptr<File> journal);
  ~PoolImpl() override;

  // --- Pool
  Task<Status> stop() override;
  PoolId id() const override { return identity_.pool; }
  ClusterId cluster() const override { return identity_.cluster; }
  NodeId node() const override { return identity_.node; }
  PoolStats stats() const override;
  Task<Result<std::shared_ptr<Replica>>> create_replica(ReplicaSpec spec) override;
  Task<Result<std::shared_ptr<Replica>>> clone_replica(ReplicaId source, SnapshotId snapshot,
                                                       ReplicaSpec spec) override;
  std::shared_ptr<Replica> find(ReplicaId id) const override;
  std::vector<ReplicaInfo> list() const override;
  Task<Status> delete_replica(ReplicaId id) override;
  Task<Status> wait_drained() override;
  Task<Status> refresh_space() override;
  void release_held() override;

  // --- BatchSink
  void batch_durable(std::unique_ptr<Batch> batch) override;
  void journal_failed(const Error& error) override { fail(error); }
  bool room_in_overlay(uint64_t bytes) const override;
  void room_wanted() override;
  Duration pause(uint64_t bytes) const override;
  uint64_t settled_below() override;

  // --- for open and create
  // Loads replicas, replays the scan, seals the ring, starts the tasks.
  Task<Status> start(JournalScan scan);
  Task<Status> load_replicas();

  // --- for the parts
  World& world() { return world_; }
  const PoolConfig& config() const { return config_; }
  SegmentCache& cache() { return cache_; }
  JournalWriter& writer() { return *writer_; }
  Drain& drain() { return *drain_; }
  std::deque<std::unique_ptr<Batch>>& batches() { return batches_; }
  const std::optional<Error>& failure() const { return failure_; }
  // The first error is final: every later write is kFailedPool.
  void fail(const Error& error);
  Status check_running() const;
  // Is there room for this write above the watermark, as far as is known?
  bool has_room(const ReplicaImpl& replica, uint64_t first_block, uint64_t blocks) const;
  // May this write go on? (admission.cc) `held`: since when it waits; null: it has just come. The caller has
  // the admission, and gives it up while it waits.
  Task<Result<Admit>> admit(ReplicaImpl& replica, uint64_t first_block, ByteSpan data,
                            const HeldWrite* held);
  // Waits for a moment at which there may be room. The caller asks again, in any case.
  void hold(HeldWrite& held);
  bool holds_back() const { return !failure_ && !releasing_; }
  Event::Awaiter room_may_have_come() { return room_changed_.wait(); }
  void let_go(HeldWrite& held);
  void wake_held() { room_changed_.notify_all(); }
  Error no_space() const;
  // The same for what takes little itself and makes room for more: a replica, a snapshot.
  Task<Status> admit_metadata(uint64_t bytes = kMetadataOverhead);
  // Held from admission until the entry is queued: calls keep their order.
  Mutex& admission() { return admission_; }
  // The oldest batches have been drained: moves the checkpoint behind them and frees what they hold.
  Task<Status> release_batches(size_t count);
  // The checkpoint that starts behind the first `count` batches.
  JournalCheckpoint checkpoint_after(size_t count, bool clean) const;
  Task<Status> write_next_checkpoint(JournalCheckpoint next);
  // The replica's books hold something of the ring.
  void list_books(std::shared_ptr<ReplicaImpl> replica) { with_books_.push_back(std::move(replica)); }
  // Everything that the maps must have before the batches up to this one may leave the ring.
  Task<Status> write_maps(uint64_t through);
  std::string volumes_directory() const { return config_.data_dir + "/" + kVolumesName; }
  std::string replica_directory(ReplicaId id) const {
    return volumes_directory() + "/" + id.to_string();
  }
  // Removes a replica's directory (of this name) with everything in it.
  Task<Status> remove_tree(std::string directory);
  uint64_t last_durable_sequence() const { return writer_->next_sequence() - 1; }
  Gate& calls() { return calls_; }
  Gate& tasks() { return tasks_; }

  // --- large writes (large_write.h)
  // Blocks that may be on their way into the image, of all replicas; first come first served.
  Semaphore& direct_room() { return direct_room_; }
  // May more be written whose CRCs wait for their drain?
  bool may_go_direct() const;
  bool must_drain_direct() const;
  // For what such a write may allocate; the file system's own figure knows of those that ended before it
  // was asked.
  void direct_begun(uint64_t bytes) { direct_in_flight_ += bytes; }
  void direct_ended(uint64_t bytes);
  // The batch that holds the intent keeps the segment open until it has been drained.
  void pin(uint64_t sequence, std::shared_ptr<Segment> segment);
  // An intent of this batch is in flight no more; in doubt: its blocks are not what it says.
  void intent_ended(uint64_t sequence, bool in_doubt);
  // Room for a segment file that nobody has asked for yet.
  bool room_for_file() const;

 private:
  friend class Drain;
  Task<Status> settle_names();
  Task<Status> load_replica(const std::string& name);
  Task<Status> replay(JournalScan& scan);
  Task<Status> settle_replica_intents(ReplicaImpl& replica, std::vector<const Record*> records);
  Task<Status> settle_segment(ReplicaImpl& replica, const DrainSegment& intents);
  Task<Status> settle_recovered_intents();
  Task<void> maps_task(std::shared_ptr<ReplicaImpl> replica, uint64_t through, Semaphore& slots,
                       std::optional<Error>& error);
  void release_books(uint64_t through);
  Batch* find_batch(uint64_t sequence);
  uint64_t pins_max() const;
  Status replay_record(Record& record, uint64_t sequence,
                       const std::unordered_map<ReplicaId, uint64_t>& deletes);
  Task<Status> finish_deletes();
  Task<Status> seal(JournalScan& scan);
  void account(const Record& record, bool add);
  bool fits(uint64_t worst_case, uint64_t reserve) const;
  Task<Result<bool>> find_room(uint64_t worst_case);
  bool has_settled(uint64_t sequence) const;
  void begin_episode();
  void end_episode_if_over();
  Task<void> watch_for_room();
  Task<Result<std::shared_ptr<Replica>>> make_replica(ReplicaSpec spec);
  Task<Status> make_directories(const std::string& directory);
  Task<Status> publish(const std::string& creating, Superblock superblock);
  Result<std::shared_ptr<Replica>> existing(const ReplicaSpec& spec) const;
  Superblock first_superblock(const ReplicaSpec& spec) const;
  Task<Status> link_files(std::shared_ptr<ReplicaImpl> source, uint32_t layer,
                          std::string directory);
  Task<Status> clone_into(std::shared_ptr<ReplicaImpl> source, SnapshotId snapshot,
                          ReplicaSpec spec);
  Task<Status> delete_journaled(std::shared_ptr<ReplicaImpl> replica);

  World world_;
  PoolConfig config_;
  PoolFile identity_;
  std::unique_ptr<File> journal_;
  JournalCheckpoint checkpoint_;  // the last one written
  SegmentCache cache_;
  std::optional<JournalWriter> writer_;
  std::optional<Drain> drain_;
  std::deque<std::unique_ptr<Batch>> batches_;  // durable, not drained, oldest first
  std::unordered_map<ReplicaId, std::shared_ptr<ReplicaImpl>> replicas_;
  std::vector<std::shared_ptr<ReplicaImpl>> with_books_;
  std::vector<std::shared_ptr<ReplicaImpl>> to_delete_;  // recovery found their delete record
  Mutex catalog_;                                        // create, clone, delete: one at a time
  uint64_t next_number_ = 1;

  // What undrained records may allocate, see space.h.
  uint64_t overlay_payload_ = 0;
  std::unordered_map<uint64_t, uint32_t> touched_;  // replica number and segment → records
  SpaceState space_;
  uint64_t data_free_ = 0;  // inside data_dir's file system; space_.free may be less
  Mutex admission_;

  // A full pool, see admission.cc.
  uint64_t held_writes_ = 0;
  uint64_t looks_ = 0;  // of the watch
  Signal room_changed_;
  bool watching_ = false;
  bool releasing_ = false;
  CancelSource cancel_watch_;
  std::optional<MonoTime> full_since_;
  bool refusing_ = false;

  Semaphore direct_room_{kMaxDirectInFlight / kBlockSize};
  uint64_t direct_in_flight_ = 0;       // bytes
  uint64_t direct_ended_ = 0;           // bytes since the pool was opened
  uint64_t direct_ended_known_ = 0;     // of them, those that space_.free knows of
  uint64_t direct_undrained_ = 0;       // bytes of intents in batches_
  uint64_t pinned_segments_ = 0;
  uint64_t settled_below_ = 0;

  Gate calls_;   // public calls inside
  Gate tasks_;   // writer, drain
  std::optional<Error> failure_;
  bool stopped_ = false;
  PoolStats stats_;
};

}  // namespace hf
