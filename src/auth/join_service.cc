#include "auth/join.h"
#include "base/log.h"
#include "base/utc.h"

namespace hf::auth {
namespace {

std::string utc(WallTime time) {
  return format_utc(time.ns / 1'000'000'000);
}

Task<void> close_at(Clock& clock, MonoTime at, CancelToken done, Stream& stream) {
  Status slept = co_await clock.sleep_until(at, done);
  if (slept.ok()) stream.close();
}

Task<Result<JoinAsk>> read_ask(Stream& stream) {
  std::array<std::byte, kJoinHeadBytes> head_bytes;
  Status got = co_await stream.read_exact(head_bytes);
  HF_CO_TRY(got);
  const Result<JoinHead> head = decode_join_head(head_bytes, JoinMessage::kAsk);
  HF_CO_TRY(head);
  std::vector<std::byte> body(head->length);
  if (!body.empty()) got = co_await stream.read_exact(body);
  HF_CO_TRY(got);
  Result<JoinAsk> ask = decode_ask(*head, body);
  OPENSSL_cleanse(body.data(), body.size());
  co_return ask;
}

}  // namespace

JoinService::JoinService(World world, TrustStore& store, Authority authority,
                         Credentials credentials,
                         std::function<std::vector<std::string>()> endpoints)
    : world_(world),
      store_(store),
      authority_(std::move(authority)),
      bundle_(credentials.bundle),
      endpoints_(std::move(endpoints)),
      tls_(world.clock, TlsUse::kJoinAnswer, std::move(credentials)) {}

JoinService::~JoinService() {
  HF_ASSERT(gate_.inside() == 0, "stop() first");
}

Task<Status> JoinService::start(std::string address) {
  ListenOptions options;
  Result<std::unique_ptr<Listener>> listener =
      co_await world_.net.listen(std::move(address), options);
  HF_CO_TRY(listener);
  listener_ = std::move(*listener);
  address_ = listener_->address();
  HF_ASSERT(spawn(gate_, accept_all()), "start() after stop()");
  co_return Status();
}

Task<void> JoinService::stop() {
  if (listener_ != nullptr) listener_->close();
  co_await tls_.stop();
  co_await gate_.close();
}

Task<void> JoinService::accept_all() {
  while (true) {
    co_await room_.acquire(1);
    Result<std::unique_ptr<Stream>> stream = co_await accept_next(*listener_, world_.clock, "join", CancelToken());
    if (!stream.ok()) {
      room_.release(1);
      co_return;
    }
    std::unique_ptr<Stream> accepted = std::move(*stream);
    if (!spawn(gate_, serve(std::move(accepted)))) co_return;
  }
}

Task<void> JoinService::serve(std::unique_ptr<Stream> stream) {
  SemaphoreUnits held(room_, 1);
  const std::string from = stream->peer();
  Result<std::unique_ptr<TlsStream>> tls = co_await tls_.accept(std::move(stream), kHandshakeTime);
  if (!tls.ok()) {
    HF_LOG(kInfo, "auth", "join_handshake_failed peer={} error=\"{}\"", from,
           tls.error().to_string());
    co_return;
  }
  TlsStream& peer = **tls;
  Gate timers;
  CancelSource done;
  const MonoTime until = world_.clock.now() + kAskTime;
  spawn(timers, close_at(world_.clock, until, done, peer));
  Result<JoinAsk> ask = co_await read_ask(peer);
  done.cancel();
  co_await timers.close();
  JoinAnswer reply;
  reply.wall = world_.clock.wall();
  if (ask.ok()) {
    JoinAsk question = std::move(*ask);
    reply = co_await answer(std::move(question), peer);
  } else {
    reply.code = ask.code();
    reply.message = ask.error().message().substr(0, kMaxMessageBytes);
  }
  if (reply.code == ErrorCode::kUnauthenticated) {
    Status slept = co_await world_.clock.sleep_for(kWrongTokenPause, CancelToken());
    if (!slept.ok()) co_return;
  }
  if (reply.code != ErrorCode::kOk) {
    HF_LOG(kWarn, "auth", "join_refused peer={} code={} error=\"{}\"", from,
           error_info(reply.code).name, reply.message);
  }
  std::string text = encode_answer(reply);
  wipe(&reply.signer_pem);
  Gate sending;
  CancelSource sent;
  const MonoTime send_until = world_.clock.now() + kAskTime;
  spawn(sending, close_at(world_.clock, send_until, sent, peer));
  Status written = co_await peer.write_bytes(as_bytes(text));
  wipe(&text);
  sent.cancel();
  co_await sending.close();
  if (!written.ok()) {
    HF_LOG(kInfo, "auth", "join_answer_lost peer={} error=\"{}\"", from,
           written.error().to_string());
  }
}

Task<JoinAnswer> JoinService::answer(JoinAsk ask, const TlsStream& peer) {
  JoinAnswer reply;
  reply.wall = world_.clock.wall();
  Result<Admission> admission = co_await decide(ask, peer);
  Result<Certificate> certificate = make_error(ErrorCode::kInternal, "not signed");
  if (admission.ok()) certificate = authority_.issue(admission->order);
  if (!admission.ok() || !certificate.ok()) {
    const Error& why = admission.ok() ? certificate.error() : admission.error();
    reply.code = why.code();
    reply.message = why.message().substr(0, kMaxMessageBytes);
    co_return std::move(reply);
  }
  reply.node = admission->order.node;
  reply.certificate = certificate->der();
  for (const Certificate& authority : bundle_.authorities())
    reply.authorities.push_back(authority.der());
  if (admission->signer) {
    reply.signer_pem = authority_.certificate().pem();
    std::string secret = authority_.key().pem();
    reply.signer_pem += secret;
    wipe(&secret);
  }
  if (endpoints_) reply.endpoints = endpoints_();
  std::erase_if(reply.endpoints, [](const std::string& e) { return e.size() > kMaxAddressBytes; });
  if (reply.endpoints.size() > kMaxEndpoints) reply.endpoints.resize(kMaxEndpoints);
  co_return std::move(reply);
}

Task<Result<Admission>> JoinService::decide(const JoinAsk& ask, const TlsStream& peer) {
  if (ask.cluster != authority_.cluster()) {
    co_return make_error(ErrorCode::kWrongOwner,
                         "the join token is of cluster {}, and this is cluster {}",
                         ask.cluster.to_string(), authority_.cluster().to_string());
  }
  const WallTime now = world_.clock.wall();
  if (std::abs(ask.wall.ns / 2 - now.ns / 2) > kMaxClockSkew.count() / 2) {
    co_return make_error(
        ErrorCode::kFailedPrecondition,
        "the joining node's clock says {} and the cluster's {}: set the one that is wrong "
        "(timedatectl, chrony) and try again; the token is still good",
        utc(ask.wall), utc(now));
  }
  Result<std::string> key = key_of_request(as_bytes(ask.request));
  HF_CO_TRY(key);
  if (ask.token.is_nil()) {
    if (!peer.identity()) {
      co_return make_error(ErrorCode::kUnauthenticated,
                           "neither a join token nor a certificate was shown");
    }
    const bool ended = peer.certificate().not_after().ns < now.ns;
    const std::string ended_key = ended ? peer.certificate().public_der() : std::string();
    co_return co_await store_.renew(peer.identity()->node, *key, ended_key);
  }
  JoinClaim claim;
  claim.token = ask.token;
  claim.secret = ask.secret;
  claim.public_der = std::move(*key);
  claim.names = ask.names;
  co_return co_await store_.admit(std::move(claim));
}

}  // namespace hf::auth
