// A simulated state store: the server (MemoryServer, which survives its clients as etcd does) and
// its clients (MemoryStore, one per incarnation of a daemon), with faults between them. For tests
// and the simulator; deterministic given the faults' seed. Not durable.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "runtime/gate.h"
#include "state/kv_store.h"
#include "state/lease_clock.h"
#include "state/watch_hub.h"

namespace hf::state {

// What becomes of one request on its way.
enum class StoreFate : uint8_t {
  kFine,
  kAway,         // never arrives; the client knows: kUnavailable
  kLostRequest,  // never arrives; the client does not know: kAmbiguous
  kLostReply,    // happens; the client does not know: kAmbiguous
  kLate,         // kAmbiguous now, happens after `late_by`
};

class StoreFaults {
 public:
  virtual ~StoreFaults() = default;
  // For reads only kFine and kAway mean something (the others count as kAway).
  virtual StoreFate fate(bool is_write) = 0;
  virtual Duration latency() = 0;  // each way is half of it
  virtual Duration late_by() = 0;
  // A write has happened, and its answer is on its way.
  virtual void applied() {}
};

class MemoryServer {
 public:
  explicit MemoryServer(Clock& clock);

  Result<TxnOutcome> apply(const Txn& txn);
  std::optional<Entry> get(const std::string& key) const;
  Page range(const RangeRequest& request) const;
  Result<Lease> grant(Duration ttl);
  Result<Duration> keep_alive(LeaseId lease);
  void revoke(LeaseId lease);
  WatchHub& hub() { return hub_; }
  const std::map<std::string, Entry>& entries() const { return entries_; }
  // Tests only: replaces bytes behind everyone's back, as rot or a foreign hand would.
  void tamper(const std::string& key, std::string value);
  // Requests that are still on their way arrive, then everything ends.
  Task<void> close();

 private:
  friend class MemoryStore;
  Task<void> expire(LeaseId lease);
  Task<void> apply_late(Txn txn, Duration after);

  Clock& clock_;
  std::map<std::string, Entry> entries_;
  Revision revision_ = 0;
  LeaseId next_lease_ = 1;
  WatchHub hub_;
  LeaseClock leases_;
  Gate late_;
};

class MemoryStore : public KvStore {
 public:
  // `faults` may be null: at once and without fail.
  MemoryStore(MemoryServer& server, Clock& clock, StoreFaults* faults)
      : server_(server), clock_(clock), faults_(faults) {}

  Task<Result<std::optional<Entry>>> get(std::string key) override;
  Task<Result<Page>> range(RangeRequest request) override;
  Task<Result<TxnOutcome>> transact(Txn txn) override;
  Task<Result<std::unique_ptr<Watch>>> watch(std::string prefix, Revision from) override;
  Task<Result<Lease>> grant_lease(Duration ttl) override;
  Task<Result<Duration>> keep_alive(LeaseId lease) override;
  Task<Status> revoke_lease(LeaseId lease) override;
  Task<void> close() override;
  std::string describe() const override { return "memory"; }

  // The client's process dies: what waits ends with kCancelled, nothing has an effect any more.
  void kill() { gone_.cancel(); }

 private:
  Task<Status> travel();
  Task<Result<StoreFate>> request(bool is_write);

  MemoryServer& server_;
  Clock& clock_;
  StoreFaults* faults_;
  Gate gate_;
  CancelSource gone_;
};

}  // namespace hf::state
