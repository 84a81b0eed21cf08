// KvStore: where the cluster keeps what it knows. A small, ordered, linearizable map with
// revisions, shaped after etcd so that etcd can stand behind it; backs: sqlite_store.h (one node,
// embedded), etcd/store.h (etcd), memory_store.h (simulation). contract/kv_contract.h is the suite
// that every back passes.
//
// Is: every write is one transaction, compared on modification revisions, durable when answered.
// One revision counter for the whole store, from 1, growing by one with every transaction that
// changed something (an etcd that has other users, too, grows by their changes in between); never
// reused, also not across restarts. Is not: on any I/O path. Slow, away or
// ambiguous answers are normal; callers hold no promise that depends on an answer in time.
//
// Loop thread of the store only. Values are opaque bytes; records carry their own version and
// checksum. No secret is ever stored.
//
// Errors, all operations:
//   kInvalidArgument  a bound below is broken (nothing happened)
//   kUnavailable      away, try again (nothing happened)
//   kAmbiguous        writes only: may have happened, or may still happen until a conflicting write
//   wins.
//                     Ask the same transaction again: its compares make that safe (see
//                     txn_retry.h).
//   kCorruption       stored bytes do not match their checksum; names the key
//   kNoSpace, kIo, kReadOnly  of an embedded store's file, kNoSpace of etcd's quota; definite
//   kUnauthenticated, kPermissionDenied  of etcd; definite
//   kProtocol         an answer that makes no sense; a write did not happen
//   kClosed           after close()
//   kCancelled        the process is going down; a write may have happened
// A lost comparison is not an error: TxnOutcome::committed is false and `current` shows what is
// there.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "runtime/clock.h"
#include "runtime/task.h"

namespace hf::state {

using Revision = uint64_t;  // 0: none, absent
using LeaseId = uint64_t;   // 0: none

// Within etcd's defaults (1.5 MiB a request, 128 operations a transaction), with room to spare.
inline constexpr size_t kMaxKeyBytes = 512;
inline constexpr size_t kMaxValueBytes = 512 * 1024;
inline constexpr size_t kMaxTxnOps = 64;  // puts and removes
inline constexpr size_t kMaxTxnCompares = 64;
inline constexpr size_t kMaxTxnBytes = 1024 * 1024;  // keys and values together
inline constexpr size_t kMaxPageEntries = 1000;
inline constexpr size_t kMaxPageBytes =
    4 * 1024 * 1024;  // a page ends early (never empty) at this size
inline constexpr size_t kMaxWatches = 256;
inline constexpr size_t kMaxLeases = 4096;
inline constexpr Duration kMinLeaseTtl = std::chrono::seconds(1);
inline constexpr Duration kMaxLeaseTtl = std::chrono::hours(24);

struct Entry {
  Entry() = default;
  std::string key;
  std::string value;
  Revision create_revision = 0;
  Revision mod_revision = 0;
  uint64_t version = 0;  // 1 at creation, grows with every put
  LeaseId lease = 0;
};

struct RangeRequest {
  RangeRequest() = default;
  explicit RangeRequest(std::string p) : prefix(std::move(p)) {}
  std::string prefix;              // "": everything
  std::string after;               // only keys greater than this; the last key of the page before
  size_t limit = kMaxPageEntries;  // 1 to kMaxPageEntries
};

// Keys in byte order. Each page is consistent in itself; over several pages, an entry that did not
// change meanwhile is seen exactly once. A watch from `revision + 1` of the first page misses
// nothing.
struct Page {
  Page() = default;
  std::vector<Entry> entries;
  bool more = false;
  Revision revision = 0;  // of the store when the page was read
};

// Compares first, all of them; then all operations or none. A key stands in at most one operation.
class Txn {
 public:
  Txn() = default;
  // Revision 0: the key must be absent.
  Txn& expect(std::string key, Revision mod_revision);
  Txn& expect_absent(std::string key) { return expect(std::move(key), 0); }
  Txn& put(std::string key, std::string value, LeaseId lease = 0);
  // Removing what is not there is no error and no change.
  Txn& remove(std::string key);

  struct Compare {
    Compare(std::string k, Revision r) : key(std::move(k)), mod_revision(r) {}
    std::string key;
    Revision mod_revision;
  };
  struct Op {
    Op(bool is_put, std::string k, std::string v, LeaseId l)
        : put(is_put), key(std::move(k)), value(std::move(v)), lease(l) {}
    bool put;
    std::string key;
    std::string value;
    LeaseId lease;
  };
  const std::vector<Compare>& compares() const { return compares_; }
  const std::vector<Op>& ops() const { return ops_; }
  // kInvalidArgument naming the bound that is broken.
  Status check() const;

 private:
  std::vector<Compare> compares_;
  std::vector<Op> ops_;
};

struct TxnOutcome {
  TxnOutcome() = default;
  bool committed = false;
  Revision revision = 0;  // of the store after it: mod_revision of what was put
  // Not committed: one per compare, in order; empty for an absent key.
  std::vector<std::optional<Entry>> current;
};

struct Event {
  Event() = default;
  bool removed = false;
  std::string key;
  std::string value;  // empty when removed
  Revision mod_revision = 0;
};

struct WatchBatch {
  WatchBatch() = default;
  std::vector<Event> events;  // in revision order; one revision is never split over two batches
  Revision revision = 0;      // everything up to here has been told
  // The history that was asked for is gone: `events` is empty, the watch is over. Read the range
  // again and watch from there. Must be handled: it happens after a pause and after every restart.
  bool compacted = false;
};

// Destroy only while no next() is pending: close() ends it.
class Watch {
 public:
  virtual ~Watch() = default;
  // Waits for changes. One caller at a time. kClosed after close() here or on the store. Another
  // error (of etcd: what may not be read, kProtocol) is the end of the watch; a store that is away
  // is none, it is waited for.
  virtual Task<Result<WatchBatch>> next() = 0;
  virtual void close() = 0;
};

struct Lease {
  Lease() = default;
  LeaseId id = 0;
  Duration ttl{};
};

class KvStore {
 public:
  virtual ~KvStore() = default;

  virtual Task<Result<std::optional<Entry>>> get(std::string key) = 0;
  virtual Task<Result<Page>> range(RangeRequest request) = 0;
  virtual Task<Result<TxnOutcome>> transact(Txn txn) = 0;
  // Changes of keys with this prefix from revision `from` on (0: from now on).
  virtual Task<Result<std::unique_ptr<Watch>>> watch(std::string prefix, Revision from) = 0;

  // A lease that is not kept alive for its ttl is revoked by the store: never early, soon after. A
  // store that restarts gives every lease its whole ttl again. kNotFound for a lease that is gone;
  // putting under one that is gone is kNotFound too.
  virtual Task<Result<Lease>> grant_lease(Duration ttl) = 0;
  virtual Task<Result<Duration>> keep_alive(LeaseId lease) = 0;  // the ttl it has now
  // Removes the keys under it, in one revision. Success if it is gone already.
  virtual Task<Status> revoke_lease(LeaseId lease) = 0;

  // Ends watches and refuses everything from now on. Waits for what runs.
  virtual Task<void> close() = 0;
  virtual std::string describe() const = 0;  // "embedded", "etcd://a,b,c"
};

// All entries below a prefix; kLimitExceeded if there are more than `limit`.
Task<Result<std::vector<Entry>>> range_all(KvStore& store, std::string prefix, size_t limit);

// Shared by the backs.
Status check_key(const std::string& key);
Status check_range(const RangeRequest& request);
Status check_ttl(Duration ttl);
// The least key that does not have this prefix and sorts behind all that have; "" if there is none.
std::string prefix_end(std::string_view prefix);

}  // namespace hf::state
