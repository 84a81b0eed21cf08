// Loop, clocks, processes, commands, fault points, and the seed runner.
#include <gtest/gtest.h>

#include <csignal>
#include <set>
#include <vector>

#include "sim/disk_bench.h"
#include "sim/seed_runner.h"

namespace hf::sim {
namespace {

// --- loop
// ------------------------------------------------------------------------------------------------

Task<void> note_after(Clock& clock, MonoTime at, int number, std::vector<int>* order) {
  Status slept = co_await clock.sleep_until(at, CancelToken());
  EXPECT_TRUE(slept.ok());
  EXPECT_GE(clock.now(), at);
  order->push_back(number);
}

Task<void> same_instant(World& world, std::vector<int>* order) {
  Gate gate;
  const MonoTime at = world.clock.now() + 1s;
  for (int i = 0; i < 5; ++i) spawn(gate, note_after(world.clock, at, i, order));
  co_await gate.close();
}

TEST(SimLoop, EventsOfOneInstantComeInAnyOrder) {
  std::set<std::vector<int>> orders;
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    Simulation sim(seed);
    std::vector<int> order;
    sim.run(same_instant(sim.driver(), &order));
    orders.insert(order);
  }
  EXPECT_GT(orders.size(), 25u);
}

TEST(SimLoop, TiesAreBrokenByTheSeedNotByTheOrderOfScheduling) {
  std::set<std::vector<int>> orders;
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    SimLoop loop(seed);
    std::vector<int> order;
    for (int i = 0; i < 3; ++i) loop.after(1ms, [&order, i] { order.push_back(i); });
    loop.run_for(1s);
    EXPECT_EQ(order.size(), 3u);
    EXPECT_EQ(loop.now(), 1'000'000'000);
    orders.insert(order);
  }
  EXPECT_EQ(orders.size(), 6u);
}

Task<void> spin_until(SimLoop& loop, SimTime at) {
  while (loop.now() < at) co_await yield();
}

TEST(SimLoop, SpinningCostsTime) {
  SimLoop loop(1);
  loop.run(spin_until(loop, 1'000'000));
  EXPECT_GE(loop.now(), 1'000'000);
}

Task<void> forever() {
  while (true) co_await yield();
}

Task<void> never(Event& event) {
  co_await event.wait();
}

TEST(SimLoopDeathTest, WhatCannotEndStopsLoudlyWithTheSeed) {
  EXPECT_DEATH(
      {
        SimLoop loop(4711);
        loop.set_step_limit(1000);
        loop.run(forever());
      },
      "seed 4711: 1001 steps and no end");
  EXPECT_DEATH(
      {
        SimLoop loop(4712);
        Event event;
        loop.run(never(event));
      },
      "seed 4712: nothing is left to happen");
}

// --- clock
// -----------------------------------------------------------------------------------------------

Task<void> clocks(Simulation& sim, SimHost& host, World& world) {
  SimLoop& loop = sim.loop();
  const MonoTime mono = world.clock.now();
  const WallTime wall = world.clock.wall();
  host.clock().set_drift_ppm(loop.now(), 100'000);  // a tenth too fast
  const SimTime before = loop.now();
  Status slept = co_await world.clock.sleep_for(11s, CancelToken());
  EXPECT_TRUE(slept.ok());
  const SimTime took = loop.now() - before;
  EXPECT_GE(took, 9'999'000'000);
  EXPECT_LE(took, 10'001'000'000);
  EXPECT_GE(world.clock.now() - mono, Duration(11s));
  host.clock().jump_wall(-60min);
  EXPECT_LT(world.clock.wall(), wall);
  EXPECT_GE(world.clock.now(), mono);
  // A far timer does not overflow, and ends when cancelled.
  CancelSource source;
  loop.after(1s, [&source] { source.cancel(); });
  const MonoTime never_comes{INT64_MAX - 1};
  slept = co_await world.clock.sleep_until(never_comes, source);
  EXPECT_EQ(slept.code(), ErrorCode::kCancelled);
  slept = co_await world.clock.sleep_for(1s, source);
  EXPECT_EQ(slept.code(), ErrorCode::kCancelled) << "already cancelled";
}

TEST(SimClock, DriftsJumpsAndCancels) {
  Simulation sim(1);
  SimHost& host = sim.add_host("a");
  SimProcess process(host);
  sim.run(clocks(sim, host, process.world()));
}

TEST(SimClock, ARebootStartsMonotonicTimeAnewAndKeepsWallTime) {
  Simulation sim(1);
  SimHost& host = sim.add_host("a");
  SimProcess process(host);
  sim.loop().run_for(10s);
  const int64_t mono = process.world().clock.now().ns;
  const int64_t wall = process.world().clock.wall().ns;
  host.power_loss();
  sim.loop().run_for(1s);
  host.power_on();
  process.restart();
  EXPECT_NE(process.world().clock.now().ns, mono + 1'000'000'000);
  EXPECT_EQ(process.world().clock.wall().ns, wall + 1'000'000'000);
}

// --- processes
// -------------------------------------------------------------------------------------------

Task<void> tick(World& world, int* ticks) {
  while (true) {
    Status slept = co_await world.clock.sleep_for(10ms, CancelToken());
    if (!slept.ok()) co_return;
    ++*ticks;
  }
}

TEST(SimProcess, PauseHoldsBackAndKillEndsSleeps) {
  Simulation sim(1);
  SimHost& host = sim.add_host("a");
  SimProcess process(host);
  Gate gate;
  int ticks = 0;
  spawn(gate, tick(process.world(), &ticks));
  sim.loop().run_for(1s);
  EXPECT_GT(ticks, 90);
  const int before = ticks;
  process.pause();
  sim.loop().run_for(10s);
  EXPECT_EQ(ticks, before);
  process.proceed();
  sim.loop().run_for(1s);
  EXPECT_GT(ticks, before + 90);
  process.pause();
  sim.loop().run_for(1s);
  process.kill();  // a stopped process can be killed
  sim.loop().run_until([&gate] { return gate.inside() == 0; });
  EXPECT_FALSE(process.is_alive());
}

Task<void> commands_and_calls(SimHost& host, World& world) {
  std::vector<std::string> argv{"/sbin/mkfs.ext4", "/dev/x"};
  Result<CommandResult> ran = co_await world.process.run(argv, 1s);
  EXPECT_EQ(ran.code(), ErrorCode::kMissingFeature);
  std::vector<std::string> seen;
  host.commands()["mkfs.ext4"] = [&seen](const std::vector<std::string>& args) {
    seen = args;
    ScriptedCommand command;
    command.result.exit_status = 3;
    command.result.output = "no";
    command.takes = 100ms;
    return command;
  };
  ran = co_await world.process.run(argv, 1s);
  HF_CO_ASSERT_OK(ran);
  EXPECT_EQ(ran->exit_status, 3);
  EXPECT_EQ(ran->output, "no");
  EXPECT_EQ(seen, argv);
  ran = co_await world.process.run(argv, 10ms);
  EXPECT_EQ(ran.code(), ErrorCode::kTimeout);
  std::function<int()> work = [] { return 42; };
  int answer = co_await run_blocking<int>(world.blocking, std::move(work));
  EXPECT_EQ(answer, 42);
}

TEST(SimProcess, CommandsAreScriptedAndBlockingCallsRunInline) {
  Simulation sim(1);
  SimHost& host = sim.add_host("a");
  SimProcess process(host);
  sim.run(commands_and_calls(host, process.world()));
}

Task<void> blocking_in_death(SimProcess& process, int* answer) {
  std::function<int()> work = [] { return 7; };
  *answer = co_await run_blocking<int>(process.world().blocking, std::move(work));
}

TEST(SimProcess, ABlockingCallOfADyingProcessEnds) {
  Simulation sim(1);
  SimHost& host = sim.add_host("a");
  SimProcess process(host);
  Gate gate;
  int answer = 0;
  spawn(gate, blocking_in_death(process, &answer));
  process.kill();
  sim.loop().run_until([&gate] { return gate.inside() == 0; });
  EXPECT_EQ(answer, 7);
}

TEST(SimProcess, TwoProcessesOfAHostShareFilesAndLocksAndDieTogetherAtPowerLoss) {
  DiskBench bench(1);
  SimProcess second(bench.host);
  struct Steps {
    static Task<void> run(DiskBench& bench, SimProcess& second) {
      Result<std::unique_ptr<File>> mine = co_await make_file(bench, "/f", 1, 'a');
      HF_CO_ASSERT_OK(mine);
      OpenOptions options;
      options.write = true;
      Result<std::unique_ptr<File>> theirs = co_await second.world().fs.open("/f", options);
      HF_CO_ASSERT_OK(theirs);
      EXPECT_TRUE((*mine)->try_lock().ok());
      EXPECT_EQ((*theirs)->try_lock().code(), ErrorCode::kLocked);
      bench.process.kill();
      EXPECT_TRUE((*theirs)->try_lock().ok());
      bench.host.power_loss();
    }
  };
  bench.sim.run(Steps::run(bench, second));
  EXPECT_FALSE(second.is_alive());
}

// --- random, fault points, seeds
// -------------------------------------------------------------------------

TEST(SimRandom, DependsOnSeedAndIncarnation) {
  std::set<uint64_t> words;
  for (uint64_t seed = 1; seed <= 2; ++seed) {
    Simulation sim(seed);
    SimHost& host = sim.add_host("a");
    SimProcess process(host);
    words.insert(process.world().random.next());
    process.kill();
    process.restart();
    words.insert(process.world().random.next());
  }
  EXPECT_EQ(words.size(), 4u);
}

TEST(SimFaultPlan, SitesAreOnInSomeSeedsAndFireSometimes) {
  EXPECT_FALSE(HF_FAULT_POINT("outside.of.simulation"));
  int on = 0;
  for (uint64_t seed = 0; seed < 400; ++seed) {
    SimFaultPlan plan(seed);
    int fired = 0;
    for (int i = 0; i < 100; ++i) fired += HF_FAULT_POINT("test.point");
    EXPECT_LT(fired, 60);
    EXPECT_EQ(plan.fired("test.point"), static_cast<uint64_t>(fired));
    on += fired > 0;
  }
  EXPECT_GT(on, 60);
  EXPECT_LT(on, 140);
  SimFaultPlan plan(1);
  plan.force("test.point", true);
  EXPECT_TRUE(HF_FAULT_POINT("test.point"));
  plan.force("test.point", false);
  EXPECT_FALSE(HF_FAULT_POINT("test.point"));
}

TEST(SimFaultPlan, ProbesAreCountedAndRequired) {
  ProbeCounts total;
  {
    SimFaultPlan plan(1);
    HF_PROBE("test.rare");
    HF_PROBE("test.rare");
    plan.add_to(&total);
  }
  HF_PROBE("test.rare");
  EXPECT_EQ(total["test.rare"], 2u);
  EXPECT_EQ(require_probes(total, {"test.rare"}, 2), "");
  const std::string missing = require_probes(total, {"test.rare", "test.never"}, 3);
  EXPECT_NE(missing.find("test.rare (2)"), std::string::npos) << missing;
  EXPECT_NE(missing.find("test.never (0)"), std::string::npos) << missing;
}

SeedOptions quiet(uint64_t count) {
  SeedOptions options;
  options.count = count;
  options.print = false;
  return options;
}

TEST(SeedRunner, RunsAllSeedsOnceAndSumsProbes) {
  const SeedReport report = run_seeds("x", quiet(50), [](uint64_t seed, ProbeCounts* probes) {
    ++(*probes)["all"];
    (*probes)["sum"] += seed;
    return Status();
  });
  EXPECT_TRUE(report.ok()) << report.text();
  EXPECT_EQ(report.seeds_run, 50u);
  EXPECT_EQ(report.probes.at("all"), 50u);
  EXPECT_EQ(report.probes.at("sum"), 50u * 51 / 2);
}

TEST(SeedRunner, ReportsTheSeedThatFailedAndHowToRepeatIt) {
  const SeedReport report = run_seeds("A.B", quiet(1000), [](uint64_t seed, ProbeCounts*) {
    return seed == 77 ? Status(make_error(ErrorCode::kIo, "two\nlines")) : Status();
  });
  EXPECT_FALSE(report.ok());
  EXPECT_EQ(report.failed_seed, 77u);
  EXPECT_NE(report.failure.find("two\nlines"), std::string::npos) << report.failure;
  EXPECT_NE(report.repeat.find("--gtest_filter=A.B --seed 77"), std::string::npos) << report.repeat;
}

// With one worker, since another may run all seeds that are left before it sees the stop.
TEST(SeedRunner, StopsAtTheSeedThatFailed) {
  SeedOptions options = quiet(1000);
  options.jobs = 1;
  const SeedReport report = run_seeds("A.B", options, [](uint64_t seed, ProbeCounts*) {
    return seed == 77 ? Status(make_error(ErrorCode::kIo, "failed")) : Status();
  });
  EXPECT_EQ(report.failed_seed, 77u);
  EXPECT_EQ(report.seeds_run, 77u);
}

TEST(SeedRunner, ADeadWorkerIsAFailedSeed) {
  const SeedReport report = run_seeds("A.B", quiet(100), [](uint64_t seed, ProbeCounts*) {
    if (seed == 13) std::raise(SIGKILL);
    return Status();
  });
  EXPECT_FALSE(report.ok());
  EXPECT_EQ(report.failed_seed, 13u);
  EXPECT_NE(report.failure.find("signal 9"), std::string::npos) << report.failure;
}

}  // namespace
}  // namespace hf::sim
