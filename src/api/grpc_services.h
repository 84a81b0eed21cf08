// The gRPC services; one factory per file below v1/ and sdk/.
#pragma once

#include <grpcpp/impl/codegen/service_type.h>

#include <memory>
#include <string>
#include <vector>

#include "api/cluster_admin.h"
#include "api/grpc_server.h"
#include "api/loop_bridge.h"
#include "cluster/control.h"

namespace hf::api {

// What every service needs. References outlive the server.
struct ServiceContext {
  cluster::Control& control;
  LoopBridge& bridge;
  std::string version;
  ClusterAdmin* admin;  // null: no membership service
};

std::unique_ptr<grpc::Service> make_v1_volumes(const ServiceContext& context);
std::unique_ptr<grpc::Service> make_v1_snapshots(const ServiceContext& context);
std::unique_ptr<grpc::Service> make_v1_pools(const ServiceContext& context);
std::unique_ptr<grpc::Service> make_v1_cluster(const ServiceContext& context);
std::unique_ptr<grpc::Service> make_v1_membership(const ServiceContext& context);
std::unique_ptr<grpc::Service> make_sdk_identity(const ServiceContext& context);
std::unique_ptr<grpc::Service> make_sdk_cluster(const ServiceContext& context);
std::unique_ptr<grpc::Service> make_sdk_node(const ServiceContext& context);
std::unique_ptr<grpc::Service> make_sdk_volume(const ServiceContext& context);
std::unique_ptr<grpc::Service> make_sdk_mount_attach(const ServiceContext& context);

// The server with these services alone. An empty tcp_address: on the Unix socket only.
Result<std::unique_ptr<GrpcServer>> serve_grpc(std::string unix_path, std::string tcp_address,
                                               std::vector<std::unique_ptr<grpc::Service>> services);

}  // namespace hf::api
