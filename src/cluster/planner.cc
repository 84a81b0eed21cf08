#include "cluster/planner.h"

#include <algorithm>

#include "base/units.h"

namespace hf::cluster {
namespace {

constexpr size_t kMaxReasonsShown = 8;
constexpr size_t kMaxNamesShown = 12;

// Of what they are part of, too: two zones of one name in two regions are two.
using Zone = std::pair<std::string, std::string>;
Zone zone_of(const FailureDomain& domain) { return {domain.region, domain.zone}; }
using Rack = std::pair<Zone, std::string>;
Rack rack_of(const FailureDomain& domain) { return {zone_of(domain), domain.rack}; }

bool has(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

bool is_named(const PoolFacts& facts, const std::string& text) {
  return text == facts.node_name || text == facts.pool.id.to_string() || text == facts.pool.node.to_string();
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

std::string shown(const std::set<std::string>& names) {
  std::string text;
  size_t count = 0;
  for (const std::string& name : names) {
    if (++count > kMaxNamesShown) return text + fmt::format(" and {} more", names.size() - kMaxNamesShown);
    text += (text.empty() ? "" : ", ") + name;
  }
  return text;
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

PlacementRequest placement_of(const VolumeSpec& spec, uint64_t size_bytes) {
  PlacementRequest request;
  request.size_bytes = size_bytes;
  request.replicas = spec.repl;
  request.io_class = static_cast<uint32_t>(spec.io_priority);
  request.nodes = spec.nodes;
  request.zones = spec.zones;
  request.racks = spec.racks;
  request.regions = spec.regions;
  request.group = spec.group;
  request.strict = spec.group_strict;
  return request;
}

bool is_admitted(const PlacementRequest& request, const PoolFacts& facts) {
  const bool named = request.nodes.empty() ||
                     std::any_of(request.nodes.begin(), request.nodes.end(),
                                 [&](const std::string& text) { return is_named(facts, text); });
  return named && (request.zones.empty() || has(request.zones, facts.domain.zone)) &&
         (request.racks.empty() || has(request.racks, facts.domain.rack)) &&
         (request.regions.empty() || has(request.regions, facts.domain.region));
}

Status check_named(const PlacementRequest& request, const std::vector<PoolFacts>& pools) {
  std::set<std::string> zones, racks, regions, names;
  for (const PoolFacts& facts : pools) {
    names.insert(facts.node_name);
    if (!facts.domain.zone.empty()) zones.insert(facts.domain.zone);
    if (!facts.domain.rack.empty()) racks.insert(facts.domain.rack);
    if (!facts.domain.region.empty()) regions.insert(facts.domain.region);
  }
  for (const std::string& text : request.nodes) {
    const auto known = [&](const PoolFacts& facts) { return is_named(facts, text); };
    if (std::any_of(pools.begin(), pools.end(), known)) continue;
    return make_error(ErrorCode::kNotFound, "nodes= names {}, which is no node with a pool and no pool of this cluster; nodes with one: {}",
                      text, shown(names));
  }
  const std::tuple<const char*, const std::vector<std::string>*, const std::set<std::string>*> kinds[] = {
      {"zone", &request.zones, &zones}, {"rack", &request.racks, &racks}, {"region", &request.regions, &regions}};
  for (const auto& [kind, asked, there] : kinds) {
    for (const std::string& text : *asked) {
      if (there->contains(text)) continue;
      return make_error(ErrorCode::kNotFound, "{0}s= names {1}, and no node with a pool is in a {0} of that name; there are: {2}. A "
                        "node's {0} stands in its holdfastd.toml ({0} = \"{1}\")",
                        kind, text, there->empty() ? "none" : shown(*there));
    }
  }
  return {};
}

namespace {

// Pools that may take a replica, and why others may not.
struct Choice {
  std::vector<const PoolFacts*> fit;
  std::string reasons;
  ErrorCode code = ErrorCode::kNoSpace;
};

Choice fitting(const PlacementRequest& request, const std::vector<PoolFacts>& pools, const PlacementLimits& limits) {
  Choice choice;
  size_t turned_down = 0;
  for (const PoolFacts& facts : pools) {
    if (!is_admitted(request, facts)) continue;
    const NodeId node = facts.pool.node;
    if (std::find(request.without.begin(), request.without.end(), node) != request.without.end()) continue;
    Status room = check_room(facts.pool, request.size_bytes, limits);
    if (room.ok() && facts.node_draining) {
      room = make_error(ErrorCode::kUnavailable, "{}: its node {} is being drained", shown(facts.pool), facts.node_name);
    }
    if (room.ok() && !facts.node_online) {
      room = make_error(ErrorCode::kUnavailable, "{}: its node {} is offline", shown(facts.pool), facts.node_name);
    }
    if (room.ok() && request.strict && request.of_group.contains(node)) {
      room = make_error(ErrorCode::kFailedPrecondition, "{}: its node {} has a replica of another volume of group {}, and fg=true",
                        shown(facts.pool), facts.node_name, request.group);
    }
    if (room.ok()) {
      choice.fit.push_back(&facts);
      continue;
    }
    if (room.code() != ErrorCode::kNoSpace) choice.code = room.code();
    if (++turned_down <= kMaxReasonsShown) choice.reasons += "; " + room.error().message();
  }
  return choice;
}

// Less is better. What a choice changes comes first, so that it is made anew for each replica.
auto rank_of(const PoolFacts& facts, const PlacementRequest& request, const std::set<Zone>& zones,
             const std::set<Rack>& racks, const PlacementLimits& limits) {
  const PoolInfo& pool = facts.pool;
  return std::make_tuple(request.of_group.contains(pool.node), zones.contains(zone_of(facts.domain)),
                         racks.contains(rack_of(facts.domain)), pool.node != request.asking,
                         class_distance(pool.io_class, request.io_class), UINT64_MAX - promise_left(pool, limits), pool.id);
}

// In so many of them a volume's replicas are to be; who names some has chosen.
size_t wanted_domains(size_t replicas, const std::vector<std::string>& named) {
  return named.empty() ? replicas : std::min(replicas, named.size());
}

}  // namespace

Result<std::vector<PoolInfo>> place_volume(const PlacementRequest& request,
                                           const std::vector<PoolFacts>& pools,
                                           const PlacementLimits& limits) {
  if (pools.empty()) {
    return Error(ErrorCode::kFailedPrecondition,
                 "there is no pool yet; make one: holdfast pool add /var/lib/holdfast/pool");
  }
  HF_TRY(check_named(request, pools));
  Choice choice = fitting(request, pools, limits);
  std::vector<Seat> seats = request.beside;
  std::set<Zone> zones;
  std::set<Rack> racks;
  for (const Seat& seat : seats) {
    zones.insert(zone_of(seat.domain));
    racks.insert(rack_of(seat.domain));
  }
  std::vector<const PoolFacts*> left = choice.fit;
  std::vector<PoolInfo> chosen;
  while (chosen.size() < request.replicas && !left.empty()) {
    const auto best = std::min_element(left.begin(), left.end(), [&](const PoolFacts* a, const PoolFacts* b) {
      return rank_of(*a, request, zones, racks, limits) < rank_of(*b, request, zones, racks, limits);
    });
    const PoolFacts& facts = **best;
    chosen.push_back(facts.pool);
    seats.emplace_back(facts.pool.node, facts.domain);
    zones.insert(zone_of(facts.domain));
    racks.insert(rack_of(facts.domain));
    std::erase_if(left, [&](const PoolFacts* other) { return other->pool.node == chosen.back().node; });
  }
  if (choice.fit.empty() && request.without.empty()) {
    return make_error(choice.code, "no pool has room for {}{}", format_size(request.size_bytes), choice.reasons);
  }
  if (chosen.size() < request.replicas) {
    const char* more = request.without.empty() ? "" : " more";
    return make_error(choice.fit.empty() ? choice.code : ErrorCode::kFailedPrecondition,
                      "{}{} replica{} need{} pools with room on as many nodes, {} found{}", request.replicas, more,
                      request.replicas == 1 ? "" : "s", request.replicas == 1 ? "s" : "", chosen.size(), choice.reasons);
  }
  if (request.strict) {
    DomainKinds kinds;
    for (const PoolFacts& facts : pools) kinds.add(facts.domain);
    const std::string wrong = describe_spread(request, seats, kinds);
    if (!wrong.empty()) {
      return make_error(ErrorCode::kFailedPrecondition, "fg=true, and at best {}; add a pool elsewhere, name what is enough (zones=, "
                        "racks=), or leave fg out{}", wrong, choice.reasons);
    }
  }
  return chosen;
}

SpreadScore spread_of(const std::vector<Seat>& seats) {
  std::set<Zone> zones;
  std::set<Rack> racks;
  int64_t strangers = 0;
  for (const Seat& seat : seats) {
    zones.insert(zone_of(seat.domain));
    racks.insert(rack_of(seat.domain));
    strangers += seat.admitted ? 0 : 1;
  }
  return {-strangers, zones.size(), racks.size()};
}

std::optional<size_t> misplaced(const std::vector<Seat>& seats, const PlacementRequest& request,
                                const std::vector<PoolFacts>& pools, const DomainKinds& kinds,
                                const PlacementLimits& limits, NodeId user) {
  const bool admitted = std::all_of(seats.begin(), seats.end(), [](const Seat& seat) { return seat.admitted; });
  if (admitted && describe_spread(request, seats, kinds).empty()) return std::nullopt;
  std::optional<size_t> worst;
  std::pair<SpreadScore, bool> best = {spread_of(seats), true};
  for (size_t i = 0; i < seats.size(); ++i) {
    PlacementRequest one = request;
    one.replicas = 1;
    one.strict = false;
    one.beside = seats;
    one.beside.erase(one.beside.begin() + static_cast<std::ptrdiff_t>(i));
    one.without.clear();
    for (const Seat& seat : seats) one.without.push_back(seat.node);
    const Result<std::vector<PoolInfo>> found = place_volume(one, pools, limits);
    if (!found.ok()) continue;
    std::vector<Seat> then = one.beside;
    for (const PoolFacts& facts : pools) {
      if (facts.pool.id == found->front().id) then.emplace_back(facts.pool.node, facts.domain);
    }
    const std::pair<SpreadScore, bool> score = {spread_of(then), seats[i].node != user};
    if (!(best < score)) continue;
    best = score;
    worst = i;
  }
  return worst;
}

std::string describe_spread(const PlacementRequest& request, const std::vector<Seat>& seats, const DomainKinds& kinds) {
  if (!request.nodes.empty() || seats.size() < 2) return {};
  std::set<Zone> zones;
  std::set<Rack> racks;
  std::set<std::string> zone_names, rack_names;
  for (const Seat& seat : seats) {
    zones.insert(zone_of(seat.domain));
    racks.insert(rack_of(seat.domain));
    zone_names.insert(seat.domain.zone.empty() ? "no name" : seat.domain.zone);
    rack_names.insert(seat.domain.rack.empty() ? "no name" : seat.domain.rack);
  }
  const auto told = [&](const char* kind, size_t have, const std::set<std::string>& names) {
    return fmt::format("its {} replicas are in {} {}{} ({})", seats.size(), have, kind, have == 1 ? "" : "s", shown(names));
  };
  if (kinds.zones && request.racks.empty() && zones.size() < wanted_domains(seats.size(), request.zones)) return told("zone", zones.size(), zone_names);
  if (kinds.racks && racks.size() < wanted_domains(seats.size(), request.racks)) return told("rack", racks.size(), rack_names);
  return {};
}

}  // namespace hf::cluster
