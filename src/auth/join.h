// Joining: how a node comes to have credentials of a cluster, and how it renews them.
//
//   new node                                   a node that signs (JoinService)
//   token → connect, TLS ─────────────────────► shows its certificate and the CA's; the fingerprint
//   in
//                                               the token decides whether the new node believes it
//   secret, key, names, its clock ────────────► token used by compare-and-set, certificate signed
//   from the
//                                               cluster's record
//   certificate, CAs (and the CA's key) ◄──────
//
// A lost answer: ask again with the same key, which is kept on disk until then. Renewal is the same
// question without a token, by a node that shows its present certificate, ended or not.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "auth/join_wire.h"
#include "auth/tls.h"
#include "auth/trust_files.h"
#include "auth/trust_store.h"
#include "runtime/world.h"

namespace hf::auth {

// Clocks further apart than this do not join: certificates and schedules would surprise people
// later.
inline constexpr Duration kMaxClockSkew = 10min;
inline constexpr Duration kAskTime = 10s;     // for the question to arrive after the handshake
inline constexpr Duration kAnswerTime = 30s;  // for the answer to come
inline constexpr Duration kWrongTokenPause = 500ms;  // who is wrong waits, in one of few places
inline constexpr size_t kMaxAsking = 16;             // at a time

class JoinService {
 public:
  // Signs with `authority`; shows `credentials`. `endpoints` says where the state store is, when
  // asked.
  JoinService(World world, TrustStore& store, Authority authority, Credentials credentials,
              std::function<std::vector<std::string>()> endpoints);
  ~JoinService();

  // Listens and answers until stop(). The address with the port that the system chose: address().
  Task<Status> start(std::string address);
  const std::string& address() const { return address_; }
  Task<void> stop();

  void replace(Credentials credentials) { tls_.replace(std::move(credentials)); }
  void set_revoked(std::set<NodeId> nodes) { tls_.set_revoked(std::move(nodes)); }

 private:
  Task<void> accept_all();
  Task<void> serve(std::unique_ptr<Stream> stream);
  Task<JoinAnswer> answer(JoinAsk ask, const TlsStream& peer);
  Task<Result<Admission>> decide(const JoinAsk& ask, const TlsStream& peer);

  World world_;
  TrustStore& store_;
  const Authority authority_;
  CaBundle bundle_;
  const std::function<std::vector<std::string>()> endpoints_;
  TlsEndpoint tls_;
  std::unique_ptr<Listener> listener_;
  std::string address_;
  Semaphore room_{kMaxAsking};
  Gate gate_;
};

// What a node has after it has joined.
struct Membership {
  Membership() = default;
  PeerIdentity self;
  Credentials credentials;
  Authority signer;  // null on a node that does not sign
  std::vector<std::string> endpoints;
};

// On a new node: asks by the token, checks what comes, and keeps it (trust_files.h). May be asked
// again with the same token after any failure or crash; the key that it asks with stays for that
// until the caller, who has more to do before the node is a member, says forget_joining(). Errors, besides those of the cluster's
// answer (TrustStore::admit): kAlreadyExists (this node is a member already), kWrongOwner (of
// another cluster), kFailedPrecondition (clocks too far apart), kUnavailable (none of the token's
// addresses answers; says why each did not).
Task<Result<Membership>> join_cluster(World world, TrustFiles& files, JoinToken token,
                                      std::vector<std::string> names);

// On the first node: makes its CA and itself, in the state store and on disk. May be asked again.
Task<Result<Membership>> found_cluster(World world, TrustFiles& files, TrustStore& store,
                                       ClusterId cluster, NodeId node,
                                       std::vector<std::string> names);

// True from kRenewAfter on.
bool wants_renewal(const Certificate& certificate, WallTime now);
// A new key and certificate from the node at `address` that signs; kept on disk.
Task<Result<Credentials>> renew_from(World world, TrustFiles& files, Credentials present,
                                     std::string address);
// The same on a node that signs itself; needs nobody else but the state store.
Task<Result<Credentials>> renew_here(TrustFiles& files, TrustStore& store, Authority authority,
                                     Credentials present);

// On a node that signs, when the certificate has ended and the state store cannot come up without
// one: the same key and names, for another kCertificateLife, on this node's own word. Only in
// memory: TrustFiles::save() it, and renew_here() once the state store is there, which writes it
// down.
Result<Credentials> extend_own(const Authority& authority, const Credentials& present, WallTime now,
                               Random& random);

}  // namespace hf::auth
