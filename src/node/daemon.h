// Daemon: everything of one node, started and stopped in order (README.md).
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "api/grpc_server.h"
#include "api/csi/server.h"
#include "api/docker/plugin.h"
#include "api/http/server.h"
#include "block/export_manager.h"
#include "block/uring_kernel_io.h"
#include "block/nbd/nbd_server.h"
#include "cluster/control_plane.h"
#include "mount/mounter.h"
#include "mount/pool_host.h"
#include "node/cluster_verbs.h"
#include "node/config.h"
#include "node/csi_places.h"
#include "node/export_adapter.h"
#include "node/membership.h"
#include "node/metrics.h"
#include "node/mount_adapter.h"
#include "node/node_link.h"
#include "node/replicated_volumes.h"
#include "node/store_host.h"
#include "runtime/cancel.h"
#include "state/held_store.h"
#include "uring/uring_world.h"

namespace hf::node {

// What the program around the daemon does for it. Loop thread.
struct DaemonHooks {
  std::function<void(std::string)> waiting;  // start() waits for this, in words
  std::function<void()> restart;             // end in order, then begin anew in the same process
};

class Daemon {
 public:
  Daemon(NodeConfig config, DaemonHooks hooks)
      : config_(std::move(config)), hooks_(std::move(hooks)) {}
  ~Daemon();

  // Everything up to serving. After an error, stop() must still be awaited. kCancelled: `stop` came
  // while the state store of a cluster was waited for.
  Task<Status> start(UringWorld& real, CancelToken stop);
  // The reverse. Exports are parked, containers wait for the next daemon. Idempotent.
  Task<void> stop();

  // While started. The state store: embedded, or the cluster's.
  state::KvStore& store();
  // Null on a node that is no member of a cluster.
  Membership* membership() { return membership_.get(); }

 private:
  Task<Status> prepare_directories();
  Task<Status> make_folder_of(std::string socket, std::string key);
  Task<Status> resolve_directories();
  Task<Result<std::unique_ptr<File>>> take_lock(std::string directory, std::string what);
  Task<Status> take_locks();
  Task<Status> start_state(CancelToken stop);
  Task<Status> open_embedded();
  Task<Status> start_control();
  Task<Status> start_replication();
  Task<Status> start_nbd();
  Task<void> end_holder();
  Status start_sockets();
  Status start_csi();
  void stop_sockets();

  NodeConfig config_;
  DaemonHooks hooks_;
  UringWorld* real_ = nullptr;
  Identity identity_;
  bool began_holder_ = false;  // by this start, which has not succeeded yet
  std::unique_ptr<File> lock_;      // of state_dir
  std::unique_ptr<File> run_lock_;  // of run_dir
  std::unique_ptr<state::KvStore> embedded_;  // of a node that is alone, behind
  std::unique_ptr<state::HeldStore> held_;    // this
  std::unique_ptr<Membership> membership_;    // or of a member
  std::unique_ptr<block::UringKernelIo> kernel_io_;
  std::unique_ptr<block::ExportManager> exports_;
  std::unique_ptr<NbdExports> nbd_exports_;
  std::unique_ptr<ExportAdapter> exporter_;
  std::unique_ptr<mount::PoolHost> pool_files_;
  std::unique_ptr<StoreHost> host_;
  std::unique_ptr<mount::Mounter> mounts_;
  std::unique_ptr<MountAdapter> mounter_;
  // Of a member: the other nodes, volumes with replicas on them, and this node's replicas for them.
  std::unique_ptr<NodeLink> link_;
  std::unique_ptr<ReplicatedVolumes> volumes_;
  std::unique_ptr<PeerServer> replicas_server_;
  std::unique_ptr<cluster::ControlPlane> control_;

  std::unique_ptr<nbd::NbdServer> nbd_;
  Gate api_gate_;
  std::unique_ptr<api::LoopBridge> bridge_;
  std::unique_ptr<ClusterVerbs> verbs_;
  std::unique_ptr<api::DockerPlugin> docker_;
  std::unique_ptr<HttpApi> http_api_;
  std::unique_ptr<api::GrpcServer> grpc_server_;
  std::unique_ptr<CsiPlaces> csi_places_;
  std::unique_ptr<api::GrpcServer> csi_server_;
  std::unique_ptr<api::HttpServer> docker_server_;
  std::unique_ptr<api::HttpServer> http_server_;
};

}  // namespace hf::node
