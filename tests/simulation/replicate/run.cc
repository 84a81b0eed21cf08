#include "run.h"

#include <malloc.h>

#include <cstdlib>

#include "base/log.h"

namespace hf::replicate_sim {
namespace {

// L1: in peace. What is held back on a link is sent again after up to 5 s, a change that the state
// store has late comes within 1.5 s, a disk may have to end a hang first.
constexpr Duration kProgressWithin = 15s;
constexpr Duration kConvergesWithin = 30s;

class Run {
 public:
  Run(uint64_t seed, Trouble trouble, Shape shape)
      : cluster_(seed, shape), troubles_(cluster_, trouble, cluster_.prng().fork()) {}
  Task<void> run();
  SimCluster& cluster() { return cluster_; }

 private:
  Task<void> come_right();
  Task<bool> settle();
  std::string who_is_away();

  SimCluster cluster_;
  Troubles troubles_;
};

Task<bool> Run::settle() {
  const int64_t end = cluster_.sim().loop().now() + kConvergesWithin.count();
  while (cluster_.failure().empty() && cluster_.sim().loop().now() < end) {
    co_await troubles_.look_after();
    bool complete = co_await cluster_.all_in_sync(60ms);
    const bool stays = cluster_.serving() != nullptr && !cluster_.is_being_taken_over();
    if (complete && stays) co_return true;
    co_await cluster_.pause_for(5ms);
  }
  co_return false;
}

std::string Run::who_is_away() {
  Node* node = cluster_.serving();
  if (node == nullptr) return "nobody serves";
  std::string text;
  for (const MemberStatus& member : node->daemon->attachment->coordinator->members()) {
    text += fmt::format(" [{} in_sync={} reachable={} resyncing={} {}/{} {}]", member.member.slot,
                        member.in_sync, member.reachable, member.resyncing,
                        member.resync_bytes_done, member.resync_bytes_total, member.trouble);
  }
  return text;
}

Task<void> Run::come_right() {
  const int64_t end = cluster_.sim().loop().now() + kProgressWithin.count();
  bool done = false;
  while (!done && cluster_.failure().empty() && cluster_.sim().loop().now() < end) {
    co_await troubles_.look_after();
    done = co_await cluster_.progresses(500ms);
  }
  if (!done) {
    cluster_.fail("L1: in peace no write succeeds: " + who_is_away());
    co_return;
  }
  cluster_.give_credits(10);  // writes go on while the rest returns
  done = co_await settle();
  if (!done) {
    cluster_.fail("the members do not come in sync: " + who_is_away());
    co_return;
  }
  cluster_.give_credits(10);
  co_await cluster_.pause_for(50ms);
  cluster_.let_clients(false);
  co_await cluster_.wait_clients();
  co_await cluster_.read_everything();
  co_await cluster_.compare_replicas();
  const std::string wrong = cluster_.judge().history().check();
  if (!wrong.empty()) cluster_.fail("I4: " + wrong);
}

Task<void> Run::run() {
  co_await cluster_.create();
  co_await troubles_.run();
  co_await troubles_.heal();
  if (cluster_.failure().empty()) co_await come_right();
  cluster_.let_clients(false);
  co_await cluster_.stop_all();
}

// Buffers of a megabyte come and go: their pages are kept, or the kernel's part of a seed is as
// large as ours.
void keep_memory() {
  static const bool kept =
      mallopt(M_MMAP_THRESHOLD, 32 * kMiB) != 0 && mallopt(M_TRIM_THRESHOLD, 512 * kMiB) != 0;
  HF_ASSERT(kept);
}

}  // namespace

// Few blocks, in many units of the dirty maps: operations overlap, and what a map does not tell is
// not hidden by what it tells of a neighbour.
Shape shape_of(uint64_t seed) {
  Prng prng(seed * 0x9e3779b97f4a7c15 + 1);
  Shape shape;
  shape.nodes = prng.between(3, 4);
  const uint64_t members[] = {2, 3, 3, 3, 4};
  shape.members = std::min(shape.nodes, members[prng.below(5)]);
  shape.blocks = 192;
  shape.lively = prng.between(4, 24);
  shape.clients = prng.between(3, 6);
  const Duration thinks[] = {0ms, 200us, 2ms};
  shape.think = thinks[prng.below(3)];
  shape.widest = prng.between(1, 3);
  shape.writes_percent = prng.chance(1, 2) ? 90 : 60;
  shape.drift_ppm = prng.chance(1, 2) ? 45'000 : 0;
  return shape;
}

RunResult run_seed(uint64_t seed, Trouble trouble) {
  Shape shape = shape_of(seed);
  if (trouble == Trouble::kMembers) {
    shape.members = std::min<uint64_t>(shape.members, 3);
    shape.nodes = shape.members + 2;
    shape.spares = 2;
  }
  return run_seed(seed, trouble, shape);
}

RunResult run_seed(uint64_t seed, Trouble trouble, Shape shape) {
  keep_memory();
  set_log_level(std::getenv("HF_REPLICATE_LOG") != nullptr ? LogLevel::kDebug : LogLevel::kOff);
  for (uint64_t slot = 0; slot < shape.members + shape.spares; ++slot)
    (void)prepared_disk(slot, shape.blocks);
  RunResult result;
  Run run(seed, trouble, shape);
  SimCluster& cluster = run.cluster();
  cluster.sim().run(run.run());
  result.failure = cluster.failure();
  result.hash = cluster.sim().history().hash();
  cluster.sim().plan().add_to(&result.probes);
  const RegisterHistory& history = cluster.judge().history();
  const std::pair<const char*, uint64_t> counts[] = {
      {"sim.reads", history.reads()},
      {"sim.writes", history.writes()},
      {"sim.acknowledged", cluster.acknowledged},
      {"sim.refused", cluster.refused},
      {"sim.takeovers", cluster.takeovers},
      {"sim.scrubs", cluster.scrubs},
      {"sim.member_changes", cluster.judge().member_changes},
      {"sim.pairs_checked", cluster.pairs_checked},
      {"sim.coverage_checks", cluster.coverage_checks},
      {"sim.differing_blocks", cluster.differing_blocks}};
  for (const auto& [name, count] : counts) result.probes[name] += count;
  return result;
}

}  // namespace hf::replicate_sim
