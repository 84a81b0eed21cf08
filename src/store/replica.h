// Replica: one copy of one volume in a pool: a byte range of fixed size, addressed in 4 KiB blocks.
//
//   write ──► journal batch (durable) ──► acknowledged ──► overlay ──► drain ──► segment files
//   large write ──► intent in a journal batch (durable) ──► segment files (durable) ──► acknowledged
//   read  ──► overlay, else the segment file at the highest layer, CRC checked ──► bytes
//
// Offsets and lengths are multiples of kBlockSize and lie inside size() (else kInvalidArgument); a zero
// length succeeds. All calls belong to the pool's loop; many may be in flight. Buffers stay valid, and
// what is written unchanged, until the call returns. A call that was started is not cancelled: it ends
// when the disk answers.
//
// Acknowledged means durable: when write, write_zeroes, discard or snapshot returns ok, its effect
// survives power loss. A call that returned an error, or none because of a crash, may have happened for
// any subset of its blocks, each block whole; a crash in a write of PoolConfig::large_write_bytes or more
// may have changed any subset of the 512-byte sectors, as on any disk. What is read after it stays.
// Concurrent overlapping writes take effect in the order of the calls; the coordinator submits overlapping
// writes in the order of their sequences.
//
// The books of replication (books.h) say what other replicas may not have:
//   the window   the ranges of all writes, zeroes and discards that were taken and are above the commit: what
//                this replica may have and another not. Exact while the records are in the ring, later coarse.
//   dirty maps   one for each absent member, by slot: what it has missed.
// They may always tell more than is true, never less, whatever crashes in between; both in whole
// kDirtyUnitBytes where they are coarse. They hold memory for what is in the ring only, and never keep the
// ring from draining. A clone starts with empty books.
//
// Common errors: kFenced (header.epoch is not the promised one), kFailedPool (an earlier durable write
// of the pool failed; nothing is ever retried), kNoSpace (the pool has been full for longer than its patience;
// nothing was written. Until then, and for as long as it takes where a file system could not bear it, the write
// waits, see space.h, and counts as called when it goes on),
// kCorruption (a stored block does not match its checksum; another replica may have it), kClosed.
#pragma once

#include <memory>
#include <vector>

#include "base/error.h"
#include "runtime/task.h"
#include "store/types.h"

namespace hf {

class Replica {
 public:
  virtual ~Replica() = default;
  Replica(const Replica&) = delete;
  Replica& operator=(const Replica&) = delete;

  virtual ReplicaId id() const = 0;
  virtual VolumeId volume() const = 0;
  virtual LineageId lineage() const = 0;
  virtual uint64_t size() const = 0;
  virtual uint64_t segment_bytes() const = 0;
  virtual uint64_t promised_epoch() const = 0;
  virtual const std::string& config() const = 0;
  virtual ReplicaStats stats() const = 0;

  // The newest acknowledged content; a write in flight shows wholly or not at all in each block.
  // Memory aligned to kBlockSize avoids a copy; any other is accepted.
  virtual Task<Status> read(uint64_t offset, MutableByteSpan out) = 0;
  virtual Task<Status> write(WriteHeader header, uint64_t offset, ByteSpan data) = 0;
  // The range reads as zeroes. Takes no space; both free what the range held.
  virtual Task<Status> write_zeroes(WriteHeader header, uint64_t offset, uint64_t length) = 0;
  virtual Task<Status> discard(WriteHeader header, uint64_t offset, uint64_t length) = 0;
  // Everything acknowledged is durable already: only tells whether the pool still stands.
  virtual Status flush() = 0;

  // Where data may be, in order and without gaps, from `offset` (at most max_extents; continue from the
  // end of the last one). Blocks never written or zeroed are reported as holes.
  virtual Task<Result<std::vector<DataExtent>>> extents(uint64_t offset, uint64_t length,
                                                        size_t max_extents) = 0;

  // Cuts a snapshot behind all writes called before and before all called after. Durable on return;
  // costs one journal record whatever the size. Idempotent by id. kLimitExceeded above kMaxSnapshots.
  virtual Task<Result<SnapshotInfo>> snapshot(WriteHeader header, SnapshotId id) = 0;
  // Frees what no other snapshot, clone or the head uses. A missing one succeeds.
  virtual Task<Status> delete_snapshot(SnapshotId id) = 0;
  // Oldest first.
  virtual std::vector<SnapshotInfo> snapshots() const = 0;
  // Reads a snapshot (waits until its barrier has drained). kNotFound.
  virtual Task<Status> read_snapshot(SnapshotId id, uint64_t offset, MutableByteSpan out) = 0;
  // Makes the content and the size those of the snapshot, which stays. The head's writes since are
  // gone; the caller has no I/O in flight (those that are see either). Durable on return. kNotFound. For
  // the books it is a write to all of the volume, at both sizes, durable before anything changes.
  virtual Task<Status> restore(WriteHeader header, SnapshotId id) = 0;
  // Online; a grown range reads as zeroes. Shrinking drops the tail's content for good: for the books a
  // write_zeroes. Growing writes nothing; a member that misses it has to be resized when it returns.
  virtual Task<Status> resize(WriteHeader header, uint64_t size_bytes) = 0;

  // Durably promises never to accept a write of a lower epoch again, *before* it returns. Equal to the
  // present one succeeds, lower is kFenced. Waits for what was in flight under lower epochs: a window()
  // asked for after it has returned holds all of it. Writes that wait for room in the pool are not waited for,
  // they end with kFenced, or kConflict where the epoch is theirs: whoever asks sends them again.
  virtual Task<Status> promise(uint64_t epoch) = 0;
  // Replaces the opaque configuration copy, durably (kLimitExceeded above kMaxConfigBytes).
  virtual Task<Status> set_config(std::string config) = 0;

  // --- the books
  virtual Stamp commit() const = 0;
  // The highest known counts, at once; durable with what is written later. Losing it in a crash only makes
  // the window larger. To be called when writes pause too: what drains (at most drain_delay after it was
  // written) above the commit goes into the coarse window, which costs writes of its own.
  virtual void advance_commit(Stamp commit) = 0;
  // The same for header.commit, durable on return: after a takeover has made the others like this one.
  virtual Task<Status> settle_window(WriteHeader header) = 0;
  // The window from `from` on, ascending, disjoint, inside size(); at most max_ranges, then the caller goes
  // on at the end of the last. Empty: nothing more. Includes what is still on its way into the journal.
  virtual Task<Result<std::vector<ByteRange>>> window(uint64_t from, size_t max_ranges) = 0;
  // What the member of this slot has missed, in the same way; whole units, but for the volume's end.
  virtual Task<Result<std::vector<ByteRange>>> dirty(uint32_t slot, uint64_t from, size_t max_ranges) = 0;
  virtual Task<Result<uint64_t>> dirty_bytes(uint32_t slot) = 0;
  // Adds ranges (at most kMaxRangesPerCall, inside size()) to the map of each of these slots. Durable on
  // return. Not refused by a pool at its watermark.
  virtual Task<Status> mark_dirty(WriteHeader header, SlotMask slots, std::vector<ByteRange> ranges) = 0;
  // Empties the maps of these slots: the members have everything. Durable on return, idempotent. Writes
  // called before are forgotten with it, those called after are not.
  virtual Task<Status> clear_dirty(WriteHeader header, SlotMask slots) = 0;
  // Takes the units that lie wholly in the range (or end at size()) out of one map: progress of a resync.
  virtual Task<Status> clear_dirty_range(WriteHeader header, uint32_t slot, ByteRange range) = 0;

  // Bytes that the head's segment files occupy (shared ones counted too). Walks the files the first time,
  // and after a drain changed some of them, then at most once a second: up to so old.
  virtual Task<Result<uint64_t>> allocated_bytes() = 0;
  // Returns when everything acknowledged before the call is in the image.
  virtual Task<Status> wait_drained() = 0;

 protected:
  Replica() = default;
};

}  // namespace hf
