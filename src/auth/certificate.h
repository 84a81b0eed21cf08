// Keys, certificates and requests for them, as values.
//
// All keys are ECDSA on P-256 (docs/decisions/cluster-trust.md says why); another kind is refused
// where it comes in. A node's certificate carries who it is in one URI:
// holdfast://<cluster>/node/<node>. What it was signed for stands in a CertificateOrder, which
// comes out of the cluster's own records, never out of a request. Pure, but for making keys, which
// asks OpenSSL's generator.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "auth/crypto.h"
#include "base/id.h"
#include "runtime/clock.h"

namespace hf::auth {

struct PeerIdentity {
  ClusterId cluster;
  NodeId node;
  auto operator<=>(const PeerIdentity&) const = default;
};

// Shared by its copies. Null until made or read.
class PrivateKey {
 public:
  PrivateKey() = default;
  static PrivateKey make();
  // PKCS#8. kCorruption for what is no key, kNotSupported for one that is not ECDSA P-256.
  static Result<PrivateKey> from_pem(std::string_view pem);

  explicit operator bool() const { return key_ != nullptr; }
  std::string pem() const;         // a secret: wipe() it
  std::string public_der() const;  // SubjectPublicKeyInfo
  EVP_PKEY* get() const { return key_.get(); }

 private:
  explicit PrivateKey(Owned<EVP_PKEY> key) : key_(std::move(key)) {}
  std::shared_ptr<EVP_PKEY> key_;
};

// Shared by its copies. Null until read or issued.
class Certificate {
 public:
  static constexpr size_t kMaxDerBytes = 8 * 1024;

  Certificate() = default;
  explicit Certificate(Owned<X509> certificate) : x509_(std::move(certificate)) {}
  // kCorruption for what is no certificate (or more than one, or too large).
  static Result<Certificate> from_der(ByteSpan der);
  static Result<Certificate> from_pem(std::string_view pem);

  explicit operator bool() const { return x509_ != nullptr; }
  std::string der() const;
  std::string pem() const;
  Hash fingerprint() const;  // of the DER
  std::string public_der() const;
  std::string serial() const;  // hexadecimal
  WallTime not_before() const;
  WallTime not_after() const;
  // The alternative names as text: "uri:…", "dns:…", "ip:…".
  std::vector<std::string> names() const;
  // Of a node's certificate. Says nothing about whether it is to be trusted. kUnauthenticated if it
  // has no such URI, more than one, or one that is malformed.
  Result<PeerIdentity> identity() const;
  // Of a CA's certificate: holdfast://<cluster>.
  Result<ClusterId> authority_of() const;
  X509* get() const { return x509_.get(); }

 private:
  std::shared_ptr<X509> x509_;
};

// A request to sign a public key (PKCS#10, DER). Carries nothing but the key and the proof that the
// sender has it: everything else is the signer's to say.
std::string make_request(const PrivateKey& key);
inline constexpr size_t kMaxRequestBytes = 2048;
// The public key (SubjectPublicKeyInfo, DER) of a request whose proof holds; what else it may say
// is not looked at. kUnauthenticated without the proof, kInvalidArgument for what is no request or
// of another kind of key.
Result<std::string> key_of_request(ByteSpan request);

// How others call a node: a DNS name in lower case, or an IP address in one fixed form.
// kInvalidArgument for what is neither, and for names that every node has (localhost and the like)
// or that are nobody's (0.0.0.0,
// *.holdfast.internal).
Result<std::string> canonical_name(std::string_view name);
inline constexpr size_t kMaxNames = 8;  // of one node

}  // namespace hf::auth
