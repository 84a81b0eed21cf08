#include "run.h"

#include <cstdlib>

#include "base/log.h"

namespace hf::replicate_sim {
namespace {

constexpr Duration kConvergesWithin = 60s;

class Run {
 public:
  Run(uint64_t seed, Trouble trouble, Shape shape)
      : trouble_(trouble), cluster_(seed, shape), prng_(cluster_.prng().fork()) {}
  Task<void> run();
  SimCluster& cluster() { return cluster_; }

 private:
  Task<void> trouble();
  Task<void> one_event();
  Task<void> crash();
  Task<void> network();
  Task<void> pause();
  Task<void> state_store();
  Task<void> move();
  Task<void> disks();
  Task<void> keep_attached();
  Task<void> peace();
  Task<void> judge();
  Task<bool> settle();
  Task<void> bring_up(Node& node, Duration after);
  Task<void> wake(Node& node, uint64_t life, Duration after);
  void attach_soon(Node& node);
  void attach_somewhere();
  Node* alive();
  static Task<void> attach_task(SimCluster& cluster, Node& node) {
    Status done = co_await cluster.attach(node);
    (void)done;
  }
  static Task<void> detach_task(SimCluster& cluster, Node& node) {
    Status done = co_await cluster.detach(node);
    (void)done;
  }
  Duration upto(Duration most) {
    return Duration(prng_.below(static_cast<uint64_t>(most.count()) + 1));
  }

  const Trouble trouble_;
  SimCluster cluster_;
  Prng prng_;
  Gate later_;
  bool peace_ = false;
};

Node* Run::alive() {
  std::vector<Node*> candidates;
  for (size_t i = 0; i < cluster_.size(); ++i) {
    Node& node = cluster_.node(i);
    if (node.daemon != nullptr && !node.busy) candidates.push_back(&node);
  }
  return candidates.empty() ? nullptr : candidates[prng_.below(candidates.size())];
}

void Run::attach_soon(Node& node) {
  if (node.daemon->attachment != nullptr || node.paused) return;
  (void)spawn(node.daemon->tasks, attach_task(cluster_, node));
}

void Run::attach_somewhere() {
  Node* node = alive();
  if (node != nullptr) attach_soon(*node);
}

Task<void> Run::bring_up(Node& node, Duration after) {
  co_await cluster_.pause_for(after);
  if (node.daemon == nullptr && !node.busy) (void)co_await cluster_.start(node);
}

Task<void> Run::crash() {
  Node* node = alive();
  if (node == nullptr) co_return;
  const bool power = prng_.chance(1, 2);
  co_await cluster_.end(*node, power);
  (void)spawn(later_, bring_up(*node, upto(prng_.chance(1, 3) ? 50ms : 2500ms)));
}

Task<void> Run::network() {
  sim::SimNet& net = cluster_.sim().net();
  const std::string a = cluster_.node(prng_.below(cluster_.size())).host.name();
  const std::string b = cluster_.node(prng_.below(cluster_.size())).host.name();
  switch (prng_.below(6)) {
    case 0:
      net.partition(a, b);
      break;
    case 1:
      net.set_blocked(a, b, true);
      break;
    case 2:
      for (size_t i = 0; i < cluster_.size(); ++i) net.partition(a, cluster_.node(i).host.name());
      break;
    case 3:
      net.reset_streams(a, b);
      break;
    case 4:
      net.link(a, b).delay = upto(prng_.chance(1, 4) ? 400ms : 20ms);
      break;
    default:
      net.heal_all();
      break;
  }
  co_return;
}

Task<void> Run::wake(Node& node, uint64_t life, Duration after) {
  co_await cluster_.pause_for(after);
  if (node.process.incarnation() == life && node.paused) {
    node.process.proceed();
    node.paused = false;
  }
}

Task<void> Run::pause() {
  Node* node = alive();
  if (node == nullptr || node->paused) co_return;
  node->paused = true;
  node->process.pause();
  (void)spawn(later_,
              wake(*node, node->process.incarnation(), upto(prng_.chance(1, 3) ? 4s : 900ms)));
}

Task<void> Run::state_store() {
  for (size_t i = 0; i < cluster_.size(); ++i) {
    Weather& weather = cluster_.node(i).weather;
    weather.away = prng_.chance(1, 3);
    weather.bad_one_in = prng_.chance(1, 2) ? prng_.between(2, 20) : 0;
  }
  co_return;
}

Task<void> Run::move() {
  Node* to = alive();
  if (to == nullptr) co_return;
  Node* from = cluster_.serving();
  if (from != nullptr && from != to && !from->paused && prng_.chance(1, 2)) {
    (void)spawn(from->daemon->tasks, detach_task(cluster_, *from));
    co_await cluster_.pause_for(upto(20ms));
  }
  if (to->daemon != nullptr && !to->busy) attach_soon(*to);
}

Task<void> Run::disks() {
  Node* node = alive();
  if (node == nullptr) co_return;
  switch (prng_.below(4)) {
    case 0: {
      sim::ScriptedFault fault;
      fault.fault = prng_.chance(1, 2) ? sim::FaultKind::kWriteError : sim::FaultKind::kSyncError;
      fault.on = prng_.chance(1, 2) ? IoKind::kWriteDurable : IoKind::kSyncData;
      fault.skip = static_cast<uint32_t>(prng_.below(20));
      node->disk.script(fault);
      break;
    }
    case 1:
      node->disk.hang_for(upto(6s));
      break;
    case 2:
      node->disk.set_slow(prng_.chance(1, 2) ? 10 : 1);
      break;
    default:
      if (node->daemon->pool != nullptr && node->daemon->pool->stats().failed) {
        co_await cluster_.end(*node, true);
        (void)spawn(later_, bring_up(*node, upto(500ms)));
      }
      break;
  }
}

Task<void> Run::one_event() {
  Trouble kind = trouble_;
  if (kind == Trouble::kAll) {
    kind = static_cast<Trouble>(prng_.between(static_cast<uint64_t>(Trouble::kCrashes),
                                              static_cast<uint64_t>(Trouble::kDisks)));
  }
  switch (kind) {
    case Trouble::kCrashes:
      co_return co_await crash();
    case Trouble::kNetwork:
      co_return co_await network();
    case Trouble::kPauses:
      co_return co_await pause();
    case Trouble::kState: {
      co_await state_store();
      if (prng_.chance(1, 2)) co_await crash();
      co_return;
    }
    case Trouble::kMoves:
      co_return co_await move();
    case Trouble::kDisks:
      co_return co_await disks();
    default:
      co_return;
  }
}

// Somebody shall serve most of the time.
Task<void> Run::keep_attached() {
  while (!peace_) {
    co_await cluster_.pause_for(100ms + upto(600ms));
    if (peace_ || cluster_.serving() != nullptr) {
      // Somebody may believe to serve and be frozen or cut off: then it is taken over.
      if (peace_ || !prng_.chance(1, 8)) continue;
    }
    attach_somewhere();
  }
}

Task<void> Run::trouble() {
  const uint64_t events = prng_.between(3, 14);
  for (uint64_t i = 0; i < events && cluster_.failure().empty(); ++i) {
    co_await cluster_.pause_for(upto(prng_.chance(1, 3) ? 50ms : 1500ms));
    co_await one_event();
  }
}

Task<void> Run::peace() {
  peace_ = true;
  co_await later_.close();
  cluster_.sim().net().heal_all();
  for (size_t i = 0; i < cluster_.size(); ++i) {
    Node& node = cluster_.node(i);
    for (size_t j = 0; j < cluster_.size(); ++j) {
      sim::Link& link = cluster_.sim().net().link(node.host.name(), cluster_.node(j).host.name());
      link.delay = 50us;
    }
    node.weather.away = false;
    node.weather.bad_one_in = 0;
    node.disk.set_slow(1);
    if (node.paused) node.process.proceed();
    node.paused = false;
    while (node.busy) co_await cluster_.pause_for(10ms);
    const bool failed =
        node.daemon != nullptr && node.daemon->pool != nullptr && node.daemon->pool->stats().failed;
    if (failed) co_await cluster_.end(node, true);
    for (int attempt = 0; node.daemon == nullptr && attempt < 10; ++attempt)
      (void)co_await cluster_.start(node);
    if (node.daemon == nullptr) cluster_.fail("a node does not come up");
  }
}

// Faults that were ordered may still come: a pool that has failed is opened again, as its operator
// would.
Task<bool> Run::settle() {
  const int64_t end = cluster_.sim().loop().now() + kConvergesWithin.count();
  while (cluster_.sim().loop().now() < end) {
    bool calm = true;
    for (size_t i = 0; i < cluster_.size(); ++i) {
      Node& node = cluster_.node(i);
      calm = calm && node.disk.scripts_done();
      const bool failed = node.daemon != nullptr && node.daemon->pool != nullptr &&
                          node.daemon->pool->stats().failed;
      if (failed) co_await cluster_.end(node, true);
      if (node.daemon == nullptr) (void)co_await cluster_.start(node);
    }
    if (cluster_.serving() == nullptr) attach_somewhere();
    bool complete = co_await cluster_.all_in_sync(50ms);
    if (complete && calm && cluster_.serving() != nullptr) co_return true;
    co_await cluster_.pause_for(20ms);
  }
  co_return false;
}

Task<void> Run::judge() {
  // Attempts, since the state store may still apply what is late.
  for (int attempt = 0; attempt < 40 && cluster_.serving() == nullptr; ++attempt) {
    attach_somewhere();
    co_await cluster_.pause_for(500ms);
  }
  if (cluster_.serving() == nullptr) {
    cluster_.fail("in peace nobody can take the volume over");
    co_return;
  }
  // Writes go on while the rest returns.
  bool complete = co_await settle();
  if (!complete) {
    std::string text = "the members do not come in sync:";
    Node* node = cluster_.serving();
    if (node == nullptr) text += " nobody serves";
    if (node != nullptr) {
      for (const MemberStatus& member : node->daemon->attachment->coordinator->members()) {
        text += fmt::format(" [{} in_sync={} reachable={} resyncing={} {}/{} {}]",
                            member.member.slot, member.in_sync, member.reachable, member.resyncing,
                            member.resync_bytes_done, member.resync_bytes_total, member.trouble);
      }
    }
    cluster_.fail(text);
    co_return;
  }
  co_await cluster_.pause_for(200ms);
  cluster_.let_clients(false);
  co_await cluster_.wait_clients();
  co_await cluster_.read_everything();
  co_await cluster_.pause_for(1s);
  co_await cluster_.compare_replicas();
  const std::string wrong = cluster_.history().check();
  if (!wrong.empty()) cluster_.fail(wrong);
}

Task<void> Run::run() {
  co_await cluster_.create();
  Gate background;
  attach_soon(cluster_.node(prng_.below(cluster_.size())));
  (void)spawn(background, keep_attached());
  co_await cluster_.pause_for(upto(300ms));
  co_await trouble();
  co_await peace();
  co_await background.close();
  if (cluster_.failure().empty()) co_await judge();
  cluster_.let_clients(false);
  co_await cluster_.stop_all();
}

}  // namespace

Shape shape_of(uint64_t seed) {
  Prng prng(seed * 0x9e3779b97f4a7c15 + 1);
  Shape shape;
  shape.nodes = prng.between(3, 5);
  const uint64_t members[] = {2, 3, 3, 3, 4};
  shape.members = std::min(shape.nodes, members[prng.below(5)]);
  shape.clients = prng.between(1, 4);
  const Duration thinks[] = {1ms, 5ms, 20ms, 60ms};
  shape.think = thinks[prng.below(4)];
  shape.lively = prng.between(4, 32);
  shape.widest = prng.between(1, 6);
  return shape;
}

RunResult run_seed(uint64_t seed, Trouble trouble) {
  return run_seed(seed, trouble, shape_of(seed));
}

RunResult run_seed(uint64_t seed, Trouble trouble, Shape shape) {
  set_log_level(std::getenv("HF_REPLICATE_LOG") != nullptr ? LogLevel::kDebug : LogLevel::kOff);
  RunResult result;
  Run run(seed, trouble, shape);
  SimCluster& cluster = run.cluster();
  cluster.sim().run(run.run());
  result.failure = cluster.failure();
  result.hash = cluster.sim().history().hash();
  result.acknowledged = cluster.acknowledged;
  result.refused = cluster.refused;
  result.takeovers = cluster.takeovers;
  result.reads = cluster.history().reads();
  result.writes = cluster.history().writes();
  cluster.sim().plan().add_to(&result.probes);
  return result;
}

}  // namespace hf::replicate_sim
