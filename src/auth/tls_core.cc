#include "auth/tls_core.h"

#include <openssl/err.h>

#include <algorithm>

#include "runtime/fault_point.h"

namespace hf::auth {
namespace {

constexpr size_t kRecordBytes = 16 * 1024;  // TLS's largest
// What reading may add to what waits to be sent (answers to key updates); more is somebody's
// attack.
constexpr size_t kMaxUnsentBytes = 2 * kOutBytes;

// Clears the flag when the operation ends.
class Busy {
 public:
  explicit Busy(bool* flag) : flag_(flag) { *flag_ = true; }
  ~Busy() { *flag_ = false; }
  Busy(const Busy&) = delete;
  Busy& operator=(const Busy&) = delete;

 private:
  bool* flag_;
};

// The peer's alert as a sentence; nothing for what is no alert about us.
std::optional<Error> alert_error(int reason, const std::string& peer) {
  switch (reason - SSL_AD_REASON_OFFSET) {
    case SSL_AD_CERTIFICATE_REVOKED:
      return make_error(
          ErrorCode::kPermissionDenied,
          "{} refuses this node: it has been decommissioned; join again with a new token", peer);
    case SSL_AD_CERTIFICATE_EXPIRED:
      return make_error(
          ErrorCode::kFailedPrecondition,
          "{} says that this node's certificate is not valid at this time: it was not renewed, or "
          "the clock of one of the two is wrong",
          peer);
    case SSL_AD_UNKNOWN_CA:
    case SSL_AD_BAD_CERTIFICATE:
    case SSL_AD_CERTIFICATE_UNKNOWN:
    case SSL_AD_UNSUPPORTED_CERTIFICATE:
      return make_error(
          ErrorCode::kUnauthenticated,
          "{} does not accept this node's certificate: it belongs to another cluster, or expects "
          "another node here",
          peer);
    case SSL_AD_CERTIFICATE_REQUIRED:
      return make_error(ErrorCode::kUnauthenticated, "{} asks for a certificate of its cluster",
                        peer);
    case SSL_AD_NO_APPLICATION_PROTOCOL:
      return make_error(ErrorCode::kProtocol,
                        "{} does not speak this protocol (another port of a node?)", peer);
    default:
      return std::nullopt;
  }
}

Task<void> close_at(Clock& clock, MonoTime at, CancelToken done, Stream& stream) {
  Status slept = co_await clock.sleep_until(at, done);
  if (slept.ok()) stream.close();
}

}  // namespace

TlsCore::TlsCore(TlsEndpoint& endpoint, SSL_CTX* context, std::unique_ptr<Stream> inner,
                 bool server, std::optional<NodeId> expected)
    : endpoint_(endpoint),
      inner_(std::move(inner)),
      ssl_(SSL_new(context)),
      expected_(expected),
      in_(new std::byte[kInBytes]) {
  HF_ASSERT(ssl_ != nullptr, "{}", openssl_reason());
  peer_ = inner_->peer();
  BIO* bio = BIO_new(bio_method());
  HF_ASSERT(bio != nullptr);
  BIO_set_data(bio, this);
  BIO_set_init(bio, 1);
  SSL_set_bio(ssl_.get(), bio, bio);
  SSL_set_app_data(ssl_.get(), this);
  if (server) {
    SSL_set_accept_state(ssl_.get());
  } else {
    SSL_set_connect_state(ssl_.get());
  }
}

TlsCore::~TlsCore() {
  HF_ASSERT(!reading_ && !writing_, "stream {} destroyed in use", peer_);
}

const BIO_METHOD* TlsCore::bio_method() {
  static const BIO_METHOD* const method = [] {
    BIO_METHOD* made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "holdfast stream");
    HF_ASSERT(made != nullptr && BIO_meth_set_read(made, bio_read) == 1 &&
              BIO_meth_set_write(made, bio_write) == 1 &&
              BIO_meth_set_ctrl(made, bio_control) == 1);
    return made;
  }();
  return method;
}

int TlsCore::bio_read(BIO* bio, char* out, int size) {
  TlsCore& core = *static_cast<TlsCore*>(BIO_get_data(bio));
  BIO_clear_retry_flags(bio);
  const size_t n = std::min(core.in_end_ - core.in_at_, static_cast<size_t>(size));
  if (n == 0) {
    BIO_set_retry_read(bio);
    return -1;
  }
  std::memcpy(out, core.in_.get() + core.in_at_, n);
  core.in_at_ += n;
  return static_cast<int>(n);
}

// Takes everything, so that no operation of OpenSSL ever stops in its middle; encrypt() keeps the
// bound.
int TlsCore::bio_write(BIO* bio, const char* data, int size) {
  TlsCore& core = *static_cast<TlsCore*>(BIO_get_data(bio));
  BIO_clear_retry_flags(bio);
  if (core.out_.size() + static_cast<size_t>(size) > kMaxUnsentBytes) return -1;
  const auto* bytes = reinterpret_cast<const std::byte*>(data);
  core.out_.insert(core.out_.end(), bytes, bytes + size);
  return size;
}

long TlsCore::bio_control(BIO*, int command, long, void*) {
  return command == BIO_CTRL_FLUSH ? 1 : 0;
}

Error TlsCore::failure(const char* what, int ssl_error) {
  if (refusal_) {
    (void)openssl_reason();
    return refusal_->with_context(peer_);
  }
  const unsigned long code = ERR_peek_last_error();
  const int reason = ERR_GET_REASON(code);
  if (ERR_GET_LIB(code) == ERR_LIB_SSL) {
    if (std::optional<Error> alert = alert_error(reason, peer_)) {
      (void)openssl_reason();
      return std::move(*alert);
    }
    if (reason == SSL_R_DECRYPTION_FAILED_OR_BAD_RECORD_MAC) {
      (void)openssl_reason();
      return make_error(ErrorCode::kProtocol, "what came from {} was altered on the way", peer_);
    }
  }
  return make_error(ErrorCode::kProtocol, "{} {} with TLS 1.3 failed: {} ({})", what, peer_,
                    openssl_reason(), ssl_error);
}

Error TlsCore::why_ended() const {
  return *ended_;
}

void TlsCore::abort(Error why) {
  if (!ended_) ended_.emplace(std::move(why));
  inner_->close();
}

Task<Status> TlsCore::flush() {
  while (!out_.empty()) {
    std::swap(out_, sending_);
    const ByteSpan segments[1] = {sending_};
    Status sent = co_await inner_->write_all(segments);
    sending_.clear();
    HF_CO_TRY(sent);
  }
  co_return Status();
}

// Called when OpenSSL wants more than there is: an end here is never the one that the peer meant.
Task<Status> TlsCore::fill() {
  in_at_ = in_end_ = 0;
  const MutableByteSpan into(in_.get(), kInBytes);
  Result<size_t> n = co_await inner_->read_some(into);
  HF_CO_TRY(n);
  if (*n == 0) {
    HF_PROBE("tls.truncated");
    co_return make_error(ErrorCode::kClosed, "the connection to {} was cut off{}", peer_,
                         shaken_ ? "" : " in the TLS handshake");
  }
  in_end_ = *n;
  co_return Status();
}

Task<Status> TlsCore::handshake() {
  while (true) {
    ERR_clear_error();
    const int done = SSL_do_handshake(ssl_.get());
    const int why = SSL_get_error(ssl_.get(), done);
    std::optional<Error> failed;
    if (done != 1 && why != SSL_ERROR_WANT_READ) failed = failure("the handshake of", why);
    // Also when it has failed: the alert tells the peer why.
    Status sent = co_await flush();
    if (failed) {
      // With bytes unread, closing would reset the connection and take the alert with it.
      if (refusal_ && sent.ok()) {
        Gate gate;
        CancelSource over;
        const MonoTime until = endpoint_.clock().now() + kFarewellTime;
        spawn(gate, close_at(endpoint_.clock(), until, over, *inner_));
        bool more = true;
        while (more) {
          Status got = co_await fill();
          more = got.ok();
        }
        over.cancel();
        co_await gate.close();
      }
      co_return std::move(*failed);
    }
    HF_CO_TRY(sent);
    if (done == 1) break;
    Status got = co_await fill();
    HF_CO_TRY(got);
  }
  const unsigned char* protocol = nullptr;
  unsigned length = 0;
  SSL_get0_alpn_selected(ssl_.get(), &protocol, &length);
  if (length == 0) {
    co_return make_error(ErrorCode::kProtocol, "{} did not say which protocol it speaks", peer_);
  }
  shaken_ = true;
  if (identity_) peer_ = fmt::format("node {} at {}", identity_->node.to_string(), inner_->peer());
  co_return Status();
}

Task<Result<size_t>> TlsCore::read_some(MutableByteSpan out) {
  HF_ASSERT(!reading_, "two reads of {} at once", peer_);
  HF_ASSERT(!out.empty());
  Busy busy(&reading_);
  while (true) {
    if (ended_) co_return why_ended();
    size_t total = 0;
    int why = SSL_ERROR_NONE;
    while (total < out.size() && why == SSL_ERROR_NONE) {
      size_t n = 0;
      ERR_clear_error();
      const int done = SSL_read_ex(ssl_.get(), out.data() + total, out.size() - total, &n);
      total += n;
      if (done != 1) why = SSL_get_error(ssl_.get(), done);
    }
    const bool wants_more = why == SSL_ERROR_NONE || why == SSL_ERROR_WANT_READ;
    if (!wants_more && why != SSL_ERROR_ZERO_RETURN) ended_ = failure("reading from", why);
    if (total > 0 || why == SSL_ERROR_ZERO_RETURN) co_return total;
    if (ended_) co_return why_ended();
    Status got = co_await fill();
    if (!got.ok() && !ended_) ended_ = got.error();
  }
}

Status TlsCore::encrypt(ByteSpan plain) {
  if (records_ >= endpoint_.rekey_records_) {
    HF_PROBE("tls.rekeyed");
    records_ = 0;
    if (SSL_key_update(ssl_.get(), SSL_KEY_UPDATE_NOT_REQUESTED) != 1) {
      return failure("changing keys with", SSL_ERROR_SSL);
    }
  }
  size_t n = 0;
  ERR_clear_error();
  const int done = SSL_write_ex(ssl_.get(), plain.data(), plain.size(), &n);
  if (done != 1) return failure("writing to", SSL_get_error(ssl_.get(), done));
  HF_ASSERT(n == plain.size(), "{} of {}", n, plain.size());
  ++records_;
  return Status();
}

Task<Status> TlsCore::write_all(std::span<const ByteSpan> segments) {
  HF_ASSERT(!writing_, "two writes to {} at once", peer_);
  Busy busy(&writing_);
  size_t at = 0, sent = 0;  // segment, and bytes of it
  auto rest = [&]() -> ByteSpan {
    while (at < segments.size() && sent == segments[at].size()) ++at, sent = 0;
    return at < segments.size() ? segments[at].subspan(sent) : ByteSpan();
  };
  while (!rest().empty()) {
    if (ended_) co_return why_ended();
    while (!rest().empty() && out_.size() < kOutBytes) {
      ByteSpan plain = rest().first(std::min(rest().size(), kRecordBytes));
      sent += plain.size();
      // Short pieces share a record: one less is worth more than the copy. A single piece is not
      // copied.
      if (plain.size() < kRecordBytes && !rest().empty()) {
        gather_.assign(plain.begin(), plain.end());
        while (!rest().empty() && gather_.size() < kRecordBytes) {
          plain = rest().first(std::min(rest().size(), kRecordBytes - gather_.size()));
          gather_.insert(gather_.end(), plain.begin(), plain.end());
          sent += plain.size();
        }
        plain = gather_;
      }
      Status encrypted = encrypt(plain);
      if (!encrypted.ok()) {
        if (!ended_) ended_ = encrypted.error();
        co_return why_ended();
      }
    }
    Status flushed = co_await flush();
    if (!flushed.ok() && !ended_) ended_ = flushed.error();
  }
  if (ended_) co_return why_ended();
  co_return Status();
}

bool TlsCore::begin_farewell() {
  const bool silent = ended_.has_value() || !shaken_ || writing_;
  if (!ended_) ended_ = make_error(ErrorCode::kClosed, "connection to {} is closed", peer_);
  if (silent) return false;
  ERR_clear_error();
  (void)SSL_shutdown(ssl_.get());
  (void)openssl_reason();
  return true;
}

Task<void> TlsCore::farewell() {
  Gate gate;
  CancelSource said;
  std::function<void()> hurry = [this] { inner_->close(); };
  CancelCallback on_stop(&endpoint_.stopping_, hurry);
  const MonoTime until = endpoint_.clock().now() + kFarewellTime;
  spawn(gate, close_at(endpoint_.clock(), until, said, *inner_));
  Status sent = co_await flush();
  said.cancel();
  co_await gate.close();
  inner_->close();
}

}  // namespace hf::auth
