// What is known of the other nodes: asked of them, and forgotten when they do not answer.
#include <algorithm>

#include "base/log.h"
#include "cluster/plane.h"
#include "runtime/fault_point.h"
#include "runtime/gate.h"

namespace hf::cluster {
namespace {

// Two unanswered questions in a row: one may be a busy moment.
constexpr int kSilences = 2;

}  // namespace

std::string Plane::node_name(NodeId node) const {
  if (node == options_.node) return options_.node_name;
  const auto known = neighbours_.find(node);
  return known == neighbours_.end() || known->second.name.empty() ? node.to_string() : known->second.name;
}

bool Plane::is_online(NodeId node) const {
  if (node == options_.node) return true;
  const auto known = neighbours_.find(node);
  return known != neighbours_.end() && known->second.online;
}

NodeFacts Plane::own_facts_without_pools() const {
  NodeFacts facts;
  facts.node = options_.node;
  facts.version = options_.version;
  for (const ExportKind kind : ports_.exporter.offered()) {
    if (kind == ExportKind::kUblk) facts.exports.push_back("ublk");
    if (kind == ExportKind::kNbd) facts.exports.push_back("nbd");
    if (kind == ExportKind::kFuseLoop) facts.exports.push_back("fuse");
    if (kind == ExportKind::kNbdServer) facts.exports.push_back("nbd-server");
  }
  return facts;
}

Task<Result<NodeFacts>> Plane::facts() {
  NodeFacts facts = own_facts_without_pools();
  Result<std::vector<KeptPool>> pools = co_await catalog_.pools();
  HF_CO_TRY(pools);
  for (const KeptPool& pool : pools.value()) {
    if (pool->node != options_.node) continue;
    Result<PoolInfo> info = co_await pool_info(pool.record, 0, 0);
    HF_CO_TRY(info);
    facts.pools.push_back(std::move(info).value());
  }
  co_return std::move(facts);
}

// The nodes' records say who there is and where.
Task<Status> Plane::read_neighbours() {
  if (ports_.peers == nullptr) co_return Status();
  Result<std::vector<KeptNode>> nodes = co_await catalog_.nodes();
  HF_CO_TRY(nodes);
  std::set<NodeId> there;
  for (const KeptNode& node : nodes.value()) {
    if (node->id == options_.node) continue;
    there.insert(node->id);
    Neighbour& known = neighbours_[node->id];
    known.name = node->name;
    known.domain = node->domain;
    if (known.address == node->address) continue;
    known.address = node->address;
    ports_.peers->know(node->id, node->address);
  }
  std::erase_if(neighbours_, [&](const auto& entry) { return !there.contains(entry.first); });
  co_return Status();
}

Task<void> Plane::ask(NodeId node) {
  Result<NodeFacts> facts = co_await ports_.peers->node(node).facts();
  const auto found = neighbours_.find(node);
  if (found == neighbours_.end()) co_return;
  Neighbour& known = found->second;
  if (facts.ok()) {
    if (!known.online) HF_LOG(kInfo, "cluster", "node_online node={}", known.name);
    changed_ = changed_ || !known.online;
    known.online = true;
    known.silences = 0;
    known.why.clear();
    known.facts = std::move(facts).value();
    co_return;
  }
  known.why = facts.error().message();
  if (++known.silences < kSilences || !known.online) co_return;
  known.online = false;
  changed_ = true;
  HF_PROBE("cluster.node_offline");
  HF_LOG(kWarn, "cluster", "node_offline node={} why=\"{}\"", known.name, known.why);
}

Task<void> Plane::ask_neighbours() {
  Status read = co_await read_neighbours();
  if (!read.ok()) HF_PROBE("cluster.neighbours_from_memory");
  Gate asking;
  std::vector<NodeId> nodes;
  for (const auto& [node, known] : neighbours_) nodes.push_back(node);
  for (const NodeId& node : nodes) (void)spawn(asking, ask(node));
  co_await asking.close();
}

Task<void> Plane::look_around() {
  if (ports_.peers == nullptr) co_return;
  co_await ask_neighbours();
  co_await drop_fenced_cares();
  co_await look_for_expelled(true);
}

// Of two nodes that could finish what was begun on a volume one does; safe in any case, since each
// change is a compare-and-set.
bool Plane::is_responsible(const VolumeRecord& volume, const AttachmentRecord* attachment) const {
  if (ports_.peers == nullptr) return true;
  if (attachment != nullptr) return attachment->node == options_.node;
  for (const MemberRecord& member : volume.members) {
    if (is_online(member.node)) return member.node == options_.node;
  }
  return false;
}

}  // namespace hf::cluster
