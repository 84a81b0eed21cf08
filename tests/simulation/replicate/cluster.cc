#include "cluster.h"

#include <algorithm>
#include <cstring>

#include "../store/model.h"

namespace hf::replicate_sim {
namespace {

constexpr const char* kDirectory = "/pool";
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

Node::Node(sim::Simulation& sim, size_t index)
    : host(sim.add_host(fmt::format("n{}", index + 1))),
      disk(host.add_disk("/", disk_config())),
      process(host),
      id(NodeId::from_random(index + 1, index + 1)),
      weather(sim.prng().fork()) {
  pool.journal_dir = pool.data_dir = kDirectory;
  pool.journal_bytes = pool.journal_bytes_min = kSmallestJournalBytes;
  pool.reserve_bytes = 1 * kMiB;
  const Duration delays[] = {5ms, 50ms, 500ms};
  pool.drain_delay = delays[sim.prng().below(3)];
}

SimCluster::SimCluster(uint64_t seed, Shape shape)
    : sim_(seed),
      shape_(shape),
      prng_(sim_.prng().fork()),
      state_(sim_.driver().clock),
      driver_store_(state_, sim_.driver().clock, nullptr),
      driver_configs_(driver_store_, sim_.driver().clock, sim_.driver().random),
      cluster_(new_id<ClusterId>(sim_.driver().random)),
      volume_(new_id<VolumeId>(sim_.driver().random)),
      history_(shape.blocks) {
  for (uint64_t i = 0; i < shape.nodes; ++i) {
    nodes_.push_back(std::make_unique<Node>(sim_, i));
    if (i < shape.members) nodes_.back()->replica = new_id<ReplicaId>(sim_.driver().random);
  }
  // A few neighbours in a few places, so that operations overlap and units differ.
  for (uint64_t i = 0; i < shape.lively; ++i) {
    lively_.push_back((i / 4) * (shape.blocks / ((shape.lively + 3) / 4)) + i % 4);
  }
}

SimCluster::~SimCluster() = default;

Task<void> SimCluster::pause_for(Duration d) {
  Status slept = co_await sim_.driver().clock.sleep_for(d, CancelToken());
  HF_ASSERT(slept.ok());
}

std::vector<Node*> SimCluster::members() {
  std::vector<Node*> found;
  for (const auto& node : nodes_) {
    if (!node->replica.is_nil()) found.push_back(node.get());
  }
  return found;
}

Task<Status> SimCluster::make_pool(Node& node) {
  FileSystem& fs = node.process.world().fs;
  Status done = co_await fs.make_directory(kDirectory, 0700);
  HF_CO_TRY(done);
  done = co_await fs.sync_dir("/");
  HF_CO_TRY(done);
  Result<std::unique_ptr<Pool>> pool = co_await Pool::create(node.process.world(), node.pool);
  HF_CO_TRY(pool);
  ReplicaSpec spec;
  spec.replica = node.replica;
  spec.volume = volume_;
  spec.size_bytes = shape_.blocks * kBlockSize;
  Result<std::shared_ptr<Replica>> made = co_await (*pool)->create_replica(spec);
  HF_CO_TRY(made);
  made = std::shared_ptr<Replica>();
  co_return co_await (*pool)->stop();
}

Task<void> SimCluster::create() {
  VolumeConfig config;
  config.volume = volume_;
  for (const auto& node : nodes_) {
    if (node->replica.is_nil()) continue;
    Status made = co_await make_pool(*node);
    HF_ASSERT(made.ok(), "{}", made.error().to_string());
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
      daemon->service =
          std::make_shared<ReplicaService>(daemon->pool->find(node.replica), &daemon->world.clock);
    } else {
      up = pool.error();
    }
  }
  if (up.ok()) {
    std::string address = fmt::format("tcp:{}:{}", node.host.ip(), kPort);
    Result<std::unique_ptr<Listener>> listener =
        co_await daemon->world.net.listen(address, ListenOptions());
    if (listener.ok()) {
      daemon->server = std::make_unique<PeerServer>(cluster_, *daemon);
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

Task<Result<StoredConfig>> SimCluster::config() {
  co_return co_await driver_configs_.load(volume_);
}

Task<Status> SimCluster::attach(Node& node) {
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
    (void)spawn(at->users, client(node, at, prng_.next()));
  }
  co_await at->users.wait_empty();
  if (at->coordinator != nullptr && at->coordinator->is_fenced()) co_await end_attachment(node, at);
  co_return Status();
}

Task<void> SimCluster::end_attachment(Node& node, std::shared_ptr<Attachment> at) {
  if (at->ending) co_return;
  at->ending = true;
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
  if (at == nullptr || at->coordinator == nullptr || at->ending) co_return Status();
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

Task<void> SimCluster::wait_clients() {
  for (const auto& node : nodes_) {
    if (node->daemon == nullptr || node->daemon->attachment == nullptr) continue;
    const std::shared_ptr<Attachment> at = node->daemon->attachment;
    co_await at->users.wait_empty();
  }
}

// --- clients
// ----------------------------------------------------------------------------------------

Task<void> SimCluster::client(Node& node, std::shared_ptr<Attachment> at, uint64_t seed) {
  Prng prng(seed);
  Clock& clock = node.daemon->world.clock;
  while (clients_run_ && !at->ending && failure_.empty()) {
    const Duration think = Duration(prng.below(static_cast<uint64_t>(shape_.think.count()) + 1));
    Status slept = co_await clock.sleep_for(think, CancelToken());
    if (!slept.ok() || at->ending) co_return;
    Status done;
    const uint64_t draw = prng.below(1000);
    if (shape_.snapshots && draw < 2 && cuts.size() < 4) {
      done = co_await cut_one(node, *at);
    } else if (draw < 550) {
      done = co_await write_some(node, *at, prng);
    } else {
      done = co_await read_some(node, *at, prng);
    }
    ++(done.ok() ? acknowledged : refused);
    if (done.code() == ErrorCode::kFenced || done.code() == ErrorCode::kClosed) co_return;
  }
}

Task<Status> SimCluster::write_some(Node&, Attachment& at, Prng& prng) {
  const uint64_t first = lively_[prng.below(lively_.size())];
  const uint64_t count = std::min(prng.between(1, shape_.widest), shape_.blocks - first);
  AlignedBuffer data(count * kBlockSize);
  std::vector<uint64_t> values;
  const uint64_t began = history_.tick();
  for (uint64_t i = 0; i < count; ++i) {
    values.push_back(history_.new_value());
    store_sim::fill_block(data.span().subspan(i * kBlockSize, kBlockSize), values[i], first + i);
    history_.write_begins(first + i, values[i], began);
  }
  Status done = co_await at.coordinator->write(first * kBlockSize, data.span());
  // The memory is the caller's again: whoever still looks at it finds garbage.
  std::memset(data.data(), 0xee, data.size());
  if (!done.ok()) co_return done;
  const uint64_t ended = history_.tick();
  for (uint64_t i = 0; i < count; ++i) history_.write_ended(first + i, values[i], ended);
  sim_.loop().record("write", first, values[0]);
  co_return Status();
}

Task<Status> SimCluster::read_some(Node& node, Attachment& at, Prng& prng) {
  const uint64_t first = lively_[prng.below(lively_.size())];
  const uint64_t count = std::min(prng.between(1, shape_.widest), shape_.blocks - first);
  AlignedBuffer data(count * kBlockSize);
  const uint64_t began = history_.tick();
  Status done = co_await at.coordinator->read(first * kBlockSize, data.span());
  if (!done.ok()) co_return done;
  const uint64_t ended = history_.tick();
  for (uint64_t i = 0; i < count; ++i) {
    const auto value =
        store_sim::value_of_block(data.span().subspan(i * kBlockSize, kBlockSize), first + i);
    if (!value) {
      fail(fmt::format("block {} was read as garbage on {}", first + i, node.host.name()));
      co_return Status();
    }
    history_.read(first + i, *value, began, ended);
    sim_.loop().record("read", first + i, *value);
  }
  co_return Status();
}

Task<Status> SimCluster::cut_one(Node&, Attachment& at) {
  const SnapshotId id = new_id<SnapshotId>(sim_.driver().random);
  Result<SnapshotInfo> cut = co_await at.coordinator->snapshot(id);
  HF_CO_TRY(cut);
  cuts.push_back(id);
  co_return Status();
}

// --- oracles
// ----------------------------------------------------------------------------------------

Task<void> SimCluster::read_everything() {
  Node* node = serving();
  if (node == nullptr) {
    fail("nobody serves");
    co_return;
  }
  const std::shared_ptr<Attachment> at = node->daemon->attachment;
  Gate::Pass pass(at->users);
  for (uint64_t block = 0; block < shape_.blocks; ++block) {
    AlignedBuffer data(kBlockSize);
    const uint64_t began = history_.tick();
    Status done = co_await at->coordinator->read(block * kBlockSize, data.span());
    if (!done.ok()) {
      fail(fmt::format("last read of block {}: {}", block, done.error().to_string()));
      co_return;
    }
    const auto value = store_sim::value_of_block(data.span(), block);
    if (!value) {
      fail(fmt::format("block {} is garbage", block));
      co_return;
    }
    history_.read(block, *value, began, history_.tick());
  }
}

Task<void> SimCluster::compare_replicas() {
  for (uint64_t block = 0; block < shape_.blocks; ++block) {
    std::string seen;
    std::optional<uint64_t> first;
    bool same = true;
    for (Node* node : members()) {
      const std::shared_ptr<ReplicaService> service = node->daemon->service;
      AlignedBuffer data(kBlockSize);
      Status done = co_await service->replica().read(block * kBlockSize, data.span());
      const auto value = done.ok() ? store_sim::value_of_block(data.span(), block) : std::nullopt;
      const std::string text = value       ? fmt::format("{}", *value)
                               : done.ok() ? "garbage"
                                           : done.error().to_string();
      seen += fmt::format(" {}: {}", node->host.name(), text);
      if (!value || (first && *first != *value)) same = false;
      if (value && !first) first = value;
    }
    if (!same) fail(fmt::format("at rest the replicas differ at block {}:{}", block, seen));
  }
  for (const SnapshotId& id : cuts) co_await compare_snapshot(id);
}

Task<void> SimCluster::compare_snapshot(SnapshotId id) {
  uint64_t having = 0;
  for (uint64_t block : lively_) {
    std::optional<uint64_t> first;
    having = 0;
    for (Node* node : members()) {
      Replica& replica = node->daemon->service->replica();
      const std::vector<SnapshotInfo> all = replica.snapshots();
      if (std::none_of(all.begin(), all.end(),
                       [id](const SnapshotInfo& info) { return info.id == id; }))
        continue;
      ++having;
      AlignedBuffer data(kBlockSize);
      Status done = co_await replica.read_snapshot(id, block * kBlockSize, data.span());
      const auto value = done.ok() ? store_sim::value_of_block(data.span(), block) : std::nullopt;
      if (!value || (first && *first != *value)) {
        fail(fmt::format("snapshot {} differs at block {} on {}", id.to_string(), block,
                         node->host.name()));
        co_return;
      }
      first = value;
    }
  }
  if (having == 0) fail(fmt::format("snapshot {} was acknowledged and is nowhere", id.to_string()));
}

}  // namespace hf::replicate_sim
