// TLS for streams: TlsEndpoint makes a TlsStream of any connected Stream, TlsNetwork is a Network
// whose streams are all of that kind.
//
//   user ── TlsStream ── SSL (records, keys) ── buffers ── any Stream (sockets; the simulator's)
//
// TLS 1.3 only; both sides show a certificate of the cluster's CA; ALPN names the protocol, so that
// a port of another kind is told at once. Whom a peer is, is in its certificate (certificate.h).
// Refused: another cluster, another node than the one that was to be there (a port or address that
// changed hands), a revoked node, a certificate outside its time.
//
// A TlsStream keeps the contract of Stream, and adds: the end that the peer meant is told from one
// that somebody or something cut: without the peer's closing message read_some is kClosed, never 0.
// What was altered on the way is kProtocol. Keys are changed by the sender after kRekeyRecords
// records.
//
// One loop. Nothing here blocks it: a handshake costs some milliseconds of CPU at most (tls_bench). Memory of a stream:
// kInBytes + 2 × (kOutBytes + one record), and OpenSSL's own (about 50 KiB).
#pragma once

#include <memory>
#include <optional>
#include <set>
#include <string>

#include "auth/ca.h"
#include "base/intrusive_list.h"
#include "runtime/cancel.h"
#include "runtime/gate.h"
#include "runtime/net.h"

namespace hf::auth {

// What a node shows to others, and whom it believes.
struct Credentials {
  Credentials() = default;
  CaBundle bundle;
  Certificate certificate;
  PrivateKey key;
};

enum class TlsUse : uint8_t {
  kPeer,        // between nodes: "holdfast-peer/1", both show certificates
  kJoinAnswer,  // who lets nodes join: "holdfast-join/1"; who asks may have no certificate yet, or
                // one that has ended
  kJoinAsk,  // who wants to join: believes the CA with this fingerprint, and shows a certificate if
             // it has one
};

inline constexpr Duration kHandshakeTime = 5s;   // from accept to the end of the handshake
inline constexpr Duration kFarewellTime = 1s;    // for the closing message to leave
inline constexpr size_t kInBytes = 64 * 1024;    // read from the stream below at a time
inline constexpr size_t kOutBytes = 128 * 1024;  // encrypted before it is sent
inline constexpr uint64_t kRekeyRecords = 1u
                                          << 22;  // AES-GCM's own limit is 2^24.5 (RFC 8446, 5.5)
inline constexpr size_t kMaxHandshakes =
    64;  // of a listener: under way, or done and not accepted yet

class TlsCore;
class TlsEndpoint;

class TlsStream final : public Stream {
 public:
  ~TlsStream() override;
  Task<Result<size_t>> read_some(MutableByteSpan out) override;
  Task<Status> write_all(std::span<const ByteSpan> segments) override;
  // The closing message goes out behind what was written, then the stream below is closed, at the
  // latest after kFarewellTime; at once if a write is in flight. TlsEndpoint::stop() waits for
  // that.
  void close() override;
  const std::string& peer() const override;

  // Who is at the other end. Nothing only of somebody without a certificate (TlsUse::kJoinAnswer).
  const std::optional<PeerIdentity>& identity() const;
  // What it showed; null like identity().
  const Certificate& certificate() const;

 private:
  friend class TlsEndpoint;
  explicit TlsStream(std::shared_ptr<TlsCore> core) : core_(std::move(core)) {}
  std::shared_ptr<TlsCore> core_;
  bool closed_ = false;
};

// The identity of a stream that came out of a TlsNetwork; nothing of any other.
std::optional<PeerIdentity> peer_identity(const Stream& stream);

class TlsEndpoint {
 public:
  TlsEndpoint(Clock& clock, TlsUse use, Credentials credentials);
  // kJoinAsk: nothing is known but this.
  TlsEndpoint(Clock& clock, ClusterId cluster, Fingerprint authority);
  // stop() must have ended.
  ~TlsEndpoint();

  // From now on for new connections; those that exist stay.
  void replace(Credentials credentials);
  // The whole list. New connections of these are refused, those that exist end (kPermissionDenied).
  void set_revoked(std::set<NodeId> nodes);

  // The handshake over `inner`, within `timeout`. Errors: kTimeout; kWrongOwner (another cluster);
  // kUnauthenticated (not vouched for, or another node than `expected`); kPermissionDenied
  // (revoked); kFailedPrecondition (a clock); kProtocol (not TLS, or another protocol behind that
  // port); kClosed. On the connecting side the peer's refusal may come with the first read instead.
  Task<Result<std::unique_ptr<TlsStream>>> connect(std::unique_ptr<Stream> inner,
                                                   std::optional<NodeId> expected,
                                                   Duration timeout);
  Task<Result<std::unique_ptr<TlsStream>>> accept(std::unique_ptr<Stream> inner, Duration timeout);

  // Ends all streams (those that are still there are closed), handshakes and listeners, and waits
  // for them.
  Task<void> stop();

  Clock& clock() { return clock_; }
  Gate& gate() { return gate_; }
  // For tests: change keys after so many records.
  void set_rekey_records(uint64_t records) { rekey_records_ = records; }

 private:
  friend class TlsCore;
  Task<Result<std::unique_ptr<TlsStream>>> shake(std::unique_ptr<Stream> inner, bool server,
                                                 std::optional<NodeId> expected, Duration timeout);
  Result<PeerIdentity> judge(const Certificate& leaf, const std::vector<Certificate>& chain,
                             const std::optional<NodeId>& expected) const;
  static int verify_callback(X509_STORE_CTX* context, void* self);

  Clock& clock_;
  const TlsUse use_;
  Credentials credentials_;
  ClusterId pinned_cluster_;
  Fingerprint pinned_{};
  std::set<NodeId> revoked_;
  uint64_t rekey_records_ = kRekeyRecords;
  Owned<SSL_CTX> context_;
  IntrusiveList<TlsCore> open_;
  Gate gate_;
  CancelSource stopping_;
};

// TLS over another Network, as one peer talks to others. Handshakes of a listener run beside each
// other and are bounded in number and time, so that who connects and says nothing holds up nobody.
class TlsNetwork final : public Network {
 public:
  TlsNetwork(Network& inner, TlsEndpoint& endpoint) : inner_(inner), endpoint_(endpoint) {}
  Task<Result<std::unique_ptr<Listener>>> listen(std::string address,
                                                 ListenOptions options) override;
  // Any node of the cluster.
  Task<Result<std::unique_ptr<Stream>>> connect(std::string address, Duration timeout) override;
  // This node and no other.
  Task<Result<std::unique_ptr<Stream>>> connect_to(NodeId node, std::string address,
                                                   Duration timeout);

 private:
  Task<Result<std::unique_ptr<Stream>>> connect_any(std::optional<NodeId> node, std::string address,
                                                    Duration timeout);
  Network& inner_;
  TlsEndpoint& endpoint_;
};

}  // namespace hf::auth
