#include "state/memory_store.h"

namespace hf::state {

MemoryServer::MemoryServer(Clock& clock)
    : clock_(clock), hub_(0), leases_(clock, [this](LeaseId lease) { return expire(lease); }) {}

Result<TxnOutcome> MemoryServer::apply(const Txn& txn) {
  HF_TRY(txn.check());
  TxnOutcome outcome;
  outcome.committed = true;
  for (const Txn::Compare& compare : txn.compares()) {
    std::optional<Entry> entry = get(compare.key);
    const Revision have = entry ? entry->mod_revision : 0;
    if (have != compare.mod_revision) outcome.committed = false;
    outcome.current.push_back(std::move(entry));
  }
  outcome.revision = revision_;
  if (!outcome.committed) return outcome;
  outcome.current.clear();
  for (const Txn::Op& op : txn.ops()) {
    if (op.lease != 0 && !leases_.ttl(op.lease)) {
      return make_error(ErrorCode::kNotFound, "lease {} of {} is gone", op.lease, op.key);
    }
  }
  const Revision next = revision_ + 1;
  std::vector<Event> events;
  for (const Txn::Op& op : txn.ops()) {
    Event event;
    event.key = op.key;
    event.mod_revision = next;
    if (op.put) {
      Entry& entry = entries_[op.key];
      if (entry.version == 0) {
        entry.key = op.key;
        entry.create_revision = next;
      }
      entry.value = op.value;
      entry.mod_revision = next;
      entry.version += 1;
      entry.lease = op.lease;
      event.value = op.value;
    } else {
      if (entries_.erase(op.key) == 0) continue;
      event.removed = true;
    }
    events.push_back(std::move(event));
  }
  if (events.empty()) return outcome;
  revision_ = next;
  outcome.revision = next;
  hub_.publish(next, std::move(events));
  return outcome;
}

std::optional<Entry> MemoryServer::get(const std::string& key) const {
  const auto found = entries_.find(key);
  if (found == entries_.end()) return std::nullopt;
  return found->second;
}

Page MemoryServer::range(const RangeRequest& request) const {
  Page page;
  page.revision = revision_;
  size_t bytes = 0;
  auto it = request.after.empty() || request.after < request.prefix
                ? entries_.lower_bound(request.prefix)
                : entries_.upper_bound(request.after);
  for (; it != entries_.end() && it->first.starts_with(request.prefix); ++it) {
    if (page.entries.size() >= request.limit || bytes >= kMaxPageBytes) {
      page.more = true;
      break;
    }
    bytes += it->first.size() + it->second.value.size();
    page.entries.push_back(it->second);
  }
  return page;
}

Result<Lease> MemoryServer::grant(Duration ttl) {
  HF_TRY(check_ttl(ttl));
  if (leases_.size() >= kMaxLeases) {
    return make_error(ErrorCode::kLimitExceeded, "{} leases, at most {}", leases_.size(),
                      kMaxLeases);
  }
  Lease lease;
  lease.id = next_lease_++;
  lease.ttl = ttl;
  leases_.touch(lease.id, ttl);
  return lease;
}

Result<Duration> MemoryServer::keep_alive(LeaseId lease) {
  const std::optional<Duration> ttl = leases_.ttl(lease);
  if (!ttl) return make_error(ErrorCode::kNotFound, "lease {} is gone", lease);
  leases_.touch(lease, *ttl);
  return *ttl;
}

void MemoryServer::revoke(LeaseId lease) {
  leases_.erase(lease);
  const Revision next = revision_ + 1;
  std::vector<Event> events;
  for (auto it = entries_.begin(); it != entries_.end();) {
    if (it->second.lease != lease) {
      ++it;
      continue;
    }
    Event event;
    event.removed = true;
    event.key = it->first;
    event.mod_revision = next;
    events.push_back(std::move(event));
    it = entries_.erase(it);
  }
  if (events.empty()) return;
  revision_ = next;
  hub_.publish(next, std::move(events));
}

void MemoryServer::tamper(const std::string& key, std::string value) {
  const auto found = entries_.find(key);
  HF_ASSERT(found != entries_.end(), "no key {}", key);
  found->second.value = std::move(value);
}

Task<void> MemoryServer::expire(LeaseId lease) {
  revoke(lease);
  co_return;
}

Task<void> MemoryServer::apply_late(Txn txn, Duration after) {
  Status slept = co_await clock_.sleep_for(after, CancelToken());
  if (slept.ok()) (void)apply(txn);
}

Task<void> MemoryServer::close() {
  co_await late_.close();
  hub_.close();
  co_await leases_.close();
}

Task<Status> MemoryStore::travel() {
  if (gone_.is_cancelled()) co_return Error(ErrorCode::kCancelled, "the process is going down");
  if (faults_ != nullptr) {
    const Duration half = faults_->latency() / 2;
    if (half > Duration::zero()) {
      Status slept = co_await clock_.sleep_for(half, CancelToken(gone_));
      HF_CO_TRY(slept);
    }
  }
  if (gone_.is_cancelled()) co_return Error(ErrorCode::kCancelled, "the process is going down");
  co_return Status();
}

// The way to the server. Errors that end the request there are given back; kFine, kLostReply and
// kLate go on.
Task<Result<StoreFate>> MemoryStore::request(bool is_write) {
  if (gate_.is_closed()) co_return Error(ErrorCode::kClosed, "the state store was closed");
  Status there = co_await travel();
  HF_CO_TRY(there);
  const StoreFate fate = faults_ == nullptr ? StoreFate::kFine : faults_->fate(is_write);
  if (fate == StoreFate::kFine) co_return fate;
  if (fate == StoreFate::kAway || !is_write) {
    co_return Error(ErrorCode::kUnavailable, "the state store does not answer; try again");
  }
  if (fate == StoreFate::kLostRequest) {
    co_return Error(ErrorCode::kAmbiguous, "the state store's answer was lost");
  }
  co_return fate;
}

Task<Result<std::optional<Entry>>> MemoryStore::get(std::string key) {
  Gate::Pass pass(gate_);
  const Status checked = check_key(key);
  HF_CO_TRY(checked);
  Result<StoreFate> fate = co_await request(false);
  HF_CO_TRY(fate);
  std::optional<Entry> entry = server_.get(key);
  Status back = co_await travel();
  HF_CO_TRY(back);
  co_return std::move(entry);
}

Task<Result<Page>> MemoryStore::range(RangeRequest request_) {
  Gate::Pass pass(gate_);
  const Status checked = check_range(request_);
  HF_CO_TRY(checked);
  Result<StoreFate> fate = co_await request(false);
  HF_CO_TRY(fate);
  Page page = server_.range(request_);
  Status back = co_await travel();
  HF_CO_TRY(back);
  co_return std::move(page);
}

Task<Result<TxnOutcome>> MemoryStore::transact(Txn txn) {
  Gate::Pass pass(gate_);
  const Status checked = txn.check();
  HF_CO_TRY(checked);
  Result<StoreFate> fate = co_await request(true);
  HF_CO_TRY(fate);
  if (fate.value() == StoreFate::kLate) {
    (void)spawn(server_.late_, server_.apply_late(txn, faults_->late_by()));
    co_return Error(ErrorCode::kAmbiguous, "the state store's answer was lost");
  }
  Result<TxnOutcome> outcome = server_.apply(txn);
  if (faults_ != nullptr) faults_->applied();
  Status back = co_await travel();
  HF_CO_TRY(back);
  if (fate.value() == StoreFate::kLostReply) {
    co_return Error(ErrorCode::kAmbiguous, "the state store's answer was lost");
  }
  co_return std::move(outcome);
}

Task<Result<std::unique_ptr<Watch>>> MemoryStore::watch(std::string prefix, Revision from) {
  Gate::Pass pass(gate_);
  Result<StoreFate> fate = co_await request(false);
  HF_CO_TRY(fate);
  co_return server_.hub_.open(std::move(prefix), from, CancelToken(gone_));
}

Task<Result<Lease>> MemoryStore::grant_lease(Duration ttl) {
  Gate::Pass pass(gate_);
  Result<StoreFate> fate = co_await request(true);
  HF_CO_TRY(fate);
  Result<Lease> lease = server_.grant(ttl);
  if (fate.value() != StoreFate::kFine) {
    co_return Error(ErrorCode::kAmbiguous, "the state store's answer was lost");
  }
  co_return std::move(lease);
}

Task<Result<Duration>> MemoryStore::keep_alive(LeaseId lease) {
  Gate::Pass pass(gate_);
  Result<StoreFate> fate = co_await request(false);
  HF_CO_TRY(fate);
  co_return server_.keep_alive(lease);
}

Task<Status> MemoryStore::revoke_lease(LeaseId lease) {
  Gate::Pass pass(gate_);
  Result<StoreFate> fate = co_await request(true);
  HF_CO_TRY(fate);
  server_.revoke(lease);
  if (fate.value() != StoreFate::kFine) {
    co_return Error(ErrorCode::kAmbiguous, "the state store's answer was lost");
  }
  co_return Status();
}

Task<void> MemoryStore::close() {
  gone_.cancel();
  co_await gate_.close();
}

}  // namespace hf::state
