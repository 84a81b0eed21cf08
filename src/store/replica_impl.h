// ReplicaImpl: a replica's state in memory. Split by verb: replica_io.cc (read, write), large_write.cc,
// snapshot.cc, restore.cc, resize.cc, replica_meta.cc (superblock, promise, files).
//
// Layers. `superblock_.head_layer` is the head as far as the image goes; `write_layer_` is the head as
// far as the journal goes: they differ while snapshot barriers wait for their drain.
#pragma once

#include <algorithm>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <unordered_set>
#include <vector>

#include "runtime/gate.h"
#include "runtime/sync.h"
#include "runtime/world.h"
#include "store/books.h"
#include "store/extent_map.h"
#include "store/fs_vitals.h"
#include "store/journal_writer.h"
#include "store/large_write.h"
#include "store/replica.h"
#include "store/segment_cache.h"
#include "store/segment_map.h"
#include "store/superblock_file.h"

namespace hf {

class PoolImpl;

// Fit for direct I/O as it is.
inline bool aligned_memory(const void* data) {
  return is_aligned(reinterpret_cast<uintptr_t>(data), kBlockSize);
}

class ReplicaImpl final : public Replica, public std::enable_shared_from_this<ReplicaImpl> {
 public:
  ReplicaImpl(PoolImpl& pool, uint64_t number, std::string directory, Superblock superblock);
  ~ReplicaImpl() override;

  // --- Replica
  ReplicaId id() const override { return superblock_.replica; }
  VolumeId volume() const override { return superblock_.volume; }
  LineageId lineage() const override { return superblock_.lineage; }
  uint64_t size() const override { return superblock_.size_bytes; }
  uint64_t segment_bytes() const override { return superblock_.segment_bytes; }
  uint64_t promised_epoch() const override { return promised_; }
  const std::string& config() const override { return superblock_.config; }
  ReplicaStats stats() const override;
  Task<Status> read(uint64_t offset, MutableByteSpan out) override;
  Task<Status> write(WriteHeader header, uint64_t offset, ByteSpan data) override;
  Task<Status> write_zeroes(WriteHeader header, uint64_t offset, uint64_t length) override;
  Task<Status> discard(WriteHeader header, uint64_t offset, uint64_t length) override;
  Status flush() override;
  Task<Result<std::vector<DataExtent>>> extents(uint64_t offset, uint64_t length,
                                                size_t max_extents) override;
  Task<Result<SnapshotInfo>> snapshot(WriteHeader header, SnapshotId id) override;
  Task<Status> delete_snapshot(SnapshotId id) override;
  std::vector<SnapshotInfo> snapshots() const override;
  Task<Status> read_snapshot(SnapshotId id, uint64_t offset, MutableByteSpan out) override;
  Task<Status> restore(WriteHeader header, SnapshotId id) override;
  Task<Status> resize(WriteHeader header, uint64_t size_bytes) override;
  Task<Status> promise(uint64_t epoch) override;
  Task<Status> set_config(std::string config) override;
  Stamp commit() const override { return books_.commit(); }
  void advance_commit(Stamp commit) override { books_.advance(commit); }
  Task<Status> settle_window(WriteHeader header) override;
  Task<Result<std::vector<ByteRange>>> window(uint64_t from, size_t max_ranges) override;
  Task<Result<std::vector<ByteRange>>> dirty(uint32_t slot, uint64_t from, size_t max_ranges) override;
  Task<Result<uint64_t>> dirty_bytes(uint32_t slot) override;
  Task<Status> mark_dirty(WriteHeader header, SlotMask slots, std::vector<ByteRange> ranges) override;
  Task<Status> clear_dirty(WriteHeader header, SlotMask slots) override;
  Task<Status> clear_dirty_range(WriteHeader header, uint32_t slot, ByteRange range) override;
  Task<Result<uint64_t>> allocated_bytes() override;
  Task<Status> wait_drained() override;

  // --- for the pool, the journal and the drain
  const Superblock& superblock() const { return superblock_; }
  const SegmentPlace& place() const { return place_; }
  const std::string& directory() const { return directory_; }
  const std::string& segment_directory() const { return place_.directory; }
  SegmentMap& segments() { return map_; }
  ExtentMap& overlay() { return overlay_; }
  uint64_t blocks_per_segment() const { return place_.geometry.blocks(); }
  bool is_deleted() const { return deleted_; }
  void mark_deleted() { deleted_ = true; }
  Gate& gate() { return gate_; }
  Mutex& maintenance() { return maintenance_; }
  SegmentLocks& file_makers() { return file_makers_; }
  DirectWrites& direct() { return direct_; }

  // A record of this replica has become durable (or was found by recovery): overlay, pending snapshots.
  void on_durable(const Record& record);
  // The same for the books; also of records whose content the image has already.
  void note_books(const JournalEntry& entry, uint64_t batch);
  // Have the books anything to write before the batches up to this one may leave the ring?
  bool maps_due(uint64_t through) const;
  // Writes it. kNoSpace: they must stay.
  Task<Status> write_maps(uint64_t through);
  // They have left. False: the books hold nothing of the ring any more.
  bool books_released(uint64_t through);
  // The image now holds all of the barrier's layer.
  Task<Status> apply_barrier(const Record& barrier);
  // Lists the segment files once, and removes what a crash left behind.
  Task<Status> load();
  bool is_loaded() const { return loaded_; }
  // Names in the segment directory, numbered as they are made; 1 stands for all those of earlier processes,
  // which may have died before they synced them.
  uint64_t new_name() { return ++names_made_; }
  uint64_t names_made() const { return names_made_; }
  bool is_named(uint64_t name) const { return names_synced_ >= name; }
  void set_names_synced(uint64_t up_to) { names_synced_ = std::max(names_synced_, up_to); }
  // Segment files grow, shrink or go: what allocated_bytes() knew is over.
  void allocation_changes() { ++allocation_version_; }
  // Unlinks files that nobody sees (all, or of one segment).
  Task<Status> collect_garbage();
  Task<Status> collect_garbage_of(uint32_t index);
  // Queues a barrier; closes the layer for all later writes at once. Nil id: no snapshot in the table.
  Task<Result<SnapshotRow>> close_layer(WriteHeader header, SnapshotId id);
  // Keeps a layer's files from being collected while somebody links them.
  void pin(uint32_t layer) { pinned_.push_back(layer); }
  void unpin(uint32_t layer);
  // Would the file system above break if this write failed? (WriteKind::kVital)
  Task<Result<bool>> is_vital(uint64_t first_block, ByteSpan data);
  // Does the image hold data in each of these blocks?
  Task<Result<bool>> is_written(uint64_t first_block, uint64_t blocks);
  const SnapshotRow* find_snapshot(SnapshotId id) const;
  // Bytes of segment files that a layer sees, from a layer's point of view; no overlay.
  Task<Status> read_layer(uint32_t layer, uint64_t offset, MutableByteSpan out);
  WriteHeader internal_header() const;

 private:
  enum class ReadOutcome { kDone, kRetry };
  Status check_range(uint64_t offset, uint64_t length, uint64_t limit) const;
  Status check_header(const WriteHeader& header) const;
  Task<Status> write_entries(WriteHeader header, EntryType type, uint64_t offset, uint64_t length,
                             ByteSpan data);
  // What every entry of this replica says, whatever it is of.
  void begin_entry(Append& append, const WriteHeader& header, EntryType type);
  // Makes and queues the entries of one call, in its order; `appends` stays until they have ended. Of a
  // write `data` is the payload, of an intent `crcs` go with it.
  void enqueue_entries(std::deque<Append>& appends, const WriteHeader& header, EntryType type,
                       uint64_t offset, uint64_t length, ByteSpan data,
                       std::span<const uint32_t> crcs);
  Task<Status> wait_appended(std::deque<Append>& appends);

  // --- replica_books.cc
  Task<Status> journal_books(WriteHeader header, EntryType type, SlotMask slots,
                             std::vector<ByteRange> ranges);
  std::string map_path(uint32_t slot) const { return directory_ + "/" + dirty_map_name(slot); }
  bool has_map(uint32_t slot) const { return (superblock_.maps >> slot & 1) != 0; }
  // All under maps_mutex_.
  Task<Status> read_window_stamps();
  Task<Status> write_map(uint32_t slot, const UnitChanges& changes);
  Task<Status> drop_map(uint32_t slot);
  Task<Result<std::unique_ptr<File>>> open_map(uint32_t slot, bool* made, bool* lost);
  Task<Status> record_map(uint32_t slot, bool there);
  Task<Result<std::vector<ByteRange>>> map_ranges(uint32_t slot, uint64_t from, size_t max_ranges);
  Status check_slot(uint32_t slot) const;
  std::vector<ByteRange> window_in_memory(uint64_t from, uint64_t end);

  // --- large_write.cc
  struct DirectPart {
    std::shared_ptr<Segment> segment;
    uint32_t index = 0;
    uint32_t first = 0;  // block in the segment
    uint32_t count = 0;
  };
  struct DirectPlan {
    DirectPlan() = default;
    std::vector<DirectPart> parts;  // in the order of the image
  };
  bool must_wait_for_direct(uint64_t first, uint64_t count) const;
  // Until the pool has room for the write and nobody who came before and waits overlaps it. The caller has
  // the pool's admission, before and after.
  Task<Status> wait_for_admission(const WriteHeader& header, EntryType type, HeldWrite& held,
                                  ByteSpan data);
  Status may_still_wait(const WriteHeader& header, uint64_t promises) const;
  bool must_wait_for_held(const HeldWrite& held);
  bool must_wait_to_read(uint64_t first, uint64_t count) const;
  WriteFacts write_facts(uint64_t first, uint64_t count);
  // True: it goes straight, and holds its share of the pool's direct room.
  Task<bool> plan_direct(uint64_t first, uint64_t count, DirectPlan* plan);
  Task<std::shared_ptr<Segment>> head_file(uint32_t index);
  void make_file_ahead(uint32_t index);
  Task<void> file_ahead_task(std::shared_ptr<ReplicaImpl> self, uint32_t index);
  void follow_stream(uint64_t first, uint64_t count);
  Task<Status> write_direct(WriteHeader header, uint64_t offset, ByteSpan data, DirectPlan& plan,
                            MutexGuard& admission);
  Task<Status> direct_into_image(DirectPlan& plan, std::deque<Append>& intents, ByteSpan data,
                                 const std::vector<uint32_t>& crcs);
  Task<Status> write_parts(DirectPlan& plan, ByteSpan data);
  Task<Status> sync_parts(DirectPlan& plan);
  Task<Status> take_crcs(DirectPlan& plan);

  // The common read: see read().
  struct DirectRead {
    static constexpr uint32_t kMaxBlocks = 32;
    std::shared_ptr<Segment> segment;
    uint32_t first = 0;  // block in the segment
    bool zeroes = false;
  };
  bool plan_direct_read(uint64_t offset, MutableByteSpan out, DirectRead* plan);
  Task<Status> read_aligned(uint64_t offset, MutableByteSpan out);
  Task<Result<ReadOutcome>> read_image(uint32_t layer, uint64_t block, MutableByteSpan out);
  Task<Result<ReadOutcome>> read_segment(uint32_t layer, uint32_t index, uint32_t first,
                                         MutableByteSpan out);
  Task<Result<ReadOutcome>> read_run(std::shared_ptr<Segment> segment, SegmentKey key,
                                     uint32_t first, MutableByteSpan out);
  Error corrupt_block(SegmentKey key, uint32_t block);
  // Makes `next` the superblock, durably. The caller holds superblock_mutex_ since it copied it.
  // kNoSpace: it would not fit into its file, nothing has changed; any other error fails the pool.
  Task<Status> store_next(Superblock next);
  // The superblock's file gets room for so many snapshots.
  Task<Status> reserve_rows(size_t snapshots);
  std::vector<uint32_t> needed_layers() const;
  Task<Status> unlink_segments(std::vector<SegmentKey> keys);
  Task<Status> restore_quiesced(SnapshotId id);
  Task<Status> link_for_restore(uint32_t from_layer, uint32_t to_layer);
  Task<Status> link_or_blank(SegmentKey head, uint32_t from_layer, uint32_t to_layer);

  PoolImpl& pool_;
  std::string directory_;
  SegmentPlace place_;
  Superblock superblock_;
  uint64_t promises_ = 0;       // calls of promise() that were taken
  uint64_t promised_ = 0;       // refuses lower epochs from here on, durable or not yet
  uint32_t write_layer_ = 0;
  Books books_;
  bool books_listed_ = false;   // the pool asks us before it frees the ring
  std::vector<SnapshotRow> pending_;  // durable in the journal, not yet in the superblock
  std::vector<SnapshotId> cutting_;   // on their way into the journal
  uint64_t superblock_room_ = kSuperblockFirstRoom;  // of each copy in its file, at least
  std::vector<uint32_t> pinned_;
  ExtentMap overlay_;
  IntrusiveList<HeldWrite> held_;      // wait for room, or for one that does; in the order of the calls
  Signal held_changed_;
  IntrusiveList<QueuedRange> queued_;  // on their way into the journal, not yet in the overlay
  std::optional<FsVitals> vitals_;     // of the file system in it, as of vitals_at_
  MonoTime vitals_at_;
  DirectWrites direct_;
  SegmentLocks ahead_;                 // head files that are being made ahead
  SegmentLocks file_makers_;           // by the drain, or ahead
  uint64_t stream_end_ = 0;            // block behind the last large write
  SegmentMap map_;
  bool loaded_ = false;
  uint64_t names_made_ = 1;
  uint64_t names_synced_ = 0;
  bool deleted_ = false;
  Gate gate_;            // calls inside
  Gate appends_;         // journal entries on their way
  bool restoring_ = false;  // new entries wait
  Signal resumed_;
  Mutex load_mutex_;
  Mutex maps_mutex_;     // the files of dirty maps; before superblock_mutex_
  Mutex superblock_mutex_;
  Mutex maintenance_;    // snapshot delete, clone, restore, resize: one at a time
  std::unordered_set<uint64_t> corrupt_;  // blocks reported, bounded
  ReplicaStats stats_;
  uint64_t allocation_version_ = 1;
  // The last walk: what it found, of which version, and when.
  uint64_t allocated_ = 0;
  uint64_t allocated_version_ = 0;
  MonoTime allocated_at_;
};

}  // namespace hf
