// Coordinator: the one writer of a volume, under one epoch.
//
// Loop thread of the volume. Overlapping writes take effect in the order of the calls. What is
// acknowledged is durable on every in-sync replica. What is read has been acknowledged. While too
// few members answer, or a change of the configuration waits for the state store, calls wait: they
// are suspended, not failed. After kFenced nothing is acknowledged again. README.md has the
// protocol.
//
// Life: open() or take_over(), any number of calls, then release(), close() or abandon(), then
// destruction.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "format/config_format.h"
#include "replicate/config_store.h"
#include "replicate/port.h"
#include "runtime/cancel.h"
#include "runtime/gate.h"
#include "runtime/task.h"
#include "store/replica.h"

namespace hf {

class CoordinatorCore;

// How a coordinator reaches the members of its volume.
class PortFactory {
 public:
  virtual ~PortFactory() = default;
  // A port without a session yet. kUnavailable, kTimeout, kNotFound (there is no such replica
  // there).
  virtual Task<Result<std::shared_ptr<ReplicaPort>>> open(VolumeMember member) = 0;
  // Of this node: read from first.
  virtual bool is_local(const VolumeMember& member) const = 0;
};

// Who takes over, and with what. References stay valid until the coordinator has ended.
struct CoordinatorSpec {
  CoordinatorSpec(Clock& c, ConfigStore& s, PortFactory& p) : clock(c), configs(s), ports(p) {}
  VolumeId volume;
  NodeId node;
  uint64_t instance = 0;  // random per coordinator
  CancelToken give_up;    // the takeover ends soon, with kClosed
  NodeId away;            // was just found not to answer: its members are not waited for
  Clock& clock;
  ConfigStore& configs;
  PortFactory& ports;
};

// For inspection.
struct MemberStatus {
  MemberStatus() = default;
  VolumeMember member;
  bool in_sync = false;
  bool reachable = false;
  bool resyncing = false;
  uint64_t resync_bytes_total = 0, resync_bytes_done = 0;
  std::string trouble;  // why it is not in sync or not reachable
};

// Of a scrub; while one is running, so far.
struct ScrubReport {
  ScrubReport() = default;
  bool running = false;
  bool all_members = true;      // everywhere all that are in sync were compared
  uint64_t done_to = 0;         // of the volume's size
  uint64_t bytes_compared = 0;  // of each member
  uint64_t mended_bytes = 0;    // damaged, or different from most, on some; as the others now
  // Readable on all, different, and no majority: nothing was changed. The first ranges, and how
  // much it is.
  std::vector<ByteRange> undecided;
  uint64_t undecided_bytes = 0;
  // Damaged on all.
  std::vector<ByteRange> lost;
  uint64_t lost_bytes = 0;
};

// What a scrub is to do.
struct ScrubOrder {
  ScrubOrder() = default;
  uint64_t bytes_per_second = 0;  // at most, of each member; zero: no limit
  uint64_t from = 0;              // an earlier one came so far
  CancelToken cancel;             // it ends at its next piece, with kCancelled
  std::function<void(const ScrubReport&)> tell;  // after each piece; may be empty
};

class Coordinator {
 public:
  // The simple case: a volume of one replica on this node, without a configuration in the state
  // store. Promises `epoch` on the replica (durable before it returns), then serves. kFenced when
  // the replica has promised a newer one.
  static Task<Result<std::unique_ptr<Coordinator>>> open(std::shared_ptr<Replica> replica,
                                                         uint64_t epoch);
  // Attach, planned move and failover alike: becomes the coordinator, whoever was it before, and
  // returns when it serves. kUnavailable: no in-sync member answered (it may be asked again);
  // kFenced, kConflict: somebody else took over meanwhile; kFailedPrecondition: a replica knows
  // more than the state store, which must have been rolled back: the volume is in quarantine.
  static Task<Result<std::unique_ptr<Coordinator>>> take_over(CoordinatorSpec spec);
  ~Coordinator();

  uint64_t size() const;
  uint64_t epoch() const;
  bool is_fenced() const;
  VolumeConfig config() const;
  std::vector<MemberStatus> members() const;

  Task<Status> read(uint64_t offset, MutableByteSpan out);
  Task<Status> write(uint64_t offset, ByteSpan data);
  Task<Status> write_zeroes(uint64_t offset, uint64_t length);
  Task<Status> discard(uint64_t offset, uint64_t length);
  Task<Status> flush();
  Task<Result<std::vector<DataExtent>>> extents(uint64_t offset, uint64_t length, size_t limit);
  // Between the writes called before and those called after; the same moment on every in-sync
  // replica. A member that is away or being resynced does not get it. kConflict: a part of the
  // members has a snapshot of this id from before, of another moment: it is gone now, ask with
  // another id.
  Task<Result<SnapshotInfo>> snapshot(SnapshotId id);
  // On every in-sync replica.
  Task<Status> delete_snapshot(SnapshotId id);
  Task<Status> resize(uint64_t size_bytes);

  // Reads all that is allocated from all members in sync, compares it, and mends what is damaged on
  // some or different from what most of them have, while the volume is served. kInUse: one is
  // running. kNotSupported: of open().
  Task<Result<ScrubReport>> scrub(ScrubOrder order);
  ScrubReport scrub_report() const;  // of the last one

  // One member more, in a slot of the coordinator's choice (`slot` is not looked at). Success: the
  // configuration has it, or had it; it is in sync when members() says so, after all that is
  // allocated has been copied. Its replica is there and of the volume's size or not; what it holds
  // does not matter. kLimitExceeded: the volume has kMaxMembers.
  Task<Status> add_member(VolumeMember member);
  // One less, whatever its state; the replica is never asked again, and may be deleted. Success:
  // the configuration does not have it. kFailedPrecondition: no other in-sync member is reachable.
  // Both: kUnavailable: the state store does not tell; it may have happened, ask again. Without a
  // configuration (open()): kNotSupported.
  Task<Status> remove_member(ReplicaId replica);

  // A planned end: refuses new calls, waits for those in flight, gives the leases back and records
  // that nobody serves, so that the next take_over need not wait. The error tells that this was not
  // recorded; kTimeout: calls in flight still wait, for members or for the state store: abandon().
  Task<Status> release();
  // Refuses new calls, waits for those in flight. Idempotent. The replicas stay open in their
  // pools.
  Task<void> close();
  // The same at once: calls in flight end with kClosed and may have happened.
  Task<void> abandon();

 private:
  explicit Coordinator(std::unique_ptr<CoordinatorCore> core);
  std::unique_ptr<CoordinatorCore> core_;
};

}  // namespace hf
