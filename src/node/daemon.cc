#include "node/daemon.h"

#include <unistd.h>

#include <algorithm>

#include "api/text.h"
#include "base/log.h"
#include "block/default_drivers.h"
#include "holder/client.h"
#include "node/wait_for_lock.h"
#include "state/sqlite_store.h"
#include "uring/loop_device.h"

namespace hf::node {
namespace {

constexpr Duration kLockPatience = 3s;
constexpr uint32_t kMaxReplicas = 3;  // of a volume
// What a node that was away left half done is tried again that soon: its neighbours may have come back since.
constexpr Duration kReconcileSoon = 2s;
// Twice as many as may drive a pool or a mount at once: where all of those hang, Docker's lists are still answered.
constexpr size_t kDockerThreads = 32;

Task<Status> lock_once(File& file) { co_return file.try_lock(); }

std::string host_name() {
  char name[256] = {};
  if (::gethostname(name, sizeof name - 1) != 0 || name[0] == 0) return "node";
  return name;
}

std::string beside_this_program(const std::string& name) {
  char self[4096];
  const ssize_t n = ::readlink("/proc/self/exe", self, sizeof self - 1);
  if (n <= 0) return name;
  const std::string path(self, static_cast<size_t>(n));
  return path.substr(0, path.rfind('/') + 1) + name;
}

}  // namespace

Daemon::~Daemon() { HF_ASSERT(control_ == nullptr && lock_ == nullptr, "stop() was not awaited"); }

Task<Status> Daemon::prepare_directories() {
  FileSystem& fs = real_->world().fs;
  const std::string wanted[] = {config_.state_dir, config_.run_dir, config_.mount_root()};
  for (const std::string& path : wanted) {
    Status made = co_await fs.make_directory(path, 0700);
    if (!made.ok() && made.code() != ErrorCode::kAlreadyExists) {
      co_return made.error().with_context("the daemon's directories");
    }
  }
  // Docker looks for plugins here, and makes the folder only when it starts; kubelet makes its own.
  Status docker = co_await make_folder_of(config_.docker_socket, "docker_socket");
  HF_CO_TRY(docker);
  co_return co_await make_folder_of(config_.csi_socket_path(), "csi_socket");
}

// And the folder that this one is in.
Task<Status> Daemon::make_folder_of(std::string socket, std::string key) {
  const size_t slash = socket.rfind('/');
  const std::string folder = socket.substr(0, slash == std::string::npos ? 0 : slash);
  const std::string folders[] = {folder.substr(0, std::min(folder.rfind('/'), folder.size())), folder};
  for (const std::string& path : folders) {
    if (path.empty()) continue;
    Status made = co_await real_->world().fs.make_directory(path, 0755);
    if (!made.ok() && made.code() != ErrorCode::kAlreadyExists) {
      co_return made.error().with_context("the folder of " + key);
    }
  }
  co_return Status();
}

// The kernel shows mounts and loop devices by their real paths, and so they are found again.
Task<Status> Daemon::resolve_directories() {
  for (std::string* path : {&config_.state_dir, &config_.run_dir}) {
    std::function<Result<std::string>()> look = [written = *path] { return loopdev::canonical_path(written); };
    Result<std::string> real = co_await run_blocking<Result<std::string>>(real_->world().blocking, look);
    HF_CO_TRY(real);
    *path = *real;
  }
  co_return check_config(config_);
}

Task<Result<std::unique_ptr<File>>> Daemon::take_lock(std::string directory, std::string what) {
  OpenOptions options;
  options.write = options.create = true;
  Result<std::unique_ptr<File>> file = co_await real_->world().fs.open(directory + "/lock", options);
  HF_CO_TRY(file);
  File* raw = file->get();
  std::function<Task<Status>()> attempt = [raw] { return lock_once(*raw); };
  Status locked = co_await wait_for_lock<void>(real_->world().clock, kLockPatience, attempt);
  if (locked.code() == ErrorCode::kLocked) {
    co_return make_error(ErrorCode::kLocked,
                         "another holdfastd runs on {}; stop it first, or give this one a {} of its own",
                         directory, what);
  }
  HF_CO_TRY(locked);
  co_return std::move(*file);
}

// Two directories, two locks: who shares only the run_dir would take the other's sockets and exports.
Task<Status> Daemon::take_locks() {
  Result<std::unique_ptr<File>> state = co_await take_lock(config_.state_dir, "state_dir");
  HF_CO_TRY(state);
  Result<std::unique_ptr<File>> run = co_await take_lock(config_.run_dir, "run_dir");
  HF_CO_TRY(run);
  lock_ = std::move(*state);
  run_lock_ = std::move(*run);
  co_return Status();
}

state::KvStore& Daemon::store() {
  if (membership_) return membership_->store();
  return *held_;
}

Task<Status> Daemon::start_state(CancelToken stop) {
  World& world = real_->world();
  Result<Identity> identity = co_await load_or_make_identity(world, config_.state_dir);
  HF_CO_TRY(identity);
  identity_ = *identity;
  Result<std::optional<ClusterFile>> file =
      co_await load_cluster_file(world.fs, config_.state_dir);
  HF_CO_TRY(file);
  if (!file->has_value()) co_return co_await open_embedded();
  // What init and join leave to the first start, so that writing cluster.json is all that they do.
  if (identity_.cluster != (*file)->cluster || identity_.node != (*file)->node) {
    identity_.cluster = (*file)->cluster;
    identity_.node = (*file)->node;
    Status replaced = co_await replace_identity(world, config_.state_dir, identity_);
    HF_CO_TRY(replaced);
  }
  Status aside = co_await set_embedded_aside(world.fs, config_.state_dir);
  HF_CO_TRY(aside);
  ClusterFile known = std::move(**file);
  Result<std::unique_ptr<Membership>> membership =
      co_await Membership::start(world, config_.state_dir, config_.peer_port, std::move(known), stop,
                                 hooks_.waiting);
  HF_CO_TRY(membership);
  membership_ = std::move(*membership);
  co_return Status();
}

Task<Status> Daemon::open_embedded() {
  World& world = real_->world();
  Status may = co_await check_embedded(world.fs, config_.state_dir);
  HF_CO_TRY(may);
  Result<std::unique_ptr<state::SqliteStore>> store =
      co_await state::SqliteStore::open(world.blocking, world.clock, config_.state_file());
  HF_CO_TRY(store);
  embedded_ = std::move(*store);
  held_ = std::make_unique<state::HeldStore>(*embedded_);
  co_return Status();
}

Task<Status> Daemon::start_control() {
  World& world = real_->world();
  kernel_io_ = std::make_unique<block::UringKernelIo>(real_->loop());
  block::DriverSettings settings;
  settings.run_dir = config_.run_dir;
  settings.holder_socket = config_.holder_socket();
  const std::string holder = config_.holder_program.empty() ? beside_this_program("holdfast-holder")
                                                            : config_.holder_program;
  settings.holder_program = holder;
  Result<bool> began = co_await block::ensure_holder(world, holder, settings.holder_socket);
  HF_CO_TRY(began);
  began_holder_ = *began;
  exports_ = std::make_unique<block::ExportManager>(
      block::make_default_drivers(world, real_->loop(), *kernel_io_, settings));
  Status exports = co_await exports_->start();
  HF_CO_TRY(exports);
  nbd_exports_ = std::make_unique<NbdExports>(config_.nbd_socket());
  exporter_ = std::make_unique<ExportAdapter>(*exports_, *nbd_exports_);
  pool_files_ = std::make_unique<mount::PoolHost>(world, config_.run_dir);
  host_ = std::make_unique<StoreHost>(world, *pool_files_, identity_, config_.journal_bytes,
                                      std::chrono::seconds(config_.full_pool_wait_s));
  mounts_ = std::make_unique<mount::Mounter>(world, config_.mount_root());
  Status mounts = co_await mounts_->start();
  HF_CO_TRY(mounts);
  mounter_ = std::make_unique<MountAdapter>(*mounts_);

  cluster::ControlOptions options;
  options.cluster = identity_.cluster;
  options.node = identity_.node;
  options.node_name = config_.node_name.empty() ? host_name() : config_.node_name;
  options.version = HF_VERSION;
  options.domain.region = config_.region;
  options.domain.zone = config_.zone;
  options.domain.rack = config_.rack;
  if (membership_) options.address = host_port(membership_->address(), membership_->peer_port());
  options.mount_root = config_.mount_root();
  options.capabilities.clone = true;
  options.capabilities.sticky = true;
  Result<cluster::ExportKind> preferred = api::parse_export_kind(config_.export_kind);
  HF_CO_TRY(preferred);
  options.preferred_export = *preferred;
  options.docker_grace_at_start = std::chrono::seconds(config_.docker_grace_s);
  options.rebuild_after = std::chrono::seconds(config_.rebuild_after_s);
  options.scrub_every = std::chrono::hours(24 * int64_t{config_.scrub_every_days});
  options.scrub_rate = config_.scrub_rate_bytes;
  options.docker_grace = std::min(options.docker_grace, options.docker_grace_at_start);
  options.reconcile_every = std::min(options.reconcile_every, options.docker_grace_at_start);
  Result<std::string> boot_id =
      co_await world.fs.read_file("/proc/sys/kernel/random/boot_id", 4096);
  if (boot_id.ok()) options.boot_id = boot_id->substr(0, 36);
  if (membership_) {
    Status replication = co_await start_replication();
    HF_CO_TRY(replication);
    options.capabilities.max_replicas = kMaxReplicas;
    options.reconcile_soon = kReconcileSoon;
  }
  cluster::ControlPorts ports{*host_, *exporter_, *mounter_, store(), world.clock, world.random,
                              volumes_.get(), link_.get()};
  control_ = std::make_unique<cluster::ControlPlane>(ports, options);
  if (link_) {
    const auto port = static_cast<uint16_t>(membership_->peer_port() + kNodePortOffset);
    Status linked = co_await link_->start("tcp:" + host_port(membership_->address(), port), *control_);
    HF_CO_TRY(linked);
  }
  co_return co_await control_->start();
}

// Others' coordinators find this node's replicas as soon as its pools are open.
Task<Status> Daemon::start_replication() {
  World& world = real_->world();
  Network& peers = membership_->network();
  link_ = std::make_unique<NodeLink>(world, peers, identity_.node);
  std::function<std::string(NodeId)> address_of = [link = link_.get()](NodeId node) {
    return link->replicas_at(node);
  };
  volumes_ = std::make_unique<ReplicatedVolumes>(world, peers, *host_, store(), identity_, std::move(address_of));
  const std::string address = "tcp:" + host_port(membership_->address(), membership_->peer_port());
  Result<std::unique_ptr<Listener>> listener = co_await peers.listen(address, ListenOptions());
  if (!listener.ok()) co_return listener.error().with_context("peer_port");
  replicas_server_ = std::make_unique<PeerServer>(identity_.cluster, *volumes_, world.clock);
  replicas_server_->start(std::move(*listener));
  co_return Status();
}

Task<Status> Daemon::start_nbd() {
  nbd_exports_->use(*control_);
  nbd_ = std::make_unique<nbd::NbdServer>(real_->world(), *nbd_exports_, nbd::NbdServerOptions());
  const ListenOptions options;  // the Unix socket is for root alone
  Status listening = co_await nbd_->listen("unix:" + config_.nbd_socket(), options);
  HF_CO_TRY(listening);
  if (config_.nbd_tcp.empty()) co_return Status();
  listening = co_await nbd_->listen("tcp:" + config_.nbd_tcp, options);
  if (!listening.ok()) co_return listening.error().with_context("nbd_tcp");
  co_return Status();
}

Status Daemon::start_sockets() {
  bridge_ = std::make_unique<api::LoopBridge>(real_->loop(), api_gate_);
  api::GrpcServerOptions grpc;
  grpc.unix_path = config_.api_socket();
  grpc.tcp_address = config_.grpc_tcp;
  grpc.version = HF_VERSION;
  verbs_ = std::make_unique<ClusterVerbs>(
      ClusterVerbsPorts{real_->world(), config_, identity_, *control_, held_.get(),
                        membership_.get(), hooks_.restart});
  grpc.admin = verbs_.get();
  Result<std::unique_ptr<api::GrpcServer>> grpc_server =
      api::GrpcServer::start(grpc, *control_, *bridge_);
  HF_TRY(grpc_server);
  grpc_server_ = std::move(*grpc_server);
  HF_TRY(start_csi());
  if (config_.http_port != 0) {
    http_api_ = std::make_unique<HttpApi>(*control_, *host_, volumes_.get(), *bridge_, HF_VERSION);
    api::HttpServerOptions options;
    options.tcp_host = config_.http_host;
    options.tcp_port = config_.http_port;
    options.handler_threads = 2;
    Result<std::unique_ptr<api::HttpServer>> server = api::HttpServer::start(
        options, [this](const api::HttpRequest& request) { return http_api_->handle(request); });
    if (!server.ok()) return server.error().with_context("http_host, http_port");
    http_server_ = std::move(*server);
  }
  if (!config_.docker_socket.empty()) {
    docker_ = std::make_unique<api::DockerPlugin>(*control_, *bridge_, membership_ ? "global" : "local");
    api::HttpServerOptions options;
    options.unix_path = config_.docker_socket;
    options.handler_threads = kDockerThreads;
    Result<std::unique_ptr<api::HttpServer>> server = api::HttpServer::start(
        options, [this](const api::HttpRequest& request) { return docker_->handle(request); });
    if (!server.ok()) return server.error().with_context("docker_socket");
    docker_server_ = std::move(*server);
  }
  return {};
}

Status Daemon::start_csi() {
  if (config_.csi_socket_path().empty()) return {};
  csi_places_ = std::make_unique<CsiPlaces>(real_->world().blocking);
  api::CsiServerOptions options;
  options.unix_path = config_.csi_socket_path();
  options.version = HF_VERSION;
  options.node = identity_.node.to_string();
  options.cluster = identity_.cluster.to_string();
  Result<std::unique_ptr<api::GrpcServer>> server = api::start_csi_server(options, *control_, *csi_places_, *bridge_);
  if (!server.ok()) return server.error().with_context("csi_socket");
  csi_server_ = std::move(*server);
  return {};
}

void Daemon::stop_sockets() {
  if (csi_server_) csi_server_->stop();
  if (docker_server_) docker_server_->stop();
  if (http_server_) http_server_->stop();
  if (grpc_server_) grpc_server_->stop();
}

Task<Status> Daemon::start(UringWorld& real, CancelToken stop) {
  real_ = &real;
  Status step = co_await prepare_directories();
  HF_CO_TRY(step);
  step = co_await resolve_directories();
  HF_CO_TRY(step);
  step = co_await take_locks();
  HF_CO_TRY(step);
  step = co_await start_state(stop);
  HF_CO_TRY(step);
  step = co_await start_control();
  HF_CO_TRY(step);
  step = co_await start_nbd();
  HF_CO_TRY(step);
  step = start_sockets();
  HF_CO_TRY(step);
  began_holder_ = false;
  if (membership_) membership_->serve();
  HF_LOG(kInfo, "node", "started version={} cluster={} node={} state_dir={} api={}", HF_VERSION,
         identity_.cluster.to_string(), identity_.node.to_string(), config_.state_dir,
         config_.api_socket());
  co_return Status();
}

// A start that failed leaves nothing behind: neither the holder that it began.
Task<void> Daemon::end_holder() {
  const std::string socket = config_.holder_socket();
  std::function<Status()> end = [socket] { return holder::Client(socket).end_if_empty(); };
  Status ended = co_await run_blocking<Status>(real_->world().blocking, end);
  if (!ended.ok()) HF_LOG(kWarn, "node", "holder_stays why=\"{}\"", ended.error().to_string());
  began_holder_ = false;
}

Task<void> Daemon::stop() {
  if (real_ == nullptr) co_return;
  // The servers' threads wait for answers of this loop, so they are stopped from a pool thread.
  std::function<bool()> close_sockets = [this] {
    stop_sockets();
    return true;
  };
  co_await run_blocking<bool>(real_->world().blocking, close_sockets);
  co_await api_gate_.close();
  csi_server_.reset();
  csi_places_.reset();
  grpc_server_.reset();
  verbs_.reset();
  if (host_) host_->release_held();
  if (nbd_) co_await nbd_->stop();
  nbd_.reset();
  if (link_) co_await link_->stop_serving();
  if (control_) {
    Status parked = co_await control_->stop();
    if (!parked.ok()) HF_LOG(kWarn, "node", "park_failed error=\"{}\"", parked.error().to_string());
  } else if (exports_) {  // the start failed before there was a control plane
    Status parked = co_await exports_->park();
    if (!parked.ok()) HF_LOG(kWarn, "node", "park_failed error=\"{}\"", parked.error().to_string());
  }
  if (replicas_server_) co_await replicas_server_->stop();
  replicas_server_.reset();
  if (volumes_) co_await volumes_->stop();
  if (link_) co_await link_->stop();
  if (host_) {
    Status drained = co_await host_->stop();
    if (!drained.ok()) HF_LOG(kWarn, "node", "drain_failed error=\"{}\"", drained.error().to_string());
  }
  control_.reset();
  volumes_.reset();
  link_.reset();
  mounter_.reset();
  mounts_.reset();
  host_.reset();
  if (membership_) co_await membership_->stop_serving();
  pool_files_.reset();
  exporter_.reset();
  nbd_exports_.reset();
  exports_.reset();
  kernel_io_.reset();
  if (held_) co_await held_->close();
  held_.reset();
  if (embedded_) co_await embedded_->close();
  embedded_.reset();
  if (membership_) co_await membership_->stop();
  membership_.reset();
  if (began_holder_) co_await end_holder();
  run_lock_.reset();
  lock_.reset();
  real_ = nullptr;
  HF_LOG(kInfo, "node", "stopped");
}

}  // namespace hf::node
