// The messages of joining, one question and one answer over "holdfast-join/1";
// docs/formats/trust.md. Pure: encode and decode. Decoders take what anybody may have sent: every
// length is bounded before it is believed, and nothing of it is repeated in an error.
#pragma once

#include <string>
#include <vector>

#include "auth/token.h"

namespace hf::auth {

inline constexpr size_t kJoinHeadBytes = 20;
inline constexpr size_t kMaxAskBytes = 8 * 1024;
inline constexpr size_t kMaxAnswerBytes = 64 * 1024;
inline constexpr size_t kMaxMessageBytes = 1024;
inline constexpr size_t kMaxEndpoints = 16;

// From a new node, or, without a token, from one that wants a new certificate and has shown its
// present one.
struct JoinAsk {
  JoinAsk() = default;
  ClusterId cluster;
  TokenId token;  // nil: a renewal
  JoinSecret secret;
  WallTime wall;                   // of who asks
  std::string request;             // PKCS#10, DER
  std::vector<std::string> names;  // DNS names and addresses that others reach it by
};

struct JoinAnswer {
  JoinAnswer() = default;
  ErrorCode code = ErrorCode::kOk;  // everything below `wall` is there for kOk only
  std::string message;
  WallTime wall;  // of who answers
  NodeId node;
  std::string certificate;               // DER
  std::vector<std::string> authorities;  // DER
  std::string signer_pem;  // key and certificate of the CA, for who is to sign too; a secret
  std::vector<std::string>
      endpoints;  // of the state store, for people's eyes and for the state room
};

enum class JoinMessage : uint16_t { kAsk = 1, kAnswer = 2 };

struct JoinHead {
  uint32_t length = 0;  // of what follows
  uint32_t crc = 0;
};
// kProtocol: not such a message, or too long for its kind; kNewerFormat.
Result<JoinHead> decode_join_head(ByteSpan head, JoinMessage wanted);

// Head and body. Bounds are the caller's to keep (asserted).
std::string encode_ask(const JoinAsk& ask);
std::string encode_answer(const JoinAnswer& answer);
// `body` is what the head announced. kProtocol for everything that encode cannot have made.
Result<JoinAsk> decode_ask(const JoinHead& head, ByteSpan body);
Result<JoinAnswer> decode_answer(const JoinHead& head, ByteSpan body);

}  // namespace hf::auth
