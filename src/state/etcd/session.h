// EtcdSession: an etcd of several endpoints as one server that answers or says that it does not.
//
//   call ── pick the first endpoint that serves ── send ── judge the answer (verdict.h) ─┬─ answer,
//   error
//     └──────────── again, until call_timeout, where it surely did not happen ◀──────────┘
//
// Every endpoint is probed (Maintenance.Status): it serves when it answers in time, is no learner,
// has a leader, and belongs to the same etcd cluster as the others. A request is handed only to a
// connection that is ready, so "no endpoint serves" means that it did not happen; a write that was
// handed over and lost is kAmbiguous and is never sent again from here. Every request has a
// deadline of its own. A stopped (SIGSTOP) member is noticed by it, a dead one by its connection.
//
// Loop thread. gRPC's threads only fill an answer and post it (mailbox.h).
#pragma once

#include <grpcpp/grpcpp.h>

#include <list>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "etcd/rpc.grpc.pb.h"
#include "runtime/gate.h"
#include "runtime/world.h"
#include "state/etcd/mailbox.h"
#include "state/etcd/options.h"
#include "state/etcd/verdict.h"

namespace hf::state {

// The largest answer that is taken: 64 values of a lost transaction, a page's first part.
inline constexpr int kMaxEtcdAnswerBytes = 40 * 1024 * 1024;

struct EtcdEndpoint {
  EtcdEndpoint(std::string a, std::shared_ptr<grpc::Channel> c);
  void use(std::shared_ptr<grpc::Channel> c);
  std::string address;
  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<etcdserverpb::KV::Stub> kv;
  std::unique_ptr<etcdserverpb::Watch::Stub> watch;
  std::unique_ptr<etcdserverpb::Lease::Stub> lease;
  std::unique_ptr<etcdserverpb::Cluster::Stub> cluster;
  std::unique_ptr<etcdserverpb::Maintenance::Stub> maintenance;
  std::unique_ptr<etcdserverpb::Auth::Stub> auth;

  bool answers = false;  // the last probe, if only to say that it has no leader
  bool serves = false;
  std::string why = "not asked yet";    // it does not serve
  etcdserverpb::StatusResponse status;  // the last one
  CancelSource* nap = nullptr;          // of its probe
};

template <typename Request, typename Response>
using EtcdCall = void (*)(EtcdEndpoint&, grpc::ClientContext*, const Request*, Response*,
                          std::function<void(grpc::Status)>);

class EtcdSession {
 public:
  // Reads the files that the options name. kUnavailable, with what each endpoint said, when none
  // serves within call_timeout; kUnauthenticated, kPermissionDenied, kInvalidArgument. Without
  // `wait` it does not matter whether one serves yet.
  static Task<Result<std::unique_ptr<EtcdSession>>> open(World& world, EtcdOptions options,
                                                         bool wait = true);
  ~EtcdSession();  // after close()

  // `what` names the operation in errors. kUnavailable: did not happen. kAmbiguous: writes.
  // `quick`: a write whose caller asks again where it is ambiguous (state/txn_retry.h). A member whose
  // leader has just died takes a write and never answers it, so such a one is waited for as long as
  // this etcd takes for its writes, not for as long as an etcd may take.
  template <typename Request, typename Response>
  Task<Result<Response>> call(CallKind kind, const char* what, EtcdCall<Request, Response> start,
                              Request request, bool quick = false);

  // An endpoint that serves, with a token at hand. kUnavailable at `deadline`, kClosed.
  Task<Result<EtcdEndpoint*>> pick(MonoTime deadline);
  // To be used no more until it has been probed.
  void suspect(EtcdEndpoint& endpoint, std::string why);
  void forget_token() { token_.clear(); }
  // Token, "has a leader", for a request that begins now.
  void dress(grpc::ClientContext& context, std::optional<Duration> timeout) const;
  // Runs `fn` at every change of an endpoint's state until the returned handle goes.
  using Listener = std::list<std::function<void()>>::iterator;
  Listener listen(std::function<void()> fn);
  void unlisten(Listener listener) { listeners_.erase(listener); }

  // More endpoints of the same etcd, from now on; those that are known already stay.
  void learn(const std::vector<std::string>& endpoints);
  // Certificate, key and password files again, for connections from now on: what runs on the old ones
  // ends by itself. After an error everything stays as it was.
  Task<Status> reload();

  Gate& gate() { return gate_; }
  CancelSource& closing() { return closing_; }
  Clock& clock() { return clock_; }
  const std::shared_ptr<Mailbox>& mailbox() const { return mailbox_; }
  const EtcdOptions& options() const { return options_; }
  // Of etcd itself; every answer carries it.
  uint64_t cluster_id() const { return cluster_id_; }
  const std::list<EtcdEndpoint>& endpoints() const { return endpoints_; }

  // What runs ends with kCancelled. Returns when nothing runs any more.
  Task<void> close();

 private:
  template <typename Request, typename Response>
  struct Attempt {
    explicit Attempt(std::shared_ptr<const Request> r) : request(std::move(r)) {}
    grpc::ClientContext context;
    std::shared_ptr<const Request> request;
    Response response;
    grpc::Status status;
    Event ended;
  };

  EtcdSession(World& world, EtcdOptions options);
  Task<Status> start(bool wait);
  Task<Status> read_secret(std::string path, std::string* out);
  Task<Status> read_credentials();
  Task<void> probe(EtcdEndpoint& endpoint);
  void judge_probe(EtcdEndpoint& endpoint, const grpc::Status& status,
                   const etcdserverpb::StatusResponse& answer);
  EtcdEndpoint* first_that_serves();
  Task<Status> ensure_token(EtcdEndpoint& endpoint, MonoTime deadline);
  void changed();
  std::string why_none() const;
  Error error_of(const EtcdVerdict& verdict, const EtcdEndpoint& endpoint, const char* what,
                 const grpc::Status& status) const;
  // What becomes of a request that failed: an error, or nothing: ask again.
  std::optional<Error> after_failure(EtcdEndpoint& endpoint, CallKind kind, const char* what,
                                     const grpc::Status& status, int* renewals);
  Task<Status> pause_before_next(MonoTime deadline, const Error& last);
  void learn_patience(Duration took, const grpc::Status& status);
  template <typename Request, typename Response>
  Task<grpc::Status> send(EtcdEndpoint& endpoint, EtcdCall<Request, Response> start,
                          std::shared_ptr<Attempt<Request, Response>> attempt);

  Clock& clock_;
  FileSystem& fs_;
  EtcdOptions options_;
  std::shared_ptr<Mailbox> mailbox_;
  std::string password_;
  std::shared_ptr<grpc::ChannelCredentials> credentials_;
  std::list<EtcdEndpoint> endpoints_;
  uint64_t cluster_id_ = 0;
  std::string token_;
  bool auth_is_off_ = false;
  Mutex token_mutex_;
  Duration quick_patience_;
  std::list<std::function<void()>> listeners_;
  std::list<CancelSource*> waiting_;  // in pick()
  std::set<grpc::ClientContext*> active_;
  CancelSource closing_;
  Gate gate_;
};

template <typename Request, typename Response>
Task<grpc::Status> EtcdSession::send(EtcdEndpoint& endpoint, EtcdCall<Request, Response> start,
                                     std::shared_ptr<Attempt<Request, Response>> attempt) {
  active_.insert(&attempt->context);
  std::function<void(grpc::Status)> done = [attempt, mailbox = mailbox_](grpc::Status status) {
    attempt->status = std::move(status);
    mailbox->post([attempt] { attempt->ended.set(); });
  };
  start(endpoint, &attempt->context, attempt->request.get(), &attempt->response, std::move(done));
  co_await attempt->ended.wait();
  active_.erase(&attempt->context);
  co_return attempt->status;
}

template <typename Request, typename Response>
Task<Result<Response>> EtcdSession::call(CallKind kind, const char* what,
                                         EtcdCall<Request, Response> start, Request request,
                                         bool quick) {
  Gate::Pass pass(gate_);
  if (!pass) co_return make_error(ErrorCode::kClosed, "{}: the state store was closed", what);
  const MonoTime deadline = clock_.now() + options_.call_timeout;
  const auto shared = std::make_shared<const Request>(std::move(request));
  int renewals = 0;
  while (true) {
    Result<EtcdEndpoint*> endpoint = co_await pick(deadline);
    if (!endpoint.ok()) co_return endpoint.error().with_context(what);
    auto attempt = std::make_shared<Attempt<Request, Response>>(shared);
    const MonoTime began = clock_.now();
    const Duration patience = quick ? quick_patience_ : options_.attempt_timeout;
    dress(attempt->context, std::min(patience, std::max(deadline - began, Duration(1ms))));
    grpc::Status status = co_await send(**endpoint, start, attempt);
    if (quick) learn_patience(clock_.now() - began, status);
    if (status.ok()) {
      if (attempt->response.header().cluster_id() == cluster_id_) {
        co_return std::move(attempt->response);
      }
      status = grpc::Status(grpc::StatusCode::UNAVAILABLE, "answered for another etcd cluster");
    }
    std::optional<Error> error = after_failure(**endpoint, kind, what, status, &renewals);
    if (error) co_return std::move(*error);
    const Error last = make_error(ErrorCode::kUnavailable, "{} at {}: {}", what,
                                  (*endpoint)->address, status.error_message());
    Status paused = co_await pause_before_next(deadline, last);
    HF_CO_TRY(paused);
  }
}

}  // namespace hf::state
