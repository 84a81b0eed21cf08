// EtcdStore: KvStore over an etcd 3.4 or newer, of one member or more, with other users or not.
//
// Every key carries the prefix of the options in etcd; callers see their own keys only. Revisions
// are etcd's: they grow with every change of the whole etcd, so between two of ours there may be
// others. Reads are linearizable. Nothing blocks the loop; every request ends in time (session.h).
//
// What is etcd's own: a lease lives for 1.5 times the election timeout at least (2 s by default;
// the answer says what it got); leases do not count against kMaxLeases, only the server bounds
// them; a lease whose granting was ambiguous ends by itself. kNoSpace: the quota of etcd's file is
// used up. The removing of keys goes on then. kPermissionDenied, kUnauthenticated: the user,
// definite.
//
// A watch follows the endpoint that serves, from the revision behind what it has told. It holds at
// most kMaxHistoryBytes that were not fetched by next(); more, or a history that etcd no longer
// has, or an etcd that was set back behind what was told: `compacted`. Revisions that only pass by
// (progress notifications, every ten minutes) move its place on.
#pragma once

#include <memory>
#include <string>

#include "state/etcd/session.h"
#include "state/kv_store.h"

namespace hf::state {

class EtcdStore : public KvStore {
 public:
  // Errors: EtcdSession::open.
  static Task<Result<std::unique_ptr<EtcdStore>>> open(World& world, EtcdOptions options);
  // After close() only. Watches must be gone or closed.
  ~EtcdStore() override;

  Task<Result<std::optional<Entry>>> get(std::string key) override;
  Task<Result<Page>> range(RangeRequest request) override;
  Task<Result<TxnOutcome>> transact(Txn txn) override;
  Task<Result<std::unique_ptr<Watch>>> watch(std::string prefix, Revision from) override;
  Task<Result<Lease>> grant_lease(Duration ttl) override;
  Task<Result<Duration>> keep_alive(LeaseId lease) override;
  Task<Status> revoke_lease(LeaseId lease) override;
  Task<void> close() override;
  std::string describe() const override;

  // Which etcd this is, to be remembered: a restored or another one has another id.
  uint64_t etcd_id() const { return session_->cluster_id(); }
  EtcdSession& session() { return *session_; }

 private:
  explicit EtcdStore(std::unique_ptr<EtcdSession> session);
  std::string full(const std::string& key) const { return session_->options().prefix + key; }
  // Of the store, linearizable.
  Task<Result<Revision>> revision_now();

  std::unique_ptr<EtcdSession> session_;
  std::shared_ptr<size_t> watches_;
  bool closed_ = false;
};

}  // namespace hf::state
