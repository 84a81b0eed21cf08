// The gRPC server: OpenStorage SDK and holdfast.v1, with reflection and health checking, on a Unix socket
// (mode 0600) and optionally on a loopback TCP port.
//
// Handlers run on gRPC's own threads (bounded), block in LoopBridge::call, and touch nothing of the loop.
#pragma once

#include <memory>
#include <string>

#include "api/cluster_admin.h"
#include "api/loop_bridge.h"
#include "base/error.h"
#include "cluster/control.h"

namespace hf::api {

struct GrpcServerOptions {
  std::string unix_path;    // mandatory
  std::string tcp_address;  // "127.0.0.1:9100"; empty: none
  std::string version;      // of the daemon, for Identity.Version
  ClusterAdmin* admin = nullptr;  // null: no membership service
};

class GrpcServer {
 public:
  virtual ~GrpcServer() = default;  // stops
  // Serving on return.
  static Result<std::unique_ptr<GrpcServer>> start(GrpcServerOptions options,
                                                   cluster::Control& control, LoopBridge& bridge);
  // Accepts no more, waits up to 5 s for running calls, then cancels them. Idempotent.
  virtual void stop() = 0;
};

}  // namespace hf::api
