// ReplicaPort: one replica as its coordinator sees it, wherever it lies: one session with it.
//
//   Coordinator ── ReplicaPort ── (LocalPort, or a connection to another node) ── ReplicaService ──
//   Replica
//
// A session begins with fence() and ends with the first failure or with close(); it is never
// mended: a new port is a new session, with a higher number. Within a session writes take effect in
// the order of the calls, and a replica executes nothing of a session once a later one (a higher
// number under the same epoch, or a higher epoch) has been fenced: fence() answers only after what
// older sessions carried has ended. So nothing old can arrive late.
//
// Errors of all calls: those of Replica; kFenced: the replica has promised a newer epoch;
// kConflict: a later session is open; kUnavailable, kTimeout, kClosed, kProtocol: of the
// connection. After any of them the call may have happened or may still, until the next fence() has
// answered.
//
// Loop thread of the volume. close() ends all calls in flight soon, whatever the replica does; what
// they were given stays alive with the port as long as it is needed. Destroy after close() when
// none is left.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "runtime/clock.h"
#include "runtime/task.h"
#include "store/types.h"

namespace hf {

// Of a read lease, from a replica to the coordinator. The replica counts kLeaseGiven from the
// arrival of the request for it, the coordinator kLeaseTaken from its sending: clocks may differ in
// speed by a tenth either way.
inline constexpr Duration kLeaseGiven = 500ms;
inline constexpr Duration kLeaseTaken = 400ms;
// How much longer than told a takeover waits for what a replica says is left.
constexpr Duration lease_wait(Duration left) {
  return left + left / 4;
}

struct Session {
  uint64_t epoch = 0;
  uint64_t number = 0;  // from 1, by the coordinator of the epoch
  auto operator<=>(const Session&) const = default;
};

struct FenceAnswer {
  FenceAnswer() = default;
  uint64_t promised_before = 0;
  Stamp commit;
  uint64_t size_bytes = 0;
  Duration lease_left{};  // of the read lease given to an older epoch
  std::string config;     // the replica's copy, encoded; empty: none
};

// What is written, kept alive as long as anybody needs it. Without an owner the caller keeps the
// bytes until its call has returned.
class WriteData {
 public:
  WriteData() = default;
  explicit WriteData(ByteSpan bytes) : bytes_(bytes) {}
  static WriteData copy_of(ByteSpan bytes) {
    WriteData data;
    auto owner = std::make_shared<AlignedBuffer>(bytes.size());
    if (!bytes.empty()) std::memcpy(owner->data(), bytes.data(), bytes.size());
    data.bytes_ = std::as_const(*owner).span();
    data.owner_ = std::move(owner);
    return data;
  }
  static WriteData of(std::shared_ptr<const AlignedBuffer> owner) {
    WriteData data;
    data.bytes_ = owner->span();
    data.owner_ = std::move(owner);
    return data;
  }
  ByteSpan bytes() const { return bytes_; }
  WriteData part(uint64_t offset, uint64_t length) const {
    WriteData data = *this;
    data.bytes_ = bytes_.subspan(offset, length);
    return data;
  }

 private:
  std::shared_ptr<const AlignedBuffer> owner_;
  ByteSpan bytes_;
};

class ReplicaPort {
 public:
  virtual ~ReplicaPort() = default;
  ReplicaPort(const ReplicaPort&) = delete;
  ReplicaPort& operator=(const ReplicaPort&) = delete;

  // Once, first. Promises the epoch durably, ends older sessions, opens this one.
  virtual Task<Result<FenceAnswer>> fence(Session session) = 0;
  // The replica lives and serves this session; success is a read lease. `commit` is zero for a
  // member that has not joined: its window must stay known until it has.
  virtual Task<Status> heartbeat(Stamp commit) = 0;
  // Gives the lease back: the session is over, in order.
  virtual Task<Status> release() = 0;

  virtual Task<Status> write(WriteHeader header, uint64_t offset, WriteData data) = 0;
  virtual Task<Status> write_zeroes(WriteHeader header, uint64_t offset, uint64_t length) = 0;
  virtual Task<Status> read(uint64_t offset, MutableByteSpan out) = 0;
  virtual Task<Result<std::vector<DataExtent>>> extents(uint64_t offset, uint64_t length,
                                                        size_t limit) = 0;
  virtual Status flush() = 0;
  // A hint, without an answer: so much has been answered by all.
  virtual void advance_commit(Stamp commit) = 0;

  virtual Task<Result<std::vector<ByteRange>>> window(uint64_t from, size_t limit) = 0;
  virtual Task<Result<std::vector<ByteRange>>> dirty(uint32_t slot, uint64_t from,
                                                     size_t limit) = 0;
  virtual Task<Status> mark_dirty(WriteHeader header, SlotMask slots,
                                  std::vector<ByteRange> ranges) = 0;
  virtual Task<Status> clear_dirty(WriteHeader header, SlotMask slots) = 0;
  virtual Task<Status> settle_window(WriteHeader header) = 0;

  virtual Task<Status> set_config(std::string config) = 0;
  virtual Task<Status> resize(WriteHeader header, uint64_t size_bytes) = 0;
  virtual Task<Result<SnapshotInfo>> snapshot(WriteHeader header, SnapshotId id) = 0;
  virtual Task<Status> delete_snapshot(SnapshotId id) = 0;

  // Idempotent.
  virtual void close() = 0;

 protected:
  ReplicaPort() = default;
};

}  // namespace hf
