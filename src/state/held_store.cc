#include "state/held_store.h"

namespace hf::state {

Error HeldStore::refusal() const { return make_error(ErrorCode::kUnavailable, "{}", why_); }

Task<void> HeldStore::hold(std::string why) {
  why_ = std::move(why);
  co_await writes_.wait_empty();
}

Task<Result<std::optional<Entry>>> HeldStore::get(std::string key) {
  return inner_.get(std::move(key));
}

Task<Result<Page>> HeldStore::range(RangeRequest request) {
  return inner_.range(std::move(request));
}

Task<Result<TxnOutcome>> HeldStore::transact(Txn txn) {
  if (held()) co_return refusal();
  Gate::Pass pass(writes_);
  if (!pass) co_return Error(ErrorCode::kClosed, "the state store was closed");
  co_return co_await inner_.transact(std::move(txn));
}

Task<Result<std::unique_ptr<Watch>>> HeldStore::watch(std::string prefix, Revision from) {
  return inner_.watch(std::move(prefix), from);
}

Task<Result<Lease>> HeldStore::grant_lease(Duration ttl) {
  if (held()) co_return refusal();
  Gate::Pass pass(writes_);
  if (!pass) co_return Error(ErrorCode::kClosed, "the state store was closed");
  co_return co_await inner_.grant_lease(ttl);
}

Task<Result<Duration>> HeldStore::keep_alive(LeaseId lease) { return inner_.keep_alive(lease); }

Task<Status> HeldStore::revoke_lease(LeaseId lease) {
  if (held()) co_return refusal();
  Gate::Pass pass(writes_);
  if (!pass) co_return Error(ErrorCode::kClosed, "the state store was closed");
  co_return co_await inner_.revoke_lease(lease);
}

Task<void> HeldStore::close() { co_await writes_.close(); }

}  // namespace hf::state
