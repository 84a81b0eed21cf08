// What the reconciler does, as pure decisions. The acting part is Plane::reconcile (reconcile.cc).
//
// Level-triggered: a pass compares what the store says with what the pools and the kernel have, and
// brings the world there, whatever happened before. It runs at the start, every minute, and soon
// after an error; a pass over a healthy cluster only reads.
#pragma once

#include "cluster/records.h"

namespace hf::cluster {

// What makes a volume need work.
struct VolumeFacts {
  bool served_here = false;         // by this process
  bool unsettled_snapshot = false;  // one that is half made, half deleted, or internal
  bool responsible = true;  // of all nodes, this one finishes what was begun
  bool had_trouble = false;
};
bool needs_work(const VolumeRecord& volume, const AttachmentRecord* attachment,
                const VolumeFacts& facts, const NodeId& this_node, const std::string& boot);

// Nobody but containers that Docker told of at least `grace` ago hold the volume: their end may have been missed,
// since a container that ends while the daemon is away, or with its engine, is never unmounted.
bool only_stale_docker(const AttachmentRecord& attachment, WallTime now, Duration grace);

// A snapshot that somebody has to look at.
inline bool is_unsettled(const SnapshotRecord& snapshot) {
  return snapshot.state != LifeState::kReady || snapshot.name.empty();
}

}  // namespace hf::cluster
