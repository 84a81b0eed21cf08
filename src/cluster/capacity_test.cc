// How large a volume could be, and where a new one goes.
#include <gtest/gtest.h>

#include "cluster/testing/sim_cluster.h"
#include "cluster/testing/sim_rig.h"

namespace hf::cluster {
namespace {

CreateVolume sized(const std::string& name, uint64_t size_bytes) {
  CreateVolume request;
  request.name = name;
  request.spec.size_bytes = size_bytes;
  return request;
}

Task<void> largest_volume(SimRig& rig) {
  Status started = co_await rig.start();
  EXPECT_TRUE(started.ok());
  CreateVolume plain;
  Result<uint64_t> most = co_await rig.control().largest_volume(plain);
  EXPECT_TRUE(most.ok() && *most == 0) << "there is no pool yet";
  AddPool pool;
  pool.path = "/pool";
  Result<PoolInfo> added = co_await rig.control().add_pool(pool);
  EXPECT_TRUE(added.ok());
  CreateVolume request = sized("first", 2 * kGiB);
  Result<VolumeInfo> made = co_await rig.control().create_volume(request);
  EXPECT_TRUE(made.ok());
  most = co_await rig.control().largest_volume(plain);
  HF_ASSERT(most.ok());
  EXPECT_GT(*most, kGiB);
  request = sized("all", *most + kBlockSize);
  made = co_await rig.control().create_volume(request);
  EXPECT_EQ(made.code(), ErrorCode::kNoSpace) << "it was the largest";
  request = sized("all", *most);
  made = co_await rig.control().create_volume(request);
  EXPECT_TRUE(made.ok()) << (made.ok() ? "" : made.error().to_string());
  most = co_await rig.control().largest_volume(plain);
  EXPECT_TRUE(most.ok() && *most == 0);
  plain.spec.repl = 2;
  most = co_await rig.control().largest_volume(plain);
  EXPECT_EQ(most.code(), ErrorCode::kNotSupported) << "what cannot be created has no size";
}

TEST(Capacity, SaysHowLargeAVolumeCouldBe) {
  SimRig rig(7);
  rig.loop().run(largest_volume(rig));
}

Task<void> near_its_user(SimCluster& cluster) {
  for (size_t i = 0; i < cluster.size(); ++i) {
    Status started = co_await cluster.start(i);
    EXPECT_TRUE(started.ok());
    AddPool pool;
    pool.path = fmt::format("/pool{}", i);
    Result<PoolInfo> made = co_await cluster.control(i).add_pool(pool);
    EXPECT_TRUE(made.ok());
  }
  co_await cluster.sleep(std::chrono::seconds(3));  // they know each other
  Result<std::vector<NodeInfo>> nodes = co_await cluster.control(0).list_nodes();
  HF_ASSERT(nodes.ok() && nodes->size() == cluster.size());
  for (size_t i = 0; i < cluster.size(); ++i) {
    CreateVolume request = sized("v" + std::to_string(i), kGiB);
    request.near = nodes->at(i).id;
    Result<VolumeInfo> made = co_await cluster.control(0).create_volume(request);
    HF_ASSERT(made.ok(), "{}", made.error().to_string());
    EXPECT_EQ(made->replicas.front().node, request.near) << i;
    EXPECT_EQ(made->fs_bytes, 0u);
    MountVolume mount;
    mount.name = request.name;
    mount.holder = "docker:1";
    Result<MountInfo> mounted = co_await cluster.control(i).mount_volume(mount);
    EXPECT_TRUE(mounted.ok());
    made = co_await cluster.control(i).inspect_volume(request.name);
    EXPECT_EQ(made->fs_bytes, kGiB) << "it has a file system now";
  }
}

TEST(Capacity, AVolumeIsMadeWhereItWillBeUsed) {
  SimCluster cluster(1, 3);
  cluster.loop().run(near_its_user(cluster));
}

}  // namespace
}  // namespace hf::cluster
