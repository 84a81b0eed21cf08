#include "state/sqlite_store.h"

namespace hf::state {
namespace {

using Opened = Result<std::shared_ptr<SqliteDb>>;

Opened open_db(const std::string& path, uint64_t max_bytes) {
  Result<std::unique_ptr<SqliteDb>> db = SqliteDb::open(path, max_bytes);
  if (!db.ok()) return db.error();
  return std::shared_ptr<SqliteDb>(std::move(db).value());
}

Error closed_error() {
  return Error(ErrorCode::kClosed, "the state store was closed");
}

}  // namespace

SqliteStore::SqliteStore(BlockingPool& pool, Clock& clock, std::shared_ptr<SqliteDb> db)
    : pool_(pool),
      db_(std::move(db)),
      hub_(db_->revision()),
      leases_(clock, [this](LeaseId lease) { return expire(lease); }) {}

SqliteStore::~SqliteStore() {
  HF_ASSERT(closed_, "a state store destroyed before close()");
}

Task<Result<std::unique_ptr<SqliteStore>>> SqliteStore::open(BlockingPool& pool, Clock& clock,
                                                             std::string path, uint64_t max_bytes) {
  std::function<Opened()> opening = [path, max_bytes] { return open_db(path, max_bytes); };
  Opened db = co_await run_blocking<Opened>(pool, std::move(opening));
  HF_CO_TRY(db);
  std::unique_ptr<SqliteStore> store(new SqliteStore(pool, clock, std::move(db).value()));
  std::function<Result<std::vector<Lease>>(SqliteDb&)> list = [](SqliteDb& d) {
    return d.leases();
  };
  Result<std::vector<Lease>> leases = co_await store->on_pool<std::vector<Lease>>(std::move(list));
  if (!leases.ok()) {
    co_await store->close();
    co_return leases.error();
  }
  for (const Lease& lease : leases.value()) store->leases_.touch(lease.id, lease.ttl);
  co_return std::move(store);
}

template <typename T>
Task<Result<T>> SqliteStore::on_pool(std::function<Result<T>(SqliteDb&)> call) {
  Gate::Pass pass(gate_);
  if (!pass) co_return closed_error();
  co_await mutex_.lock();
  MutexGuard guard(mutex_);
  SqliteDb* db = db_.get();
  std::function<Result<T>()> work = [db, &call] { return call(*db); };
  co_return co_await run_blocking<Result<T>>(pool_, std::move(work));
}

Task<Result<TxnOutcome>> SqliteStore::write(std::function<Result<Applied>(SqliteDb&)> call) {
  Gate::Pass pass(gate_);
  if (!pass) co_return closed_error();
  co_await mutex_.lock();
  MutexGuard guard(mutex_);
  SqliteDb* db = db_.get();
  std::function<Result<Applied>()> work = [db, &call] { return call(*db); };
  Result<Applied> applied = co_await run_blocking<Result<Applied>>(pool_, std::move(work));
  HF_CO_TRY(applied);
  if (!applied->events.empty()) {
    hub_.publish(applied->outcome.revision, std::move(applied->events));
  }
  co_return std::move(applied->outcome);
}

Task<Result<std::optional<Entry>>> SqliteStore::get(std::string key) {
  const Status checked = check_key(key);
  HF_CO_TRY(checked);
  std::function<Result<std::optional<Entry>>(SqliteDb&)> call = [&key](SqliteDb& db) {
    return db.get(key);
  };
  co_return co_await on_pool<std::optional<Entry>>(std::move(call));
}

Task<Result<Page>> SqliteStore::range(RangeRequest request) {
  const Status checked = check_range(request);
  HF_CO_TRY(checked);
  std::function<Result<Page>(SqliteDb&)> call = [&request](SqliteDb& db) {
    return db.range(request);
  };
  co_return co_await on_pool<Page>(std::move(call));
}

Task<Result<TxnOutcome>> SqliteStore::transact(Txn txn) {
  const Status checked = txn.check();
  HF_CO_TRY(checked);
  std::function<Result<Applied>(SqliteDb&)> call = [&txn](SqliteDb& db) { return db.apply(txn); };
  co_return co_await write(std::move(call));
}

Task<Result<std::unique_ptr<Watch>>> SqliteStore::watch(std::string prefix, Revision from) {
  if (gate_.is_closed()) co_return closed_error();
  co_return hub_.open(std::move(prefix), from, CancelToken());
}

Task<Result<Lease>> SqliteStore::grant_lease(Duration ttl) {
  const Status checked = check_ttl(ttl);
  HF_CO_TRY(checked);
  if (leases_.size() >= kMaxLeases) {
    co_return make_error(ErrorCode::kLimitExceeded, "{} leases, at most {}", leases_.size(),
                         kMaxLeases);
  }
  std::function<Result<Lease>(SqliteDb&)> call = [ttl](SqliteDb& db) { return db.add_lease(ttl); };
  Result<Lease> lease = co_await on_pool<Lease>(std::move(call));
  HF_CO_TRY(lease);
  leases_.touch(lease->id, ttl);
  co_return std::move(lease);
}

Task<Result<Duration>> SqliteStore::keep_alive(LeaseId lease) {
  if (gate_.is_closed()) co_return closed_error();
  const std::optional<Duration> ttl = leases_.ttl(lease);
  if (!ttl) co_return make_error(ErrorCode::kNotFound, "lease {} is gone", lease);
  leases_.touch(lease, *ttl);
  co_return *ttl;
}

Task<Status> SqliteStore::drop_lease(LeaseId lease) {
  std::function<Result<Applied>(SqliteDb&)> call = [lease](SqliteDb& db) {
    return db.remove_lease(lease);
  };
  Result<TxnOutcome> done = co_await write(std::move(call));
  HF_CO_TRY(done);
  leases_.erase(lease);
  co_return Status();
}

Task<Status> SqliteStore::revoke_lease(LeaseId lease) {
  co_return co_await drop_lease(lease);
}

Task<void> SqliteStore::expire(LeaseId lease) {
  // Not done: the lease clock asks again.
  Status done = co_await drop_lease(lease);
  (void)done.ok();
}

Task<void> SqliteStore::close() {
  hub_.close();
  co_await gate_.close();
  co_await leases_.close();
  if (closed_) co_return;
  closed_ = true;
  // Closing checkpoints the WAL: a blocking call as well.
  std::shared_ptr<SqliteDb> last = std::move(db_);
  std::function<bool()> closing = [&last] {
    last.reset();
    return true;
  };
  bool done = co_await run_blocking<bool>(pool_, std::move(closing));
  HF_ASSERT(done);
}

}  // namespace hf::state
