#include "cluster/planner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/units.h"

namespace hf::cluster {
namespace {

using ::testing::HasSubstr;

PoolFacts pool(uint64_t number, uint64_t node, uint64_t total, uint64_t provisioned,
               uint32_t io_class = 1) {
  PoolFacts facts;
  facts.pool.id = PoolId::from_random(0, number);
  facts.pool.node = NodeId::from_random(0, node);
  facts.pool.path = "/p" + std::to_string(number);
  facts.pool.state = PoolState::kOnline;
  facts.pool.total_bytes = total;
  facts.pool.provisioned_bytes = provisioned;
  facts.pool.io_class = io_class;
  facts.node_name = "n" + std::to_string(node);
  facts.node_online = true;
  return facts;
}

PlacementRequest asking(uint64_t size, uint32_t replicas = 1, uint32_t io_class = 1) {
  PlacementRequest request;
  request.size_bytes = size;
  request.replicas = replicas;
  request.io_class = io_class;
  request.asking = NodeId::from_random(0, 1);
  return request;
}

std::string chosen(const PlacementRequest& request, const std::vector<PoolFacts>& pools) {
  const Result<std::vector<PoolInfo>> result = place_volume(request, pools, PlacementLimits());
  if (!result.ok()) return result.error().to_string();
  std::string paths;
  for (const PoolInfo& info : *result) paths += info.path;
  return paths;
}

TEST(Planner, TakesTheEmptiestOfTheRightClassHere) {
  const std::vector<PoolFacts> pools = {pool(1, 1, 100 * kGiB, 90 * kGiB),
                                        pool(2, 1, 100 * kGiB, 10 * kGiB),
                                        pool(3, 1, 900 * kGiB, 0, 3), pool(4, 2, 900 * kGiB, 0)};
  EXPECT_EQ(chosen(asking(kGiB), pools), "/p2");
  EXPECT_EQ(chosen(asking(kGiB, 1, 3), pools), "/p3");
  EXPECT_EQ(chosen(asking(kGiB, 1, 2), pools), "/p3") << "the next higher class";
  EXPECT_EQ(chosen(asking(kGiB, 2), pools), "/p2/p4") << "one replica per node";
  EXPECT_THAT(chosen(asking(kGiB, 3), pools), HasSubstr("3 replicas need pools"));
}

TEST(Planner, LowerClassIsBetterThanNone) {
  EXPECT_EQ(chosen(asking(kGiB, 1, 3), {pool(1, 1, 100 * kGiB, 0)}), "/p1");
}

TEST(Planner, PromisesUpToTheLimit) {
  const PlacementLimits limits;
  const auto most = static_cast<uint64_t>(10 * kGiB * limits.overcommit);
  EXPECT_EQ(chosen(asking(most), {pool(1, 1, 10 * kGiB, 0)}), "/p1");
  EXPECT_THAT(chosen(asking(most), {pool(1, 1, 10 * kGiB, kGiB)}), HasSubstr("no_space"));
  EXPECT_THAT(chosen(asking(UINT64_MAX), {pool(1, 1, 10 * kGiB, UINT64_MAX)}),
              HasSubstr("no_space"));
}

TEST(Planner, AvoidsWhatIsFullOrAway) {
  std::vector<PoolFacts> pools = {pool(1, 1, 100 * kGiB, 0), pool(2, 1, 100 * kGiB, 50 * kGiB)};
  pools[0].pool.used_bytes = 95 * kGiB;
  EXPECT_EQ(chosen(asking(kGiB), pools), "/p2");
  pools[1].pool.state = PoolState::kOffline;
  pools[1].pool.message = "its disk is gone";
  const std::string why = chosen(asking(kGiB), pools);
  EXPECT_THAT(why, HasSubstr("95 GiB of 100 GiB used"));
  EXPECT_THAT(why, HasSubstr("its disk is gone"));
}

TEST(Planner, GoesWhereItIsTold) {
  const std::vector<PoolFacts> pools = {pool(1, 1, 100 * kGiB, 0), pool(2, 1, 50 * kGiB, 0),
                                        pool(3, 2, 50 * kGiB, 0)};
  PlacementRequest request = asking(kGiB);
  request.nodes = {pools[1].pool.id.to_string()};
  EXPECT_EQ(chosen(request, pools), "/p2");
  request.nodes = {"n2"};
  EXPECT_EQ(chosen(request, pools), "/p3");
  request.nodes = {"n9"};
  EXPECT_THAT(chosen(request, pools), HasSubstr("not_found"));
  EXPECT_THAT(chosen(request, {}), HasSubstr("holdfast pool add"));
}

TEST(Planner, IsDeterministic) {
  std::vector<PoolFacts> pools = {pool(1, 1, kGiB, 0), pool(2, 1, kGiB, 0), pool(3, 1, kGiB, 0)};
  const std::string first = chosen(asking(kMiB), pools);
  std::reverse(pools.begin(), pools.end());
  EXPECT_EQ(chosen(asking(kMiB), pools), first);
}

}  // namespace
}  // namespace hf::cluster
