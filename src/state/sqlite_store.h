// SqliteStore: the embedded state store of a cluster of one node.
//
// WAL with synchronous=FULL: what was answered survives a power cut. One connection, its calls one
// after the other in the pool for blocking calls. History for watches is in memory: after a restart
// every watch from an older revision answers "compacted". Errors of open(): sqlite_db.h.
#pragma once

#include <memory>
#include <string>

#include "runtime/gate.h"
#include "runtime/process.h"
#include "state/kv_store.h"
#include "state/lease_clock.h"
#include "state/sqlite_db.h"
#include "state/watch_hub.h"

namespace hf::state {

class SqliteStore : public KvStore {
 public:
  static Task<Result<std::unique_ptr<SqliteStore>>> open(BlockingPool& pool, Clock& clock,
                                                         std::string path,
                                                         uint64_t max_bytes = kMaxStateFileBytes);
  // After close() only.
  ~SqliteStore() override;

  Task<Result<std::optional<Entry>>> get(std::string key) override;
  Task<Result<Page>> range(RangeRequest request) override;
  Task<Result<TxnOutcome>> transact(Txn txn) override;
  Task<Result<std::unique_ptr<Watch>>> watch(std::string prefix, Revision from) override;
  Task<Result<Lease>> grant_lease(Duration ttl) override;
  Task<Result<Duration>> keep_alive(LeaseId lease) override;
  Task<Status> revoke_lease(LeaseId lease) override;
  Task<void> close() override;
  std::string describe() const override { return "embedded"; }

 private:
  SqliteStore(BlockingPool& pool, Clock& clock, std::shared_ptr<SqliteDb> db);
  template <typename T>
  Task<Result<T>> on_pool(std::function<Result<T>(SqliteDb&)> call);
  // One write, with its events published in revision order.
  Task<Result<TxnOutcome>> write(std::function<Result<Applied>(SqliteDb&)> call);
  Task<void> expire(LeaseId lease);
  Task<Status> drop_lease(LeaseId lease);

  BlockingPool& pool_;
  std::shared_ptr<SqliteDb> db_;
  WatchHub hub_;
  LeaseClock leases_;
  Gate gate_;
  Mutex mutex_;  // one call in the database at a time
  bool closed_ = false;
};

}  // namespace hf::state
