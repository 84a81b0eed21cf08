// What a failed request to etcd means. Pure; the one place where etcd's answers become our errors.
//
// The question that matters is whether a write may have happened. "No" only where etcd itself says
// why it refused, before it proposed anything (all of these messages begin with "etcdserver: "), or
// where the request was never handed to a connection (session.h decides that). Everything else,
// also every answer that is not known here, is "may have happened": kAmbiguous. Never a success.
#pragma once

#include <string_view>

#include "base/error.h"

namespace hf::state {

enum class CallKind : uint8_t {
  kRead,   // asking twice does no harm
  kWrite,  // sent once; after that only its answer ends it
};

struct EtcdVerdict {
  ErrorCode code = ErrorCode::kInternal;
  bool again = false;        // it did not happen (or is a read): ask again, maybe elsewhere
  bool suspect = false;      // the endpoint is not used until it has been probed
  bool renew_token = false;  // the token is not known (any more)
  bool auth_is_off = false;  // the server wants no token
};

// `grpc_code`: grpc::StatusCode as int, not 0.
EtcdVerdict judge(int grpc_code, std::string_view message, CallKind kind);

}  // namespace hf::state
