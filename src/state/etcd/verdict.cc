#include "state/etcd/verdict.h"

namespace hf::state {
namespace {

// gRPC's status codes by number.
constexpr int kInvalid = 3, kDeadline = 4, kMissing = 5, kPermission = 7, kPrecondition = 9,
              kOutOfRange = 11, kUnavailableCode = 14, kUnauthenticatedCode = 16;

constexpr std::string_view kFromEtcd = "etcdserver: ";

enum class Next : uint8_t { kEnd, kAgain, kElsewhere, kRenew, kNoAuth };

// Refusals of etcd's, each given before anything was proposed, or by the state machine instead of
// applying: the request did not happen.
struct Refusal {
  std::string_view message;  // behind kFromEtcd
  ErrorCode code;
  Next next;
};
constexpr Refusal kRefusals[] = {
    {"no leader", ErrorCode::kUnavailable, Next::kElsewhere},
    {"not capable", ErrorCode::kUnavailable, Next::kElsewhere},
    {"rpc not supported for learner", ErrorCode::kUnavailable, Next::kElsewhere},
    {"too many requests", ErrorCode::kUnavailable, Next::kAgain},
    {"revision of auth store is old", ErrorCode::kUnavailable, Next::kRenew},
    {"invalid auth token", ErrorCode::kUnauthenticated, Next::kRenew},
    {"user name is empty", ErrorCode::kUnauthenticated, Next::kRenew},
    {"authentication is not enabled", ErrorCode::kUnavailable, Next::kNoAuth},
    {"authentication failed, invalid user ID or password", ErrorCode::kUnauthenticated, Next::kEnd},
    {"user name not found", ErrorCode::kUnauthenticated, Next::kEnd},
    {"permission denied", ErrorCode::kPermissionDenied, Next::kEnd},
    {"mvcc: database space exceeded", ErrorCode::kNoSpace, Next::kEnd},
    {"requested lease not found", ErrorCode::kNotFound, Next::kEnd},
    {"mvcc: required revision has been compacted", ErrorCode::kConflict, Next::kEnd},
    {"corrupt cluster", ErrorCode::kCorruption, Next::kEnd},
    {"unhealthy cluster", ErrorCode::kFailedPrecondition, Next::kEnd},
    {"re-configuration failed due to not enough started members", ErrorCode::kFailedPrecondition,
     Next::kEnd},
    {"can only promote a learner member which is in sync with leader",
     ErrorCode::kFailedPrecondition, Next::kEnd},
    {"member ID already exist", ErrorCode::kAlreadyExists, Next::kEnd},
    {"Peer URLs already exists", ErrorCode::kAlreadyExists, Next::kEnd},
    {"member not found", ErrorCode::kNotFound, Next::kEnd},
    {"too many learner members in cluster", ErrorCode::kFailedPrecondition, Next::kEnd},
};

EtcdVerdict refused(const Refusal& refusal) {
  EtcdVerdict verdict;
  verdict.code = refusal.code;
  verdict.again = refusal.next != Next::kEnd;
  verdict.suspect = refusal.next == Next::kElsewhere;
  verdict.renew_token = refusal.next == Next::kRenew;
  verdict.auth_is_off = refusal.next == Next::kNoAuth;
  return verdict;
}

// Refusals whose words are not known here: by their class, as far as it excludes a proposal.
bool refused_by_class(int grpc_code, ErrorCode* code) {
  switch (grpc_code) {
    case kInvalid:
    case kOutOfRange:
      *code = ErrorCode::kInvalidArgument;
      return true;
    case kMissing:
      *code = ErrorCode::kNotFound;
      return true;
    case kPermission:
      *code = ErrorCode::kPermissionDenied;
      return true;
    case kPrecondition:
      *code = ErrorCode::kFailedPrecondition;
      return true;
    case kUnauthenticatedCode:
      *code = ErrorCode::kUnauthenticated;
      return true;
    default:
      return false;
  }
}

}  // namespace

EtcdVerdict judge(int grpc_code, std::string_view message, CallKind kind) {
  EtcdVerdict verdict;
  if (message.starts_with(kFromEtcd)) {
    const std::string_view words = message.substr(kFromEtcd.size());
    for (const Refusal& refusal : kRefusals) {
      if (words == refusal.message) return refused(refusal);
    }
    if (refused_by_class(grpc_code, &verdict.code)) return verdict;
  }
  verdict.suspect = grpc_code == kUnavailableCode || grpc_code == kDeadline;
  if (kind == CallKind::kWrite) {
    verdict.code = ErrorCode::kAmbiguous;
  } else {
    verdict.code = ErrorCode::kUnavailable;
    verdict.again = true;
  }
  return verdict;
}

}  // namespace hf::state
