// The cluster's certificate authority: who signs, what is signed, and what is accepted.
//
// One self-signed CA per cluster at a time; the bundle of those that are accepted may hold several,
// so that one can be exchanged for another without a pause. Pure: the time is the caller's.
#pragma once

#include <string>
#include <vector>

#include "auth/certificate.h"
#include "runtime/random.h"

namespace hf::auth {

// A CA is replaced by rotation, long before.
inline constexpr Duration kAuthorityLife = std::chrono::hours(20 * 365 * 24);
// Short enough that a stolen key of a node ends by itself, long enough that a cluster may stand for
// a season.
inline constexpr Duration kCertificateLife = std::chrono::hours(90 * 24);
// Renewed from here on: a month remains for a cluster that is in trouble.
inline constexpr Duration kRenewAfter = std::chrono::hours(60 * 24);
// Certificates are valid from before they were made, for clocks that are behind.
inline constexpr Duration kBackdate = std::chrono::hours(1);

inline constexpr size_t kMaxAuthorities = 4;

// The first bytes of a CA certificate's SHA-256: in a join token they are all that the joiner
// trusts.
using Fingerprint = std::array<uint8_t, 16>;
Fingerprint fingerprint_of(const Certificate& authority);

// The CAs whose certificates are accepted; at least one, all of one cluster.
class CaBundle {
 public:
  CaBundle() = default;
  // kInvalidArgument for none, too many, not a CA, or of different clusters.
  static Result<CaBundle> of(std::vector<Certificate> authorities);
  static Result<CaBundle> from_pem(std::string_view pem);
  std::string pem() const;
  const std::vector<Certificate>& authorities() const { return authorities_; }
  bool empty() const { return authorities_.empty(); }
  ClusterId cluster() const { return cluster_; }
  bool has(const Fingerprint& fingerprint) const;

 private:
  std::vector<Certificate> authorities_;
  ClusterId cluster_;
};

// 128 random bits, in the form that certificates want.
std::string new_serial(Random& random);

// What to put into a certificate: out of the cluster's records, see the head of certificate.h.
struct CertificateOrder {
  CertificateOrder() = default;
  NodeId node;
  std::string public_der;
  std::vector<std::string>
      names;           // canonical; every certificate has localhost and the cluster's own besides
  std::string serial;  // 32 hexadecimal digits, the first below 8
  WallTime not_before, not_after;
};

class Authority {
 public:
  Authority() = default;
  // A new CA. `serial` as in CertificateOrder.
  static Authority make(ClusterId cluster, WallTime now, const std::string& serial);
  // kCorruption when the key is not the certificate's.
  static Result<Authority> of(Certificate certificate, PrivateKey key);

  // The same order gives the same certificate, but for the random part of the signature.
  Result<Certificate> issue(const CertificateOrder& order) const;
  // An X.509 revocation list of serials, for programs that know no node ids (etcd's
  // --client-crl-file).
  std::string revocation_list_pem(const std::vector<std::string>& serials, WallTime now) const;
  const Certificate& certificate() const { return certificate_; }
  const PrivateKey& key() const { return key_; }
  ClusterId cluster() const { return cluster_; }
  explicit operator bool() const { return static_cast<bool>(key_); }

 private:
  Certificate certificate_;
  PrivateKey key_;
  ClusterId cluster_;
};

// The DNS name that every node of a cluster answers to, for clients that dial whichever address.
std::string cluster_dns_name(ClusterId cluster);

struct CheckOptions {
  bool any_time =
      false;  // the holder's key counts, not the date: for the renewal of one that has ended
};
// Whether this is a certificate of a node of the bundle's cluster, at this time. Errors, each a
// sentence that names the node that it claims to be: kWrongOwner (of another cluster),
// kUnauthenticated (not signed by a CA of the bundle, forged, or not a node's), kFailedPrecondition
// (not valid yet or any more: says what the clock here says).
Result<PeerIdentity> check_certificate(const CaBundle& bundle, const Certificate& certificate,
                                       WallTime now, CheckOptions options = {});

}  // namespace hf::auth
