// Which replicas a volume is to have, as pure decisions. The acting part is Plane::tend_replicas
// (tend_replicas.cc).
//
// Level-triggered: a decision follows from what is recorded and what is seen now, so that a pass may be
// cut short anywhere and made again by another node. A replica that is to go stays until as many others
// as the volume wants are in sync; a node that left the cluster is not waited for.
#pragma once

#include <string>
#include <vector>

#include "cluster/planner.h"
#include "cluster/records.h"

namespace hf::cluster {

// Of one member, as of now.
struct ReplicaFacts {
  ReplicaFacts() = default;
  bool gone = false;       // its node or its pool is not part of the cluster any more
  bool reachable = false;  // its node answers and has its pool open
  bool draining = false;   // its node
  bool in_config = false;  // the volume's configuration has it
  bool in_sync = false;
  Seat seat;  // where it stands
};

struct ReplicaPlan {
  ReplicaPlan() = default;
  std::vector<size_t> leave;  // members that are to go from now on, by index
  uint32_t join = 0;          // how many more are wanted
  std::vector<size_t> stay;   // beside which they are placed
};

// `facts`: one per member of the record, in its order. `user`: the node that the volume is attached on. Of too many
// those stay that are spread best; one that serves goes only when as many others as wanted do.
ReplicaPlan plan_replicas(const VolumeRecord& record, const std::vector<ReplicaFacts>& facts,
                          NodeId user, WallTime now, Duration rebuild_after);

// Whether a replica may be moved for a better place: all are where they are meant to be, and have all writes.
bool is_at_rest(const VolumeRecord& record, const std::vector<ReplicaFacts>& facts);

// Notes who is away since when. True: something has changed.
bool note_absences(VolumeRecord& record, const std::vector<ReplicaFacts>& facts, WallTime now);

// Somebody has to serve the volume for what is to be done: it is copied, or its configuration changed.
bool needs_service(const VolumeRecord& record, const std::vector<ReplicaFacts>& facts);

// When the volume is to be scrubbed again; INT64_MAX: never. A round that was cut short is due at once.
WallTime scrub_due(const VolumeRecord& volume, const ScrubRecord* scrub, Duration every);

}  // namespace hf::cluster
