#include "cluster/planner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <rapidcheck.h>

#include "base/units.h"

namespace hf::cluster {
namespace {

using ::testing::AllOf;
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
  request.nodes = {"n2", "n9"};
  EXPECT_THAT(chosen(request, pools), AllOf(HasSubstr("not_found"), HasSubstr("n9, which is no node"), HasSubstr("n1, n2")));
  EXPECT_THAT(chosen(request, {}), HasSubstr("holdfast pool add"));
}

TEST(Planner, IsDeterministic) {
  std::vector<PoolFacts> pools = {pool(1, 1, kGiB, 0), pool(2, 1, kGiB, 0), pool(3, 1, kGiB, 0)};
  const std::string first = chosen(asking(kMiB), pools);
  std::reverse(pools.begin(), pools.end());
  EXPECT_EQ(chosen(asking(kMiB), pools), first);
}

// ---- Failure domains ------------------------------------------------------------------------------

PoolFacts in(PoolFacts facts, const std::string& zone, const std::string& rack = "", const std::string& region = "") {
  facts.domain.zone = zone;
  facts.domain.rack = rack;
  facts.domain.region = region;
  return facts;
}

PoolFacts small(uint64_t node) { return pool(node, node, 100 * kGiB, 0); }
PoolFacts large(uint64_t node) { return pool(node, node, 900 * kGiB, 0); }

TEST(Spread, OtherZonesThenOtherRacksThenRoom) {
  const std::vector<PoolFacts> pools = {in(small(1), "a", "r1"), in(large(2), "a", "r1"), in(small(3), "a", "r2"),
                                        in(small(4), "b", "r1")};
  EXPECT_EQ(chosen(asking(kGiB, 2), pools), "/p1/p4") << "here, then another zone";
  EXPECT_EQ(chosen(asking(kGiB, 3), pools), "/p1/p4/p3") << "another rack before more room";
  PlacementRequest request = asking(kGiB, 1);
  request.beside = {Seat(pools[0].pool.node, pools[0].domain)};
  request.without = {pools[0].pool.node};
  EXPECT_EQ(chosen(request, pools), "/p4") << "beside one in zone a";
  request.without.push_back(pools[3].pool.node);
  EXPECT_EQ(chosen(request, pools), "/p3");
}

TEST(Spread, ARackIsOneOfItsZone) {
  const std::vector<PoolFacts> pools = {in(small(1), "a", "r1"), in(large(2), "a", "r1"), in(small(3), "b", "r1")};
  EXPECT_EQ(chosen(asking(kGiB, 2), pools), "/p1/p3");
}

TEST(Spread, ListsAdmitAndUnknownNamesAreRefused) {
  const std::vector<PoolFacts> pools = {in(small(1), "a", "r1", "eu"), in(small(2), "b", "r2", "eu"),
                                        in(small(3), "c", "r3", "us")};
  PlacementRequest request = asking(kGiB);
  request.zones = {"b"};
  EXPECT_EQ(chosen(request, pools), "/p2");
  request.zones = {"b", "c"};
  request.regions = {"us"};
  EXPECT_EQ(chosen(request, pools), "/p3");
  request.racks = {"r2"};
  EXPECT_THAT(chosen(request, pools), HasSubstr("no pool has room"));
  request.racks = {"r7"};
  EXPECT_THAT(chosen(request, pools), AllOf(HasSubstr("not_found"), HasSubstr("racks= names r7"), HasSubstr("r1, r2, r3")));
  request.racks.clear();
  request.zones = {"d"};
  EXPECT_THAT(chosen(request, pools), HasSubstr("zones= names d"));
}

TEST(Spread, FewerDomainsThanReplicasAreToldOrRefused) {
  const std::vector<PoolFacts> pools = {in(small(1), "a"), in(small(2), "b"), in(small(3), "a")};
  PlacementRequest request = asking(kGiB, 3);
  EXPECT_EQ(chosen(request, pools), "/p1/p2/p3");
  DomainKinds kinds;
  std::vector<Seat> seats;
  for (const PoolFacts& facts : pools) {
    kinds.add(facts.domain);
    seats.emplace_back(facts.pool.node, facts.domain);
  }
  EXPECT_EQ(describe_spread(request, seats, kinds), "its 3 replicas are in 2 zones (a, b)");
  request.strict = true;
  EXPECT_THAT(chosen(request, pools), AllOf(HasSubstr("fg=true"), HasSubstr("3 replicas are in 2 zones (a, b)")));
  request.zones = {"a", "b"};
  EXPECT_EQ(chosen(request, pools), "/p1/p2/p3") << "two are what was asked for";
  EXPECT_EQ(describe_spread(request, seats, kinds), "");
  EXPECT_EQ(describe_spread(asking(kGiB, 3), seats, DomainKinds()), "") << "a cluster without zones";
}

TEST(Spread, VolumesOfAGroupAreOnDifferentNodes) {
  const std::vector<PoolFacts> pools = {small(1), small(2)};
  PlacementRequest request = asking(kGiB);
  request.group = "g";
  request.of_group = {pools[0].pool.node};
  EXPECT_EQ(chosen(request, pools), "/p2") << "rather elsewhere than here";
  request.of_group.insert(pools[1].pool.node);
  EXPECT_EQ(chosen(request, pools), "/p1") << "a wish";
  request.strict = true;
  EXPECT_THAT(chosen(request, pools), AllOf(HasSubstr("another volume of group g"), HasSubstr("fg=true")));
}

TEST(Spread, WhoStandsBadlyIsMovedWhereItIsBetter) {
  std::vector<PoolFacts> pools = {in(small(1), "a"), in(small(2), "a"), in(small(3), "b")};
  DomainKinds kinds;
  kinds.zones = true;
  const std::vector<Seat> seats = {Seat(pools[0].pool.node, pools[0].domain), Seat(pools[1].pool.node, pools[1].domain)};
  const PlacementRequest request = asking(kGiB, 2);
  const PlacementLimits limits;
  EXPECT_EQ(misplaced(seats, request, pools, kinds, limits, pools[0].pool.node), 1u) << "the user's own stays";
  EXPECT_EQ(misplaced(seats, request, pools, kinds, limits, pools[1].pool.node), 0u);
  pools[2].node_online = false;
  EXPECT_EQ(misplaced(seats, request, pools, kinds, limits, NodeId()), std::nullopt) << "there is no better place";
  std::vector<Seat> stranger = {Seat(pools[0].pool.node, pools[0].domain)};
  stranger[0].admitted = false;
  PlacementRequest moved = asking(kGiB);
  moved.nodes = {"n2"};
  EXPECT_EQ(misplaced(stranger, moved, pools, kinds, limits, NodeId()), 0u) << "its lists do not allow it there any more";
}

// ---- Properties -----------------------------------------------------------------------------------

struct World {
  std::vector<PoolFacts> pools;
  PlacementRequest request;
};

World a_world() {
  World w;
  const auto nodes = *rc::gen::inRange<uint64_t>(1, 9);
  uint64_t number = 0;
  for (uint64_t node = 1; node <= nodes; ++node) {
    // No zone (0) or rack (0) is one like any other.
    const auto zone = *rc::gen::inRange(0, 4);
    const auto rack = *rc::gen::inRange(0, 3);
    const auto its = *rc::gen::inRange<uint64_t>(1, 3);
    for (uint64_t i = 0; i < its; ++i) {
      const auto used = *rc::gen::inRange<uint64_t>(0, 4);
      PoolFacts facts = pool(++number, node, 100 * kGiB, used * 120 * kGiB, *rc::gen::inRange<uint32_t>(1, 4));
      facts.node_online = *rc::gen::inRange(0, 6) != 0;
      w.pools.push_back(in(facts, zone == 0 ? "" : fmt::format("z{}", zone), rack == 0 ? "" : fmt::format("r{}", rack)));
    }
  }
  w.request = asking(10 * kGiB, *rc::gen::inRange<uint32_t>(1, 4));
  return w;
}

bool fits(const World& w, const PoolFacts& facts) {
  const PlacementLimits limits;
  return facts.node_online && check_room(facts.pool, w.request.size_bytes, limits).ok();
}

// The best spread of any choice of nodes that fit, by trying all.
SpreadScore best_spread(const World& w) {
  std::map<NodeId, FailureDomain> nodes;
  for (const PoolFacts& facts : w.pools) {
    if (fits(w, facts)) nodes[facts.pool.node] = facts.domain;
  }
  const std::vector<std::pair<NodeId, FailureDomain>> all(nodes.begin(), nodes.end());
  SpreadScore best = {INT64_MIN, 0, 0};
  for (uint32_t mask = 0; mask < 1u << all.size(); ++mask) {
    std::vector<Seat> seats;
    for (size_t i = 0; i < all.size(); ++i) {
      if ((mask >> i & 1) != 0) seats.emplace_back(all[i].first, all[i].second);
    }
    if (seats.size() == w.request.replicas) best = std::max(best, spread_of(seats));
  }
  return best;
}

TEST(SpreadProperties, NeverTwoOnOneNodeAlwaysTheBestSpreadInAnyOrder) {
  EXPECT_TRUE(rc::check([] {
    World w = a_world();
    const PlacementLimits limits;
    const Result<std::vector<PoolInfo>> placed = place_volume(w.request, w.pools, limits);
    std::set<NodeId> possible;
    for (const PoolFacts& facts : w.pools) {
      if (fits(w, facts)) possible.insert(facts.pool.node);
    }
    RC_ASSERT(placed.ok() == (possible.size() >= w.request.replicas));
    if (!placed.ok()) return;
    std::set<NodeId> nodes;
    std::vector<Seat> seats;
    for (const PoolInfo& chosen : *placed) {
      nodes.insert(chosen.node);
      for (const PoolFacts& facts : w.pools) {
        if (facts.pool.id != chosen.id) continue;
        RC_ASSERT(fits(w, facts));
        seats.emplace_back(chosen.node, facts.domain);
      }
    }
    RC_ASSERT(nodes.size() == w.request.replicas);
    RC_ASSERT(spread_of(seats) == best_spread(w));
    std::rotate(w.pools.begin(), w.pools.begin() + *rc::gen::inRange<long>(0, static_cast<long>(w.pools.size())), w.pools.end());
    const Result<std::vector<PoolInfo>> again = place_volume(w.request, w.pools, limits);
    RC_ASSERT(again.ok());
    for (size_t i = 0; i < placed->size(); ++i) RC_ASSERT((*again)[i].id == (*placed)[i].id);
    // Who stands as well as can be is left alone.
    DomainKinds kinds;
    for (const PoolFacts& facts : w.pools) kinds.add(facts.domain);
    RC_ASSERT(!misplaced(seats, w.request, w.pools, kinds, limits, NodeId()).has_value());
  }));
}

// Moved one by one, replicas come to rest, each move for the better.
TEST(SpreadProperties, MovesEnd) {
  EXPECT_TRUE(rc::check([] {
    World w = a_world();
    const PlacementLimits limits;
    DomainKinds kinds;
    std::map<NodeId, FailureDomain> nodes;
    for (const PoolFacts& facts : w.pools) {
      kinds.add(facts.domain);
      nodes[facts.pool.node] = facts.domain;
    }
    RC_PRE(nodes.size() >= w.request.replicas);
    std::vector<Seat> seats;
    for (const auto& [node, domain] : nodes) {
      if (seats.size() < w.request.replicas) seats.emplace_back(node, domain);
    }
    for (int moves = 0; moves < 20; ++moves) {
      const std::optional<size_t> goes = misplaced(seats, w.request, w.pools, kinds, limits, NodeId());
      if (!goes) return;
      PlacementRequest one = w.request;
      one.replicas = 1;
      for (const Seat& seat : seats) one.without.push_back(seat.node);
      const SpreadScore before = spread_of(seats);
      seats.erase(seats.begin() + static_cast<long>(*goes));
      one.beside = seats;
      const Result<std::vector<PoolInfo>> found = place_volume(one, w.pools, limits);
      RC_ASSERT(found.ok());
      seats.emplace_back(found->front().node, nodes[found->front().node]);
      RC_ASSERT(spread_of(seats) > before);
    }
    RC_FAIL("moved without end");
  }));
}

}  // namespace
}  // namespace hf::cluster
