#include "auth/join.h"
#include "base/log.h"
#include "runtime/fault_point.h"
#include "runtime/file.h"

namespace hf::auth {
namespace {

constexpr Duration kConnectTime = 5s;

Task<void> close_at(Clock& clock, MonoTime at, CancelToken done, Stream& stream) {
  Status slept = co_await clock.sleep_until(at, done);
  if (slept.ok()) stream.close();
}

Task<Result<JoinAnswer>> converse(Stream& stream, const std::string& question) {
  Status sent = co_await stream.write_bytes(as_bytes(question));
  HF_CO_TRY(sent);
  std::array<std::byte, kJoinHeadBytes> head_bytes;
  Status got = co_await stream.read_exact(head_bytes);
  HF_CO_TRY(got);
  const Result<JoinHead> head = decode_join_head(head_bytes, JoinMessage::kAnswer);
  HF_CO_TRY(head);
  std::vector<std::byte> body(head->length);
  if (!body.empty()) got = co_await stream.read_exact(body);
  HF_CO_TRY(got);
  Result<JoinAnswer> answer = decode_answer(*head, body);
  OPENSSL_cleanse(body.data(), body.size());
  co_return answer;
}

// One question to one address. An answer that refuses is its error.
Task<Result<JoinAnswer>> ask_at(World world, TlsEndpoint& tls, std::string address,
                                const JoinAsk& ask) {
  Result<std::unique_ptr<Stream>> inner = co_await world.net.connect(address, kConnectTime);
  HF_CO_TRY(inner);
  std::unique_ptr<Stream> connected = std::move(*inner);
  Result<std::unique_ptr<TlsStream>> stream =
      co_await tls.connect(std::move(connected), std::nullopt, kHandshakeTime);
  HF_CO_TRY(stream);
  std::string question = encode_ask(ask);
  Gate timers;
  CancelSource done;
  const MonoTime until = world.clock.now() + kAnswerTime;
  spawn(timers, close_at(world.clock, until, done, **stream));
  Result<JoinAnswer> answer = co_await converse(**stream, question);
  wipe(&question);
  done.cancel();
  co_await timers.close();
  HF_CO_TRY(answer);
  if (answer->code != ErrorCode::kOk) co_return Error(answer->code, answer->message);
  co_return answer;
}

// Whether this error is the cluster's word, or that of one address that may have an evil or dead
// owner.
bool is_final(ErrorCode code) {
  return code == ErrorCode::kPermissionDenied || code == ErrorCode::kFailedPrecondition ||
         code == ErrorCode::kInUse || code == ErrorCode::kInvalidArgument ||
         code == ErrorCode::kNewerFormat || code == ErrorCode::kLimitExceeded;
}

Result<Membership> accept_answer(const JoinAnswer& answer, const PrivateKey& key, ClusterId cluster,
                                 WallTime now) {
  const Error strange =
      make_error(ErrorCode::kProtocol, "the cluster's answer does not hold what it should");
  std::vector<Certificate> authorities;
  for (const std::string& der : answer.authorities) {
    Result<Certificate> authority = Certificate::from_der(as_bytes(der));
    HF_TRY(authority);
    authorities.push_back(std::move(*authority));
  }
  Membership out;
  Result<CaBundle> bundle = CaBundle::of(std::move(authorities));
  HF_TRY(bundle);
  out.credentials.bundle = std::move(*bundle);
  Result<Certificate> certificate = Certificate::from_der(as_bytes(answer.certificate));
  HF_TRY(certificate);
  out.credentials.certificate = std::move(*certificate);
  out.credentials.key = key;
  const Result<PeerIdentity> self =
      check_certificate(out.credentials.bundle, out.credentials.certificate, now);
  HF_TRY(self);
  out.self = *self;
  if (self->cluster != cluster || self->node != answer.node ||
      out.credentials.certificate.public_der() != key.public_der()) {
    return strange;
  }
  if (!answer.signer_pem.empty()) {
    const Result<PrivateKey> signer_key = PrivateKey::from_pem(answer.signer_pem);
    HF_TRY(signer_key);
    const Result<Certificate> signer = Certificate::from_pem(answer.signer_pem);
    HF_TRY(signer);
    Result<Authority> authority = Authority::of(*signer, *signer_key);
    HF_TRY(authority);
    if (!out.credentials.bundle.has(fingerprint_of(*signer))) return strange;
    out.signer = std::move(*authority);
  }
  out.endpoints = answer.endpoints;
  return out;
}

Task<Result<JoinAnswer>> ask_everywhere(World world, TlsEndpoint& tls,
                                        const std::vector<std::string>& addresses,
                                        const JoinAsk& ask) {
  std::string reasons;
  std::optional<Error> unauthenticated;
  for (const std::string& address : addresses) {
    Result<JoinAnswer> answer = co_await ask_at(world, tls, address, ask);
    if (answer.ok() || is_final(answer.code())) co_return answer;
    if (answer.code() == ErrorCode::kUnauthenticated || answer.code() == ErrorCode::kWrongOwner) {
      unauthenticated = answer.error();
    }
    reasons +=
        fmt::format("{}{}: {}", reasons.empty() ? "" : "; ", address, answer.error().message());
  }
  if (unauthenticated) co_return std::move(*unauthenticated);
  co_return make_error(ErrorCode::kUnavailable, "none of the cluster's nodes could be asked: {}",
                       reasons);
}

Task<Result<PrivateKey>> joining_key(TrustFiles& files, const std::string& token) {
  Result<std::optional<PrivateKey>> kept = co_await files.load_joining(token);
  HF_CO_TRY(kept);
  if (kept->has_value()) {
    HF_PROBE("trust.joining_again");
    co_return **kept;
  }
  PrivateKey key = PrivateKey::make();
  Status saved = co_await files.save_joining(token, key);
  HF_CO_TRY(saved);
  co_return key;
}

Task<Status> keep(TrustFiles& files, const Membership& membership) {
  if (membership.signer) {
    Status signer = co_await files.save_signer(membership.signer);
    HF_CO_TRY(signer);
  }
  co_return co_await files.save(membership.credentials);
}

Task<Status> keep_and_forget(TrustFiles& files, const Membership& membership) {
  Status kept = co_await keep(files, membership);
  HF_CO_TRY(kept);
  co_return co_await files.forget_joining();
}

}  // namespace

bool wants_renewal(const Certificate& certificate, WallTime now) {
  return now.ns >= certificate.not_before().ns + (kBackdate + kRenewAfter).count();
}

Task<Result<Membership>> join_cluster(World world, TrustFiles& files, JoinToken token,
                                      std::vector<std::string> names) {
  Status prepared = co_await files.prepare();
  HF_CO_TRY(prepared);
  Result<std::optional<Credentials>> present = co_await files.load();
  HF_CO_TRY(present);
  if (present->has_value()) {
    const Result<PeerIdentity> self = (*present)->certificate.identity();
    HF_CO_TRY(self);
    const bool same = self->cluster == token.cluster;
    co_return make_error(same ? ErrorCode::kAlreadyExists : ErrorCode::kWrongOwner,
                         "this node is a member of {} cluster {} already, as node {}",
                         same ? "this" : "another", self->cluster.to_string(),
                         self->node.to_string());
  }
  Result<PrivateKey> key = co_await joining_key(files, token.id.to_string());
  HF_CO_TRY(key);
  JoinAsk ask;
  ask.cluster = token.cluster;
  ask.token = token.id;
  ask.secret = token.secret;
  ask.wall = world.clock.wall();
  ask.request = make_request(*key);
  for (const std::string& name : names) {
    const Result<std::string> canonical = canonical_name(name);
    HF_CO_TRY(canonical);
    ask.names.push_back(*canonical);
  }
  if (ask.names.size() > kMaxNames) {
    co_return make_error(ErrorCode::kInvalidArgument, "a node has at most {} names and addresses",
                         kMaxNames);
  }
  TlsEndpoint tls(world.clock, token.cluster, token.authority);
  Result<JoinAnswer> answer = co_await ask_everywhere(world, tls, token.addresses, ask);
  co_await tls.stop();
  HF_CO_TRY(answer);
  Result<Membership> membership = accept_answer(*answer, *key, token.cluster, world.clock.wall());
  wipe(&answer->signer_pem);
  HF_CO_TRY(membership);
  if (!membership->credentials.bundle.has(token.authority)) {
    co_return make_error(ErrorCode::kUnauthenticated,
                         "the cluster's answer lacks the CA that the token names");
  }
  Status kept = co_await keep(files, *membership);
  HF_CO_TRY(kept);
  HF_LOG(kInfo, "auth", "joined cluster={} node={}", membership->self.cluster.to_string(),
         membership->self.node.to_string());
  co_return membership;
}

Task<Result<Membership>> found_cluster(World world, TrustFiles& files, TrustStore& store,
                                       ClusterId cluster, NodeId node,
                                       std::vector<std::string> names) {
  Status prepared = co_await files.prepare();
  HF_CO_TRY(prepared);
  Result<std::optional<Authority>> kept = co_await files.load_signer();
  HF_CO_TRY(kept);
  Membership out;
  if (kept->has_value()) {
    out.signer = **kept;
  } else {
    out.signer = Authority::make(cluster, world.clock.wall(), new_serial(world.random));
    Status saved = co_await files.save_signer(out.signer);
    HF_CO_TRY(saved);
  }
  if (out.signer.cluster() != cluster) {
    co_return make_error(ErrorCode::kWrongOwner, "this node has the CA of cluster {} already",
                         out.signer.cluster().to_string());
  }
  Result<PrivateKey> key = co_await joining_key(files, "init " + cluster.to_string());
  HF_CO_TRY(key);
  Result<Admission> admission =
      co_await store.found(out.signer.certificate(), node, key->public_der(), std::move(names));
  HF_CO_TRY(admission);
  Result<Certificate> certificate = out.signer.issue(admission->order);
  HF_CO_TRY(certificate);
  std::vector<Certificate> authorities;
  authorities.push_back(out.signer.certificate());
  Result<CaBundle> bundle = CaBundle::of(std::move(authorities));
  HF_CO_TRY(bundle);
  out.credentials.bundle = std::move(*bundle);
  out.credentials.certificate = std::move(*certificate);
  out.credentials.key = *key;
  out.self.cluster = cluster;
  out.self.node = node;
  Status all = co_await keep_and_forget(files, out);
  HF_CO_TRY(all);
  co_return std::move(out);
}

Task<Result<Credentials>> renew_from(World world, TrustFiles& files, Credentials present,
                                     std::string address) {
  const Result<PeerIdentity> self = present.certificate.identity();
  HF_CO_TRY(self);
  // Kept until the certificate is, so that a lost answer is repeated and not another certificate
  // spent.
  Result<PrivateKey> key = co_await joining_key(files, "renew " + present.certificate.serial());
  HF_CO_TRY(key);
  JoinAsk ask;
  ask.cluster = self->cluster;
  ask.wall = world.clock.wall();
  ask.request = make_request(*key);
  const Certificate& authority = present.bundle.authorities().front();
  TlsEndpoint tls(world.clock, self->cluster, fingerprint_of(authority));
  tls.replace(present);
  Result<JoinAnswer> answer = co_await ask_at(world, tls, std::move(address), ask);
  co_await tls.stop();
  HF_CO_TRY(answer);
  Result<Membership> renewed = accept_answer(*answer, *key, self->cluster, world.clock.wall());
  HF_CO_TRY(renewed);
  if (renewed->self != *self) {
    co_return make_error(ErrorCode::kProtocol, "the certificate that came is not this node's");
  }
  Status kept = co_await keep_and_forget(files, *renewed);
  HF_CO_TRY(kept);
  co_return std::move(renewed->credentials);
}

Result<Credentials> extend_own(const Authority& authority, const Credentials& present, WallTime now,
                               Random& random) {
  CheckOptions options;
  options.any_time = true;
  const Result<PeerIdentity> self =
      check_certificate(present.bundle, present.certificate, now, options);
  HF_TRY(self);
  CertificateOrder order;
  order.node = self->node;
  order.public_der = present.key.public_der();
  for (const std::string& name : present.certificate.names()) {
    const bool host = name.starts_with("dns:") || name.starts_with("ip:");
    const Result<std::string> canonical =
        canonical_name(host ? name.substr(name.find(':') + 1) : "");
    if (canonical.ok()) order.names.push_back(*canonical);  // the others are every certificate's
  }
  order.serial = new_serial(random);
  order.not_before = WallTime{now.ns - kBackdate.count()};
  order.not_after = WallTime{now.ns + kCertificateLife.count()};
  Result<Certificate> certificate = authority.issue(order);
  HF_TRY(certificate);
  Credentials out = present;
  out.certificate = std::move(*certificate);
  return out;
}

Task<Result<Credentials>> renew_here(TrustFiles& files, TrustStore& store, Authority authority,
                                     Credentials present) {
  const Result<PeerIdentity> self = present.certificate.identity();
  HF_CO_TRY(self);
  Result<PrivateKey> key = co_await joining_key(files, "renew " + present.certificate.serial());
  HF_CO_TRY(key);
  Result<Admission> admission = co_await store.renew(self->node, key->public_der());
  HF_CO_TRY(admission);
  Result<Certificate> certificate = authority.issue(admission->order);
  HF_CO_TRY(certificate);
  present.certificate = std::move(*certificate);
  present.key = *key;
  Status saved = co_await files.save(present);
  HF_CO_TRY(saved);
  Status forgotten = co_await files.forget_joining();
  HF_CO_TRY(forgotten);
  co_return std::move(present);
}

}  // namespace hf::auth
