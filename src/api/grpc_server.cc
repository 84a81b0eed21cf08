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
  Server(GrpcServerOptions options, cluster::Control& control, LoopBridge& bridge)
      : options_(std::move(options)), context_{control, bridge, options_.version, options_.admin} {}
  ~Server() override { stop(); }

  Status open() {
    static std::once_flag plugins;
    std::call_once(plugins, [] {
      grpc::EnableDefaultHealthCheckService(true);
      grpc::reflection::InitProtoReflectionServerBuilderPlugin();
    });
    for (auto* make : {&make_v1_volumes, &make_v1_snapshots, &make_v1_pools, &make_v1_cluster,
                       &make_sdk_identity, &make_sdk_cluster, &make_sdk_node, &make_sdk_volume,
                       &make_sdk_mount_attach}) {
      services_.push_back(make(context_));
    }
    if (context_.admin != nullptr) services_.push_back(make_v1_membership(context_));
    grpc::ServerBuilder builder;
    grpc::ResourceQuota quota("holdfast-api");
    quota.SetMaxThreads(kMaxThreads);
    builder.SetResourceQuota(quota);
    builder.SetMaxReceiveMessageSize(kMaxMessageBytes);
    builder.SetSyncServerOption(grpc::ServerBuilder::SyncServerOption::MAX_POLLERS, 2);
    builder.SetSyncServerOption(grpc::ServerBuilder::SyncServerOption::NUM_CQS, 1);
    int tcp_port = 0;
    builder.AddListeningPort("unix:" + options_.unix_path, grpc::InsecureServerCredentials());
    if (!options_.tcp_address.empty()) {
      builder.AddListeningPort(options_.tcp_address, grpc::InsecureServerCredentials(), &tcp_port);
    }
    for (const auto& service : services_) builder.RegisterService(service.get());
    ::unlink(options_.unix_path.c_str());  // the daemon's own lock says that nobody else serves it
    const mode_t old_mask = ::umask(0177);
    server_ = builder.BuildAndStart();
    ::umask(old_mask);
    if (server_ == nullptr || (!options_.tcp_address.empty() && tcp_port == 0)) {
      return make_error(ErrorCode::kInUse,
                        "cannot serve gRPC on unix:{}{}{}: the address is taken or not permitted",
                        options_.unix_path, options_.tcp_address.empty() ? "" : " and ",
                        options_.tcp_address);
    }
    return {};
  }

  void stop() override {
    if (server_ == nullptr) return;
    server_->Shutdown(std::chrono::system_clock::now() + kStopGrace);
    server_->Wait();
    server_.reset();
    ::unlink(options_.unix_path.c_str());
  }

 private:
  GrpcServerOptions options_;
  ServiceContext context_;
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

Result<std::unique_ptr<GrpcServer>> GrpcServer::start(GrpcServerOptions options,
                                                      cluster::Control& control,
                                                      LoopBridge& bridge) {
  auto server = std::make_unique<Server>(std::move(options), control, bridge);
  HF_TRY(server->open());
  return std::unique_ptr<GrpcServer>(std::move(server));
}

}  // namespace hf::api
