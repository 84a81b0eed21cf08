// Join tokens: what a person carries from the cluster to a new node, as one word.
//
//   hf1.<base32>    docs/formats/trust.md
//
// Says where to ask, whom to trust there (the CA's fingerprint, before anything else is believed),
// and with which secret. The cluster keeps only a hash of the secret. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "auth/ca.h"
#include "runtime/random.h"

namespace hf::auth {

// Names a token in the state store and in lists; not secret.
using TokenId = Id<struct TokenIdTag>;

// 128 bits, wiped with its owner, never printed.
class JoinSecret {
 public:
  static constexpr size_t kBytes = 16;
  JoinSecret() = default;
  explicit JoinSecret(ByteSpan bytes);
  static JoinSecret make(Random& random);
  JoinSecret(const JoinSecret&) = default;
  JoinSecret& operator=(const JoinSecret&) = default;
  ~JoinSecret();
  ByteSpan bytes() const { return bytes_of(bytes_); }
  // What the cluster keeps. The secret is random, so a plain hash is enough.
  Hash hash(TokenId token) const;

 private:
  std::array<uint8_t, kBytes> bytes_{};
};

struct JoinToken {
  JoinToken() = default;
  ClusterId cluster;
  TokenId id;
  Fingerprint authority{};
  JoinSecret secret;
  std::vector<std::string> addresses;  // "tcp:host:port", asked one after the other
};

inline constexpr size_t kMaxTokenAddresses = 4;
inline constexpr size_t kMaxAddressBytes = 255;
inline constexpr size_t kMaxTokenText = 2048;

// The text is a secret until the token is used or has expired: wipe() it.
std::string encode_token(const JoinToken& token);
// White space in it, as from a wrapped line, is ignored. kInvalidArgument: not a token, cut short,
// or mistyped (its checksum tells); kNewerFormat: of a newer version. No message repeats the text.
Result<JoinToken> decode_token(std::string_view text);

}  // namespace hf::auth
