// The CSI driver "holdfast": Identity, Controller and Node of the Container Storage Interface 1.x on a Unix socket of
// mode 0600. What each call does and why: README.md.
#pragma once

#include <memory>
#include <string>

#include "api/csi/places.h"
#include "api/grpc_server.h"
#include "api/loop_bridge.h"
#include "cluster/control.h"

namespace hf::api {

struct CsiServerOptions {
  std::string unix_path;
  std::string version;  // of the daemon
  std::string node;     // ids of this node and of its cluster: how schedulers are told where a volume can be used
  std::string cluster;
};

// Serving on return. The references outlive the server.
Result<std::unique_ptr<GrpcServer>> start_csi_server(CsiServerOptions options, cluster::Control& control,
                                                     VolumePlaces& places, LoopBridge& bridge);

}  // namespace hf::api
