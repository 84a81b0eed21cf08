// What the parts of a coordinator share. One file per verb:
//
//   write.cc        an operation from its range to its acknowledgement; who gets it
//   read.cc         reads, leases, repair
//   member.cc       sessions: open, heartbeat, loss, return
//   reconfigure.cc  shrink; what is in flight is sent again
//   takeover.cc     from the state store's record to the first write
//   resync.cc       copy, then join
//   scrub.cc        compare the members, mend
//   membership.cc   members added and removed
//   barrier.cc      snapshot, resize: alone between the writes
//   lifetime.cc     start, release, close, fenced
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "replicate/coordinator.h"
#include "replicate/decide.h"
#include "replicate/local_port.h"
#include "replicate/range_lock.h"
#include "replicate/range_set.h"
#include "runtime/cancel.h"

namespace hf {

// Bounds and times. None of the times decides what is safe; they decide how long things stall.
inline constexpr Duration kHeartbeat = 100ms;
inline constexpr Duration kSuspectAfter = 400ms;  // without an answer
inline constexpr Duration kReturnWithin =
    200ms;                                    // of a lost connection, before the member is dropped
inline constexpr Duration kStuckAfter = 3s;   // of one operation that others have answered
inline constexpr Duration kFenceWithin = 2s;  // one attempt to open a session
inline constexpr Duration kTakeoverPatience = 1s;  // for all in-sync members, once one has answered
inline constexpr Duration kTakeoverGivesUp = 5s;   // when none answers
inline constexpr Duration kRetryFirst = 50ms;      // to reach a member; doubles
inline constexpr Duration kRetryLast = 2s;
inline constexpr Duration kResyncRest = 300ms;  // after one that failed
inline constexpr size_t kMaxOperations = 1024;  // in flight; more wait
inline constexpr uint64_t kCopyChunk = 256 * kKiB;
inline constexpr uint64_t kCopyStretch = 256 * kMiB;  // of a whole copy: what is known of at a time
inline constexpr size_t kRangesAtATime = 1024;
inline constexpr Duration kMembersWithin =
    10s;  // a change of the members, if the state store is away

// One operation of the order: in flight from its sequence to its acknowledgement.
struct Operation {
  enum class Kind : uint8_t { kWrite, kZeroes, kSnapshot, kResize };
  Operation(Kind k, uint64_t o, uint64_t l) : kind(k), offset(o), length(l) {}
  const Kind kind;
  const uint64_t offset;
  const uint64_t length;  // kResize: the new size
  WriteData data;
  SnapshotId snapshot;

  uint64_t sequence = 0;
  uint64_t round = 0;  // answers to earlier rounds do not count
  MonoTime since;
  uint8_t answered = 0, refused = 0;
  std::optional<Error> refusal;
  std::optional<SnapshotInfo> cut;
  bool cuts_differ = false;
  bool sending = false;
  bool ended = false;
  Status result;
  Event done;
};
using OperationPtr = std::shared_ptr<Operation>;
using PortPtr = std::shared_ptr<ReplicaPort>;

// A member and the session with it.
struct Peer {
  explicit Peer(VolumeMember m) : info(m), bit(slot_bit(m.slot)) {}
  const VolumeMember info;
  const uint8_t bit;
  bool local = false;
  bool gone = false;                   // out of the configuration for good
  PortPtr port;                        // the open session
  bool receives = false;               // every new write
  std::multiset<uint64_t> unanswered;  // sequences sent in this session
  MonoTime lease_until;                // what it has given
  MonoTime lost_at;                    // without a session since
  bool broken = false;  // it said itself that it cannot serve: there is nothing to wait for
  Duration retry = kRetryFirst;
  MonoTime rest_until;  // a resync that failed is not begun again at once
  std::optional<Error> trouble;
  bool waits_unanswered = false;  // somebody waits for `unanswered` to shrink
  bool resyncing = false;
  uint64_t copy_total = 0, copy_done = 0;
};

// Of one range, what the members in sync have.
struct Copies {
  Copies() = default;
  std::vector<std::shared_ptr<AlignedBuffer>> good;
  uint8_t damaged = 0;
  bool alike() const;
  // The first that more than half of the good ones equal; good.size(): none.
  size_t majority() const;
};

class CoordinatorCore {
 public:
  CoordinatorCore(std::shared_ptr<Replica> replica, uint64_t epoch);
  explicit CoordinatorCore(CoordinatorSpec spec);

  Task<Status> open_alone();
  Task<Status> take_over_unless(CancelToken given_up);

  uint64_t size() const { return size_; }
  uint64_t epoch() const { return epoch_; }
  bool is_fenced() const { return fenced_; }
  const VolumeConfig& config() const { return record_.config; }
  std::vector<MemberStatus> members() const;

  Task<Status> read(uint64_t offset, MutableByteSpan out);
  Task<Status> write(uint64_t offset, ByteSpan data);
  Task<Status> zero(uint64_t offset, uint64_t length);
  Task<Status> flush();
  Task<Result<std::vector<DataExtent>>> extents(uint64_t offset, uint64_t length, size_t limit);
  Task<Result<SnapshotInfo>> snapshot(SnapshotId id);
  Task<Status> delete_snapshot(SnapshotId id);
  Task<Status> resize(uint64_t size_bytes);
  Task<Result<ScrubReport>> scrub(ScrubOrder order);
  const ScrubReport& scrub_report() const { return scrub_; }
  Task<Status> add_member(VolumeMember member);
  Task<Status> remove_member(ReplicaId replica);
  Task<Status> release();
  Task<void> close();
  Task<void> abandon();

 private:
  // --- takeover.cc, more below
  Status check_not_newer(const VolumeMember& member, const FenceAnswer& answer) const;
  bool may_still_come(uint8_t wanted, MonoTime start) const;

  // --- barrier.cc
  Task<Status> remove_everywhere(SnapshotId id);

  // --- lifetime.cc
  bool may_serve() const { return !fenced_ && !gate_.is_closed() && !abandoned_; }
  bool running() const { return !fenced_ && !stop_.is_cancelled(); }
  Error refusal() const;
  void fence_self(const Error& why);
  void end_operations(const Error& why);
  void give_up();
  Task<void> close_gate();
  Task<bool> quiesce();
  void start_background();
  Task<void> stop_background();
  static Task<void> cancel_at(Clock& clock, MonoTime at, std::shared_ptr<CancelSource> ended,
                              CancelSource& target);
  Task<Result<ConfigChange>> replace_until(VolumeConfig next, MonoTime until,
                                           CancelSource* or_when);
  Task<void> alarm(MonoTime at);
  Status check_range(uint64_t offset, uint64_t length) const;

  // --- write.cc
  Task<Status> submit(OperationPtr op);
  Task<Status> run(OperationPtr op);
  void send_all(const OperationPtr& op);
  void send(const OperationPtr& op, Peer& peer);
  Task<void> send_task(OperationPtr op, Peer& peer, PortPtr port, WriteHeader header,
                       uint64_t round);
  Task<Status> call(const Operation& op, ReplicaPort& port, WriteHeader header, SnapshotInfo* cut);
  void answered(const OperationPtr& op, Peer& peer, const PortPtr& port, uint64_t round,
                const Status& status);
  void consider(const OperationPtr& op);
  void finish(const OperationPtr& op, Status result);
  Task<Status> write_alone(OperationPtr op);
  Stamp commit() const;
  WriteHeader header_for(const Peer& peer, uint64_t sequence) const;
  WriteHeader copy_header();

  // --- read.cc
  uint8_t readable() const;
  bool leases_hold(uint8_t target) const;
  Task<Status> read_somewhere(uint64_t offset, MutableByteSpan out, uint8_t* from, uint8_t* bad);
  Task<Status> wait_settled(uint64_t offset, uint64_t length, uint8_t from);
  Task<void> repair(uint64_t offset, uint64_t length);

  // --- member.cc
  Peer* peer(uint8_t slot);
  Peer& add_peer(const VolumeMember& member);
  std::vector<Peer*> everybody() const;
  Task<Result<FenceAnswer>> open_session(Peer& peer, PortPtr* port, Duration within);
  Task<void> tend(Peer& peer);
  Task<void> heartbeat(Peer& peer);
  void attach(Peer& peer, PortPtr port, const FenceAnswer& answer);
  void lose(Peer& peer, PortPtr port, const Error& why);
  void drop_stuck(Peer& peer);
  Task<void> watchdog(PortPtr port, MonoTime at, std::shared_ptr<CancelSource> ended);
  std::shared_ptr<CancelSource> watch(const PortPtr& port, Duration within);
  uint8_t reachable() const;
  uint8_t local_mask() const;

  // --- reconfigure.cc
  Task<void> govern();
  Attendance attendance() const;
  Task<void> shrink(uint8_t drop);
  Task<bool> replace_config(VolumeConfig next);
  Task<bool> adopt(ConfigChange change);
  void consider_all();
  Task<void> spread_config(uint8_t to);
  Task<void> give_config(Peer& peer, PortPtr port, std::string config);
  void resend_all();

  // --- scrub.cc
  Task<Status> scrub_all(const ScrubOrder& order);
  Task<Status> scrub_chunk(uint64_t offset, uint64_t length);
  Task<Status> scrub_block(uint64_t offset);
  Task<Status> read_copies(uint64_t offset, uint64_t length, Copies* copies);

  // --- membership.cc
  Task<Status> lock_config(MonoTime until);
  Task<Result<bool>> change_members(VolumeConfig next, MonoTime until);
  Task<void> settle_members();
  bool follow_members();
  void retire(Peer& peer);

  // --- takeover.cc
  Task<Status> take_over();
  Task<Status> claim();
  Task<void> fence_member(Peer& peer, MonoTime until);
  Task<void> try_to_fence(Peer& peer, MonoTime until);
  Task<Status> fence_members();
  Task<Status> reconcile();
  Task<bool> reconcile_once(uint8_t* good, const RangeSet& windows);
  Task<bool> make_like(Peer& target, Peer& source, RangeSet differ);
  Task<bool> mark(Peer& peer, PortPtr port, SlotMask slots, const RangeSet& set);
  Task<Status> activate(uint8_t good);

  // --- resync.cc
  Task<void> resync(Peer& peer, PortPtr port, FenceAnswer answer);
  Task<Status> copy_everything(Peer& peer, PortPtr port, FenceAnswer answer);
  Task<Status> copy_marked(Peer& peer, PortPtr port, uint64_t its_size);
  Task<Status> copy_whole(Peer& peer, PortPtr port, uint64_t its_size);
  Task<Status> copy_pieces(Peer& peer, PortPtr port, RangeSet set, const RangeSet* compare);
  Task<Status> find_differences(Peer& peer, PortPtr port, RangeSet* set);
  Task<Status> find_data(Peer& peer, PortPtr port, uint64_t from, RangeSet* ours, RangeSet* its);
  Task<Status> collect_data(PortPtr port, uint64_t from, uint64_t end, RangeSet* into);
  Task<Status> copy_chunk(Peer& peer, PortPtr port, uint64_t offset, uint64_t length, bool compare);
  Task<Status> inherit_maps(Peer& peer, PortPtr port);
  Task<Status> become_mandatory(Peer& peer, PortPtr port);
  Task<Status> join(Peer& peer, PortPtr port);
  Task<Status> wait_ended(uint64_t through);
  Task<Status> collect(PortPtr port, std::optional<uint8_t> slot, RangeSet* into);

  std::optional<CoordinatorSpec> spec_;  // none: alone
  uint64_t epoch_ = 0;
  uint64_t size_ = 0;
  StoredConfig record_;
  uint8_t required_ = 0;
  uint8_t dropping_ = 0;  // being taken out of the configuration
  // Those of the configuration. It changes under config_mutex_ only: who waits while going through
  // them goes through everybody().
  std::vector<std::unique_ptr<Peer>> peers_;
  std::vector<std::unique_ptr<Peer>> gone_;  // some coroutine may still hold one
  bool tending_ = false;
  ScrubReport scrub_;
  bool unsettled_ = false;  // a change of the members was given up, and may still come

  uint64_t sequence_ = 0;
  uint64_t round_ = 1;
  uint64_t session_numbers_ = 0;
  std::vector<PortPtr> opening_;  // sessions that are not a peer's yet
  bool held_ = false;  // the configuration is being changed: no new operation, no acknowledgement
  bool fenced_ = false;
  bool abandoned_ = false;
  std::optional<Error> fence_;
  std::optional<Error> config_trouble_;  // why the last change of the configuration was not tried
  Semaphore slots_{kMaxOperations};
  RangeLock ranges_;
  std::map<uint64_t, OperationPtr> in_flight_;  // by sequence
  Signal changed_;                              // of anything that somebody here may wait for
  Mutex config_mutex_;                          // one change of the configuration at a time
  Mutex resync_mutex_;                          // one resync of the volume at a time
  CancelSource stop_;
  Gate gate_;  // calls
  Gate background_;
  // takeover
  std::map<uint8_t, FenceAnswer> fenced_members_;
  std::optional<Error> quarantine_;
  int64_t lead_ = 0;  // of the configuration as it was claimed
  MonoTime leases_end_;
  uint32_t fencing_ = 0;  // members that are still being asked
  bool fencing_over_ = false;
  std::optional<Error> fence_refused_;
};

}  // namespace hf
