// HeldStore: a KvStore in front of another one, whose writes can be held: from then on it does not
// change, so that it can be copied whole while it goes on being read. Loop of the store.
#pragma once

#include <memory>
#include <string>

#include "runtime/gate.h"
#include "state/kv_store.h"

namespace hf::state {

class HeldStore : public KvStore {
 public:
  explicit HeldStore(KvStore& inner) : inner_(inner) {}

  // Waits for writes that are under way; later ones are refused with kUnavailable and `why`: they do
  // not happen.
  Task<void> hold(std::string why);
  void release() { why_.clear(); }
  bool held() const { return !why_.empty(); }
  // What is held back, for who copies it.
  KvStore& inner() { return inner_; }

  Task<Result<std::optional<Entry>>> get(std::string key) override;
  Task<Result<Page>> range(RangeRequest request) override;
  Task<Result<TxnOutcome>> transact(Txn txn) override;
  Task<Result<std::unique_ptr<Watch>>> watch(std::string prefix, Revision from) override;
  Task<Result<Lease>> grant_lease(Duration ttl) override;
  Task<Result<Duration>> keep_alive(LeaseId lease) override;
  Task<Status> revoke_lease(LeaseId lease) override;
  // Of this alone; the other one's owner closes that.
  Task<void> close() override;
  std::string describe() const override { return inner_.describe(); }

 private:
  Error refusal() const;
  KvStore& inner_;
  std::string why_;
  Gate writes_;
};

}  // namespace hf::state
