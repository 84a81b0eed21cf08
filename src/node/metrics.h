// /metrics in the Prometheus text format, and /healthz. The text is made on the loop from the counters as
// they are; nothing is kept twice.
#pragma once

#include <string>

#include "api/http/server.h"
#include "api/loop_bridge.h"
#include "cluster/control.h"
#include "node/replicated_volumes.h"
#include "node/store_host.h"

namespace hf::node {

// Loop thread.
// `volumes`: null on a node that is alone.
std::string metrics_text(const StoreHost& host, const ReplicatedVolumes* volumes, const std::string& version);

// GET /healthz: 200 {"healthy":true} or 503 with the problems. GET /metrics. Any API thread.
class HttpApi {
 public:
  HttpApi(cluster::Control& control, StoreHost& host, ReplicatedVolumes* volumes, api::LoopBridge& bridge,
          std::string version)
      : control_(control), host_(host), volumes_(volumes), bridge_(bridge), version_(std::move(version)) {}
  api::HttpResponse handle(const api::HttpRequest& request);

 private:
  Task<Result<std::string>> metrics();
  cluster::Control& control_;
  StoreHost& host_;
  ReplicatedVolumes* volumes_;
  api::LoopBridge& bridge_;
  std::string version_;
};

}  // namespace hf::node
