// What the cluster keeps in the state store about whom it trusts; docs/formats/trust.md. No secret
// is among it: of a join token only a hash, of keys only the public half.
//
//   holdfast/v1/trust/ca               which CAs are accepted, and which signs
//   holdfast/v1/trust/tokens/<token>   join tokens, used or not
//   holdfast/v1/trust/nodes/<node>     each node's key, names, certificates; whether it is revoked
//   holdfast/v1/trust/names/<name>     which node a DNS name or address belongs to
//
// The written form is that of every record (docs/formats/state.md): a line with kind, version and
// CRC32C, then one JSON object. A newer version is kNewerFormat, what encode cannot have written
// kCorruption. Pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "auth/ca.h"
#include "auth/token.h"

namespace hf::auth {

inline constexpr std::string_view kTrustPrefix = "holdfast/v1/trust/";
inline constexpr std::string_view kTokenPrefix = "holdfast/v1/trust/tokens/";
inline constexpr std::string_view kNodePrefix = "holdfast/v1/trust/nodes/";
std::string ca_key();
std::string token_key(TokenId token);
std::string node_key(NodeId node);
std::string name_key(const std::string& name);

// See cluster/records.h: no two writings have equal bytes.
struct TrustStamp {
  TrustStamp() = default;
  uint64_t generation = 0;
  uint64_t writer = 0;
};

struct CaRecord {
  static constexpr const char* kKind = "trust-ca";
  static constexpr uint32_t kVersion = 1;
  CaRecord() = default;
  TrustStamp stamp;
  ClusterId cluster;
  std::string bundle_pem;  // all that are accepted
  std::string signing;     // fingerprint (hexadecimal) of the one that signs
};

struct TokenRecord {
  static constexpr const char* kKind = "trust-token";
  static constexpr uint32_t kVersion = 1;
  TokenRecord() = default;
  TrustStamp stamp;
  TokenId id;
  std::string secret_hash;         // hexadecimal
  NodeId node;                     // who joins by it: chosen when the token was made
  bool signer = false;             // it is to carry the state store, and so a copy of the CA's key
  std::vector<std::string> names;  // when not empty: the only ones that the node may have
  WallTime created, expires;
  std::string used_by;  // public key (DER, hexadecimal) of who used it; "" while nobody has
  WallTime used;
};

struct IssuedCertificate {
  IssuedCertificate() = default;
  std::string serial;
  WallTime not_before, not_after;
};

struct NodeRecord {
  static constexpr const char* kKind = "trust-node";
  static constexpr uint32_t kVersion = 1;
  static constexpr size_t kMaxCertificates = 16;  // newest last; the ended ones go
  NodeRecord() = default;
  TrustStamp stamp;
  NodeId node;
  std::string public_key;  // DER, hexadecimal: of the newest certificate
  bool signer = false;
  std::vector<std::string> names;
  std::vector<IssuedCertificate> certificates;
  WallTime joined;
  WallTime revoked;  // 0: it is not
};

struct NameOwner {
  static constexpr const char* kKind = "trust-name";
  static constexpr uint32_t kVersion = 1;
  NameOwner() = default;
  TrustStamp stamp;
  NodeId node;
};

template <typename Record>
std::string encode_record(const Record& record);
// `key` names it in errors.
template <typename Record>
Result<Record> decode_record(std::string_view key, std::string_view text);

}  // namespace hf::auth
