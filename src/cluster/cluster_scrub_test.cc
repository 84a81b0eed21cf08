// Scrubs among several nodes: asked for from any of them, by themselves when they are due, and going on after whatever
// cut them short.
#include <gmock/gmock.h>

#include "cluster/replicas.h"
#include "cluster/testing/cluster_script.h"

namespace hf::cluster {
namespace {

using ::testing::HasSubstr;

ScrubVolume scrub_of(const std::string& name, bool only_look = false, uint64_t bytes_per_second = 0) {
  ScrubVolume request;
  request.name = name;
  request.only_look = only_look;
  request.bytes_per_second = bytes_per_second;
  return request;
}

Task<ScrubInfo> looked(SimCluster& cluster, size_t node, std::string name) {
  const ScrubVolume request = scrub_of(name, true);
  Result<ScrubInfo> info = co_await cluster.control(node).scrub_volume(request);
  EXPECT_TRUE(info.ok()) << (info.ok() ? "" : info.error().to_string());
  co_return info.ok() ? *info : ScrubInfo();
}

SimReplica* replica_on(SimCluster& cluster, size_t node) {
  for (auto& [id, pool] : cluster.node(node).pools) {
    for (auto& [replica, there] : pool.replicas) return &there;
  }
  return nullptr;
}

constexpr Duration kEvery = std::chrono::minutes(20);

void play_every(Duration every, Script script) {
  SimCluster cluster(1, 2);
  cluster.scrub_every = every;
  cluster.loop().run(bring_up(cluster));
  cluster.loop().run(script(cluster));
  EXPECT_EQ(violations(cluster), "");
}

TEST(ScrubDue, AfterItsTimeAndAtOnceWhereItWasCutShort) {
  VolumeRecord volume;
  volume.created.ns = 1'000;
  EXPECT_EQ(scrub_due(volume, nullptr, Duration(500)).ns, 1'500);
  EXPECT_EQ(scrub_due(volume, nullptr, Duration::zero()).ns, INT64_MAX);
  ScrubRecord scrub;
  EXPECT_EQ(scrub_due(volume, &scrub, Duration(500)).ns, 1'500);
  scrub.ended.ns = 4'000;
  EXPECT_EQ(scrub_due(volume, &scrub, Duration(500)).ns, 4'500);
  scrub.begun.ns = 4'200;
  EXPECT_EQ(scrub_due(volume, &scrub, Duration(500)).ns, 4'200);
}

Task<void> asked_anywhere(SimCluster& cluster) {
  const CreateVolume request = volume_of("db", 2);
  const VolumeId id = co_await made(cluster, 0, request);
  const MountVolume mount = mount_of("db", "docker:1");
  Status at_b = co_await mounted(cluster, 1, mount);
  EXPECT_TRUE(at_b.ok());
  cluster.node(1).containers["c1"] = cluster.node(1).exports.at(id).device;
  replica_on(cluster, 0)->rotten = 8192;
  const ScrubVolume scrub = scrub_of("db");
  Result<ScrubInfo> begun = co_await cluster.control(2).scrub_volume(scrub);
  EXPECT_TRUE(begun.ok()) << begun.error().to_string();
  EXPECT_TRUE(begun.ok() && begun->running);
  co_await cluster.sleep(kLong);
  ScrubInfo seen = co_await looked(cluster, 2, "db");
  EXPECT_FALSE(seen.running);
  EXPECT_NE(seen.ended.ns, 0);
  EXPECT_EQ(seen.last.mended_bytes, 8192u);
  EXPECT_EQ(seen.last.compared_bytes, kGiB);
  EXPECT_EQ(replica_on(cluster, 0)->rotten, 0u);
  EXPECT_TRUE(cluster.write(1, id)) << "its user noticed nothing";
}
TEST(ClusterScrub, IsAskedForFromAnyNodeAndMends) { play(3, asked_anywhere); }

Task<void> nobody_uses_it(SimCluster& cluster) {
  CreateVolume request = volume_of("db", 2);
  request.spec.nodes = {"node-a", "node-b"};
  const VolumeId id = co_await made(cluster, 0, request);
  replica_on(cluster, 0)->rotten = replica_on(cluster, 1)->rotten = 4096;
  const ScrubVolume scrub = scrub_of("db");
  Result<ScrubInfo> begun = co_await cluster.control(0).scrub_volume(scrub);
  EXPECT_TRUE(begun.ok());
  co_await cluster.sleep(std::chrono::minutes(3));
  Result<VolumeInfo> info = co_await cluster.control(0).inspect_volume("db");
  EXPECT_TRUE(info.ok() && info->scrub && info->scrub->last.lost_bytes == 4096);
  Result<ClusterStatus> status = co_await cluster.control(1).status();
  EXPECT_TRUE(status.ok());
  std::string problems;
  for (const std::string& problem : status.ok() ? status->problems : std::vector<std::string>()) problems += problem;
  EXPECT_THAT(problems, HasSubstr("volume db: its scrub of "));
  EXPECT_THAT(problems, HasSubstr("4 KiB that no replica has undamaged"));
  // Nobody serves it any more, and it can be had at once.
  EXPECT_FALSE(cluster.is_served(id));
  const MountVolume mount = mount_of("db", "docker:1");
  Status at_c = co_await mounted(cluster, 2, mount);
  EXPECT_TRUE(at_c.ok()) << at_c.error().to_string();
  const UnmountVolume end = unmount_of("db", "docker:1");
  Status down = co_await cluster.control(2).unmount_volume(end);
  EXPECT_TRUE(down.ok());
  DeleteVolume gone;
  gone.name = "db";
  Status deleted = co_await cluster.control(0).delete_volume(gone);
  EXPECT_TRUE(deleted.ok()) << deleted.error().to_string();
  for (const auto& [key, entry] : cluster.server().entries()) EXPECT_EQ(key.find("scrubs"), std::string::npos) << key;
}
TEST(ClusterScrub, OfAVolumeThatNobodyUses) { play(3, nobody_uses_it); }

// 1 GiB at 1 MiB a second is a quarter of an hour.
Task<void> cut_short(SimCluster& cluster) {
  const CreateVolume request = volume_of("db", 2);
  const VolumeId id = co_await made(cluster, 0, request);
  const MountVolume mount = mount_of("db", "docker:1");
  Status at_a = co_await mounted(cluster, 0, mount);
  EXPECT_TRUE(at_a.ok());
  cluster.node(0).containers["c1"] = cluster.node(0).exports.at(id).device;
  const ScrubVolume scrub = scrub_of("db", false, kMiB);
  Result<ScrubInfo> begun = co_await cluster.control(0).scrub_volume(scrub);
  EXPECT_TRUE(begun.ok());
  co_await cluster.sleep(std::chrono::minutes(9));
  ScrubInfo seen = co_await looked(cluster, 0, "db");
  EXPECT_TRUE(seen.running);
  const uint64_t before = seen.so_far.done_to;
  EXPECT_GT(before, kGiB / 3);
  co_await cluster.crash(0);
  Status back = co_await cluster.start(0);
  EXPECT_TRUE(back.ok());
  seen = co_await looked(cluster, 1, "db");
  EXPECT_NE(seen.begun.ns, 0);
  EXPECT_GT(seen.so_far.done_to, kGiB / 8) << "what was recorded last";
  // It is due at once, and goes on there.
  co_await cluster.sleep(std::chrono::minutes(20));
  seen = co_await looked(cluster, 1, "db");
  EXPECT_FALSE(seen.running);
  EXPECT_NE(seen.ended.ns, 0);
  EXPECT_EQ(seen.begun.ns, 0);
  EXPECT_GE(seen.last.compared_bytes, kGiB);
  EXPECT_LT(seen.last.compared_bytes, kGiB + kGiB / 2) << "not all of it once more";
}
TEST(ClusterScrub, GoesOnWhereItWasCutShort) { play(2, cut_short); }

// Two volumes, and a node that is restarted in order and killed.
Task<void> by_itself(SimCluster& cluster) {
  for (const char* name : {"a", "b"}) {
    const CreateVolume request = volume_of(name, 2);
    (void)co_await made(cluster, 0, request);
  }
  co_await cluster.sleep(std::chrono::minutes(18));
  ScrubInfo a = co_await looked(cluster, 1, "a");
  EXPECT_EQ(a.begun.ns + a.ended.ns, 0) << "not before its time";
  co_await cluster.stop(0);
  Status back = co_await cluster.start(0);
  EXPECT_TRUE(back.ok());
  co_await cluster.sleep(std::chrono::minutes(15));
  a = co_await looked(cluster, 1, "a");
  ScrubInfo b = co_await looked(cluster, 1, "b");
  EXPECT_NE(a.ended.ns, 0);
  EXPECT_NE(b.ended.ns, 0) << "one after the other";
  const int64_t first = a.ended.ns;
  co_await cluster.crash(0);
  back = co_await cluster.start(0);
  EXPECT_TRUE(back.ok());
  co_await cluster.sleep(std::chrono::minutes(5));
  a = co_await looked(cluster, 1, "a");
  EXPECT_EQ(a.ended.ns, first) << "a restart is no reason";
  co_await cluster.sleep(std::chrono::minutes(20));
  a = co_await looked(cluster, 1, "a");
  EXPECT_GE(a.ended.ns - first, Duration(kEvery).count());
}
TEST(ClusterScrub, ComesByItselfWhenItsTimeIsOver) { play_every(kEvery, by_itself); }

Task<void> switched_off(SimCluster& cluster) {
  const CreateVolume request = volume_of("a", 1);
  (void)co_await made(cluster, 0, request);
  co_await cluster.sleep(kEvery * 2);
  ScrubInfo a = co_await looked(cluster, 1, "a");
  EXPECT_EQ(a.begun.ns + a.ended.ns, 0);
}
TEST(ClusterScrub, IsSwitchedOff) { play_every(Duration::zero(), switched_off); }

}  // namespace
}  // namespace hf::cluster
