// The last way out: no replica that has every acknowledged write will ever be back, and an operator takes an older one
// for the truth. What was acknowledged after that one had left is lost; so it is refused as long as anything better may
// be had, and never done by itself.
#include <algorithm>

#include "base/log.h"
#include "cluster/mutants.h"
#include "cluster/plane.h"
#include "runtime/fault_point.h"

namespace hf::cluster {

// Ok where the member will never be back: its node or pool is no part of the cluster, or the operator says so. It must
// not be there.
Status Plane::check_lost_for_good(const VolumeRecord& record, const MemberInfo& member, const std::vector<PoolInfo>& pools,
                                  const std::vector<std::string>& declared) const {
  const std::string node = node_name(member.node);
  const auto pool = std::find_if(pools.begin(), pools.end(), [&](const PoolInfo& p) { return p.id == member.pool; });
  if (pool == pools.end()) return {};
  if (is_online(member.node) && is_there(*pool)) {
    return make_error(ErrorCode::kFailedPrecondition,
                      "volume {}: the replica on node {} has every acknowledged write and is there: nothing has to be given up, "
                      "use the volume",
                      record.name, node);
  }
  const auto names_it = [&](const std::string& text) {
    return text == node || text == member.node.to_string() || text == member.pool.to_string() || text == pool->path;
  };
  if (std::any_of(declared.begin(), declared.end(), names_it) || mutant(ControlMutant::kPromotedOverUnknown)) return {};
  return make_error(ErrorCode::kFailedPrecondition,
                    "volume {}: the replica on node {} (pool {}) has every acknowledged write, and does not answer now: bring it back. "
                    "Only if it never comes back, say so with --lost {}",
                    record.name, node, pool->path, node);
}

Task<Result<Promotion>> Plane::promote(const PromoteVolume& request) {
  const std::vector<std::string> declared = request.lost;
  const bool only_look = request.only_look;
  const std::string on = request.node;
  Result<std::string> name = co_await name_of(request.name);
  HF_CO_TRY(name);
  Result<KeptNode> target = co_await find_node(on);
  HF_CO_TRY(target);
  Result<Section> section = co_await enter(name.value());
  HF_CO_TRY(section);
  Result<View> view = co_await load_settled(name.value());
  HF_CO_TRY(view);
  const VolumeRecord& record = view->volume.record;
  if (!record.replicated) {
    co_return make_error(ErrorCode::kFailedPrecondition, "volume {} has one replica and no other to take for it", record.name);
  }
  const auto chosen = std::find_if(record.members.begin(), record.members.end(), [&](const MemberRecord& member) {
    return member.node == target.value()->id && member.state != MemberState::kLeaving;
  });
  if (chosen == record.members.end()) {
    co_return make_error(ErrorCode::kNotFound, "volume {} has no replica on node {}", record.name, target.value()->name);
  }
  if (ports_.peers != nullptr) co_await ask_neighbours();
  Result<std::vector<PoolInfo>> pools = co_await pool_infos();
  HF_CO_TRY(pools);
  const auto its_pool =
      std::find_if(pools->begin(), pools->end(), [&](const PoolInfo& pool) { return pool.id == chosen->pool; });
  if (!is_online(chosen->node) || its_pool == pools->end() || !is_there(*its_pool)) {
    co_return make_error(ErrorCode::kUnavailable, "volume {}: the replica on node {} does not answer", record.name,
                         target.value()->name);
  }
  Result<std::vector<MemberInfo>> members = co_await ports_.volumes->members(record.id);
  HF_CO_TRY(members);
  Promotion promotion;
  promotion.volume = record.name;
  promotion.node = target.value()->name;
  promotion.away_since = chosen->away_since;
  std::vector<ReplicaId> lost;
  for (const MemberInfo& member : members.value()) {
    if (!member.in_sync) continue;
    if (member.replica == chosen->replica) {  // asked again
      promotion.done = true;
      co_return std::move(promotion);
    }
    const Status gone = check_lost_for_good(record, member, pools.value(), declared);
    HF_CO_TRY(gone);
    lost.push_back(member.replica);
    promotion.lost_nodes.push_back(node_name(member.node));
  }
  Result<PromotionFacts> facts = co_await ports_.volumes->promote(record.id, chosen->replica, lost, only_look);
  if (!facts.ok()) co_return facts.error().with_context("volume " + record.name);
  promotion.epoch = facts->epoch;
  promotion.generation = facts->generation;
  promotion.left_generation = facts->left_generation;
  promotion.done = !only_look;
  if (only_look) co_return std::move(promotion);
  HF_PROBE("cluster.promoted");
  HF_LOG(kWarn, "cluster", "promoted volume={} node={} epoch={} generation={} left_generation={}: what was acknowledged since is lost",
         record.name, promotion.node, promotion.epoch, promotion.generation, promotion.left_generation);
  co_return std::move(promotion);
}

}  // namespace hf::cluster
