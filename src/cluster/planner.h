// Placement as pure functions: which pools take the replicas of a volume, and how well they are spread.
//
// Rules, in order:
//   1. a pool must be online, below its watermark, and its thin provisioning must leave room: provisioned + size
//      ≤ total × overcommit; its node must stay (not drained);
//   2. it must be named by `nodes=` (pool id, node id or node name), and its node be in one of the `zones=`, `racks=`,
//      `regions=`, each where given. A name that nobody has is refused by that name;
//   3. one replica per node, always;
//   4. a node without a replica of another volume of the same `group=`; with fg=true no other;
//   5. another zone than those that the volume has, then another rack;
//   6. the node that asks (reads are local there);
//   7. the pool's class: that of io_priority, else the next higher, else the next lower (a hint: a volume is better
//      slow than refused);
//   8. the most room left to promise; then the least id, so that equal input gives equal output.
// With fg=true rules 4 and 5 are no wishes: no place rather than one that breaks them.
//
// A zone is told apart by its region and name, a rack by its zone and name; nodes without one are together in one that
// has no name. Zones lie in regions and racks in zones, so taking the next new one each time gives as many as there can be.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "base/error.h"
#include "cluster/control.h"

namespace hf::cluster {

struct PlacementLimits {
  double overcommit = 4.0;      // promised bytes per byte of a pool
  double used_watermark = 0.9;  // of a pool's bytes; above it nothing new is placed
};

// A replica that stays where it is, for what is placed beside it.
struct Seat {
  Seat() = default;
  Seat(NodeId n, FailureDomain d) : node(n), domain(std::move(d)) {}
  NodeId node;
  FailureDomain domain;
  bool admitted = true;  // by the lists of the spec
};

struct PlacementRequest {
  uint64_t size_bytes = 0;
  uint32_t replicas = 1;
  uint32_t io_class = 1;  // 1 low to 3 high
  // As in the spec; empty: any.
  std::vector<std::string> nodes, zones, racks, regions;
  std::vector<Seat> beside;        // the volume's replicas that stay
  std::vector<NodeId> without;     // nodes that have a replica of it in any state
  std::set<NodeId> of_group;       // nodes with a replica of another volume of its group
  std::string group;
  bool strict = false;             // fg
  NodeId asking;
};

struct PoolFacts {
  PoolInfo pool;
  std::string node_name;
  FailureDomain domain;
  bool node_online = false;
  bool node_draining = false;
};

// Which kinds of domains a cluster has at all: without a name on any node there is nothing to spread over.
struct DomainKinds {
  DomainKinds() = default;
  void add(const FailureDomain& domain) {
    zones = zones || !domain.zone.empty() || !domain.region.empty();
    racks = racks || !domain.rack.empty();
  }
  bool zones = false, racks = false;
};

// The size, lists, group and strictness of a spec.
PlacementRequest placement_of(const VolumeSpec& spec, uint64_t size_bytes);

// The chosen pools, one per replica. kNoSpace where pools are there but full, kNotFound where a list names what the
// cluster has not, kFailedPrecondition where there is none at all, too few nodes, or no place within a strict rule;
// each lists what was looked at and why it was turned down.
Result<std::vector<PoolInfo>> place_volume(const PlacementRequest& request,
                                           const std::vector<PoolFacts>& pools,
                                           const PlacementLimits& limits);

// Every name in the lists of the request is one of the cluster's; else kNotFound with that name and those there are.
Status check_named(const PlacementRequest& request, const std::vector<PoolFacts>& pools);

// Whether the lists admit a pool.
bool is_admitted(const PlacementRequest& request, const PoolFacts& facts);

// How well replicas are spread; less is worse.
using SpreadScore = std::tuple<int64_t, size_t, size_t>;  // −(not admitted), zones, racks
SpreadScore spread_of(const std::vector<Seat>& seats);

// The replica that would stand better elsewhere: with another one instead the spread is better, and there is room for
// it. Nothing where all is well, or cannot be better. `user`: the node whose own replica is moved last.
std::optional<size_t> misplaced(const std::vector<Seat>& seats, const PlacementRequest& request,
                                const std::vector<PoolFacts>& pools, const DomainKinds& kinds,
                                const PlacementLimits& limits, NodeId user);

// What is wrong with the spread of a volume's replicas, for people ("its 3 replicas are in 2 zones (a, b)"); empty:
// nothing. Whoever gave `zones=` or `racks=` has as many of them as he named; with `nodes=` nothing is expected.
std::string describe_spread(const PlacementRequest& request, const std::vector<Seat>& seats, const DomainKinds& kinds);

// Whether a pool can promise `more_bytes` on top of what it has; the reason in the error.
Status check_room(const PoolInfo& pool, uint64_t more_bytes, const PlacementLimits& limits);

}  // namespace hf::cluster
