// TrustStore: whom the cluster trusts, kept in the state store: its CAs, join tokens, nodes and
// their names.
//
// Every change is one compare-and-set transaction whose outcome is known or told as unknown; all of
// them may be asked again. What a certificate is to say comes from here and from nowhere else:
// callers get a CertificateOrder and sign it.
//
// One loop. Errors besides the ones named: those of the state store (kUnavailable, kAmbiguous: ask
// again).
#pragma once

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "auth/records.h"
#include "auth/token.h"
#include "runtime/cancel.h"
#include "runtime/random.h"
#include "state/kv_store.h"

namespace hf::auth {

inline constexpr Duration kTokenLife = std::chrono::hours(1);  // unless asked for otherwise
inline constexpr Duration kTokenLifeMax = std::chrono::hours(7 * 24);
// Who lost the answer may ask again with the same key for so long, and gets the same certificate.
inline constexpr Duration kRepeatTime = std::chrono::hours(1);
inline constexpr Duration kTokenKept =
    std::chrono::hours(24);  // after its end, so that it is told as expired or used
inline constexpr size_t kMaxTokens = 100;
inline constexpr size_t kMaxNodes = 10'000;

struct TokenWish {
  TokenWish() = default;
  Duration life = kTokenLife;
  bool signer = false;                 // see TokenRecord
  std::vector<std::string> names;      // see TokenRecord
  std::vector<std::string> addresses;  // where the token says to ask
};

// What somebody with a token says.
struct JoinClaim {
  JoinClaim() = default;
  TokenId token;
  JoinSecret secret;
  std::string public_der;          // of a request whose proof holds
  std::vector<std::string> names;  // what others are to call it; as said, not yet checked
};

struct Admission {
  Admission() = default;
  CertificateOrder order;
  bool signer = false;
};

// May this claim use this token now? True: for the first time; false: again, by who used it.
// Errors: kUnauthenticated (wrong), kPermissionDenied (used already), kFailedPrecondition
// (expired). Pure.
Result<bool> judge_claim(const TokenRecord& token, const JoinClaim& claim, WallTime now);

class TrustStore {
 public:
  TrustStore(state::KvStore& store, Clock& clock, Random& random);

  // The first node: its CA and itself. Again with the same CA and key: the same answer.
  // kAlreadyExists when the state store has another cluster's trust.
  Task<Result<Admission>> found(Certificate authority, NodeId node, std::string public_der,
                                std::vector<std::string> names);
  // kNotFound before found().
  Task<Result<CaRecord>> authorities();

  // kLimitExceeded beyond kMaxTokens. The secret exists only in the answer.
  Task<Result<JoinToken>> make_token(TokenWish wish);
  Task<Result<std::vector<TokenRecord>>> tokens();
  Task<Status> remove_token(TokenId token);  // gone already: success

  // Uses the token: once, whatever happens to answers. Errors: those of judge_claim; kInUse (a name
  // that belongs to another node); kInvalidArgument (a name that is none).
  Task<Result<Admission>> admit(JoinClaim claim);
  // A new certificate for a node that is known and not revoked, for its present key or a new one.
  // Again within kRepeatTime for the same key: the same one. kLimitExceeded beyond kMaxCertificates
  // alive. `ended_key`: what the node has proved itself by, if that is the key of a certificate
  // that has ended; it must be the newest that the cluster knows of it (kUnauthenticated), so that
  // old copies of a disk are nothing.
  Task<Result<Admission>> renew(NodeId node, std::string public_der, std::string ended_key = "");

  // For good: its certificates are refused from now on, its names are free. kNotFound for nobody.
  Task<Status> revoke(NodeId node);
  // A record that this version cannot read counts as not revoked, and is logged.
  Task<Result<std::set<NodeId>>> revoked();
  Task<Result<std::vector<NodeRecord>>> nodes();

  // Tells `changed` which nodes are revoked, at once and whenever a node's record changes, until
  // `stop`. Goes on through failures of the state store; what was told last holds meanwhile.
  Task<void> follow_revoked(std::function<void(std::set<NodeId>)> changed, CancelToken stop);

 private:
  template <typename Record>
  Task<Result<std::optional<std::pair<Record, state::Revision>>>> read(std::string key);
  TrustStamp stamp(uint64_t generation) const;
  IssuedCertificate new_certificate();
  Task<Result<Admission>> admitted_before(TokenRecord token, std::string public_der);
  Task<Status> sweep_tokens();

  state::KvStore& store_;
  Clock& clock_;
  Random& random_;
  const uint64_t writer_;
};

}  // namespace hf::auth
