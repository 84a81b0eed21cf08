#include "state/etcd/store.h"

#include <algorithm>

#include "state/etcd/watch.h"
#include "state/etcd/wire.h"

namespace hf::state {
namespace {

using etcdserverpb::LeaseGrantRequest;
using etcdserverpb::LeaseGrantResponse;
using etcdserverpb::LeaseKeepAliveRequest;
using etcdserverpb::LeaseKeepAliveResponse;
using etcdserverpb::LeaseRevokeRequest;
using etcdserverpb::LeaseRevokeResponse;
using etcdserverpb::TxnRequest;
using etcdserverpb::TxnResponse;
using RangeQuery = etcdserverpb::RangeRequest;
using RangeAnswer = etcdserverpb::RangeResponse;
using Done = std::function<void(grpc::Status)>;

// etcd bounds a range by entries only, so a page is fetched in parts: the first is small enough for
// the largest values, later ones as large as the values seen allow.
constexpr size_t kFirstPart = 64;
static_assert(kFirstPart * (kMaxValueBytes + kMaxKeyBytes + 256) < kMaxEtcdAnswerBytes);
constexpr size_t kPartBytes = 1024 * 1024;

void start_range(EtcdEndpoint& at, grpc::ClientContext* context, const RangeQuery* request,
                 RangeAnswer* answer, Done done) {
  at.kv->async()->Range(context, request, answer, std::move(done));
}
void start_txn(EtcdEndpoint& at, grpc::ClientContext* context, const TxnRequest* request,
               TxnResponse* answer, Done done) {
  at.kv->async()->Txn(context, request, answer, std::move(done));
}
void start_grant(EtcdEndpoint& at, grpc::ClientContext* context, const LeaseGrantRequest* request,
                 LeaseGrantResponse* answer, Done done) {
  at.lease->async()->LeaseGrant(context, request, answer, std::move(done));
}
void start_revoke(EtcdEndpoint& at, grpc::ClientContext* context, const LeaseRevokeRequest* request,
                  LeaseRevokeResponse* answer, Done done) {
  at.lease->async()->LeaseRevoke(context, request, answer, std::move(done));
}

// etcd keeps leases alive by a stream only: one question, one answer, the end. Owns itself.
class KeepAlive : public grpc::ClientBidiReactor<LeaseKeepAliveRequest, LeaseKeepAliveResponse> {
 public:
  KeepAlive(EtcdEndpoint& at, grpc::ClientContext* context, const LeaseKeepAliveRequest* request,
            LeaseKeepAliveResponse* answer, Done done)
      : done_(std::move(done)) {
    at.lease->async()->LeaseKeepAlive(context, this);
    StartWriteLast(request, grpc::WriteOptions());
    StartRead(answer);
    StartCall();
  }
  void OnDone(const grpc::Status& status) override {
    done_(status);
    delete this;
  }

 private:
  Done done_;
};

void start_keep_alive(EtcdEndpoint& at, grpc::ClientContext* context,
                      const LeaseKeepAliveRequest* request, LeaseKeepAliveResponse* answer,
                      Done done) {
  new KeepAlive(at, context, request, answer, std::move(done));
}

// What changes more than a few keys (records that are moved) takes its time.
constexpr size_t kQuickOps = 8;

size_t next_part(size_t seen, size_t bytes) {
  const size_t average = std::max<size_t>(bytes / std::max<size_t>(seen, 1), 1);
  return std::clamp(kPartBytes / average, kFirstPart, kMaxPageEntries);
}

}  // namespace

EtcdStore::EtcdStore(std::unique_ptr<EtcdSession> session)
    : session_(std::move(session)), watches_(std::make_shared<size_t>(0)) {}

EtcdStore::~EtcdStore() {
  HF_ASSERT(closed_, "a state store destroyed before close()");
}

Task<Result<std::unique_ptr<EtcdStore>>> EtcdStore::open(World& world, EtcdOptions options) {
  Result<std::unique_ptr<EtcdSession>> session =
      co_await EtcdSession::open(world, std::move(options));
  HF_CO_TRY(session);
  std::unique_ptr<EtcdStore> store(new EtcdStore(std::move(*session)));
  // Whether the user may read, before anything is built on it.
  Result<Revision> revision = co_await store->revision_now();
  if (!revision.ok()) {
    co_await store->close();
    co_return revision.error();
  }
  co_return std::move(store);
}

std::string EtcdStore::describe() const {
  std::string text = session_->options().ca_file.empty() ? "etcd://" : "etcd+tls://";
  for (const std::string& endpoint : session_->options().endpoints) {
    if (text.back() != '/') text += ',';
    text += endpoint;
  }
  return text;
}

Task<Result<std::optional<Entry>>> EtcdStore::get(std::string key) {
  const Status checked = check_key(key);
  HF_CO_TRY(checked);
  RangeQuery query;
  query.set_key(full(key));
  Result<RangeAnswer> answer =
      co_await session_->call(CallKind::kRead, "read", &start_range, std::move(query));
  HF_CO_TRY(answer);
  std::optional<Entry> found;
  if (answer->kvs_size() == 0) co_return std::move(found);
  Result<Entry> entry = entry_of(answer->kvs(0), session_->options().prefix);
  HF_CO_TRY(entry);
  if (answer->kvs_size() > 1 || entry->key != key) {
    co_return make_error(ErrorCode::kProtocol, "etcd answered {} with another key", key);
  }
  found = std::move(*entry);
  co_return std::move(found);
}

Task<Result<Revision>> EtcdStore::revision_now() {
  RangeQuery query;
  set_range(&query, session_->options().prefix);
  query.set_count_only(true);
  Result<RangeAnswer> answer = co_await session_->call(CallKind::kRead, "read of the revision",
                                                       &start_range, std::move(query));
  HF_CO_TRY(answer);
  if (answer->header().revision() <= 0) {
    co_return Error(ErrorCode::kProtocol, "etcd answered without a revision");
  }
  co_return static_cast<Revision>(answer->header().revision());
}

Task<Result<Page>> EtcdStore::range(RangeRequest request) {
  const Status checked = check_range(request);
  HF_CO_TRY(checked);
  const std::string& prefix = session_->options().prefix;
  Page page;
  size_t bytes = 0;
  size_t part = kFirstPart;
  std::string after = request.after < request.prefix ? std::string() : request.after;
  while (true) {
    RangeQuery query;
    set_range(&query, full(request.prefix));
    if (!after.empty()) query.set_key(full(after) + std::string(1, '\0'));
    const size_t asked = std::min(part, request.limit - page.entries.size());
    query.set_limit(static_cast<int64_t>(asked));
    query.set_revision(static_cast<int64_t>(page.revision));  // 0, of now, for the first part
    Result<RangeAnswer> answer =
        co_await session_->call(CallKind::kRead, "read of a range", &start_range, std::move(query));
    // The history went meanwhile (kConflict): what was read is a page, if it is not empty.
    if (answer.code() == ErrorCode::kConflict && !page.entries.empty()) co_return std::move(page);
    HF_CO_TRY(answer);
    if (static_cast<size_t>(answer->kvs_size()) > asked || answer->header().revision() <= 0) {
      co_return make_error(ErrorCode::kProtocol, "etcd answered {} of at most {} keys",
                           answer->kvs_size(), asked);
    }
    if (page.revision == 0) page.revision = static_cast<Revision>(answer->header().revision());
    page.more = answer->more();
    for (const mvccpb::KeyValue& kv : answer->kvs()) {
      if (bytes >= kMaxPageBytes) {
        page.more = true;
        co_return std::move(page);
      }
      Result<Entry> entry = entry_of(kv, prefix);
      HF_CO_TRY(entry);
      if (entry->key <= after && !after.empty()) {
        co_return Error(ErrorCode::kProtocol, "etcd answered a range out of order");
      }
      bytes += entry->key.size() + entry->value.size();
      after = entry->key;
      page.entries.push_back(std::move(*entry));
    }
    if (!page.more || answer->kvs_size() == 0 || page.entries.size() >= request.limit) break;
    part = next_part(page.entries.size(), bytes);
  }
  co_return std::move(page);
}

Task<Result<TxnOutcome>> EtcdStore::transact(Txn txn) {
  const Status checked = txn.check();
  HF_CO_TRY(checked);
  const std::string& prefix = session_->options().prefix;
  TxnRequest request = txn_request(txn, prefix);
  const bool quick = txn.ops().size() <= kQuickOps;
  Result<TxnResponse> answer =
      co_await session_->call(CallKind::kWrite, "write", &start_txn, std::move(request), quick);
  HF_CO_TRY(answer);
  Result<TxnOutcome> outcome = txn_outcome(*answer, txn, prefix);
  if (!outcome.ok() && answer->succeeded()) {
    co_return Error(ErrorCode::kAmbiguous, outcome.error().message());
  }
  co_return std::move(outcome);
}

Task<Result<std::unique_ptr<Watch>>> EtcdStore::watch(std::string prefix, Revision from) {
  if (closed_) co_return Error(ErrorCode::kClosed, "the state store was closed");
  if (*watches_ >= kMaxWatches) {
    co_return make_error(ErrorCode::kLimitExceeded, "{} watches are open, at most {}", *watches_,
                         kMaxWatches);
  }
  if (from == 0) {
    Result<Revision> now = co_await revision_now();
    HF_CO_TRY(now);
    from = *now + 1;
  }
  std::unique_ptr<Watch> watch = open_etcd_watch(*session_, full(prefix), from, watches_);
  if (watch == nullptr) co_return Error(ErrorCode::kClosed, "the state store was closed");
  co_return std::move(watch);
}

Task<Result<Lease>> EtcdStore::grant_lease(Duration ttl) {
  const Status checked = check_ttl(ttl);
  HF_CO_TRY(checked);
  LeaseGrantRequest request;
  // Whole seconds in etcd; never shorter than asked for.
  request.set_ttl(std::chrono::ceil<std::chrono::seconds>(ttl).count());
  Result<LeaseGrantResponse> answer = co_await session_->call(CallKind::kWrite, "grant of a lease",
                                                              &start_grant, std::move(request));
  HF_CO_TRY(answer);
  if (answer->id() <= 0 || answer->ttl() <= 0 || !answer->error().empty()) {
    co_return Error(ErrorCode::kAmbiguous, "etcd granted a lease that is none");
  }
  Lease lease;
  lease.id = static_cast<LeaseId>(answer->id());
  lease.ttl = std::chrono::seconds(answer->ttl());
  co_return std::move(lease);
}

Task<Result<Duration>> EtcdStore::keep_alive(LeaseId lease) {
  LeaseKeepAliveRequest request;
  request.set_id(static_cast<int64_t>(lease));
  Result<LeaseKeepAliveResponse> answer = co_await session_->call(
      CallKind::kRead, "renewal of a lease", &start_keep_alive, std::move(request));
  HF_CO_TRY(answer);
  if (answer->ttl() <= 0) co_return make_error(ErrorCode::kNotFound, "lease {} is gone", lease);
  co_return Duration(std::chrono::seconds(answer->ttl()));
}

Task<Status> EtcdStore::revoke_lease(LeaseId lease) {
  LeaseRevokeRequest request;
  request.set_id(static_cast<int64_t>(lease));
  Result<LeaseRevokeResponse> answer = co_await session_->call(CallKind::kWrite, "end of a lease",
                                                               &start_revoke, std::move(request));
  if (!answer.ok() && answer.code() != ErrorCode::kNotFound) co_return answer.error();
  co_return Status();
}

Task<void> EtcdStore::close() {
  closed_ = true;
  co_await session_->close();
}

}  // namespace hf::state
