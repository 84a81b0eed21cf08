// The Docker volume plugin, protocol v1.2 (docs.docker.com/engine/extend/plugins_volume; what clients
// really send: docs/schedulers/docker.md).
//
// Names. A client's string is a plain name or an inline spec and is always repeated in the answers as
// the client gave it: Docker takes another string for another volume. Get of an inline spec that does
// not agree with the volume of that name answers "no such volume", so that Docker goes on to Create,
// whose error shows the difference; otherwise the mismatch could never be seen.
//
// Mount and Unmount carry an ID that is unique per container start: it is the holder.
#pragma once

#include <string>

#include "api/http/server.h"
#include "api/loop_bridge.h"
#include "cluster/control.h"

namespace hf::api {

class DockerPlugin {
 public:
  // `scope`: "local" on a node with the embedded store, "global" in a cluster.
  DockerPlugin(cluster::Control& control, LoopBridge& bridge, std::string scope)
      : control_(control), bridge_(bridge), scope_(std::move(scope)) {}

  // Answers one call; errors travel in "Err" with status 200 (Docker shows status codes badly).
  // Any thread but the loop's; blocks.
  HttpResponse handle(const HttpRequest& request);

 private:
  struct Call;
  Result<std::string> dispatch(const Call& call);
  Result<std::string> create(const Call& call);
  Result<std::string> remove(const Call& call);
  Result<std::string> mount(const Call& call);
  Result<std::string> unmount(const Call& call);
  Result<std::string> path(const Call& call);
  Result<std::string> get(const Call& call);
  Result<std::string> list();
  Result<cluster::VolumeInfo> find(const std::string& client_name);

  cluster::Control& control_;
  LoopBridge& bridge_;
  std::string scope_;
};

}  // namespace hf::api
