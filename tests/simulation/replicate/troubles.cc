#include "troubles.h"

namespace hf::replicate_sim {
namespace {

constexpr const char* kMoments[] = {
    "replicate.claimed",       "replicate.member_fenced",  "replicate.reconciles",
    "replicate.activated",     "replicate.shrunk",         "replicate.resent",
    "replicate.resync_begins", "replicate.resync_chunk",   "replicate.joiner_mandatory",
    "replicate.joined",        "replicate.member_lost",    "replicate.member_returned",
    "replicate.fenced",        "replicate.maps_inherited", "replicate.lease_left"};

constexpr const char* kMemberMoments[] = {
    "replicate.claimed",          "replicate.activated",    "replicate.shrunk",
    "replicate.member_added",     "replicate.whole_copy",   "replicate.resync_chunk",
    "replicate.joiner_mandatory", "replicate.joined",       "replicate.member_removed",
    "replicate.member_lost",      "replicate.resync_begins"};

}  // namespace

Troubles::Troubles(SimCluster& cluster, Trouble trouble, Prng prng)
    : cluster_(cluster), trouble_(trouble), prng_(prng) {
  cluster_.sim().plan().on_probe([this](const char* probe) { passed(probe); });
  // These times are for comfort only: also without them everything must hold.
  if (prng_.chance(1, 2)) cluster_.sim().plan().force("replicate.impatient", true);
  if (prng_.chance(1, 6)) cluster_.sim().plan().force("replicate.no_return", true);
  if (trouble == Trouble::kMembers && prng_.chance(1, 3)) {
    cluster_.sim().plan().force("replicate.impatient_members", true);
  }
}

Duration Troubles::a_while() {
  const Duration most[] = {20ms, 150ms, 700ms, 2500ms};
  return upto(most[prng_.below(4)]);
}

Node* Troubles::alive() {
  std::vector<Node*> candidates;
  for (size_t i = 0; i < cluster_.size(); ++i) {
    Node& node = cluster_.node(i);
    if (node.daemon != nullptr && !node.busy) candidates.push_back(&node);
  }
  return candidates.empty() ? nullptr : candidates[prng_.below(candidates.size())];
}

// Coordinators more often than others.
Node* Troubles::victim() {
  Node* one = alive();
  for (int again = 0; again < 2; ++again) {
    if (one == nullptr || one->daemon->attachment != nullptr) break;
    if (prng_.chance(1, 2)) one = alive();
  }
  return one;
}

void Troubles::passed(const char* probe) {
  if (peace_) return;
  if (std::string_view(probe) == "replicate.activated" && prng_.chance(1, 2)) {
    // Who was the coordinator before may not have noticed, and is asked as well.
    cluster_.sim().loop().after(upto(1ms), [this] { cluster_.give_credits(2); });
  }
  for (size_t i = 0; i < armed_.size(); ++i) {
    if (armed_[i].probe != probe) continue;
    const Trigger trigger = armed_[i];
    armed_.erase(armed_.begin() + static_cast<ptrdiff_t>(i));
    cluster_.sim().loop().after(trigger.delay, [this, trigger] {
      if (peace_) return;
      if (trigger.burst) {
        cluster_.give_credits(8);
      } else {
        (void)spawn(later_, one_event());
      }
    });
    return;
  }
}

// --- attachments

Task<void> Troubles::attach_task(Node& node) {
  Status done = co_await cluster_.attach(node);
  (void)done;
}

Task<void> Troubles::detach_task(Node& node) {
  Status done = co_await cluster_.detach(node);
  (void)done;
}

void Troubles::attach_soon(Node& node) {
  if (node.daemon->attachment != nullptr || node.paused) return;
  (void)spawn(node.daemon->tasks, attach_task(node));
}

void Troubles::attach_somewhere() {
  Node* node = alive();
  if (node != nullptr) attach_soon(*node);
}

Task<void> Troubles::take_over_soon(Duration after) {
  co_await cluster_.pause_for(after);
  if (!peace_) attach_somewhere();
}

// Somebody shall serve most of the time.
Task<void> Troubles::keep_attached() {
  while (!peace_) {
    co_await cluster_.pause_for(20ms + a_while() / 4);
    if (peace_) break;
    const bool wanted = cluster_.serving() == nullptr && !cluster_.is_being_taken_over();
    if (wanted || prng_.chance(1, 16)) attach_somewhere();
    for (size_t i = 0; i < cluster_.size(); ++i) {
      Node& node = cluster_.node(i);
      const bool failed = node.is_up() && node.daemon->pool->stats().failed;
      if (!failed || peace_ || !prng_.chance(1, 4)) continue;
      co_await cluster_.end(node, true);
      (void)spawn(later_, bring_up(node, a_while()));
    }
  }
}

Task<void> Troubles::look_after() {
  for (size_t i = 0; i < cluster_.size(); ++i) {
    Node& node = cluster_.node(i);
    while (node.busy) co_await cluster_.pause_for(5ms);
    const bool failed = node.is_up() && node.daemon->pool->stats().failed;
    if (failed) co_await cluster_.end(node, true);
    if (node.daemon == nullptr) (void)co_await cluster_.start(node);
  }
  // A claim of somebody who is gone may reach the state store late: whoever serves goes on, and
  // learns of it when a change is due.
  cluster_.judge().look();
  const bool claimed = cluster_.judge().config().phase != VolumePhase::kActive;
  if ((cluster_.serving() == nullptr || claimed) && !cluster_.is_being_taken_over()) {
    attach_somewhere();
  }
}

// --- what goes wrong

Task<void> Troubles::bring_up(Node& node, Duration after) {
  co_await cluster_.pause_for(after);
  if (node.daemon == nullptr && !node.busy) (void)co_await cluster_.start(node);
}

Task<void> Troubles::end_soon(Node& node, bool power) {
  if (node.daemon == nullptr || node.busy) co_return;
  co_await cluster_.end(node, power);
  co_await bring_up(node, a_while());
}

Task<void> Troubles::crash() {
  Node* node = victim();
  if (node == nullptr) co_return;
  if (prng_.chance(1, 2)) (void)spawn(later_, take_over_soon(upto(100ms)));
  co_await end_soon(*node, prng_.chance(1, 2));
}

Task<void> Troubles::crash_all() {
  for (size_t i = 0; i < cluster_.size(); ++i) {
    (void)spawn(later_, end_soon(cluster_.node(i), prng_.chance(1, 2)));
  }
  co_return;
}

void Troubles::cut(const std::string& from, const std::string& to,
                   std::vector<std::pair<std::string, std::string>>* links) {
  if (from == to) return;
  cluster_.sim().net().set_blocked(from, to, true);
  links->emplace_back(from, to);
}

Task<void> Troubles::reconnect(std::vector<std::pair<std::string, std::string>> links,
                               Duration after) {
  co_await cluster_.pause_for(after);
  for (const auto& [from, to] : links) {
    cluster_.sim().net().set_blocked(from, to, false);
    cluster_.sim().net().link(from, to).delay = 50us;
  }
}

Task<void> Troubles::network() {
  sim::SimNet& net = cluster_.sim().net();
  Node* node = victim();
  const std::string a = node != nullptr ? node->host.name() : any().host.name();
  const std::string b = any().host.name(), c = any().host.name();
  std::vector<std::pair<std::string, std::string>> links;
  switch (prng_.below(6)) {
    case 0:
      cut(a, b, &links);
      cut(b, a, &links);
      break;
    case 1:
      cut(prng_.chance(1, 2) ? a : b, prng_.chance(1, 2) ? b : a, &links);
      break;
    case 2:
    case 3:  // from all, or from all but one
      for (size_t i = 0; i < cluster_.size(); ++i) {
        const std::string other = cluster_.node(i).host.name();
        if (other == c && prng_.chance(1, 2)) continue;
        cut(a, other, &links);
        cut(other, a, &links);
      }
      break;
    case 4:
      net.reset_streams(a, b);
      break;
    default:
      net.link(a, b).delay = upto(prng_.chance(1, 4) ? 300ms : 5ms);
      links.emplace_back(a, b);
      break;
  }
  if (prng_.chance(1, 2)) {
    (void)spawn(later_, take_over_soon(upto(prng_.chance(1, 2) ? 10ms : 300ms)));
  }
  if (!links.empty()) co_await reconnect(std::move(links), a_while());
}

Task<void> Troubles::wake(Node& node, uint64_t life, Duration after) {
  co_await cluster_.pause_for(after);
  if (node.process.incarnation() == life && node.paused) {
    node.process.proceed();
    node.paused = false;
  }
}

Task<void> Troubles::pause() {
  Node* node = victim();
  if (node == nullptr || node->paused) co_return;
  node->paused = true;
  node->process.pause();
  if (prng_.chance(1, 2)) (void)spawn(later_, take_over_soon(upto(300ms)));
  co_await wake(*node, node->process.incarnation(), a_while());
}

Task<void> Troubles::clear_weather(Weather& weather, Duration after) {
  co_await cluster_.pause_for(after);
  weather.away = false;
  weather.bad_one_in = 0;
}

Task<void> Troubles::state_store() {
  const bool all = prng_.chance(1, 3);
  const bool away = prng_.chance(1, 3);
  const uint64_t bad_one_in = prng_.between(1, 4);
  const Duration length = a_while();
  Node* node = victim();
  for (size_t i = 0; i < cluster_.size(); ++i) {
    if (!all && &cluster_.node(i) != node) continue;
    Weather& weather = cluster_.node(i).weather;
    weather.away = away;
    weather.bad_one_in = bad_one_in;
    (void)spawn(later_, clear_weather(weather, length));
  }
  co_return;
}

Task<void> Troubles::move() {
  Node* to = alive();
  if (to == nullptr) co_return;
  Node* from = cluster_.serving();
  if (from != nullptr && from != to && !from->paused && prng_.chance(1, 3)) {
    (void)spawn(from->daemon->tasks, detach_task(*from));
    co_await cluster_.pause_for(upto(20ms));
  }
  if (to->daemon != nullptr && !to->busy) attach_soon(*to);
  if (prng_.chance(1, 4)) co_await take_over_soon(upto(5ms));
}

Task<void> Troubles::disks() {
  Node* node = victim();
  if (node == nullptr) co_return;
  switch (prng_.below(4)) {
    case 0:
    case 1: {
      sim::ScriptedFault fault;
      fault.fault = prng_.chance(1, 2) ? sim::FaultKind::kWriteError : sim::FaultKind::kSyncError;
      fault.on = prng_.chance(1, 2) ? IoKind::kWriteDurable : IoKind::kSyncData;
      fault.skip = static_cast<uint32_t>(prng_.below(6));
      node->disk.script(fault);
      break;
    }
    case 2:
      node->disk.hang_for(upto(prng_.chance(1, 3) ? 5s : 600ms));
      break;
    default:
      node->disk.set_slow(static_cast<uint32_t>(prng_.between(2, 100)));
      co_await cluster_.pause_for(a_while());
      node->disk.set_slow(1);
      break;
  }
}

// The new one first, as whoever keeps the number of copies does.
Task<void> Troubles::replace_member(Node& by, Node& old) {
  Status done = co_await cluster_.add_member(by);
  if (!done.ok()) co_return;
  if (prng_.chance(2, 3)) (void)co_await cluster_.all_in_sync(upto(1500ms));
  if (!peace_) done = co_await cluster_.remove_member(old);
}

Task<void> Troubles::change_members() {
  Node* server = cluster_.serving();
  if (server != nullptr && prng_.chance(1, 2)) {
    // Nothing that it asks of the state store is answered; what it writes may come, or come late.
    server->weather.bad_one_in = 1;
    (void)spawn(later_, clear_weather(server->weather, upto(8s)));
  }
  if (prng_.chance(1, 3)) (void)spawn(later_, cluster_.scrub());
  const std::vector<Node*> members = cluster_.members(), spares = cluster_.spares();
  Node& member = *members[prng_.below(members.size())];
  Node* spare = spares.empty() ? nullptr : spares[prng_.below(spares.size())];
  const uint64_t draw = prng_.below(4);
  Status done;
  if (spare != nullptr && draw == 0) {
    co_await replace_member(*spare, member);
  } else if (spare != nullptr && (draw == 1 || (members.size() < 2 && draw == 2))) {
    done = co_await cluster_.add_member(*spare);
  } else {
    done = co_await cluster_.remove_member(member);
    if (prng_.chance(1, 2) && !peace_) done = co_await cluster_.add_member(member);
  }
}

Task<void> Troubles::one_event() {
  Trouble kind = trouble_;
  if (kind == Trouble::kMembers) {
    if (prng_.chance(1, 2)) co_return co_await change_members();
    kind = Trouble::kAll;
  }
  if (kind == Trouble::kAll) {
    kind = static_cast<Trouble>(prng_.between(static_cast<uint64_t>(Trouble::kCrashes),
                                              static_cast<uint64_t>(Trouble::kDisks)));
  }
  switch (kind) {
    case Trouble::kCrashes:
      if (prng_.chance(1, 8)) co_return co_await crash_all();
      co_return co_await crash();
    case Trouble::kNetwork:
      co_return co_await network();
    case Trouble::kPauses:
      co_return co_await pause();
    case Trouble::kState:
      co_await state_store();
      if (prng_.chance(2, 3)) co_await crash();
      co_return;
    case Trouble::kMoves:
      co_return co_await move();
    case Trouble::kDisks:
      co_return co_await disks();
    default:
      co_return;
  }
}

// --- when

Task<void> Troubles::round() {
  armed_.clear();
  for (uint64_t n = prng_.below(4); n > 0; --n) {
    Trigger& trigger = armed_.emplace_back();
    trigger.probe = trouble_ == Trouble::kMembers
                        ? kMemberMoments[prng_.below(std::size(kMemberMoments))]
                        : kMoments[prng_.below(std::size(kMoments))];
    trigger.burst = prng_.chance(1, 3);
    const Duration delays[] = {0ms, 200us, 2ms, 20ms};
    trigger.delay = upto(delays[prng_.below(4)]);
  }
  cluster_.give_credits(prng_.between(2, 20));
  for (uint64_t n = prng_.between(1, 2); n > 0; --n) {
    const Duration delays[] = {300us, 1ms, 5ms, 100ms};
    co_await cluster_.pause_for(upto(delays[prng_.below(4)]));
    (void)spawn(later_, one_event());
  }
  const bool drips = prng_.chance(1, 2);
  const Duration lengths[] = {20ms, 300ms, 700ms, 1500ms};
  const MonoTime end = cluster_.sim().driver().clock.now() + upto(lengths[prng_.below(4)]);
  while (cluster_.failure().empty() && cluster_.sim().driver().clock.now() < end) {
    co_await cluster_.pause_for(upto(40ms));
    if (drips) cluster_.give_credits(prng_.between(1, 2));
  }
}

Task<void> Troubles::run() {
  attach_soon(any());
  (void)spawn(keeper_, keep_attached());
  co_await cluster_.pause_for(upto(50ms));
  if (prng_.chance(3, 4)) (void)co_await cluster_.all_in_sync(400ms);
  for (uint64_t n = prng_.between(2, 7); n > 0 && cluster_.failure().empty(); --n) {
    co_await round();
  }
}

Task<void> Troubles::heal() {
  peace_ = true;
  co_await keeper_.close();
  co_await later_.close();
  sim::SimNet& net = cluster_.sim().net();
  net.heal_all();
  for (size_t i = 0; i < cluster_.size(); ++i) {
    Node& node = cluster_.node(i);
    for (size_t j = 0; j < cluster_.size(); ++j) {
      net.link(node.host.name(), cluster_.node(j).host.name()) = sim::Link();
    }
    node.weather.away = false;
    node.weather.bad_one_in = 0;
    node.disk.forget_scripts();
    node.disk.set_slow(1);
    if (node.paused) node.process.proceed();
    node.paused = false;
  }
  for (int attempt = 0; attempt < 10; ++attempt) co_await look_after();
  for (size_t i = 0; i < cluster_.size(); ++i) {
    if (cluster_.node(i).daemon == nullptr) cluster_.fail("a node does not come up");
  }
}

}  // namespace hf::replicate_sim
