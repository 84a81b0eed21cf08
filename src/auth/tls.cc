#include "auth/tls.h"

#include <openssl/err.h>

#include "auth/tls_core.h"
#include "runtime/fault_point.h"

namespace hf::auth {
namespace {

// Length-prefixed, as TLS wants it.
constexpr std::string_view kPeerProtocol = "\x0fholdfast-peer/1";
constexpr std::string_view kJoinProtocol = "\x0fholdfast-join/1";
constexpr long kMaxChainBytes = 16 * 1024;

std::string_view protocol_of(TlsUse use) {
  return use == TlsUse::kPeer ? kPeerProtocol : kJoinProtocol;
}
const unsigned char* bytes_at(std::string_view text) {
  return reinterpret_cast<const unsigned char*>(text.data());
}

int select_protocol(SSL*, const unsigned char** out, unsigned char* out_size,
                    const unsigned char* in, unsigned in_size, void* wanted) {
  const std::string_view ours = *static_cast<const std::string_view*>(wanted);
  unsigned char* found = nullptr;
  if (SSL_select_next_proto(&found, out_size, bytes_at(ours), static_cast<unsigned>(ours.size()),
                            in, in_size) != OPENSSL_NPN_NEGOTIATED) {
    return SSL_TLSEXT_ERR_ALERT_FATAL;
  }
  *out = found;
  return SSL_TLSEXT_ERR_OK;
}

Certificate borrowed(X509* x) {
  X509_up_ref(x);
  return Certificate(Owned<X509>(x));
}

Owned<SSL_CTX> make_context(TlsUse use, const Credentials& credentials) {
  Owned<SSL_CTX> context(SSL_CTX_new(TLS_method()));
  SSL_CTX* ctx = context.get();
  bool ok =
      ctx != nullptr && SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) == 1 &&
      SSL_CTX_set_max_proto_version(ctx, TLS1_3_VERSION) == 1 &&
      // AES in hardware is the rule; fewer rounds first.
      SSL_CTX_set_ciphersuites(
          ctx, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256") == 1 &&
      SSL_CTX_set1_groups_list(ctx, "X25519:P-256") == 1;
  // No resumption: every connection is judged by certificates, as they are now.
  SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION);
  ok = ok && SSL_CTX_set_num_tickets(ctx, 0) == 1;
  SSL_CTX_set_max_cert_list(ctx, kMaxChainBytes);
  SSL_CTX_set_read_ahead(ctx, 1);
  const std::string_view protocol = protocol_of(use);
  ok = ok && SSL_CTX_set_alpn_protos(ctx, bytes_at(protocol),
                                     static_cast<unsigned>(protocol.size())) == 0;
  const std::string_view* wanted = use == TlsUse::kPeer ? &kPeerProtocol : &kJoinProtocol;
  SSL_CTX_set_alpn_select_cb(ctx, select_protocol, const_cast<std::string_view*>(wanted));
  const int must_show = use == TlsUse::kJoinAnswer ? 0 : SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
  SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | must_show, nullptr);
  if (credentials.certificate) {
    ok = ok && SSL_CTX_use_certificate(ctx, credentials.certificate.get()) == 1 &&
         SSL_CTX_use_PrivateKey(ctx, credentials.key.get()) == 1 &&
         SSL_CTX_check_private_key(ctx) == 1;
  }
  if (use == TlsUse::kJoinAnswer) {
    // Who joins knows the CA by its fingerprint alone.
    for (const Certificate& authority : credentials.bundle.authorities()) {
      ok = ok && SSL_CTX_add1_chain_cert(ctx, authority.get()) == 1;
    }
  }
  HF_ASSERT(ok, "TLS cannot be set up: {}", openssl_reason());
  return context;
}

int alert_for(const Error& why) {
  switch (why.code()) {
    case ErrorCode::kPermissionDenied:
      return X509_V_ERR_CERT_REVOKED;
    case ErrorCode::kFailedPrecondition:
      return X509_V_ERR_CERT_HAS_EXPIRED;
    case ErrorCode::kWrongOwner:
      return X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY;
    default:
      return X509_V_ERR_CERT_REJECTED;
  }
}

Task<void> close_in_time(Clock& clock, MonoTime at, CancelToken done, Stream& stream, bool* late) {
  Status slept = co_await clock.sleep_until(at, done);
  if (!slept.ok()) co_return;
  *late = true;
  stream.close();
}

Task<void> say_farewell(std::shared_ptr<TlsCore> core) {
  co_await core->farewell();
}

}  // namespace

TlsStream::~TlsStream() {
  close();
}

Task<Result<size_t>> TlsStream::read_some(MutableByteSpan out) {
  return core_->read_some(out);
}

Task<Status> TlsStream::write_all(std::span<const ByteSpan> segments) {
  return core_->write_all(segments);
}

void TlsStream::close() {
  if (std::exchange(closed_, true)) return;
  core_->unlist();
  if (!core_->begin_farewell() || !spawn(core_->endpoint().gate(), say_farewell(core_))) {
    core_->inner().close();
  }
}

const std::string& TlsStream::peer() const {
  return core_->peer();
}
const std::optional<PeerIdentity>& TlsStream::identity() const {
  return core_->identity();
}
const Certificate& TlsStream::certificate() const {
  return core_->certificate();
}

std::optional<PeerIdentity> peer_identity(const Stream& stream) {
  const auto* tls = dynamic_cast<const TlsStream*>(&stream);
  return tls == nullptr ? std::nullopt : tls->identity();
}

TlsEndpoint::TlsEndpoint(Clock& clock, TlsUse use, Credentials credentials)
    : clock_(clock), use_(use) {
  replace(std::move(credentials));
}

TlsEndpoint::TlsEndpoint(Clock& clock, ClusterId cluster, Fingerprint authority)
    : clock_(clock), use_(TlsUse::kJoinAsk), pinned_cluster_(cluster), pinned_(authority) {
  replace(Credentials());
}

TlsEndpoint::~TlsEndpoint() {
  HF_ASSERT(gate_.inside() == 0, "stop() first");
}

void TlsEndpoint::replace(Credentials credentials) {
  HF_ASSERT(use_ == TlsUse::kJoinAsk ||
            (credentials.certificate && credentials.key && !credentials.bundle.empty()));
  credentials_ = std::move(credentials);
  context_ = make_context(use_, credentials_);
  SSL_CTX_set_cert_verify_callback(context_.get(), verify_callback, this);
}

void TlsEndpoint::set_revoked(std::set<NodeId> nodes) {
  revoked_ = std::move(nodes);
  open_.for_each([this](TlsCore& core) {
    if (!core.identity() || !revoked_.contains(core.identity()->node)) return;
    HF_PROBE("tls.revoked_while_open");
    core.unlink();
    core.abort(make_error(ErrorCode::kPermissionDenied, "{} has been decommissioned", core.peer()));
  });
}

Result<PeerIdentity> TlsEndpoint::judge(const Certificate& leaf,
                                        const std::vector<Certificate>& chain,
                                        const std::optional<NodeId>& expected) const {
  CheckOptions options;
  Result<PeerIdentity> identity = make_error(ErrorCode::kInternal, "not judged");
  if (use_ == TlsUse::kJoinAsk) {
    std::vector<Certificate> pinned;
    for (const Certificate& certificate : chain) {
      if (pinned.empty() && fingerprint_of(certificate) == pinned_) pinned.push_back(certificate);
    }
    const Result<CaBundle> bundle = CaBundle::of(pinned);
    if (!bundle.ok() || bundle->cluster() != pinned_cluster_) {
      return make_error(ErrorCode::kUnauthenticated,
                        "who answers there is not of the cluster {} that the token is from",
                        pinned_cluster_.to_string());
    }
    identity = check_certificate(*bundle, leaf, clock_.wall(), options);
  } else {
    options.any_time = use_ == TlsUse::kJoinAnswer;
    identity = check_certificate(credentials_.bundle, leaf, clock_.wall(), options);
  }
  HF_TRY(identity);
  if (expected && *expected != identity->node) {
    return make_error(ErrorCode::kUnauthenticated,
                      "node {} was to be there, and node {} answers: the address has changed hands",
                      expected->to_string(), identity->node.to_string());
  }
  if (revoked_.contains(identity->node)) {
    return make_error(ErrorCode::kPermissionDenied, "node {} has been decommissioned",
                      identity->node.to_string());
  }
  return identity;
}

int TlsEndpoint::verify_callback(X509_STORE_CTX* context, void* self) {
  const auto* endpoint = static_cast<const TlsEndpoint*>(self);
  const auto* ssl =
      static_cast<SSL*>(X509_STORE_CTX_get_ex_data(context, SSL_get_ex_data_X509_STORE_CTX_idx()));
  auto* core = static_cast<TlsCore*>(SSL_get_app_data(ssl));
  std::vector<Certificate> chain;
  const STACK_OF(X509)* sent = X509_STORE_CTX_get0_untrusted(context);
  for (int i = 0; sent != nullptr && i < sk_X509_num(sent) && chain.size() <= kMaxAuthorities;
       ++i) {
    chain.push_back(borrowed(sk_X509_value(sent, i)));
  }
  Certificate leaf = borrowed(X509_STORE_CTX_get0_cert(context));
  const Result<PeerIdentity> identity = endpoint->judge(leaf, chain, core->expected());
  if (identity.ok()) {
    core->found(*identity, std::move(leaf));
    X509_STORE_CTX_set_error(context, X509_V_OK);
    return 1;
  }
  core->refused(identity.error());
  X509_STORE_CTX_set_error(context, alert_for(identity.error()));
  return 0;
}

Task<Result<std::unique_ptr<TlsStream>>> TlsEndpoint::shake(std::unique_ptr<Stream> inner,
                                                            bool server,
                                                            std::optional<NodeId> expected,
                                                            Duration timeout) {
  auto core = std::make_shared<TlsCore>(*this, context_.get(), std::move(inner), server, expected);
  TlsCore* const raw = core.get();
  std::function<void()> hurry = [raw] { raw->inner().close(); };
  CancelCallback on_stop(&stopping_, hurry);
  Gate gate;
  CancelSource done;
  bool late = false;
  const MonoTime until = clock_.now() + timeout;
  spawn(gate, close_in_time(clock_, until, done, core->inner(), &late));
  Status shaken = co_await core->handshake();
  done.cancel();
  co_await gate.close();
  if (shaken.ok() && core->identity() && revoked_.contains(core->identity()->node)) {
    shaken = make_error(ErrorCode::kPermissionDenied, "{} has been decommissioned", core->peer());
  }
  if (!shaken.ok()) {
    core->inner().close();
    if (late && shaken.code() == ErrorCode::kClosed) {
      co_return make_error(ErrorCode::kTimeout, "{} did not finish the TLS handshake in time",
                           core->peer());
    }
    co_return shaken.error();
  }
  open_.push_back(*core);
  std::unique_ptr<TlsStream> stream(new TlsStream(std::move(core)));
  co_return std::move(stream);
}

Task<Result<std::unique_ptr<TlsStream>>> TlsEndpoint::connect(std::unique_ptr<Stream> inner,
                                                              std::optional<NodeId> expected,
                                                              Duration timeout) {
  return shake(std::move(inner), false, expected, timeout);
}

Task<Result<std::unique_ptr<TlsStream>>> TlsEndpoint::accept(std::unique_ptr<Stream> inner,
                                                             Duration timeout) {
  return shake(std::move(inner), true, std::nullopt, timeout);
}

Task<void> TlsEndpoint::stop() {
  stopping_.cancel();
  open_.for_each([](TlsCore& core) {
    core.unlink();
    core.abort(make_error(ErrorCode::kClosed, "connection to {} is closed", core.peer()));
  });
  co_await gate_.close();
}

}  // namespace hf::auth
