#include "api/grpc_server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/resource_quota.h>
#include <sys/stat.h>
#include <unistd.h>

#include <mutex>
#include <vector>

#include "api/grpc_services.h"
#include "api/grpc_status.h"
#include "base/log.h"

namespace hf::api {
namespace {

constexpr int kMaxThreads = 32;
constexpr int kMaxMessageBytes = 4 * 1024 * 1024;
constexpr std::chrono::seconds kStopGrace{5};

class Server : public GrpcServer {
 public:
  Server(std::string unix_path, std::vector<std::unique_ptr<grpc::Service>> services)
      : unix_path_(std::move(unix_path)), services_(std::move(services)) {}
  ~Server() override { stop(); }

  Status open(const std::string& tcp_address) {
    static std::once_flag plugins;
    std::call_once(plugins, [] {
      grpc::EnableDefaultHealthCheckService(true);
      grpc::reflection::InitProtoReflectionServerBuilderPlugin();
    });
    grpc::ServerBuilder builder;
    grpc::ResourceQuota quota("holdfast-api");
    quota.SetMaxThreads(kMaxThreads);
    builder.SetResourceQuota(quota);
    builder.SetMaxReceiveMessageSize(kMaxMessageBytes);
    builder.SetSyncServerOption(grpc::ServerBuilder::SyncServerOption::MAX_POLLERS, 2);
    builder.SetSyncServerOption(grpc::ServerBuilder::SyncServerOption::NUM_CQS, 1);
    int tcp_port = 0;
    builder.AddListeningPort("unix:" + unix_path_, grpc::InsecureServerCredentials());
    if (!tcp_address.empty()) {
      builder.AddListeningPort(tcp_address, grpc::InsecureServerCredentials(), &tcp_port);
    }
    for (const auto& service : services_) builder.RegisterService(service.get());
    ::unlink(unix_path_.c_str());  // the daemon's own lock says that nobody else serves it
    const mode_t old_mask = ::umask(0177);
    server_ = builder.BuildAndStart();
    ::umask(old_mask);
    if (server_ == nullptr || (!tcp_address.empty() && tcp_port == 0)) {
      return make_error(ErrorCode::kInUse,
                        "cannot serve gRPC on unix:{}{}{}: the address is taken or not permitted",
                        unix_path_, tcp_address.empty() ? "" : " and ", tcp_address);
    }
    return {};
  }

  void stop() override {
    if (server_ == nullptr) return;
    server_->Shutdown(std::chrono::system_clock::now() + kStopGrace);
    server_->Wait();
    server_.reset();
    ::unlink(unix_path_.c_str());
  }

 private:
  std::string unix_path_;
  std::vector<std::unique_ptr<grpc::Service>> services_;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace

grpc::Status to_grpc(const Error& error, grpc::ServerContext* context) {
  const ErrorInfo& info = error.info();
  context->AddTrailingMetadata(
      kErrorTrailer, fmt::format("HF{} {}", static_cast<int>(info.code), info.name));
  return grpc::Status(static_cast<grpc::StatusCode>(info.grpc_status), error.message());
}

Result<std::unique_ptr<GrpcServer>> serve_grpc(std::string unix_path, std::string tcp_address,
                                               std::vector<std::unique_ptr<grpc::Service>> services) {
  auto server = std::make_unique<Server>(std::move(unix_path), std::move(services));
  HF_TRY(server->open(tcp_address));
  return std::unique_ptr<GrpcServer>(std::move(server));
}

Result<std::unique_ptr<GrpcServer>> GrpcServer::start(GrpcServerOptions options,
                                                      cluster::Control& control,
                                                      LoopBridge& bridge) {
  const ServiceContext context{control, bridge, options.version, options.admin};
  std::vector<std::unique_ptr<grpc::Service>> services;
  for (auto* make : {&make_v1_volumes, &make_v1_snapshots, &make_v1_pools, &make_v1_cluster,
                     &make_sdk_identity, &make_sdk_cluster, &make_sdk_node, &make_sdk_volume,
                     &make_sdk_mount_attach}) {
    services.push_back(make(context));
  }
  if (context.admin != nullptr) services.push_back(make_v1_membership(context));
  return serve_grpc(std::move(options.unix_path), std::move(options.tcp_address), std::move(services));
}

}  // namespace hf::api
