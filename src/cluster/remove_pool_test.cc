// Pools that leave the cluster: what is refused, what is lost, and who comes in between.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/log.h"
#include "cluster/testing/sim_rig.h"
#include "runtime/gate.h"
#include "sim/seed_runner.h"
#include "volume/spec/inline_parser.h"

namespace hf::cluster {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class PoolRemovalTest : public ::testing::Test {
 protected:
  PoolRemovalTest() : rig_(5) { set_log_level(LogLevel::kOff); }
  ~PoolRemovalTest() override { set_log_level(LogLevel::kInfo); }

  // With the pools /p1 and, of class high, /p2.
  Task<void> up(int pools) {
    Status started = co_await rig_.start();
    EXPECT_TRUE(started.ok());
    for (int i = 1; i <= pools; ++i) {
      AddPool pool;
      pool.path = fmt::format("/p{}", i);
      pool.io_class = i == 1 ? 1 : 3;
      Result<PoolInfo> added = co_await rig_.control().add_pool(pool);
      EXPECT_TRUE(added.ok());
      if (added.ok()) ids_.push_back(added->id);
    }
  }
  Task<Result<VolumeInfo>> make(std::string text) {
    CreateVolume request;
    request.spec = spec::parse_volume_name(text)->spec;
    request.name = request.spec.name;
    co_return co_await rig_.control().create_volume(request);
  }
  Task<Result<PoolRemoval>> remove(std::string pool, bool force = false) {
    RemovePool request;
    request.pool = std::move(pool);
    request.force = force;
    co_return co_await rig_.control().remove_pool(request);
  }
  // The daemon comes up, and the second pool's disk is gone.
  Task<void> lose_second() {
    co_await rig_.crash();
    rig_.node().pools.erase(ids_.at(1));
    Status started = co_await rig_.start();
    EXPECT_TRUE(started.ok());
  }

  Task<void> empty_pool() {
    co_await up(2);
    Result<VolumeInfo> made = co_await make("name=v,size=1G");
    EXPECT_TRUE(made.ok());
    Result<PoolRemoval> removed = co_await remove("/p2");
    EXPECT_TRUE(removed.ok()) << removed.error().to_string();
    if (!removed.ok()) co_return;
    EXPECT_TRUE(removed->removed);
    EXPECT_EQ(removed->pool.path, "/p2");
    EXPECT_THAT(removed->lost, IsEmpty());
    EXPECT_TRUE(rig_.node().pools.contains(ids_[1])) << "what was in it is gone";
    EXPECT_THAT(rig_.node().pools.at(ids_[1]).opened_by, IsEmpty()) << "it is still open";
    Result<PoolRemoval> again = co_await remove("/p2");
    EXPECT_EQ(again.code(), ErrorCode::kNotFound);
    RemovePool lenient;
    lenient.pool = "/p2";
    lenient.missing_ok = true;
    again = co_await rig_.control().remove_pool(lenient);
    EXPECT_TRUE(again.ok() && !again->removed);
    Result<std::vector<PoolInfo>> left = co_await rig_.control().list_pools();
    EXPECT_TRUE(left.ok() && left->size() == 1);
    Result<ClusterStatus> status = co_await rig_.control().status();
    EXPECT_TRUE(status.ok() && status->healthy);
  }

  Task<void> pool_in_use() {
    co_await up(1);
    Result<VolumeInfo> made = co_await make("name=v,size=1G");
    EXPECT_TRUE(made.ok());
    for (const bool force : {false, true}) {
      Result<PoolRemoval> refused = co_await remove("/p1", force);
      EXPECT_EQ(refused.code(), ErrorCode::kInUse);
      if (refused.ok()) co_return;
      EXPECT_THAT(refused.error().message(), HasSubstr("volume v"));
      EXPECT_THAT(refused.error().message(), HasSubstr("holdfast volume delete"));
    }
    rig_.node().pools.at(ids_[0]).replicas[ReplicaId::from_random(1, 2)];
    DeleteVolume request;
    request.name = "v";
    Status gone = co_await rig_.control().delete_volume(request);
    EXPECT_TRUE(gone.ok());
    Result<PoolRemoval> stray = co_await remove("/p1");
    EXPECT_EQ(stray.code(), ErrorCode::kNotEmpty);
    stray = co_await remove("/p1", true);
    EXPECT_TRUE(stray.ok() && stray->removed);
    EXPECT_EQ(rig_.node().pools.at(ids_[0]).replicas.size(), 1u) << "the stray is somebody's data";
  }

  Task<void> dead_pool() {
    co_await up(2);
    Result<VolumeInfo> made = co_await make("name=v,size=1G");
    EXPECT_TRUE(made.ok());
    made = co_await make("name=g,size=1G,io_priority=high");
    EXPECT_TRUE(made.ok() && made->replicas.at(0).pool == ids_.at(1));
    co_await lose_second();
    Result<PoolRemoval> refused = co_await remove("/p2");
    EXPECT_EQ(refused.code(), ErrorCode::kFailedPrecondition);
    if (refused.ok()) co_return;
    EXPECT_THAT(refused.error().message(), HasSubstr("for good volume g"));
    EXPECT_THAT(refused.error().message(), HasSubstr("holdfast pool remove /p2 --force"));
    RemovePool look;
    look.pool = "/p2";
    look.force = look.only_look = true;
    Result<PoolRemoval> seen = co_await rig_.control().remove_pool(look);
    EXPECT_TRUE(seen.ok() && !seen->removed);
    if (seen.ok()) {
      EXPECT_THAT(seen->lost, ElementsAre("g"));
    }
    Result<PoolInfo> still = co_await rig_.control().inspect_pool("/p2");
    EXPECT_TRUE(still.ok()) << "it was only looked at";
    Result<PoolRemoval> removed = co_await remove("/p2", true);
    EXPECT_TRUE(removed.ok() && removed->removed);
    if (removed.ok()) {
      EXPECT_THAT(removed->lost, ElementsAre("g"));
    }
    // At once, and after a restart too.
    for (int times = 0; times < 2; ++times) {
      Result<VolumeInfo> g = co_await rig_.control().inspect_volume("g");
      EXPECT_TRUE(g.ok() && g->state == VolumeState::kLost);
      if (g.ok()) {
        EXPECT_THAT(g->message, HasSubstr("was removed"));
      }
      AttachVolume attach;
      attach.name = "g";
      Result<VolumeInfo> attached = co_await rig_.control().attach_volume(attach);
      EXPECT_EQ(attached.code(), ErrorCode::kFailedPrecondition);
      co_await rig_.crash();
      Status started = co_await rig_.start();
      EXPECT_TRUE(started.ok());
    }
    DeleteVolume request;
    request.name = "g";
    Status gone = co_await rig_.control().delete_volume(request);
    EXPECT_TRUE(gone.ok());
    Result<ClusterStatus> status = co_await rig_.control().status();
    EXPECT_TRUE(status.ok() && status->healthy) << (status.ok() ? status->problems.at(0) : "");
    Result<VolumeInfo> v = co_await rig_.control().inspect_volume("v");
    EXPECT_TRUE(v.ok() && v->state == VolumeState::kDetached);
  }

  SimRig rig_;
  std::vector<PoolId> ids_;
};

TEST_F(PoolRemovalTest, AnEmptyOneIsClosedAndItsRecordGoes) {
  rig_.loop().run(empty_pool());
}
TEST_F(PoolRemovalTest, OneThatHoldsReplicasIsRefused) {
  rig_.loop().run(pool_in_use());
}
TEST_F(PoolRemovalTest, OneThatIsGoneTakesItsVolumesAlong) {
  rig_.loop().run(dead_pool());
}

// A volume is created at the same time. It has its replica in a pool that is there, or it is not
// made.
class Race {
 public:
  explicit Race(uint64_t seed) : rig_(seed), moment_(rig_.prng().below(30'000'000)) {}
  Task<void> run() {
    Status started = co_await rig_.start();
    AddPool pool;
    pool.path = "/p";
    Result<PoolInfo> added = co_await rig_.control().add_pool(pool);
    if (!started.ok() || !added.ok()) wrong_ = "no pool";
    Gate gate;
    (void)spawn(gate, create());
    (void)spawn(gate, remove());
    co_await gate.close();
    Result<std::vector<PoolInfo>> pools = co_await rig_.control().list_pools();
    Result<std::vector<VolumeInfo>> volumes = co_await rig_.control().list_volumes();
    if (!pools.ok() || !volumes.ok()) {
      wrong_ = "nothing can be listed";
    } else if (made == removed) {
      wrong_ = made ? "both were done" : "neither was done";
    } else if (pools->size() != (removed ? 0 : 1) || volumes->size() != (made ? 1 : 0)) {
      wrong_ = fmt::format("{} pools and {} volumes", pools->size(), volumes->size());
    } else if (made && volumes->at(0).replicas.at(0).state != ReplicaState::kOnline) {
      wrong_ = "the volume cannot be reached";
    }
  }
  Status verdict() {
    rig_.loop().run(run());
    for (const std::string& what : rig_.node().violations) wrong_ += "; " + what;
    return wrong_.empty() ? Status() : Status(Error(ErrorCode::kInternal, wrong_));
  }
  bool made = false, removed = false;

 private:
  Task<void> create() {
    CreateVolume request;
    request.name = "v";
    request.spec = spec::parse_volume_name("name=v,size=64M")->spec;
    Result<VolumeInfo> done = co_await rig_.control().create_volume(request);
    made = done.ok();
  }
  Task<void> remove() {
    co_await rig_.sleep(Duration(static_cast<int64_t>(moment_)));
    RemovePool request;
    request.pool = "/p";
    Result<PoolRemoval> done = co_await rig_.control().remove_pool(request);
    removed = done.ok();
  }
  SimRig rig_;
  uint64_t moment_;
  std::string wrong_;
};

TEST(PoolRemovalSeeds, AVolumeThatIsMadeMeanwhile) {
  set_log_level(LogLevel::kOff);
  const sim::SeedReport report = sim::run_seeds("PoolRemovalSeeds.AVolumeThatIsMadeMeanwhile",
                                                sim::SeedOptions::from_command_line(400),
                                                [](uint64_t seed, sim::ProbeCounts* probes) {
                                                  sim::SimFaultPlan plan(seed);
                                                  Race race(seed);
                                                  Status verdict = race.verdict();
                                                  ++(*probes)[race.made ? "made" : "removed"];
                                                  plan.add_to(probes);
                                                  return verdict;
                                                });
  set_log_level(LogLevel::kInfo);
  ASSERT_TRUE(report.ok()) << report.text();
  EXPECT_EQ(sim::require_probes(report.probes, {"made", "removed"}, 1), "");
}

}  // namespace
}  // namespace hf::cluster
