#include "cluster.h"

#include <algorithm>

namespace hf::replicate_sim {
namespace {

constexpr int kPort = 7000;

sim::DiskConfig disk_config() {
  sim::DiskConfig config;
  config.capacity_bytes = 128 * kMiB;
  return config;
}

}  // namespace

state::StoreFate Weather::fate(bool is_write) {
  if (away)
    return is_write && prng_.chance(1, 4) ? state::StoreFate::kLostRequest
                                          : state::StoreFate::kAway;
  if (bad_one_in == 0 || !prng_.chance(1, bad_one_in)) return state::StoreFate::kFine;
  if (!is_write) return state::StoreFate::kAway;
  return static_cast<state::StoreFate>(1 + prng_.below(4));
}

std::shared_ptr<ReplicaService> Daemon::find(VolumeId volume, ReplicaId replica) {
  if (service == nullptr || service->replica().id() != replica) return nullptr;
  return service->replica().volume() == volume ? service : nullptr;
}

Node::Node(sim::Simulation& sim, size_t index, const Shape& shape)
    : host(sim.add_host(fmt::format("n{}", index + 1))),
      disk(host.add_disk("/", disk_config())),
      process(host),
      id(NodeId::from_random(index + 1, index + 1)),
      weather(sim.prng().fork()),
      shadow(shape.blocks),
      pool(prepared_pool()) {
  const Duration delays[] = {5ms, 50ms, 500ms};
  pool.drain_delay = delays[sim.prng().below(3)];
  const auto drift =
      static_cast<int64_t>(sim.prng().below(static_cast<uint64_t>(2 * shape.drift_ppm + 1)));
  host.clock().set_drift_ppm(0, drift - shape.drift_ppm);
  if (index >= shape.members + shape.spares) return;
  replica = prepared_replica(index);
  prepared_disk(index, shape.blocks).lay_onto(disk);
}

SimCluster::SimCluster(uint64_t seed, Shape shape)
    : sim_(seed),
      shape_(shape),
      prng_(sim_.prng().fork()),
      state_(sim_.driver().clock),
      driver_store_(state_, sim_.driver().clock, nullptr),
      driver_configs_(driver_store_, sim_.driver().clock, sim_.driver().random),
      cluster_(new_id<ClusterId>(sim_.driver().random)),
      volume_(prepared_volume()),
      judge_(state_, ConfigStore::key_of(volume_), shape.blocks) {
  for (uint64_t i = 0; i < shape.nodes; ++i) {
    nodes_.push_back(std::make_unique<Node>(sim_, i, shape));
  }
  // A few neighbours in a few places, so that operations overlap and units differ.
  for (uint64_t i = 0; i < shape.lively; ++i) {
    lively_.push_back((i / 2) * (shape.blocks / ((shape.lively + 1) / 2)) + i % 2);
  }
}

SimCluster::~SimCluster() = default;

Task<void> SimCluster::pause_for(Duration d) {
  Status slept = co_await sim_.driver().clock.sleep_for(d, CancelToken());
  HF_ASSERT(slept.ok());
}

std::vector<Node*> SimCluster::holders() {
  std::vector<Node*> found;
  for (const auto& node : nodes_) {
    if (!node->replica.is_nil()) found.push_back(node.get());
  }
  return found;
}

Task<void> SimCluster::create() {
  VolumeConfig config;
  config.volume = volume_;
  std::map<ReplicaId, Shadow*> shadows;
  for (Node* node : holders()) {
    shadows[node->replica] = &node->shadow;
    if (config.members.size() == shape_.members) continue;
    VolumeMember& member = config.members.emplace_back();
    member.node = node->id;
    member.replica = node->replica;
    member.slot = static_cast<uint8_t>(config.members.size() - 1);
    config.in_sync |= slot_bit(member.slot);
  }
  Result<StoredConfig> created = co_await driver_configs_.create(config);
  HF_ASSERT(created.ok(), "{}", created.error().to_string());
  for (const auto& node : nodes_) {
    bool up = co_await start(*node);
    HF_ASSERT(up);
  }
  if (shape_.clients == 0) co_return;
  judge_.begin(std::move(shadows));
  judge_.on_rest([this] {
    if (!checking_) (void)spawn(checks_, check_coverage());
  });
}

// What was open when it died is settled by what it shows now; what it had answered must be there.
Task<void> SimCluster::settle_shadow(Node& node, Replica& replica) {
  if (replica.promised_epoch() < node.shadow.promised()) {
    fail(fmt::format("I3: {} had promised epoch {}, and restarted it has promised {}",
                     node.host.name(), node.shadow.promised(), replica.promised_epoch()));
  }
  std::vector<std::optional<uint64_t>> values;
  bool whole = co_await read_all(replica, &values);
  if (!whole) co_return;
  for (uint64_t block = 0; block < values.size(); ++block) {
    const uint64_t had = node.shadow.content(block);
    if (!values[block]) {
      fail(fmt::format("block {} of {} is garbage after a restart", block, node.host.name()));
    } else if (!node.shadow.settle(block, *values[block])) {
      fail(fmt::format("I1: {} had answered value {} of block {}, and restarted it has {}",
                       node.host.name(), had, block, *values[block]));
    }
  }
}

Task<bool> SimCluster::start(Node& node) {
  node.busy = true;
  if (!node.host.is_up()) node.host.power_on();
  if (!node.process.is_alive()) node.process.restart();
  node.paused = false;
  auto daemon = std::make_unique<Daemon>(node.process.world(), state_, node.weather);
  Status up;
  if (!node.replica.is_nil()) {
    Result<std::unique_ptr<Pool>> pool = co_await Pool::open(daemon->world, node.pool);
    if (pool.ok()) {
      daemon->pool = std::move(*pool);
      std::shared_ptr<Replica> replica = daemon->pool->find(node.replica);
      if (judge_.judging()) co_await settle_shadow(node, *replica);
      replica = observe(std::move(replica), node.shadow, judge_);
      daemon->service = std::make_shared<ReplicaService>(std::move(replica), &daemon->world.clock);
    } else {
      up = pool.error();
    }
  }
  if (up.ok()) {
    std::string address = fmt::format("tcp:{}:{}", node.host.ip(), kPort);
    Result<std::unique_ptr<Listener>> listener =
        co_await daemon->world.net.listen(address, ListenOptions());
    if (listener.ok()) {
      daemon->server = std::make_unique<PeerServer>(cluster_, *daemon, daemon->world.clock);
      daemon->server->start(std::move(*listener));
    } else {
      up = listener.error();
    }
  }
  node.daemon = std::move(daemon);
  node.busy = false;
  if (up.ok()) co_return true;
  co_await end(node, false);
  co_return false;
}

Task<void> SimCluster::end(Node& node, bool power) {
  node.busy = true;
  Daemon& daemon = *node.daemon;
  if (node.host.is_up() && power) {
    node.host.power_loss();
  } else if (node.process.is_alive()) {
    node.process.kill();
  }
  daemon.store.kill();
  if (daemon.attachment != nullptr) co_await end_attachment(node, daemon.attachment);
  co_await daemon.tasks.close();
  if (daemon.server != nullptr) co_await daemon.server->stop();
  daemon.server.reset();
  daemon.service.reset();
  if (daemon.pool != nullptr) {
    Status stopped = co_await daemon.pool->stop();
    (void)stopped;
  }
  co_await daemon.store.close();
  co_await pause_for(1ms);  // the last references go
  node.daemon.reset();
  node.paused = false;
  node.busy = false;
}

Task<void> SimCluster::stop_all() {
  for (const auto& node : nodes_) {
    if (node->daemon != nullptr) co_await end(*node, false);
  }
  co_await checks_.close();
  co_await driver_store_.close();
  co_await state_.close();
  co_await pause_for(10ms);
}

// --- the volume
// -------------------------------------------------------------------------------------

Node* SimCluster::serving() {
  for (const auto& node : nodes_) {
    if (node->daemon == nullptr || node->busy || node->daemon->attachment == nullptr) continue;
    const Attachment& at = *node->daemon->attachment;
    if (at.coordinator != nullptr && !at.ending && !at.coordinator->is_fenced()) return node.get();
  }
  return nullptr;
}

bool SimCluster::is_being_taken_over() {
  for (const auto& node : nodes_) {
    if (node->daemon == nullptr || node->busy || node->paused) continue;
    if (node->daemon->attachment == nullptr) continue;
    if (node->daemon->attachment->coordinator == nullptr) return true;
  }
  return false;
}

Task<Result<StoredConfig>> SimCluster::config() {
  co_return co_await driver_configs_.load(volume_);
}

Task<Status> SimCluster::attach(Node& node, NodeId away) {
  Daemon& daemon = *node.daemon;
  if (daemon.attachment != nullptr) co_return make_error(ErrorCode::kInUse, "attached already");
  auto at = std::make_shared<Attachment>();
  daemon.attachment = at;
  const auto address_of = [this](NodeId id) {
    for (const auto& each : nodes_) {
      if (each->id == id) return fmt::format("tcp:{}:{}", each->host.ip(), kPort);
    }
    return std::string();
  };
  at->ports =
      std::make_unique<PeerPorts>(daemon.world.net, cluster_, volume_, node.id, daemon, address_of);
  CoordinatorSpec spec(daemon.world.clock, daemon.configs, *at->ports);
  spec.volume = volume_;
  spec.node = node.id;
  spec.instance = ++instances_;
  spec.give_up = CancelToken(at->give_up);
  spec.away = away;
  // Right or wrong, it decides how long is waited, never what is safe.
  if (shape_.clients > 0 && prng_.chance(1, 2)) spec.away = nodes_[prng_.below(size())]->id;
  Result<std::unique_ptr<Coordinator>> taken = co_await Coordinator::take_over(spec);
  if (!taken.ok()) {
    co_await at->ports->close();
    daemon.attachment = nullptr;
    co_return taken.error();
  }
  ++takeovers;
  at->coordinator = std::move(*taken);
  if (at->ending) {
    co_await at->coordinator->abandon();
    at->coordinator.reset();
    co_await at->ports->close();
    co_return Status();
  }
  for (uint64_t i = 0; i < shape_.clients; ++i) {
    // One of them only reads: whoever writes through a coordinator that is cut off waits.
    const uint64_t writes = i == 0 ? 0 : shape_.writes_percent;
    (void)spawn(at->users, client(node, at, prng_.next(), writes));
  }
  co_await at->users.wait_empty();
  if (at->coordinator != nullptr && at->coordinator->is_fenced()) co_await end_attachment(node, at);
  co_return Status();
}

Task<void> SimCluster::end_attachment(Node& node, std::shared_ptr<Attachment> at) {
  if (at->ending) co_return;
  at->ending = true;
  at->go.notify_all();
  if (at->coordinator != nullptr) {
    co_await at->coordinator->abandon();
    co_await at->users.close();
    at->coordinator.reset();
    co_await at->ports->close();
  }
  if (node.daemon->attachment == at) node.daemon->attachment = nullptr;
}

Task<Status> SimCluster::detach(Node& node) {
  const std::shared_ptr<Attachment> at = node.daemon->attachment;
  if (at == nullptr || at->ending) co_return Status();
  if (at->coordinator == nullptr) at->give_up.cancel();
  if (at->coordinator == nullptr) co_return Status();
  Status released;
  {
    Gate::Pass pass(at->users);
    if (!pass) co_return Status();
    released = co_await at->coordinator->release();
  }
  co_await end_attachment(node, at);
  co_return released;
}

Task<bool> SimCluster::all_in_sync(Duration within) {
  const MonoTime end = sim_.driver().clock.now() + within;
  while (sim_.driver().clock.now() < end) {
    Result<StoredConfig> now = co_await config();
    if (now.ok() && now->config.phase == VolumePhase::kActive &&
        now->config.in_sync == now->config.member_mask()) {
      co_return true;
    }
    co_await pause_for(50ms);
  }
  co_return false;
}

void SimCluster::let_clients(bool run) {
  clients_run_ = run;
  for (const auto& node : nodes_) {
    if (node->daemon != nullptr && node->daemon->attachment != nullptr) {
      node->daemon->attachment->go.notify_all();
    }
  }
}

void SimCluster::give_credits(uint64_t operations) {
  for (const auto& node : nodes_) {
    if (node->daemon == nullptr || node->daemon->attachment == nullptr) continue;
    Attachment& at = *node->daemon->attachment;
    at.credits = std::min<uint64_t>(at.credits + operations, 64);
    at.go.notify_all();
  }
}

Task<void> SimCluster::wait_clients() {
  for (const auto& node : nodes_) {
    if (node->daemon == nullptr || node->daemon->attachment == nullptr) continue;
    const std::shared_ptr<Attachment> at = node->daemon->attachment;
    co_await at->users.wait_empty();
  }
}

}  // namespace hf::replicate_sim
