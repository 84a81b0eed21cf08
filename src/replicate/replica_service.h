// ReplicaService: one replica on its own node as coordinators may use it: one session at a time,
// the newest.
//
// Whatever is asked names its session and is refused unless that is the open one and its epoch the
// promised one. Sessions and leases are in memory: a restarted service has none open, so everybody
// must fence anew, and takes it that a lease was given the moment before it began. Loop thread of
// the pool.
#pragma once

#include <memory>

#include "replicate/port.h"
#include "runtime/sync.h"
#include "store/replica.h"

namespace hf {

class ReplicaService {
 public:
  // Without a clock no lease is ever given: for volumes of one replica.
  ReplicaService(std::shared_ptr<Replica> replica, Clock* clock);

  Replica& replica() { return *replica_; }
  Session session() const { return open_; }

  // kFenced: a newer epoch is promised. kConflict: a later session has come meanwhile.
  Task<Result<FenceAnswer>> fence(Session session);
  Status heartbeat(Session session, Stamp commit);
  Status release(Session session);

  Task<Status> write(Session session, WriteHeader header, uint64_t offset, WriteData data);
  Task<Status> write_zeroes(Session session, WriteHeader header, uint64_t offset, uint64_t length);
  Task<Status> read(Session session, uint64_t offset, MutableByteSpan out);
  Task<Result<std::vector<DataExtent>>> extents(Session session, uint64_t offset, uint64_t length,
                                                size_t limit);
  Task<Result<std::vector<ByteRange>>> window(Session session, uint64_t from, size_t limit);
  Task<Result<std::vector<ByteRange>>> dirty(Session session, uint32_t slot, uint64_t from,
                                             size_t limit);
  Task<Status> mark_dirty(Session session, WriteHeader header, SlotMask slots,
                          std::vector<ByteRange> ranges);
  Task<Status> clear_dirty(Session session, WriteHeader header, SlotMask slots);
  Task<Status> settle_window(Session session, WriteHeader header);
  Task<Status> set_config(Session session, std::string config);
  Task<Status> resize(Session session, WriteHeader header, uint64_t size_bytes);
  Task<Result<SnapshotInfo>> snapshot(Session session, WriteHeader header, SnapshotId id);
  Task<Status> delete_snapshot(Session session, SnapshotId id);

 private:
  // Counts a call of a session from its admission to its end.
  class Pass;
  Status check(Session session) const;
  Duration lease_left(uint64_t for_epoch) const;

  std::shared_ptr<Replica> replica_;
  Clock* clock_;
  Session open_;         // the newest that was fenced; its calls are served once opened_ says so
  bool opened_ = false;  // fence() has answered
  uint64_t inside_ = 0;  // calls being served, whatever their session
  Signal left_;
  uint64_t lease_epoch_ = 0;
  MonoTime lease_ends_;
};

}  // namespace hf
