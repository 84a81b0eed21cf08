// Where replicas stand among several nodes in zones and racks, and what happens to them when the nodes do not stay.
#include <gmock/gmock.h>

#include "cluster/mutants.h"
#include "cluster/testing/cluster_script.h"

namespace hf::cluster {
namespace {

using ::testing::HasSubstr;

// One letter per node: its zone; '-' is none.
void play_in(const std::string& zones, Script script) {
  SimCluster cluster(1, zones.size());
  for (size_t i = 0; i < zones.size(); ++i) {
    if (zones[i] != '-') cluster.domain(i).zone = zones.substr(i, 1);
  }
  cluster.loop().run(bring_up(cluster));
  cluster.loop().run(script(cluster));
  EXPECT_EQ(violations(cluster), "");
}

// The zones of a volume's replicas in sync, in their order; "?" for a volume that is not there.
Task<std::string> zones_of(SimCluster& cluster, size_t node, std::string name) {
  Result<VolumeInfo> info = co_await cluster.control(node).inspect_volume(name);
  std::string zones;
  if (!info.ok()) co_return "?";
  for (const ReplicaInfo& replica : info->replicas) {
    if (!replica.in_sync) continue;
    for (size_t i = 0; i < cluster.size(); ++i) {
      if (cluster.id(i) == replica.node) zones += cluster.domain(i).zone;
    }
  }
  std::sort(zones.begin(), zones.end());
  co_return zones;
}

Task<std::string> placement_of_volume(SimCluster& cluster, size_t node, std::string name) {
  Result<VolumeInfo> info = co_await cluster.control(node).inspect_volume(name);
  co_return info.ok() ? info->placement : info.error().to_string();
}

Task<std::string> problems(SimCluster& cluster, size_t node) {
  Result<ClusterStatus> status = co_await cluster.control(node).status();
  std::string all;
  if (!status.ok()) co_return status.error().to_string();
  for (const std::string& problem : status->problems) all += problem + "; ";
  co_return all;
}

Task<void> spread(SimCluster& cluster) {
  const CreateVolume request = volume_of("db", 3);
  (void)co_await made(cluster, 0, request);
  std::string zones = co_await zones_of(cluster, 1, "db");
  EXPECT_EQ(zones, "abc");
  std::string wrong = co_await problems(cluster, 0);
  EXPECT_EQ(wrong, "");
}
TEST(ClusterPlaces, ReplicasAreInDifferentZones) { play_in("aaabc", spread); }

Task<void> too_few(SimCluster& cluster) {
  CreateVolume request = volume_of("db", 3);
  (void)co_await made(cluster, 0, request);
  std::string told = co_await placement_of_volume(cluster, 1, "db");
  EXPECT_EQ(told, "its 3 replicas are in 2 zones (a, b)");
  std::string wrong = co_await problems(cluster, 1);
  EXPECT_THAT(wrong, HasSubstr("placement of volume db: its 3 replicas are in 2 zones (a, b)"));
  request.name = "strict";
  request.spec.group = "g";
  request.spec.group_strict = true;
  Result<VolumeInfo> refused = co_await cluster.control(0).create_volume(request);
  EXPECT_EQ(refused.code(), ErrorCode::kFailedPrecondition);
  std::string why = refused.ok() ? "" : refused.error().message();
  EXPECT_THAT(why, HasSubstr("fg=true"));
  request.spec.group_strict = false;
  request.spec.group.clear();
  request.name = "nowhere";
  request.spec.nodes = {"node-a", "node-z"};
  refused = co_await cluster.control(0).create_volume(request);
  EXPECT_EQ(refused.code(), ErrorCode::kNotFound);
  why = refused.ok() ? "" : refused.error().message();
  EXPECT_THAT(why, HasSubstr("node-z"));
  // The operator says that two are enough.
  UpdateVolume update;
  update.name = "db";
  update.options["zones"] = "a;b";
  Result<VolumeInfo> updated = co_await cluster.control(0).update_volume(update);
  EXPECT_TRUE(updated.ok()) << updated.error().to_string();
  wrong = co_await problems(cluster, 1);
  EXPECT_EQ(wrong, "");
}
TEST(ClusterPlaces, FewerZonesThanReplicasAreToldOrRefused) { play_in("aabb", too_few); }

// Of three zones one is lost for long: its replica is made where there is room, and goes back to a zone of its own
// when there is one again.
Task<void> zone_lost(SimCluster& cluster) {
  const CreateVolume request = volume_of("db", 3);
  const VolumeId id = co_await made(cluster, 0, request);
  const MountVolume mount = mount_of("db", "docker:1");
  Status at_a = co_await mounted(cluster, 0, mount);
  EXPECT_TRUE(at_a.ok());
  cluster.node(0).containers["c1"] = cluster.node(0).exports.at(id).device;
  std::string zones = co_await zones_of(cluster, 0, "db");
  EXPECT_EQ(zones, "abc");
  co_await cluster.crash(3);
  co_await cluster.sleep(std::chrono::minutes(35));
  zones = co_await zones_of(cluster, 0, "db");
  EXPECT_THAT(zones, ::testing::AnyOf("aab", "abb"));
  std::string told = co_await placement_of_volume(cluster, 1, "db");
  EXPECT_EQ(told, "its 3 replicas are in 2 zones (a, b)");
  Status back = co_await cluster.start(3);
  EXPECT_TRUE(back.ok());
  co_await cluster.sleep(std::chrono::minutes(10));
  zones = co_await zones_of(cluster, 0, "db");
  EXPECT_EQ(zones, "abc");
  told = co_await placement_of_volume(cluster, 1, "db");
  EXPECT_EQ(told, "");
  EXPECT_TRUE(cluster.write(0, id)) << "its user noticed nothing";
  EXPECT_EQ(cluster.replicas(0) + cluster.replicas(1) + cluster.replicas(2) + cluster.replicas(3), 3u);
}
TEST(ClusterPlaces, ALostZoneIsReplacedAndComesBack) { play_in("aabc", zone_lost); }

Task<void> drained_within(SimCluster& cluster) {
  const CreateVolume request = volume_of("db", 2);
  (void)co_await made(cluster, 0, request);
  std::string zones = co_await zones_of(cluster, 0, "db");
  EXPECT_EQ(zones, "ab");
  Result<NodeInfo> draining = co_await cluster.control(0).drain_node("node-a", false);
  EXPECT_TRUE(draining.ok());
  co_await cluster.sleep(std::chrono::minutes(5));
  zones = co_await zones_of(cluster, 0, "db");
  EXPECT_EQ(zones, "ab") << "another node of its zone";
  EXPECT_EQ(cluster.replicas(0), 0u);
}
TEST(ClusterPlaces, ADrainedReplicaStaysInItsZone) { play_in("abab", drained_within); }

Task<void> sent_elsewhere(SimCluster& cluster) {
  const CreateVolume request = volume_of("db", 1);
  (void)co_await made(cluster, 0, request);
  UpdateVolume update;
  update.name = "db";
  update.options["zones"] = "c";
  Result<VolumeInfo> refused = co_await cluster.control(0).update_volume(update);
  EXPECT_EQ(refused.code(), ErrorCode::kNotFound);
  update.options["zones"] = "b";
  Result<VolumeInfo> updated = co_await cluster.control(0).update_volume(update);
  EXPECT_TRUE(updated.ok()) << updated.error().to_string();
  co_await cluster.sleep(std::chrono::minutes(5));
  std::string zones = co_await zones_of(cluster, 0, "db");
  EXPECT_EQ(zones, "b");
  EXPECT_EQ(cluster.replicas(0), 0u);
}
TEST(ClusterPlaces, AReplicaFollowsTheListsOfItsVolume) { play_in("ab", sent_elsewhere); }

CreateVolume of_group(const std::string& name, bool strict) {
  CreateVolume request = volume_of(name, 1);
  request.spec.group = "g";
  request.spec.group_strict = strict;
  return request;
}

Task<void> keep(Task<Result<VolumeInfo>> task, int* made, int* refused) {
  Result<VolumeInfo> info = co_await std::move(task);
  ++*(info.ok() ? made : refused);
}

// Asked of three nodes at the same time, of which none knows of the others.
Task<void> at_once(SimCluster& cluster) {
  int made = 0, refused = 0;
  Gate gate;
  for (size_t i = 0; i < 3; ++i) {
    for (const char* name : {"x", "y"}) {
      CreateVolume request = of_group(fmt::format("{}{}", name, i), true);
      (void)spawn(gate, keep(cluster.control(i).create_volume(request), &made, &refused));
    }
  }
  co_await gate.close();
  EXPECT_EQ(made, 3);
  EXPECT_EQ(refused, 3);
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(cluster.replicas(i), 1u) << i;
  Result<std::vector<VolumeInfo>> all = co_await cluster.control(0).list_volumes();
  EXPECT_TRUE(all.ok());
  for (const VolumeInfo& info : all.ok() ? all.value() : std::vector<VolumeInfo>()) {
    DeleteVolume gone;
    gone.name = info.name;
    Status deleted = co_await cluster.control(1).delete_volume(gone);
    EXPECT_TRUE(deleted.ok());
  }
  for (const auto& [key, entry] : cluster.server().entries()) EXPECT_EQ(key.find("groups"), std::string::npos) << key;
}
TEST(ClusterPlaces, AStrictGroupIsKeptApartAlsoWhenAllAreMadeAtOnce) { play(3, at_once); }

Task<void> at_once_unguarded(SimCluster& cluster) {
  t_control_mutant = ControlMutant::kGroupNotGuarded;
  int made = 0, refused = 0;
  Gate gate;
  for (size_t i = 0; i < 3; ++i) {
    CreateVolume request = of_group(fmt::format("x{}", i), true);
    request.spec.nodes = {"node-a"};
    (void)spawn(gate, keep(cluster.control(i).create_volume(request), &made, &refused));
  }
  co_await gate.close();
  t_control_mutant = ControlMutant::kNone;
  EXPECT_GT(made, 1) << "the test of the rule would not notice its absence";
}
TEST(ClusterPlaces, WithoutItsGuardAGroupIsNotKeptApart) { play(3, at_once_unguarded); }

Task<void> a_wish(SimCluster& cluster) {
  for (const char* name : {"x", "y", "z"}) {
    const CreateVolume request = of_group(name, false);
    (void)co_await made(cluster, 0, request);
  }
  EXPECT_EQ(cluster.replicas(0) + cluster.replicas(1), 3u);
  EXPECT_GE(cluster.replicas(1), 1u);
  std::string wrong = co_await problems(cluster, 1);
  EXPECT_THAT(wrong, HasSubstr("placement group g: "));
  std::string told = co_await placement_of_volume(cluster, 1, "z");
  EXPECT_THAT(told, HasSubstr("of its group g"));
}
TEST(ClusterPlaces, AGroupThatFindsNoPlaceApartIsTold) { play(2, a_wish); }

}  // namespace
}  // namespace hf::cluster
