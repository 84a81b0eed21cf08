// Placement as a pure function: which pools take the replicas of a new volume.
//
// Rules, in order:
//   1. a pool must be online, below its watermark, named by `nodes=` if that is given (by pool id,
//   node id or
//      node name), and its thin provisioning must leave room: provisioned + size ≤ total ×
//      overcommit;
//   2. one replica per node;
//   3. the node that asks comes first (reads are local there), then other nodes;
//   4. the pool's class: that of io_priority, else the next higher, else the next lower (a hint: a
//   volume is
//      better slow than refused);
//   5. the most room left to promise; then the least id, so that equal input gives equal output.
#pragma once

#include <string>
#include <vector>

#include "base/error.h"
#include "cluster/control.h"

namespace hf::cluster {

struct PlacementLimits {
  double overcommit = 4.0;      // promised bytes per byte of a pool
  double used_watermark = 0.9;  // of a pool's bytes; above it nothing new is placed
};

struct PlacementRequest {
  uint64_t size_bytes = 0;
  uint32_t replicas = 1;
  uint32_t io_class = 1;           // 1 low to 3 high
  std::vector<std::string> nodes;  // empty: any
  std::vector<NodeId> without;     // nodes that have a replica of it already
  NodeId asking;
};

struct PoolFacts {
  PoolInfo pool;
  std::string node_name;
  bool node_online = false;
  bool node_draining = false;
};

// The chosen pools, one per replica. kNoSpace where pools are there but full, kNotFound where
// `nodes=` names none of them, kFailedPrecondition where there is none at all or too few nodes;
// each lists what was looked at and why it was turned down.
Result<std::vector<PoolInfo>> place_volume(const PlacementRequest& request,
                                           const std::vector<PoolFacts>& pools,
                                           const PlacementLimits& limits);

// Whether a pool can promise `more_bytes` on top of what it has; the reason in the error.
Status check_room(const PoolInfo& pool, uint64_t more_bytes, const PlacementLimits& limits);

}  // namespace hf::cluster
