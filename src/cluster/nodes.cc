// Nodes that are to go, and volumes that are to be used elsewhere.
#include <algorithm>

#include "base/log.h"
#include "cluster/plane.h"
#include "runtime/fault_point.h"

namespace hf::cluster {
namespace {

constexpr size_t kMaxNamed = 5;
constexpr size_t kPoolsAtOnce = 32;

}  // namespace

Task<Result<KeptNode>> Plane::find_node(std::string text) {
  Result<std::vector<KeptNode>> nodes = co_await catalog_.nodes();
  HF_CO_TRY(nodes);
  std::optional<KeptNode> found;
  for (KeptNode& node : nodes.value()) {
    if (node->id.to_string() == text) co_return std::move(node);
    if (node->name != text) continue;
    if (found) {
      co_return make_error(ErrorCode::kInvalidArgument,
                           "two nodes have the name {}: give the id (holdfast node list)", text);
    }
    found = std::move(node);
  }
  if (found) co_return std::move(*found);
  co_return make_error(ErrorCode::kNotFound, "there is no node {}; holdfast node list shows them", text);
}

Task<Result<NodeInfo>> Plane::node_info(NodeId id) {
  Result<std::vector<NodeInfo>> nodes = co_await list_nodes();
  HF_CO_TRY(nodes);
  for (NodeInfo& node : nodes.value()) {
    if (node.id == id) co_return std::move(node);
  }
  co_return make_error(ErrorCode::kNotFound, "node {} is gone", id.to_string());
}

// Nothing new comes to the node, and what it has is moved by whoever is responsible for each volume.
Task<Result<NodeInfo>> Plane::drain(std::string text, bool undo) {
  Result<KeptNode> node = co_await find_node(std::move(text));
  HF_CO_TRY(node);
  if (ports_.volumes == nullptr) {
    co_return make_error(ErrorCode::kFailedPrecondition,
                         "{} is not in a cluster: there is no other node to take its replicas", node.value()->name);
  }
  if (node.value()->draining == undo) {
    node.value()->draining = !undo;
    Batch batch(catalog_);
    batch.put(node.value());
    Status recorded = co_await catalog_.commit(std::move(batch));
    HF_CO_TRY(recorded);
    HF_LOG(kInfo, "cluster", "node_draining node={} draining={}", node.value()->name, !undo);
  }
  co_return co_await node_info(node.value()->id);
}

// What of the cluster's still hangs on the node.
Task<Result<Plane::Ties>> Plane::ties_of(NodeId node) {
  Ties ties;
  Result<std::vector<KeptVolume>> volumes = co_await catalog_.volumes();
  HF_CO_TRY(volumes);
  Result<std::vector<KeptAttachment>> attachments = co_await catalog_.attachments();
  HF_CO_TRY(attachments);
  Result<Told> told = co_await all_told();
  HF_CO_TRY(told);
  for (const KeptVolume& volume : volumes.value()) {
    const auto has = [&](const MemberRecord& member) { return member.node == node; };
    const bool there = std::any_of(volume->members.begin(), volume->members.end(), has);
    if (!there) continue;
    ties.replicas.push_back(volume->name);
    bool elsewhere = false;
    const auto known = told->find(volume->id);
    for (const MemberInfo& member : known == told->end() ? std::vector<MemberInfo>() : known->second) {
      elsewhere = elsewhere || (member.in_sync && member.node != node);
    }
    if (!elsewhere) ties.only_there.push_back(volume->name);
  }
  for (const KeptAttachment& attachment : attachments.value()) {
    if (attachment->node != node) continue;
    for (const KeptVolume& volume : volumes.value()) {
      if (volume->id == attachment->volume) ties.attached.push_back(volume->name);
    }
  }
  co_return std::move(ties);
}

Task<Result<NodeInfo>> Plane::check_decommission(std::string text, bool force) {
  Result<KeptNode> node = co_await find_node(std::move(text));
  HF_CO_TRY(node);
  const NodeId id = node.value()->id;
  const std::string name = node.value()->name;
  if (id == options_.node) {
    co_return make_error(ErrorCode::kFailedPrecondition,
                         "{} is this node: ask another one to let it go (holdfast node decommission {})", name, name);
  }
  Status read = co_await read_neighbours();
  HF_CO_TRY(read);
  co_await ask(id);
  Result<Ties> ties = co_await ties_of(id);
  HF_CO_TRY(ties);
  if (is_online(id)) {
    std::string why;
    if (!ties->replicas.empty()) why += fmt::format("; it has {} replicas ({})", ties->replicas.size(), listed(ties->replicas, kMaxNamed));
    if (!ties->attached.empty()) why += fmt::format("; attached there: {}", listed(ties->attached, kMaxNamed));
    if (!why.empty() || !node.value()->draining) {
      co_return make_error(ErrorCode::kFailedPrecondition,
                           "node {} is alive: first holdfast node drain {}, and wait until it has nothing left{}", name,
                           name, why);
    }
  } else if (!ties->only_there.empty() && !force) {
    co_return make_error(ErrorCode::kFailedPrecondition,
                         "node {} does not answer and has the only replica in sync of {} volume{} ({}), which would be lost: "
                         "bring it back, or give them up with --force",
                         name, ties->only_there.size(), ties->only_there.size() == 1 ? "" : "s", listed(ties->only_there, kMaxNamed));
  }
  co_return co_await node_info(id);
}

// It is no part of the cluster afterwards: replicas that it has are made anew elsewhere.
Task<Status> Plane::forget_node(NodeId id) {
  Result<std::optional<KeptNode>> node = co_await catalog_.node(id);
  HF_CO_TRY(node);
  Result<std::vector<KeptPool>> pools = co_await catalog_.pools();
  HF_CO_TRY(pools);
  // A transaction has its bounds: as many as fit, and the node's own record with the last of them.
  std::vector<KeptPool> its;
  for (KeptPool& pool : pools.value()) {
    if (pool->node == id) its.push_back(std::move(pool));
  }
  for (size_t first = 0; first < its.size(); first += kPoolsAtOnce) {
    Batch batch(catalog_);
    for (size_t i = first; i < std::min(its.size(), first + kPoolsAtOnce); ++i) batch.remove(its[i]);
    Status gone = co_await catalog_.commit(std::move(batch));
    HF_CO_TRY(gone);
  }
  if (!node.value()) co_return Status();
  HF_PROBE("cluster.node_forgotten");
  Batch batch(catalog_);
  batch.remove(*node.value());
  Status gone = co_await catalog_.commit(std::move(batch));
  HF_CO_TRY(gone);
  HF_LOG(kInfo, "cluster", "node_forgotten node={}", node.value()->record.name);
  Status read = co_await read_neighbours();
  if (!read.ok()) HF_PROBE("cluster.neighbours_from_memory");
  co_return Status();
}

// ---- Moving a volume's use ------------------------------------------------------------------------------------

// Attached on the node afterwards, ready for a container there. From a node that uses it only by force.
Task<Result<VolumeInfo>> Plane::move(const MoveVolume& request) {
  Result<std::string> name = co_await name_of(request.name);
  HF_CO_TRY(name);
  Result<KeptNode> target = co_await find_node(request.node);
  HF_CO_TRY(target);
  const NodeId to = target.value()->id;
  VolumeId volume;
  bool stays = false;
  {
    Result<Section> section = co_await enter(name.value());
    HF_CO_TRY(section);
    Result<View> view = co_await load_usable(name.value());
    HF_CO_TRY(view);
    const bool there = view->attachment && view->attachment->record.node == to;
    if (there && view->attachment->record.attached) co_return co_await info(view.value());
    if (!view->volume->replicated && to != options_.node) {
      co_return make_error(ErrorCode::kFailedPrecondition,
                           "volume {} is not replicated by a cluster: it can be used on its own node only", name.value());
    }
    if (!is_online(to)) {
      co_return make_error(ErrorCode::kUnavailable, "node {} does not answer", target.value()->name);
    }
    volume = view->volume->id;
    stays = view->attachment && view->attachment->record.pinned;
    if (view->attachment && !there && !request.force) {
      Status released;
      if (is_here(view.value())) {
        released = co_await release_if_unused(view.value(), options_.docker_grace);
      } else {
        released = co_await ports_.peers->node(view->attachment->record.node).detach(volume);
        // One that does not answer is not waited for: it is fenced by who takes over.
        if (released.code() == ErrorCode::kUnavailable || released.code() == ErrorCode::kTimeout) released = Status();
      }
      HF_CO_TRY(released);
    }
  }
  HF_PROBE("cluster.moved");
  Status taken;
  if (to == options_.node) {
    taken = co_await take(volume, stays, request.force);
  } else {
    taken = co_await ports_.peers->node(to).take(volume, stays, request.force);
    if (!taken.ok()) taken = taken.error().with_context("node " + target.value()->name);
  }
  HF_CO_TRY(taken);
  co_return co_await inspect(name.value());
}

// Asked by the node that was asked to move it here.
Task<Status> Plane::take(VolumeId volume, bool stays, bool force) {
  Result<std::optional<KeptVolume>> kept = co_await catalog_.volume(volume);
  HF_CO_TRY(kept);
  if (!kept.value()) co_return make_error(ErrorCode::kNotFound, "there is no volume {}", volume.to_string());
  AttachVolume request;
  request.name = kept.value()->record.id.to_string();
  request.stays = stays;
  request.force = force;
  Result<VolumeInfo> attached = co_await attach(request);
  HF_CO_TRY(attached);
  co_return Status();
}

}  // namespace hf::cluster
