// An older replica is taken for the truth, when an operator says that nothing better ever comes back, and not before.
#include <gmock/gmock.h>

#include "cluster/mutants.h"
#include "cluster/testing/cluster_script.h"

namespace hf::cluster {
namespace {

using ::testing::HasSubstr;

PromoteVolume promotion_of(const std::string& node, std::vector<std::string> lost, bool only_look = false) {
  PromoteVolume request;
  request.name = "db";
  request.node = node;
  request.lost = std::move(lost);
  request.only_look = only_look;
  return request;
}

SimReplica* replica_on(SimCluster& cluster, size_t node) {
  for (auto& [id, pool] : cluster.node(node).pools) {
    for (auto& [replica, there] : pool.replicas) return &there;
  }
  return nullptr;
}

// Two replicas, on nodes a and b, used on c. b goes, c writes, then a goes with the last of it. b is back.
Task<VolumeId> last_one_lost(SimCluster& cluster) {
  CreateVolume request = volume_of("db", 2);
  request.spec.nodes = {"node-a", "node-b"};
  const VolumeId id = co_await made(cluster, 0, request);
  const MountVolume mount = mount_of("db", "docker:1");
  Status at_c = co_await mounted(cluster, 2, mount);
  EXPECT_TRUE(at_c.ok());
  EXPECT_TRUE(cluster.write(2, id));
  const UnmountVolume end = unmount_of("db", "docker:1");
  Status down = co_await cluster.control(2).unmount_volume(end);
  EXPECT_TRUE(down.ok());
  co_await cluster.crash(1);
  co_await cluster.sleep(kLong);
  at_c = co_await mounted(cluster, 2, mount);
  EXPECT_TRUE(at_c.ok()) << at_c.error().to_string();
  EXPECT_TRUE(cluster.write(2, id));
  down = co_await cluster.control(2).unmount_volume(end);
  EXPECT_TRUE(down.ok());
  co_await cluster.crash(0);
  Status back = co_await cluster.start(1);
  EXPECT_TRUE(back.ok());
  co_await cluster.sleep(kLong);
  co_return id;
}

Task<void> given_up(SimCluster& cluster) {
  const VolumeId id = co_await last_one_lost(cluster);
  const MountVolume mount = mount_of("db", "docker:1");
  Status at_c = co_await mounted(cluster, 2, mount);
  EXPECT_EQ(at_c.code(), ErrorCode::kUnavailable) << "an older replica is never served by itself";
  const PromoteVolume not_said = promotion_of("node-b", {});
  Result<Promotion> done = co_await cluster.control(2).promote_volume(not_said);
  EXPECT_EQ(done.code(), ErrorCode::kFailedPrecondition);
  std::string why = done.ok() ? "" : done.error().message();
  EXPECT_THAT(why, HasSubstr("--lost node-a"));
  const PromoteVolume nowhere = promotion_of("node-c", {"node-a"});
  done = co_await cluster.control(2).promote_volume(nowhere);
  EXPECT_EQ(done.code(), ErrorCode::kNotFound);
  const PromoteVolume look = promotion_of("node-b", {"node-a"}, true);
  done = co_await cluster.control(2).promote_volume(look);
  EXPECT_TRUE(done.ok() && !done->done && done->lost_nodes == std::vector<std::string>{"node-a"});
  const PromoteVolume go = promotion_of("node-b", {"node-a"});
  for (int asked = 0; asked < 2; ++asked) {
    done = co_await cluster.control(2).promote_volume(go);
    EXPECT_TRUE(done.ok() && done->done) << (done.ok() ? "" : done.error().to_string());
  }
  at_c = co_await mounted(cluster, 2, mount);
  EXPECT_TRUE(at_c.ok()) << at_c.error().to_string();
  EXPECT_TRUE(cluster.write(2, id));
  const uint64_t content = replica_on(cluster, 1)->head.data;
  // The other one comes back after all: it is made like this one.
  Status back = co_await cluster.start(0);
  EXPECT_TRUE(back.ok());
  co_await cluster.sleep(kLong * 4);
  EXPECT_EQ(replica_on(cluster, 0)->head.data, content);
  EXPECT_EQ(replica_on(cluster, 1)->head.data, content);
  std::set<NodeId> now = co_await homes(cluster, 2, "db");
  EXPECT_EQ(now.size(), 2u);
}
TEST(ClusterPromote, AnOlderReplicaIsTheTruthOnceTheLastOneIsLost) { play(3, given_up); }

Task<void> still_there(SimCluster& cluster) {
  CreateVolume request = volume_of("db", 2);
  request.spec.nodes = {"node-a", "node-b"};
  (void)co_await made(cluster, 0, request);
  co_await cluster.crash(1);
  co_await cluster.sleep(kLong);
  const MountVolume mount = mount_of("db", "docker:1");
  Status at_c = co_await mounted(cluster, 2, mount);
  EXPECT_TRUE(at_c.ok());
  Status back = co_await cluster.start(1);
  EXPECT_TRUE(back.ok());
  cluster.cut(1, 2);
  const PromoteVolume go = promotion_of("node-b", {"node-a"});
  // Whatever the operator says: it answers.
  Result<Promotion> done = co_await cluster.control(1).promote_volume(go);
  const bool kept = done.code() == ErrorCode::kFailedPrecondition || (done.ok() && done->done);
  EXPECT_TRUE(kept);
  std::set<NodeId> now = co_await homes(cluster, 0, "db");
  EXPECT_TRUE(now.contains(cluster.id(0)));
}
TEST(ClusterPromote, IsRefusedWhileTheOneThatHasEverythingAnswers) { play(3, still_there); }

Task<void> unknown_is_not_lost(SimCluster& cluster) {
  (void)co_await last_one_lost(cluster);
  t_control_mutant = ControlMutant::kPromotedOverUnknown;
  const PromoteVolume go = promotion_of("node-b", {});
  Result<Promotion> done = co_await cluster.control(2).promote_volume(go);
  t_control_mutant = ControlMutant::kNone;
  EXPECT_TRUE(done.ok()) << "the test of the rule would not notice its absence";
}
TEST(ClusterPromote, AMutantTakesUnknownForLost) { play(3, unknown_is_not_lost); }

// Killed at its every step, asked again: the older one is the truth, once, and whole.
Task<void> killed_at(SimCluster& cluster, uint64_t step, bool* came_through) {
  const VolumeId id = co_await last_one_lost(cluster);
  const uint64_t older = replica_on(cluster, 1)->head.data;
  cluster.node(2).kill_at = cluster.node(2).steps + step;
  const PromoteVolume go = promotion_of("node-b", {"node-a"});
  Result<Promotion> done = co_await cluster.control(2).promote_volume(go);
  *came_through = done.ok();
  cluster.node(2).kill_at = 0;
  if (!done.ok()) {
    co_await cluster.crash(2);
    Status back = co_await cluster.start(2);
    EXPECT_TRUE(back.ok());
    co_await cluster.sleep(std::chrono::seconds(3));
    done = co_await cluster.control(2).promote_volume(go);
    EXPECT_TRUE(done.ok() && done->done) << step << ": " << (done.ok() ? "" : done.error().to_string());
  }
  const MountVolume mount = mount_of("db", "docker:1");
  Status at_c = co_await mounted(cluster, 2, mount);
  EXPECT_TRUE(at_c.ok()) << step << ": " << at_c.error().to_string();
  EXPECT_TRUE(cluster.write(2, id));
  EXPECT_EQ(replica_on(cluster, 1)->head.data, older + 1) << step;
}

TEST(ClusterPromote, KilledAtEveryStepItIsFinishedWhenAskedAgain) {
  uint64_t step = 1;
  for (bool came_through = false; !came_through && step < 200; ++step) {
    SimCluster cluster(step, 3);
    cluster.loop().run(bring_up(cluster));
    cluster.loop().run(killed_at(cluster, step, &came_through));
    ASSERT_EQ(violations(cluster), "") << step;
  }
  EXPECT_GT(step, 5u);
}

}  // namespace
}  // namespace hf::cluster
