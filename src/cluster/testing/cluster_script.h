// What tests over several simulated nodes begin with: nodes that are up, and requests by one line. A script is one
// coroutine that does one thing after the other and looks at what has come of it.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <set>
#include <string>

#include "base/units.h"
#include "cluster/testing/sim_cluster.h"

namespace hf::cluster {

inline constexpr Duration kLong = std::chrono::seconds(30);

inline CreateVolume volume_of(const std::string& name, uint32_t repl) {
  CreateVolume request;
  request.name = name;
  request.spec.size_bytes = kGiB;
  request.spec.repl = repl;
  return request;
}

inline MountVolume mount_of(const std::string& name, const std::string& holder) {
  MountVolume request;
  request.name = name;
  request.holder = holder;
  return request;
}

inline UnmountVolume unmount_of(const std::string& name, const std::string& holder) {
  UnmountVolume request;
  request.name = name;
  request.holder = holder;
  return request;
}

// Nodes with a pool each, all up.
inline Task<void> bring_up(SimCluster& cluster) {
  for (size_t i = 0; i < cluster.size(); ++i) {
    Status started = co_await cluster.start(i);
    EXPECT_TRUE(started.ok()) << started.error().to_string();
    AddPool pool;
    pool.path = fmt::format("/pool{}", i);
    Result<PoolInfo> made = co_await cluster.control(i).add_pool(pool);
    EXPECT_TRUE(made.ok());
  }
  co_await cluster.sleep(std::chrono::seconds(3));  // they know each other
}

inline std::string violations(SimCluster& cluster) {
  std::string all;
  for (size_t i = 0; i < cluster.size(); ++i) {
    for (const std::string& what : cluster.node(i).violations) all += fmt::format("node {}: {}; ", i, what);
  }
  return all;
}

using Script = std::function<Task<void>(SimCluster&)>;

inline void play(size_t nodes, Script script) {
  SimCluster cluster(1, nodes);
  cluster.loop().run(bring_up(cluster));
  cluster.loop().run(script(cluster));
  EXPECT_EQ(violations(cluster), "");
}

inline Task<VolumeId> made(SimCluster& cluster, size_t node, const CreateVolume& request) {
  Result<VolumeInfo> info = co_await cluster.control(node).create_volume(request);
  EXPECT_TRUE(info.ok()) << (info.ok() ? "" : info.error().to_string());
  co_return info.ok() ? info->id : VolumeId();
}

inline Task<Status> mounted(SimCluster& cluster, size_t node, const MountVolume& request) {
  Result<MountInfo> info = co_await cluster.control(node).mount_volume(request);
  if (!info.ok()) co_return info.error();
  co_return Status();
}

inline std::set<NodeId> homes_of(const VolumeInfo& info) {
  std::set<NodeId> homes;
  for (const ReplicaInfo& replica : info.replicas) {
    EXPECT_TRUE(replica.in_sync) << replica.node_name << ": " << replica.message;
    homes.insert(replica.node);
  }
  return homes;
}

inline Task<std::set<NodeId>> homes(SimCluster& cluster, size_t node, std::string name) {
  Result<VolumeInfo> info = co_await cluster.control(node).inspect_volume(name);
  EXPECT_TRUE(info.ok());
  co_return info.ok() ? homes_of(info.value()) : std::set<NodeId>();
}

inline UpdateVolume replicas_of(const std::string& name, const std::string& repl) {
  UpdateVolume update;
  update.name = name;
  update.options["repl"] = repl;
  return update;
}

}  // namespace hf::cluster
