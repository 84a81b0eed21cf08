#include "state/etcd/session.h"

#include <algorithm>

#include "base/log.h"
#include "runtime/file.h"

namespace hf::state {
namespace {

constexpr Duration kPause = 30ms;        // between two attempts
constexpr Duration kProbeAgain = 30ms;   // of an endpoint that does not serve
constexpr int kMaxRenewals = 2;          // of the token, in one operation
constexpr size_t kMaxWords = 300;        // of somebody else's message in ours

std::string target_of(const std::string& address) {
  if (address.starts_with('[')) return "ipv6:" + address;
  const bool numeric = address.find_first_not_of("0123456789.:") == std::string::npos;
  return (numeric ? "ipv4:" : "dns:") + address;
}

std::shared_ptr<grpc::Channel> make_channel(
    const std::string& address, const std::shared_ptr<grpc::ChannelCredentials>& credentials) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxEtcdAnswerBytes);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 1000);  // of one attempt to connect
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 500);
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);  // we know better what may be sent twice
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetInt(GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return grpc::CreateCustomChannel(target_of(address), credentials, arguments);
}

gpr_timespec at(Duration from_now) {
  return gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                      gpr_time_from_nanos(from_now.count(), GPR_TIMESPAN));
}

std::string words_of(const grpc::Status& status) {
  std::string words = status.error_message().substr(0, kMaxWords);
  std::replace_if(
      words.begin(), words.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; }, ' ');
  return words.empty() ? fmt::format("gRPC status {}", static_cast<int>(status.error_code()))
                       : words;
}

void start_status(EtcdEndpoint& endpoint, grpc::ClientContext* context,
                  const etcdserverpb::StatusRequest* request, etcdserverpb::StatusResponse* answer,
                  std::function<void(grpc::Status)> done) {
  endpoint.maintenance->async()->Status(context, request, answer, std::move(done));
}

void start_authenticate(EtcdEndpoint& endpoint, grpc::ClientContext* context,
                        const etcdserverpb::AuthenticateRequest* request,
                        etcdserverpb::AuthenticateResponse* answer,
                        std::function<void(grpc::Status)> done) {
  endpoint.auth->async()->Authenticate(context, request, answer, std::move(done));
}

}  // namespace

EtcdEndpoint::EtcdEndpoint(std::string a, std::shared_ptr<grpc::Channel> c)
    : address(std::move(a)) {
  use(std::move(c));
}

void EtcdEndpoint::use(std::shared_ptr<grpc::Channel> c) {
  channel = std::move(c);
  kv = etcdserverpb::KV::NewStub(channel);
  watch = etcdserverpb::Watch::NewStub(channel);
  lease = etcdserverpb::Lease::NewStub(channel);
  cluster = etcdserverpb::Cluster::NewStub(channel);
  maintenance = etcdserverpb::Maintenance::NewStub(channel);
  auth = etcdserverpb::Auth::NewStub(channel);
}

EtcdSession::EtcdSession(World& world, EtcdOptions options)
    : clock_(world.clock),
      fs_(world.fs),
      options_(std::move(options)),
      mailbox_(std::make_shared<Mailbox>(world.loop)),
      cluster_id_(options_.expect_etcd),
      quick_patience_(options_.attempt_timeout / 4) {}

EtcdSession::~EtcdSession() {
  HF_ASSERT(closing_.is_cancelled(), "an etcd session destroyed before close()");
}

Task<Result<std::unique_ptr<EtcdSession>>> EtcdSession::open(World& world, EtcdOptions options,
                                                             bool wait) {
  const Status checked = check_etcd_options(options);
  HF_CO_TRY(checked);
  std::unique_ptr<EtcdSession> session(new EtcdSession(world, std::move(options)));
  Status started = co_await session->start(wait);
  if (!started.ok()) {
    co_await session->close();
    co_return started.error();
  }
  co_return std::move(session);
}

Task<Status> EtcdSession::read_secret(std::string path, std::string* out) {
  if (path.empty()) co_return Status();
  Result<std::string> text = co_await fs_.read_file(path, kMaxEtcdSecretBytes);
  if (!text.ok()) co_return text.error().with_context("etcd: " + path);
  *out = std::move(*text);
  co_return Status();
}

Task<Status> EtcdSession::read_credentials() {
  grpc::SslCredentialsOptions tls;
  std::string password;
  Status read = co_await read_secret(options_.ca_file, &tls.pem_root_certs);
  HF_CO_TRY(read);
  read = co_await read_secret(options_.cert_file, &tls.pem_cert_chain);
  HF_CO_TRY(read);
  read = co_await read_secret(options_.key_file, &tls.pem_private_key);
  HF_CO_TRY(read);
  read = co_await read_secret(options_.password_file, &password);
  HF_CO_TRY(read);
  password = password.substr(0, password.find_first_of("\r\n"));
  if (!options_.user.empty() && password.empty()) {
    co_return make_error(ErrorCode::kInvalidArgument,
                         "etcd: {}: the first line, the password of {}, is empty",
                         options_.password_file, options_.user);
  }
  password_ = std::move(password);
  if (options_.ca_file.empty()) {
    credentials_ = grpc::InsecureChannelCredentials();
  } else {
    credentials_ = grpc::SslCredentials(tls);
  }
  co_return Status();
}

Task<Status> EtcdSession::start(bool wait) {
  Status read = co_await read_credentials();
  HF_CO_TRY(read);
  for (const std::string& address : options_.endpoints) {
    endpoints_.emplace_back(address, make_channel(address, credentials_));
    (void)spawn(gate_, probe(endpoints_.back()));
  }
  if (!wait) co_return Status();
  Result<EtcdEndpoint*> first = co_await pick(clock_.now() + options_.call_timeout);
  HF_CO_TRY(first);
  co_return Status();
}

void EtcdSession::learn(const std::vector<std::string>& endpoints) {
  for (const std::string& address : endpoints) {
    const auto known = [&address](const EtcdEndpoint& e) { return e.address == address; };
    if (closing_.is_cancelled() || endpoints_.size() >= kMaxEtcdEndpoints) return;
    if (std::any_of(endpoints_.begin(), endpoints_.end(), known)) continue;
    options_.endpoints.push_back(address);
    endpoints_.emplace_back(address, make_channel(address, credentials_));
    (void)spawn(gate_, probe(endpoints_.back()));
  }
}

Task<Status> EtcdSession::reload() {
  Status read = co_await read_credentials();
  HF_CO_TRY(read);
  if (closing_.is_cancelled()) co_return Error(ErrorCode::kClosed, "the state store was closed");
  token_.clear();
  for (EtcdEndpoint& endpoint : endpoints_) {
    endpoint.use(make_channel(endpoint.address, credentials_));
    suspect(endpoint, "its credentials were changed");
  }
  co_return Status();
}

// ---- Health -------------------------------------------------------------------------------------

Task<void> EtcdSession::probe(EtcdEndpoint& endpoint) {
  using etcdserverpb::StatusRequest;
  using etcdserverpb::StatusResponse;
  const auto request = std::make_shared<const StatusRequest>();
  while (!closing_.is_cancelled()) {
    auto attempt = std::make_shared<Attempt<StatusRequest, StatusResponse>>(request);
    attempt->context.set_wait_for_ready(true);
    attempt->context.set_deadline(at(options_.attempt_timeout));
    grpc::Status status = co_await send(endpoint, &start_status, attempt);
    if (closing_.is_cancelled()) break;
    judge_probe(endpoint, status, attempt->response);
    CancelSource nap;
    endpoint.nap = &nap;
    Status slept = co_await clock_.sleep_for(endpoint.serves ? options_.probe_every : kProbeAgain,
                                             CancelToken(nap));
    (void)slept.ok();  // woken early: somebody wants to know
    endpoint.nap = nullptr;
  }
}

void EtcdSession::judge_probe(EtcdEndpoint& endpoint, const grpc::Status& status,
                              const etcdserverpb::StatusResponse& answer) {
  std::string why;
  if (!status.ok()) {
    why = words_of(status);
  } else if (cluster_id_ != 0 && answer.header().cluster_id() != cluster_id_) {
    why = fmt::format("belongs to another etcd cluster ({:x}, not {:x})",
                      answer.header().cluster_id(), cluster_id_);
  } else if (answer.islearner()) {
    why = "is a learner";
  } else if (answer.leader() == 0) {
    why = "has no leader";
  }
  if (why.empty() && cluster_id_ == 0) cluster_id_ = answer.header().cluster_id();
  endpoint.answers = status.ok();
  if (status.ok()) endpoint.status = answer;
  const bool serves = why.empty();
  if (serves != endpoint.serves || (!serves && why != endpoint.why)) {
    if (serves) {
      HF_LOG(kInfo, "state", "etcd_serves endpoint={} version={}", endpoint.address,
             answer.version().substr(0, 32));
    } else {
      HF_LOG(kWarn, "state", "etcd_does_not_serve endpoint={} why=\"{}\"", endpoint.address, why);
    }
  }
  endpoint.why = why;
  if (serves == endpoint.serves) return;
  endpoint.serves = serves;
  changed();
}

void EtcdSession::suspect(EtcdEndpoint& endpoint, std::string why) {
  if (endpoint.serves) {
    endpoint.serves = false;
    endpoint.why = std::move(why);
    changed();
  }
  if (endpoint.nap != nullptr) endpoint.nap->cancel();
}

void EtcdSession::changed() {
  for (CancelSource* waiter : waiting_) waiter->cancel();
  for (const std::function<void()>& fn : listeners_) fn();
}

EtcdSession::Listener EtcdSession::listen(std::function<void()> fn) {
  return listeners_.insert(listeners_.end(), std::move(fn));
}

EtcdEndpoint* EtcdSession::first_that_serves() {
  for (EtcdEndpoint& endpoint : endpoints_) {
    if (!endpoint.serves) continue;
    if (endpoint.channel->GetState(false) == GRPC_CHANNEL_READY) return &endpoint;
    suspect(endpoint, "the connection ended");
  }
  return nullptr;
}

std::string EtcdSession::why_none() const {
  std::string text;
  for (const EtcdEndpoint& endpoint : endpoints_) {
    text += fmt::format("{}{}: {}", text.empty() ? "" : "; ", endpoint.address, endpoint.why);
  }
  return text;
}

Task<Result<EtcdEndpoint*>> EtcdSession::pick(MonoTime deadline) {
  while (true) {
    if (closing_.is_cancelled()) {
      co_return Error(ErrorCode::kClosed, "the state store was closed");
    }
    EtcdEndpoint* endpoint = first_that_serves();
    if (endpoint != nullptr) {
      Status token = co_await ensure_token(*endpoint, deadline);
      if (token.ok()) co_return endpoint;
      if (token.code() != ErrorCode::kUnavailable) co_return token.error();
    }
    if (clock_.now() >= deadline) {
      co_return make_error(ErrorCode::kUnavailable,
                           "no endpoint of the state store etcd serves ({}); try again",
                           why_none());
    }
    CancelSource woken;
    waiting_.push_back(&woken);
    // A token that failed is no change of an endpoint.
    const MonoTime until =
        endpoint == nullptr ? deadline : std::min(deadline, clock_.now() + kPause);
    Status slept = co_await clock_.sleep_until(until, CancelToken(woken));
    (void)slept.ok();
    waiting_.remove(&woken);
  }
}

// ---- Requests -----------------------------------------------------------------------------------

void EtcdSession::dress(grpc::ClientContext& context, std::optional<Duration> timeout) const {
  if (timeout) context.set_deadline(at(*timeout));
  context.AddMetadata("hasleader", "true");
  if (!token_.empty()) context.AddMetadata("token", token_);
}

// kUnavailable: try again. One at a time: who waited for another's token finds it.
Task<Status> EtcdSession::ensure_token(EtcdEndpoint& endpoint, MonoTime deadline) {
  if (options_.user.empty() || auth_is_off_ || !token_.empty()) co_return Status();
  co_await token_mutex_.lock();
  MutexGuard guard(token_mutex_);
  if (auth_is_off_ || !token_.empty()) co_return Status();
  if (closing_.is_cancelled()) co_return Error(ErrorCode::kUnavailable, "closing");
  using etcdserverpb::AuthenticateRequest;
  using etcdserverpb::AuthenticateResponse;
  auto request = std::make_shared<AuthenticateRequest>();
  request->set_name(options_.user);
  request->set_password(password_);
  auto attempt = std::make_shared<Attempt<AuthenticateRequest, AuthenticateResponse>>(request);
  attempt->context.set_deadline(
      at(std::clamp(deadline - clock_.now(), Duration(1ms), options_.attempt_timeout)));
  grpc::Status status = co_await send(endpoint, &start_authenticate, attempt);
  if (status.ok() && !attempt->response.token().empty() &&
      attempt->response.token().size() <= kMaxEtcdSecretBytes) {
    token_ = attempt->response.token();
    co_return Status();
  }
  if (status.ok()) {
    co_return make_error(ErrorCode::kProtocol, "etcd {}: no token for user {}", endpoint.address,
                         options_.user);
  }
  const EtcdVerdict verdict = judge(status.error_code(), status.error_message(), CallKind::kRead);
  if (verdict.auth_is_off) {
    HF_LOG(kWarn, "state", "etcd_without_authentication endpoint={} user={}", endpoint.address,
           options_.user);
    auth_is_off_ = true;
    co_return Status();
  }
  if (verdict.suspect) suspect(endpoint, words_of(status));
  co_return error_of(verdict, endpoint, "authentication", status);
}

Error EtcdSession::error_of(const EtcdVerdict& verdict, const EtcdEndpoint& endpoint,
                            const char* what, const grpc::Status& status) const {
  std::string_view hint;
  switch (verdict.code) {
    case ErrorCode::kNoSpace:
      hint = ": compact and defragment etcd or raise its quota, then `etcdctl alarm disarm`";
      break;
    case ErrorCode::kUnauthenticated:
      hint = options_.user.empty() ? ": it wants a user and a password file"
                                   : ": check the user and the password file";
      break;
    case ErrorCode::kPermissionDenied:
      hint = ": give the user's role read and write of our prefix";
      break;
    case ErrorCode::kAmbiguous:
      hint = "; it may have happened";
      break;
    default:
      break;
  }
  return make_error(verdict.code, "{}: etcd {}: {}{}", what, endpoint.address, words_of(status),
                    hint);
}

std::optional<Error> EtcdSession::after_failure(EtcdEndpoint& endpoint, CallKind kind,
                                                const char* what, const grpc::Status& status,
                                                int* renewals) {
  if (closing_.is_cancelled()) {
    return make_error(ErrorCode::kCancelled, "{}: the state store is being closed{}", what,
                      kind == CallKind::kWrite ? "; it may have happened" : "");
  }
  EtcdVerdict verdict = judge(status.error_code(), status.error_message(), kind);
  if (verdict.suspect) suspect(endpoint, words_of(status));
  if (verdict.renew_token) {
    token_.clear();
    auth_is_off_ = false;
    if (options_.user.empty() || ++*renewals > kMaxRenewals) verdict.again = false;
  }
  if (verdict.again) return std::nullopt;
  return error_of(verdict, endpoint, what, status);
}

// A slow etcd is given four times what it took, one that did not answer twice as long as before.
void EtcdSession::learn_patience(Duration took, const grpc::Status& status) {
  Duration next = quick_patience_;
  if (status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED) next = quick_patience_ * 2;
  if (status.ok()) next = took * 4;
  quick_patience_ = std::clamp(next, options_.attempt_timeout / 4, options_.attempt_timeout);
}

Task<Status> EtcdSession::pause_before_next(MonoTime deadline, const Error& last) {
  if (clock_.now() + kPause >= deadline) co_return last;
  Status slept = co_await clock_.sleep_for(kPause, CancelToken(closing_));
  if (!slept.ok()) co_return Error(ErrorCode::kClosed, "the state store was closed");
  co_return Status();
}

Task<void> EtcdSession::close() {
  closing_.cancel();
  for (grpc::ClientContext* context : active_) context->TryCancel();
  for (EtcdEndpoint& endpoint : endpoints_) {
    if (endpoint.nap != nullptr) endpoint.nap->cancel();
  }
  changed();
  co_await gate_.close();
  co_await mailbox_->drain(clock_);
}

}  // namespace hf::state
