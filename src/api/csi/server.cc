#include "api/csi/server.h"

#include "api/csi/context.h"
#include "api/grpc_services.h"

namespace hf::api {
namespace {

class CsiServer final : public GrpcServer {
 public:
  CsiServer(CsiServerOptions options, cluster::Control& control, VolumePlaces& places, LoopBridge& bridge)
      : context_{std::move(options), control, places, bridge, csi_driver::BusyNames()} {}
  ~CsiServer() override { stop(); }

  Status open() {
    std::vector<std::unique_ptr<grpc::Service>> services;
    for (auto* make : {&csi_driver::make_identity, &csi_driver::make_controller, &csi_driver::make_node}) {
      services.push_back(make(context_));
    }
    Result<std::unique_ptr<GrpcServer>> server =
        serve_grpc(context_.options.unix_path, std::string(), std::move(services));
    HF_TRY(server);
    server_ = std::move(*server);
    return {};
  }
  void stop() override {
    if (server_ != nullptr) server_->stop();
  }

 private:
  csi_driver::Context context_;
  std::unique_ptr<GrpcServer> server_;
};

}  // namespace

Result<std::unique_ptr<GrpcServer>> start_csi_server(CsiServerOptions options, cluster::Control& control,
                                                     VolumePlaces& places, LoopBridge& bridge) {
  auto server = std::make_unique<CsiServer>(std::move(options), control, places, bridge);
  HF_TRY(server->open());
  return std::unique_ptr<GrpcServer>(std::move(server));
}

}  // namespace hf::api
