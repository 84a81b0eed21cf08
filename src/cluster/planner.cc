#include "cluster/planner.h"

#include <algorithm>

#include "base/units.h"

namespace hf::cluster {
namespace {

constexpr size_t kMaxReasonsShown = 8;

bool is_named(const PoolFacts& facts, const std::vector<std::string>& nodes) {
  if (nodes.empty()) return true;
  return std::any_of(nodes.begin(), nodes.end(), [&](const std::string& text) {
    return text == facts.node_name || text == facts.pool.id.to_string() ||
           text == facts.pool.node.to_string();
  });
}

// 0 exact, then higher classes, then lower ones.
uint32_t class_distance(uint32_t have, uint32_t want) {
  return have >= want ? have - want : 10 + (want - have);
}

uint64_t promise_left(const PoolInfo& pool, const PlacementLimits& limits) {
  const auto most =
      static_cast<uint64_t>(static_cast<double>(pool.total_bytes) * limits.overcommit);
  return most > pool.provisioned_bytes ? most - pool.provisioned_bytes : 0;
}

std::string shown(const PoolInfo& pool) {
  return fmt::format("pool {} ({})", pool.id.to_string(), pool.path);
}

}  // namespace

Status check_room(const PoolInfo& pool, uint64_t more_bytes, const PlacementLimits& limits) {
  if (pool.state == PoolState::kOffline || pool.state == PoolState::kFailed) {
    return make_error(ErrorCode::kUnavailable, "{} is {}: {}", shown(pool),
                      pool.state == PoolState::kOffline ? "offline" : "out of service",
                      pool.message);
  }
  const auto watermark =
      static_cast<uint64_t>(static_cast<double>(pool.total_bytes) * limits.used_watermark);
  if (pool.state == PoolState::kFull || pool.used_bytes >= watermark) {
    return make_error(ErrorCode::kNoSpace, "{} is full ({} of {} used); expand it or add a pool",
                      shown(pool), format_size(pool.used_bytes), format_size(pool.total_bytes));
  }
  if (more_bytes > promise_left(pool, limits)) {
    return make_error(
        ErrorCode::kNoSpace,
        "{} has promised {} of its {} and may promise {} times that: no room for {} more; "
        "expand it or add a pool",
        shown(pool), format_size(pool.provisioned_bytes), format_size(pool.total_bytes),
        limits.overcommit, format_size(more_bytes));
  }
  return {};
}

Result<std::vector<PoolInfo>> place_volume(const PlacementRequest& request,
                                           const std::vector<PoolFacts>& pools,
                                           const PlacementLimits& limits) {
  if (pools.empty()) {
    return Error(ErrorCode::kFailedPrecondition,
                 "there is no pool yet; make one: holdfast pool add /var/lib/holdfast/pool");
  }
  std::vector<const PoolFacts*> fit;
  std::string reasons;
  size_t turned_down = 0, named = 0;
  ErrorCode code = ErrorCode::kNoSpace;
  for (const PoolFacts& facts : pools) {
    if (!is_named(facts, request.nodes)) continue;
    ++named;
    if (std::find(request.without.begin(), request.without.end(), facts.pool.node) != request.without.end()) continue;
    Status room = check_room(facts.pool, request.size_bytes, limits);
    if (room.ok() && facts.node_draining) {
      room = make_error(ErrorCode::kUnavailable, "{}: its node {} is being drained", shown(facts.pool),
                        facts.node_name);
    }
    if (room.ok() && !facts.node_online) {
      room = make_error(ErrorCode::kUnavailable, "{}: its node {} is offline", shown(facts.pool),
                        facts.node_name);
    }
    if (room.ok()) {
      fit.push_back(&facts);
      continue;
    }
    if (room.code() != ErrorCode::kNoSpace) code = room.code();
    if (++turned_down <= kMaxReasonsShown) reasons += "; " + room.error().message();
  }
  if (named == 0) {
    return make_error(ErrorCode::kNotFound,
                      "nodes= names no pool or node of this cluster ({} given)",
                      request.nodes.size());
  }
  std::sort(fit.begin(), fit.end(), [&](const PoolFacts* a, const PoolFacts* b) {
    const bool a_here = a->pool.node == request.asking, b_here = b->pool.node == request.asking;
    if (a_here != b_here) return a_here;
    const uint32_t a_class = class_distance(a->pool.io_class, request.io_class);
    const uint32_t b_class = class_distance(b->pool.io_class, request.io_class);
    if (a_class != b_class) return a_class < b_class;
    const uint64_t a_left = promise_left(a->pool, limits), b_left = promise_left(b->pool, limits);
    if (a_left != b_left) return a_left > b_left;
    return a->pool.id < b->pool.id;
  });
  std::vector<PoolInfo> chosen;
  for (const PoolFacts* facts : fit) {
    const bool taken = std::any_of(chosen.begin(), chosen.end(), [&](const PoolInfo& pool) {
      return pool.node == facts->pool.node;
    });
    if (!taken && chosen.size() < request.replicas) chosen.push_back(facts->pool);
  }
  if (chosen.size() == request.replicas) return chosen;
  if (fit.empty()) {
    return make_error(code, "no pool has room for {}{}", format_size(request.size_bytes), reasons);
  }
  return make_error(ErrorCode::kFailedPrecondition,
                    "{} replicas need pools with room on as many nodes, {} found{}",
                    request.replicas, chosen.size(), reasons);
}

}  // namespace hf::cluster
