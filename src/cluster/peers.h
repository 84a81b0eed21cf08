// Peers: what the nodes of a cluster ask of each other, beside replication. Every call says which
// record to look at, never what to do with it: the node that is asked reads the record and acts on
// what it says by then. So calls may come late, twice, or from a node that knows less.
//
// Loop thread. Errors besides those named: kUnavailable, kTimeout (the node does not answer; the call
// may have had its effect), kNotFound (its address is not known), and those of the operation.
#pragma once

#include <string>
#include <vector>

#include "base/error.h"
#include "base/id.h"
#include "cluster/control.h"
#include "cluster/ports.h"
#include "runtime/task.h"

namespace hf::cluster {

// What a node tells of itself.
struct NodeFacts {
  NodeFacts() = default;
  NodeId node;
  std::string version;
  std::vector<PoolInfo> pools;       // of its own, as they are now
  std::vector<std::string> exports;  // as NodeInfo::exports
};

// One node as the others may ask it; ControlPlane answers.
class NodeCalls {
 public:
  virtual ~NodeCalls() = default;
  virtual Task<Result<NodeFacts>> facts() = 0;
  // Its own replicas of the volume are as the volume's and its snapshots' records say: made, removed,
  // restored, without snapshots that are being deleted. Success where there is no such volume.
  virtual Task<Status> converge(VolumeId volume) = 0;
  // What was begun on the volume, which is attached there, is finished.
  virtual Task<Status> settle(VolumeId volume) = 0;
  // The volume is not attached there afterwards. kInUse: it stays, since somebody uses it.
  virtual Task<Status> let_go(VolumeId volume) = 0;
  // Asked of the node that has the volume, by an operator.
  virtual Task<Status> detach(VolumeId volume) = 0;
  // The same: attached there afterwards. `stays`: also without a user; `force`: from users elsewhere, too.
  virtual Task<Status> take(VolumeId volume, bool stays, bool force) = 0;
  // Asked of the node that has the volume, or is to care for it; as Control::scrub_volume.
  virtual Task<Result<ScrubInfo>> scrub(VolumeId volume, uint64_t bytes_per_second, bool only_look) = 0;
  virtual Task<Status> cut(CreateSnapshot request) = 0;
  virtual Task<Result<std::vector<MemberInfo>>> members(VolumeId volume) = 0;
  // Those that its own replica of the volume has: one that was away when a snapshot was cut, or was made later, lacks it.
  virtual Task<Result<std::vector<SnapshotId>>> snapshots(VolumeId volume) = 0;
};

class Peers {
 public:
  virtual ~Peers() = default;
  // Where a node can be reached; replaces what was known.
  virtual void know(NodeId node, std::string address) = 0;
  // Valid as long as the Peers; also for a node that nothing is known of.
  virtual NodeCalls& node(NodeId node) = 0;
};

}  // namespace hf::cluster
