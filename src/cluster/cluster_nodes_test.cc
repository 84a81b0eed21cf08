// Several nodes under one state store: replicas made and removed everywhere, volumes that move, nodes
// that die, are cut off and come back. One step at a time, then at random.
#include <gtest/gtest.h>

#include <cstdlib>

#include "cluster/testing/cluster_script.h"
#include "volume/spec/inline_parser.h"

namespace hf::cluster {
namespace {

// ---- Replicas on their nodes --------------------------------------------------------------------

Task<void> replicas_everywhere(SimCluster& cluster) {
  const CreateVolume request = volume_of("db", 3);
  (void)co_await made(cluster, 1, request);
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(cluster.replicas(i), 1u) << i;
  Result<VolumeInfo> seen = co_await cluster.control(2).inspect_volume("db");
  EXPECT_TRUE(seen.ok() && seen->replicas.size() == 3);
  if (seen.ok()) {
    for (const ReplicaInfo& replica : seen->replicas) EXPECT_EQ(replica.state, ReplicaState::kOnline);
  }
  DeleteVolume gone;
  gone.name = "db";
  Status deleted = co_await cluster.control(0).delete_volume(gone);
  EXPECT_TRUE(deleted.ok());
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(cluster.replicas(i), 0u) << i;
  for (const auto& [key, entry] : cluster.server().entries()) {
    EXPECT_EQ(key.find("volume"), std::string::npos) << key;
    EXPECT_EQ(key.find("replication"), std::string::npos) << key;
  }
}
TEST(ClusterNodes, ReplicasAreMadeAndRemovedOnEveryNode) { play(3, replicas_everywhere); }

Task<void> deleted_while_away(SimCluster& cluster) {
  const CreateVolume request = volume_of("db", 3);
  (void)co_await made(cluster, 0, request);
  co_await cluster.crash(2);
  DeleteVolume gone;
  gone.name = "db";
  Status deleted = co_await cluster.control(0).delete_volume(gone);
  EXPECT_FALSE(deleted.ok()) << "one of its replicas cannot be removed now";
  EXPECT_EQ(cluster.replicas(2), 1u);
  Status back = co_await cluster.start(2);
  EXPECT_TRUE(back.ok());
  co_await cluster.sleep(kLong * 3);
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(cluster.replicas(i), 0u) << i;
}
TEST(ClusterNodes, AReplicaOfADeletedVolumeGoesWhenItsNodeIsBack) { play(3, deleted_while_away); }

Task<void> without_own_pool(SimCluster& cluster) {
  const CreateVolume request = volume_of("far", 1);
  const VolumeId id = co_await made(cluster, 0, request);
  const MountVolume here = mount_of("far", "docker:1");
  Status far = co_await mounted(cluster, 2, here);
  EXPECT_TRUE(far.ok()) << far.error().to_string();
  EXPECT_TRUE(cluster.write(2, id));
  EXPECT_EQ(cluster.replicas(2), 0u);
}
TEST(ClusterNodes, AVolumeIsUsedOnANodeWithoutAReplica) { play(3, without_own_pool); }

// ---- One user at a time -------------------------------------------------------------------------

Task<void> handed_over(SimCluster& cluster) {
  const CreateVolume request = volume_of("db", 2);
  const VolumeId id = co_await made(cluster, 0, request);
  const MountVolume first = mount_of("db", "docker:1");
  Status at_a = co_await mounted(cluster, 0, first);
  EXPECT_TRUE(at_a.ok());
  cluster.node(0).containers["c1"] = cluster.node(0).exports.at(id).device;
  const MountVolume second = mount_of("db", "docker:2");
  Status at_b = co_await mounted(cluster, 1, second);
  EXPECT_EQ(at_b.code(), ErrorCode::kInUse);
  if (!at_b.ok()) {
    EXPECT_NE(at_b.error().message().find("node-a"), std::string::npos) << at_b.error().message();
  }
  EXPECT_TRUE(cluster.write(0, id)) << "its user noticed nothing";
  cluster.node(0).containers.clear();
  const UnmountVolume end = unmount_of("db", "docker:1");
  Status down = co_await cluster.control(0).unmount_volume(end);
  EXPECT_TRUE(down.ok());
  at_b = co_await mounted(cluster, 1, second);
  EXPECT_TRUE(at_b.ok()) << at_b.error().to_string();
  EXPECT_TRUE(cluster.write(1, id));
  EXPECT_TRUE(cluster.node(0).exports.empty());
}
TEST(ClusterNodes, WhoUsesItKeepsItAndThenItMoves) { play(2, handed_over); }

Task<void> forced(SimCluster& cluster) {
  const CreateVolume request = volume_of("db", 2);
  const VolumeId id = co_await made(cluster, 0, request);
  AttachVolume attach;
  attach.name = "db";
  Result<VolumeInfo> at_a = co_await cluster.control(0).attach_volume(attach);
  EXPECT_TRUE(at_a.ok());
  Result<VolumeInfo> at_b = co_await cluster.control(1).attach_volume(attach);
  EXPECT_EQ(at_b.code(), ErrorCode::kInUse);
  attach.force = true;
  at_b = co_await cluster.control(1).attach_volume(attach);
  EXPECT_TRUE(at_b.ok()) << at_b.error().to_string();
  EXPECT_FALSE(cluster.write(0, id)) << "fenced";
  EXPECT_TRUE(cluster.write(1, id));
  co_await cluster.sleep(kLong);
  EXPECT_TRUE(cluster.node(0).exports.empty()) << "nobody used it there";
  Status away = co_await cluster.control(0).detach_volume("db");
  EXPECT_TRUE(away.ok()) << "from any node: " << away.error().to_string();
  EXPECT_TRUE(cluster.node(1).exports.empty());
}
TEST(ClusterNodes, ForceTakesItFromALivingNode) { play(2, forced); }

// ---- A node dies --------------------------------------------------------------------------------

Task<void> dies_and_returns(SimCluster& cluster) {
  const CreateVolume request = volume_of("db", 3);
  const VolumeId id = co_await made(cluster, 0, request);
  const MountVolume first = mount_of("db", "docker:1");
  Status at_a = co_await mounted(cluster, 0, first);
  EXPECT_TRUE(at_a.ok());
  cluster.node(0).containers["c1"] = cluster.node(0).exports.at(id).device;
  co_await cluster.crash(0);
  const int64_t began = cluster.loop().now();
  const MountVolume second = mount_of("db", "docker:2");
  Status at_b = co_await mounted(cluster, 1, second);
  EXPECT_TRUE(at_b.ok()) << at_b.error().to_string();
  EXPECT_LT(cluster.loop().now() - began, 2'000'000'000);
  EXPECT_TRUE(cluster.write(1, id));
  // It comes back with its container still there: that gets errors, and goes, and then so does the device.
  Status back = co_await cluster.start(0);
  EXPECT_TRUE(back.ok());
  co_await cluster.sleep(kLong);
  EXPECT_FALSE(cluster.write(0, id));
  EXPECT_EQ(cluster.node(0).exports.size(), 1u) << "its container has it";
  Result<ClusterStatus> status = co_await cluster.control(0).status();
  EXPECT_TRUE(status.ok() && !status->healthy) << "and an operator is told";
  Status unmounted = co_await cluster.control(0).unmount_volume(unmount_of("db", "docker:1"));
  EXPECT_TRUE(unmounted.ok()) << unmounted.error().to_string();
  cluster.node(0).containers.clear();
  co_await cluster.sleep(kLong);
  EXPECT_TRUE(cluster.node(0).exports.empty());
  EXPECT_TRUE(cluster.node(0).mounts.empty());
  Result<VolumeInfo> info = co_await cluster.control(2).inspect_volume("db");
  EXPECT_TRUE(info.ok() && info->attachment && info->attachment->node == cluster.id(1));
  if (info.ok() && info->attachment) {
    EXPECT_EQ(info->attachment->mounts.size(), 1u);
  }
}
TEST(ClusterNodes, AVolumeOfADeadNodeIsTakenOver) { play(3, dies_and_returns); }

Task<void> start_later(SimCluster& cluster, size_t node, Duration after) {
  co_await cluster.sleep(after);
  Status back = co_await cluster.start(node);
  EXPECT_TRUE(back.ok());
}

// A daemon that is restarted in order, under a container: nobody takes the volume from it meanwhile. One that was killed
// has no such time.
Task<void> restarts(SimCluster& cluster) {
  const CreateVolume request = volume_of("db", 3);
  const VolumeId id = co_await made(cluster, 0, request);
  const MountVolume first = mount_of("db", "docker:1");
  Status at_a = co_await mounted(cluster, 0, first);
  EXPECT_TRUE(at_a.ok());
  cluster.node(0).containers["c1"] = cluster.node(0).exports.at(id).device;
  co_await cluster.stop(0);
  Gate starting;
  (void)spawn(starting, start_later(cluster, 0, std::chrono::milliseconds(200)));
  const MountVolume second = mount_of("db", "docker:2");
  Status at_b = co_await mounted(cluster, 1, second);
  EXPECT_EQ(at_b.code(), ErrorCode::kInUse) << at_b.error().to_string();
  co_await starting.close();
  EXPECT_TRUE(cluster.write(0, id)) << "its container goes on";
  co_await cluster.crash(0);
  const int64_t began = cluster.loop().now();
  at_b = co_await mounted(cluster, 1, second);
  EXPECT_TRUE(at_b.ok()) << at_b.error().to_string();
  EXPECT_LT(cluster.loop().now() - began, 400'000'000);
  Status back = co_await cluster.start(0);
  EXPECT_TRUE(back.ok());
  cluster.node(0).containers.clear();
  co_await cluster.sleep(kLong);
  EXPECT_TRUE(cluster.node(0).exports.empty());
}
TEST(ClusterNodes, ARestartIsWaitedForAndADeathIsNot) { play(3, restarts); }

Task<void> reboots(SimCluster& cluster) {
  const CreateVolume request = volume_of("db", 2);
  const VolumeId id = co_await made(cluster, 0, request);
  const MountVolume first = mount_of("db", "docker:1");
  Status at_a = co_await mounted(cluster, 0, first);
  EXPECT_TRUE(at_a.ok());
  co_await cluster.reboot(0);
  Status back = co_await cluster.start(0);
  EXPECT_TRUE(back.ok());
  co_await cluster.sleep(kLong * 3);
  Status at_b = co_await mounted(cluster, 1, first);
  EXPECT_TRUE(at_b.ok()) << at_b.error().to_string();
  EXPECT_TRUE(cluster.write(1, id));
}
TEST(ClusterNodes, AfterARebootItIsFree) { play(2, reboots); }

Task<void> cut_off(SimCluster& cluster) {
  const CreateVolume request = volume_of("db", 3);
  const VolumeId id = co_await made(cluster, 0, request);
  const MountVolume first = mount_of("db", "docker:1");
  Status at_a = co_await mounted(cluster, 0, first);
  EXPECT_TRUE(at_a.ok());
  cluster.cut(0, 1);
  cluster.cut(0, 2);
  const MountVolume second = mount_of("db", "docker:2");
  Status at_b = co_await mounted(cluster, 1, second);
  EXPECT_TRUE(at_b.ok()) << at_b.error().to_string();
  EXPECT_FALSE(cluster.write(0, id));
  EXPECT_TRUE(cluster.write(1, id));
  cluster.heal();
  co_await cluster.sleep(kLong);
  EXPECT_TRUE(cluster.node(0).exports.empty()) << "nobody has it there but ourselves";
}
TEST(ClusterNodes, ACutOffNodeLosesItAndNoticesByItself) { play(3, cut_off); }

// ---- From any node ------------------------------------------------------------------------------

Task<void> from_afar(SimCluster& cluster) {
  const CreateVolume request = volume_of("db", 2);
  const VolumeId id = co_await made(cluster, 0, request);
  const MountVolume first = mount_of("db", "docker:1");
  Status at_a = co_await mounted(cluster, 0, first);
  EXPECT_TRUE(at_a.ok());
  cluster.node(0).containers["c1"] = cluster.node(0).exports.at(id).device;
  Result<VolumeInfo> grown = co_await cluster.control(1).resize_volume("db", 2 * kGiB);
  EXPECT_TRUE(grown.ok()) << grown.error().to_string();
  if (grown.ok()) {
    EXPECT_EQ(grown->size_bytes, 2 * kGiB);
  }
  CreateSnapshot cut;
  cut.volume = "db";
  cut.name = "s1";
  Result<SnapshotInfo> snapshot = co_await cluster.control(1).create_snapshot(cut);
  EXPECT_TRUE(snapshot.ok()) << snapshot.error().to_string();
  CloneVolume clone;
  clone.name = "copy";
  clone.parent = "db";
  clone.snapshot = "s1";
  Result<VolumeInfo> cloned = co_await cluster.control(1).clone_volume(clone);
  EXPECT_TRUE(cloned.ok()) << cloned.error().to_string();
  if (cloned.ok()) {
    EXPECT_EQ(cloned->replicas.size(), 2u);
  }
  const MountVolume copy = mount_of("copy", "docker:2");
  Status at_b = co_await mounted(cluster, 1, copy);
  EXPECT_TRUE(at_b.ok()) << at_b.error().to_string();
  Status removed = co_await cluster.control(1).delete_snapshot("db", "s1");
  EXPECT_TRUE(removed.ok()) << removed.error().to_string();
  for (size_t i = 0; i < 2; ++i) {
    for (const auto& [pool, there] : cluster.node(i).pools) {
      for (const auto& [replica, content] : there.replicas) EXPECT_TRUE(content.snapshots.empty());
    }
  }
  DeleteVolume gone;
  gone.name = "db";
  Status refused = co_await cluster.control(1).delete_volume(gone);
  EXPECT_EQ(refused.code(), ErrorCode::kInUse);
}
TEST(ClusterNodes, WhatIsAttachedElsewhereIsGrownSnapshottedAndCloned) { play(2, from_afar); }

// ---- As many replicas as wanted, where they are to be ----------------------------------------------

Task<void> more_and_fewer(SimCluster& cluster) {
  const CreateVolume request = volume_of("db", 1);
  const VolumeId id = co_await made(cluster, 0, request);
  const MountVolume mount = mount_of("db", "docker:1");
  Status at_a = co_await mounted(cluster, 0, mount);
  EXPECT_TRUE(at_a.ok());
  EXPECT_TRUE(cluster.write(0, id));
  const UpdateVolume three = replicas_of("db", "3");
  // Asked of a node that does not have it.
  Result<VolumeInfo> updated = co_await cluster.control(2).update_volume(three);
  EXPECT_TRUE(updated.ok()) << updated.error().to_string();
  co_await cluster.sleep(kLong * 2);
  std::set<NodeId> now = co_await homes(cluster, 1, "db");
  EXPECT_EQ(now.size(), 3u);
  EXPECT_TRUE(cluster.write(0, id)) << "its user noticed nothing";
  const UpdateVolume one = replicas_of("db", "1");
  updated = co_await cluster.control(1).update_volume(one);
  EXPECT_TRUE(updated.ok());
  co_await cluster.sleep(kLong * 2);
  now = co_await homes(cluster, 1, "db");
  EXPECT_EQ(now, std::set<NodeId>{cluster.id(0)}) << "where its user is";
  for (size_t i = 0; i < 4; ++i) EXPECT_EQ(cluster.replicas(i), i == 0 ? 1u : 0u) << i;
  EXPECT_TRUE(cluster.write(0, id));
}
TEST(ClusterNodes, ReplicasAreAddedAndTakenAwayUnderAUser) { play(4, more_and_fewer); }

Task<void> rebuilt(SimCluster& cluster) {
  const CreateVolume request = volume_of("db", 2);
  const VolumeId id = co_await made(cluster, 0, request);
  const CreateVolume idle = volume_of("idle", 2);
  (void)co_await made(cluster, 0, idle);
  const MountVolume mount = mount_of("db", "docker:1");
  Status at_a = co_await mounted(cluster, 0, mount);
  EXPECT_TRUE(at_a.ok());
  cluster.node(0).containers["c1"] = cluster.node(0).exports.at(id).device;
  const std::set<NodeId> before = co_await homes(cluster, 0, "db");
  size_t other = 0;
  for (size_t i = 1; i < 4; ++i) other = before.contains(cluster.id(i)) ? i : other;
  co_await cluster.crash(other);
  co_await cluster.sleep(std::chrono::minutes(25));
  Result<VolumeInfo> info = co_await cluster.control(0).inspect_volume("db");
  EXPECT_TRUE(info.ok() && info->replicas.size() == 2) << "not before its time";
  co_await cluster.sleep(std::chrono::minutes(10));
  for (const char* name : {"db", "idle"}) {
    Result<VolumeInfo> now = co_await cluster.control(0).inspect_volume(name);
    size_t in_sync = 0;
    if (!now.ok()) ADD_FAILURE() << name;
    for (const ReplicaInfo& replica : now.ok() ? now->replicas : std::vector<ReplicaInfo>()) {
      in_sync += replica.in_sync && replica.node != cluster.id(other) ? 1 : 0;
    }
    EXPECT_EQ(in_sync, 2u) << name << " attached or not";
  }
  EXPECT_TRUE(cluster.write(0, id));
  // It comes back: what it has is not wanted any more.
  Status back = co_await cluster.start(other);
  EXPECT_TRUE(back.ok());
  co_await cluster.sleep(std::chrono::minutes(3));
  EXPECT_EQ(cluster.replicas(other), 0u);
  std::set<NodeId> now = co_await homes(cluster, 0, "db");
  EXPECT_EQ(now.size(), 2u);
}
TEST(ClusterNodes, ReplicasOfANodeThatStaysAwayAreMadeElsewhere) { play(4, rebuilt); }

Task<void> drained(SimCluster& cluster) {
  const CreateVolume request = volume_of("db", 2);
  const VolumeId id = co_await made(cluster, 0, request);
  const CreateVolume lonely = volume_of("lonely", 1);
  (void)co_await made(cluster, 0, lonely);
  const MountVolume mount = mount_of("db", "docker:1");
  Status at_b = co_await mounted(cluster, 1, mount);
  EXPECT_TRUE(at_b.ok());
  cluster.node(1).containers["c1"] = cluster.node(1).exports.at(id).device;
  Result<NodeInfo> early = co_await cluster.control(1).check_decommission("node-a", true);
  EXPECT_EQ(early.code(), ErrorCode::kFailedPrecondition) << "it is alive";
  Result<NodeInfo> drain = co_await cluster.control(2).drain_node("node-a", false);
  EXPECT_TRUE(drain.ok() && drain->draining);
  co_await cluster.sleep(kLong * 6);
  EXPECT_EQ(cluster.replicas(0), 0u);
  std::set<NodeId> now = co_await homes(cluster, 1, "db");
  EXPECT_EQ(now.size(), 2u);
  now = co_await homes(cluster, 1, "lonely");
  EXPECT_EQ(now.size(), 1u);
  EXPECT_TRUE(cluster.write(1, id));
  const CreateVolume late = volume_of("late", 3);
  Result<VolumeInfo> refused = co_await cluster.control(0).create_volume(late);
  EXPECT_FALSE(refused.ok()) << "a node that goes gets nothing new";
  Result<NodeInfo> may = co_await cluster.control(1).check_decommission("node-a", false);
  EXPECT_TRUE(may.ok()) << may.error().to_string();
  co_await cluster.crash(0);
  Status gone = co_await cluster.control(1).forget_node(cluster.id(0));
  EXPECT_TRUE(gone.ok());
  gone = co_await cluster.control(1).forget_node(cluster.id(0));
  EXPECT_TRUE(gone.ok()) << "again";
  Result<std::vector<NodeInfo>> nodes = co_await cluster.control(2).list_nodes();
  EXPECT_TRUE(nodes.ok() && nodes->size() == 2);
  Result<ClusterStatus> status = co_await cluster.control(2).status();
  EXPECT_TRUE(status.ok() && status->healthy) << (status.ok() && !status->problems.empty() ? status->problems[0] : "");
}
TEST(ClusterNodes, ADrainedNodeHasNothingLeftAndGoes) { play(3, drained); }

Task<void> dead_for_good(SimCluster& cluster) {
  const CreateVolume request = volume_of("db", 2);
  const VolumeId id = co_await made(cluster, 0, request);
  const CreateVolume lonely = volume_of("lonely", 1);
  (void)co_await made(cluster, 0, lonely);
  const MountVolume mount = mount_of("db", "docker:1");
  Status at_a = co_await mounted(cluster, 0, mount);
  EXPECT_TRUE(at_a.ok());
  co_await cluster.crash(0);
  co_await cluster.sleep(kLong);
  Result<NodeInfo> refused = co_await cluster.control(1).check_decommission("node-a", false);
  EXPECT_EQ(refused.code(), ErrorCode::kFailedPrecondition);
  if (!refused.ok()) {
    EXPECT_NE(refused.error().message().find("lonely"), std::string::npos) << refused.error().message();
  }
  Result<NodeInfo> forced = co_await cluster.control(1).check_decommission("node-a", true);
  EXPECT_TRUE(forced.ok());
  Status gone = co_await cluster.control(1).forget_node(cluster.id(0));
  EXPECT_TRUE(gone.ok());
  Status at_b = co_await mounted(cluster, 1, mount);
  EXPECT_TRUE(at_b.ok()) << at_b.error().to_string();
  cluster.node(1).containers["c1"] = cluster.node(1).exports.at(id).device;
  co_await cluster.sleep(kLong * 6);
  std::set<NodeId> now = co_await homes(cluster, 1, "db");
  EXPECT_EQ(now, (std::set<NodeId>{cluster.id(1), cluster.id(2)}));
  EXPECT_TRUE(cluster.write(1, id));
  DeleteVolume lost;
  lost.name = "lonely";
  Status deleted = co_await cluster.control(1).delete_volume(lost);
  EXPECT_TRUE(deleted.ok()) << deleted.error().to_string();
}
TEST(ClusterNodes, ADeadNodeIsGivenUp) { play(3, dead_for_good); }

Task<void> moved(SimCluster& cluster) {
  const CreateVolume request = volume_of("db", 2);
  const VolumeId id = co_await made(cluster, 0, request);
  const MountVolume mount = mount_of("db", "docker:1");
  Status at_a = co_await mounted(cluster, 0, mount);
  EXPECT_TRUE(at_a.ok());
  cluster.node(0).containers["c1"] = cluster.node(0).exports.at(id).device;
  MoveVolume move;
  move.name = "db";
  move.node = "node-b";
  Result<VolumeInfo> to_b = co_await cluster.control(2).move_volume(move);
  EXPECT_EQ(to_b.code(), ErrorCode::kInUse);
  cluster.node(0).containers.clear();
  const UnmountVolume end = unmount_of("db", "docker:1");
  Status down = co_await cluster.control(0).unmount_volume(end);
  EXPECT_TRUE(down.ok());
  to_b = co_await cluster.control(2).move_volume(move);
  EXPECT_TRUE(to_b.ok()) << to_b.error().to_string();
  EXPECT_TRUE(cluster.write(1, id));
  to_b = co_await cluster.control(0).move_volume(move);
  EXPECT_TRUE(to_b.ok()) << "again";
  move.node = "nowhere";
  to_b = co_await cluster.control(0).move_volume(move);
  EXPECT_EQ(to_b.code(), ErrorCode::kNotFound);
  move.node = "node-c";
  move.force = true;
  cluster.node(1).containers["c2"] = cluster.node(1).exports.at(id).device;
  Result<VolumeInfo> to_c = co_await cluster.control(0).move_volume(move);
  EXPECT_TRUE(to_c.ok()) << to_c.error().to_string();
  EXPECT_FALSE(cluster.write(1, id)) << "fenced";
  EXPECT_TRUE(cluster.write(2, id));
}
TEST(ClusterNodes, AVolumeIsMovedToANode) { play(3, moved); }

// A replica that is younger than a snapshot lacks it: all go back, or none.
Task<void> younger_replica(SimCluster& cluster) {
  const CreateVolume request = volume_of("db", 2);
  (void)co_await made(cluster, 0, request);
  CreateSnapshot cut;
  cut.volume = "db";
  cut.name = "s1";
  Result<SnapshotInfo> snapshot = co_await cluster.control(0).create_snapshot(cut);
  EXPECT_TRUE(snapshot.ok());
  Result<VolumeInfo> restored = co_await cluster.control(1).restore_snapshot("db", "s1");
  EXPECT_TRUE(restored.ok()) << restored.error().to_string();
  const UpdateVolume three = replicas_of("db", "3");
  Result<VolumeInfo> updated = co_await cluster.control(0).update_volume(three);
  EXPECT_TRUE(updated.ok());
  co_await cluster.sleep(kLong * 2);
  std::set<NodeId> now = co_await homes(cluster, 1, "db");
  EXPECT_EQ(now.size(), 3u);
  restored = co_await cluster.control(1).restore_snapshot("db", "s1");
  EXPECT_EQ(restored.code(), ErrorCode::kFailedPrecondition);
  if (!restored.ok()) {
    EXPECT_NE(restored.error().message().find("volume clone db"), std::string::npos) << restored.error().message();
  }
  CloneVolume clone;
  clone.name = "copy";
  clone.parent = "db";
  clone.snapshot = "s1";
  Result<VolumeInfo> cloned = co_await cluster.control(2).clone_volume(clone);
  EXPECT_TRUE(cloned.ok()) << cloned.error().to_string();
  if (cloned.ok()) {
    EXPECT_EQ(cloned->replicas.size(), 2u) << "of those that have it";
  }
  co_await cluster.sleep(kLong * 3);
  now = co_await homes(cluster, 1, "copy");
  EXPECT_EQ(now.size(), 3u) << "and then as many as it wants";
}
TEST(ClusterNodes, OfAYoungerReplicaASnapshotIsClonedAndNotRestored) { play(3, younger_replica); }

// ---- At random ----------------------------------------------------------------------------------

class Chaos {
 public:
  Chaos(SimCluster& cluster, uint64_t seed) : cluster_(cluster), prng_(seed) {}

  Task<void> run() {
    Gate gate;
    for (size_t worker = 0; worker < 3; ++worker) (void)spawn(gate, work(worker));
    (void)spawn(gate, break_things());
    co_await gate.close();
    co_await at_rest();
  }
  const std::string& wrong() const { return wrong_; }

 private:
  void fail(const std::string& what) {
    if (wrong_.size() < 2000) wrong_ += what + "; ";
  }
  std::string a_name() { return fmt::format("v{}", prng_.below(3)); }
  size_t a_node() { return prng_.below(cluster_.size()); }

  Task<void> work(size_t worker) {
    for (int i = 0; i < 25; ++i) {
      co_await cluster_.sleep(Duration(static_cast<int64_t>(prng_.below(400'000'000))));
      const size_t node = a_node();
      if (!usable(node)) continue;
      ++users_[node];
      co_await operate(node, fmt::format("docker:{}", worker));
      --users_[node];
    }
  }
  bool usable(size_t node) const { return cluster_.is_up(node) && !ending_.contains(node); }

  Task<void> operate(size_t node, std::string holder) {
    const std::string name = a_name();
    ControlPlane& control = cluster_.control(node);
    switch (prng_.below(11)) {
      case 0:
      case 1: {
        const CreateVolume request = volume_of(name, static_cast<uint32_t>(1 + prng_.below(3)));
        Result<VolumeInfo> made = co_await control.create_volume(request);
        (void)made.ok();
        break;
      }
      case 2:
      case 3:
      case 4: {
        const MountVolume request = mount_of(name, holder);
        Result<MountInfo> info = co_await control.mount_volume(request);
        if (info.ok()) co_await use(node, name);
        break;
      }
      case 5: {
        const UnmountVolume request = unmount_of(name, holder);
        Status done = co_await control.unmount_volume(request);
        (void)done.ok();
        break;
      }
      case 6: {
        DeleteVolume request;
        request.name = name;
        request.with_snapshots = true;
        Status done = co_await control.delete_volume(request);
        (void)done.ok();
        break;
      }
      case 9: {
        const UpdateVolume request = replicas_of(name, std::to_string(1 + prng_.below(3)));
        Result<VolumeInfo> updated = co_await control.update_volume(request);
        (void)updated.ok();
        break;
      }
      case 10: {
        const std::string whose = fmt::format("node-{:c}", static_cast<char>('a' + a_node()));
        const bool undo = prng_.below(2) == 0;
        Result<NodeInfo> drained = co_await control.drain_node(whose, undo);
        (void)drained.ok();
        break;
      }
      case 7: {
        CreateSnapshot request;
        request.volume = name;
        Result<SnapshotInfo> cut = co_await control.create_snapshot(request);
        (void)cut.ok();
        break;
      }
      default: {
        Result<VolumeInfo> seen = co_await control.inspect_volume(name);
        if (!seen.ok()) break;
        Result<VolumeInfo> grown = co_await control.resize_volume(name, seen->size_bytes + 16 * kMiB);
        (void)grown.ok();
        break;
      }
    }
  }
  // A container on it for a while.
  Task<void> use(size_t node, std::string name) {
    Result<VolumeInfo> info = co_await cluster_.control(node).inspect_volume(name);
    if (!info.ok()) co_return;
    const VolumeId id = info->id;
    const auto exported = cluster_.node(node).exports.find(id);
    if (exported == cluster_.node(node).exports.end()) co_return;  // taken over since
    if (!cluster_.write(node, id)) co_return;
    const std::string container = fmt::format("c{}", ++containers_);
    cluster_.node(node).containers[container] = exported->second.device;
    co_await cluster_.sleep(Duration(static_cast<int64_t>(prng_.below(900'000'000))));
    (void)cluster_.write(node, id);
    cluster_.node(node).containers.erase(container);
  }

  Task<void> break_things() {
    for (int i = 0; i < 8; ++i) {
      co_await cluster_.sleep(Duration(static_cast<int64_t>(prng_.below(1'500'000'000))));
      const size_t node = a_node();
      switch (prng_.below(4)) {
        case 0:
          cluster_.cut(node, (node + 1) % cluster_.size());
          break;
        case 1:
          cluster_.heal();
          break;
        default: {
          if (!usable(node)) break;
          ending_.insert(node);
          if (prng_.below(3) == 0) {
            co_await cluster_.reboot(node);
          } else {
            co_await cluster_.crash(node);
          }
          while (users_[node] > 0) co_await cluster_.sleep(std::chrono::milliseconds(10));
          co_await cluster_.sleep(Duration(static_cast<int64_t>(prng_.below(3'000'000'000))));
          Status back = co_await cluster_.start(node);
          ending_.erase(node);
          if (!back.ok()) fail("start: " + back.error().to_string());
        }
      }
    }
  }

  Task<void> at_rest() {
    cluster_.heal();
    for (size_t i = 0; i < cluster_.size(); ++i) cluster_.node(i).containers.clear();
    for (size_t i = 0; i < cluster_.size(); ++i) {
      const std::string whose = fmt::format("node-{:c}", static_cast<char>('a' + i));
      Result<NodeInfo> kept = co_await cluster_.control(0).drain_node(whose, true);
      if (!kept.ok()) fail("drain --undo: " + kept.error().to_string());
    }
    co_await cluster_.sleep(std::chrono::minutes(20));  // docker's grace and the reconcilers
    Result<std::vector<VolumeInfo>> volumes = co_await cluster_.control(0).list_volumes();
    if (!volumes.ok()) {
      fail("list: " + volumes.error().to_string());
      co_return;
    }
    std::set<std::pair<size_t, VolumeId>> expected;
    for (const VolumeInfo& info : volumes.value()) {
      if (info.state != VolumeState::kDetached && info.state != VolumeState::kAttached) {
        fail(info.name + " is not settled: " + info.message);
      }
      size_t in_sync = 0;
      for (const ReplicaInfo& replica : info.replicas) in_sync += replica.in_sync ? 1 : 0;
      if (in_sync != info.spec.repl || info.replicas.size() != in_sync) {
        fail(fmt::format("{} has {} replicas, {} in sync, and wants {}", info.name, info.replicas.size(), in_sync,
                         info.spec.repl));
      }
      for (size_t i = 0; i < cluster_.size(); ++i) {
        if (info.attachment && info.attachment->node == cluster_.id(i)) expected.insert({i, info.id});
      }
    }
    for (size_t i = 0; i < cluster_.size(); ++i) {
      for (const auto& [id, exported] : cluster_.node(i).exports) {
        if (expected.erase({i, id}) == 0) fail(fmt::format("node {} has {} left over", i, exported.device));
      }
    }
    if (!expected.empty()) fail("an attached volume has no device");
    // Every volume can be had on every node, one after the other, and taken away.
    for (const VolumeInfo& info : volumes.value()) {
      for (size_t i = 0; i < cluster_.size(); ++i) {
        const MountVolume request = mount_of(info.name, "path:/x");
        Result<MountInfo> had = co_await cluster_.control(i).mount_volume(request);
        if (!had.ok()) fail(fmt::format("mount {} on {}: {}", info.name, i, had.error().to_string()));
        if (had.ok() && !cluster_.write(i, info.id)) fail("I/O error of " + info.name);
        const UnmountVolume end = unmount_of(info.name, "path:/x");
        Status down = co_await cluster_.control(i).unmount_volume(end);
        if (!down.ok()) fail(fmt::format("unmount {} on {}: {}", info.name, i, down.error().to_string()));
      }
      DeleteVolume gone;
      gone.name = info.name;
      gone.with_snapshots = true;
      Status deleted = co_await cluster_.control(0).delete_volume(gone);
      if (!deleted.ok()) fail(fmt::format("delete {}: {}", info.name, deleted.error().to_string()));
    }
    for (size_t i = 0; i < cluster_.size(); ++i) {
      const SimNode& node = cluster_.node(i);
      if (!node.exports.empty() || !node.mounts.empty()) fail(fmt::format("node {} is not empty", i));
      if (cluster_.replicas(i) != 0) fail(fmt::format("node {} has {} replicas left", i, cluster_.replicas(i)));
    }
    for (const auto& [key, entry] : cluster_.server().entries()) {
      if (key.find("/nodes/") == std::string::npos && key.find("/pools/") == std::string::npos) fail(key + " is left");
    }
  }

  SimCluster& cluster_;
  Prng prng_;
  std::map<size_t, int> users_;
  std::set<size_t> ending_;
  uint64_t containers_ = 0;
  std::string wrong_;
};

std::string chaos(uint64_t seed) {
  SimCluster cluster(seed, 3);
  cluster.loop().run(bring_up(cluster));
  Chaos chaos(cluster, seed);
  cluster.loop().run(chaos.run());
  return chaos.wrong() + violations(cluster);
}

TEST(ClusterNodes, SurviveChaos) {
  const char* one = std::getenv("HF_SEED");
  const char* count = std::getenv("HF_SEEDS");
  const uint64_t first = one != nullptr ? std::strtoull(one, nullptr, 10) : 1;
  const uint64_t last = one != nullptr ? first : count != nullptr ? std::strtoull(count, nullptr, 10) : 100;
  for (uint64_t seed = first; seed <= last; ++seed) {
    const std::string wrong = chaos(seed);
    ASSERT_EQ(wrong, "") << "HF_SEED=" << seed;
  }
}

}  // namespace
}  // namespace hf::cluster
