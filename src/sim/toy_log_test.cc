// The correct toy log survives every seed; each of its classic bugs is caught.
#include <gtest/gtest.h>
#include <unistd.h>

#include <optional>
#include <vector>

#include "sim/seed_runner.h"
#include "sim/simulation.h"
#include "sim/toy_log.h"

namespace hf::sim {
namespace {

struct ToyResult {
  Status status;
  uint64_t hash = 0;
  uint64_t steps = 0;
};

// What each key may hold: the last acknowledged value, or one whose put has not been answered
// since.
class ToyOracle {
 public:
  void begin(uint64_t key, const std::string& value) { keys_[key].maybe.push_back(value); }
  void acknowledged(uint64_t key, const std::string& value) {
    keys_[key].sure = value;
    keys_[key].maybe.clear();
  }
  // Compares with what recovery found, which then is what is sure.
  Status check(const std::map<uint64_t, std::string>& pairs) {
    for (auto& [key, may] : keys_) {
      auto it = pairs.find(key);
      std::optional<std::string> found;
      if (it != pairs.end()) found = it->second;
      bool fine = found == may.sure;
      for (const std::string& value : may.maybe) fine = fine || found == value;
      if (!fine) {
        return make_error(ErrorCode::kCorruption, "key {}: {} instead of {} or one of {} others",
                          key, brief(found), brief(may.sure), may.maybe.size());
      }
      may.sure = found;
      may.maybe.clear();
    }
    for (const auto& [key, value] : pairs) {
      if (!keys_.contains(key)) return make_error(ErrorCode::kCorruption, "key {} of nobody", key);
    }
    return Status();
  }

 private:
  struct May {
    std::optional<std::string> sure;
    std::vector<std::string> maybe;
  };
  static std::string brief(const std::optional<std::string>& value) {
    return value ? fmt::format("\"{}…\" ({} bytes)", value->substr(0, 12), value->size())
                 : "nothing";
  }
  std::map<uint64_t, May> keys_;
};

class ToyWorkload {
 public:
  ToyWorkload(uint64_t seed, ToyBug bug, DiskFaults faults)
      : sim_(seed), bug_(bug), host_(sim_.add_host("a")) {
    DiskConfig config;
    config.faults = std::move(faults);
    host_.add_disk("/", config);
    process_ = std::make_unique<SimProcess>(host_);
  }
  ToyResult run() {
    sim_.run(rounds());
    return ToyResult{status_, sim_.history().hash(), sim_.loop().steps()};
  }

 private:
  static constexpr int kWriters = 3;
  static constexpr int kKeysPerWriter = 4;

  Task<void> rounds() {
    const uint64_t count = sim_.prng().between(2, 5);
    for (uint64_t round = 0; round < count && status_.ok(); ++round) co_await one_round();
    host_.disk("/").faults() = DiskFaults();
    if (!status_.ok()) co_return;
    ToyLog log(process_->world(), "/db", bug_);
    Status opened = co_await log.open();
    status_ = opened.ok() ? oracle_.check(log.pairs()) : opened;
    co_await log.stop();
  }
  Task<void> one_round() {
    ToyLog log(process_->world(), "/db", bug_);
    Status opened = co_await log.open();
    if (opened.code() ==
        ErrorCode::kIo) {  // told of an injected error: a restart later is all there is
      co_await log.stop();
      co_await end_of_life();
      co_return;
    }
    status_ = opened.ok() ? oracle_.check(log.pairs()) : opened;
    Gate gate;
    if (status_.ok()) {
      for (int w = 0; w < kWriters; ++w) spawn(gate, write(log, w));
      spawn(gate, checkpoints(log));
      const auto life = static_cast<int64_t>(sim_.prng().below(20'000'000));
      Status slept = co_await sim_.driver().clock.sleep_for(Duration(life), CancelToken());
      HF_ASSERT(slept.ok());
      crash();
    }
    co_await gate.close();
    co_await log.stop();
    co_await end_of_life();
  }
  void crash() {
    if (sim_.prng().chance(1, 4)) {
      process_->kill();
    } else {
      host_.power_loss();
    }
  }
  Task<void> end_of_life() {
    if (process_->is_alive()) crash();
    if (!host_.is_up()) host_.power_on();
    process_->restart();
    co_return;
  }
  Task<void> write(ToyLog& log, int writer) {
    for (int i = 0; i < 1000; ++i) {
      const uint64_t key = static_cast<uint64_t>(writer) * kKeysPerWriter + sim_.prng().below(4);
      const size_t length = sim_.prng().between(12, 2500);
      std::string value = fmt::format("v{}:", ++values_);
      while (value.size() < length) value.push_back(static_cast<char>('a' + value.size() % 26));
      oracle_.begin(key, value);
      Status put = co_await log.put(key, value);
      if (!put.ok()) co_return;
      // An answer counts also when it meets a client that sees it after the crash.
      oracle_.acknowledged(key, value);
    }
  }
  Task<void> checkpoints(ToyLog& log) {
    for (int i = 0; i < 3; ++i) {
      const auto pause = static_cast<int64_t>(sim_.prng().below(8'000'000));
      Status slept = co_await process_->world().clock.sleep_for(Duration(pause), CancelToken());
      if (!slept.ok()) co_return;
      Status done = co_await log.checkpoint();
      if (!done.ok()) co_return;
    }
  }

  Simulation sim_;
  const ToyBug bug_;
  SimHost& host_;
  std::unique_ptr<SimProcess> process_;
  ToyOracle oracle_;
  Status status_;
  uint64_t values_ = 0;
};

ToyResult run_toy(uint64_t seed, ToyBug bug, DiskFaults faults) {
  ToyWorkload workload(seed, bug, std::move(faults));
  return workload.run();
}

DiskFaults told_faults() {
  DiskFaults faults;
  faults.write_error_ppm = faults.sync_error_ppm = 5000;
  return faults;
}

TEST(ToyLog, TheCorrectOneSurvivesEverySeed) {
  const SeedReport report =
      run_seeds("ToyLog.TheCorrectOneSurvivesEverySeed", SeedOptions::from_command_line(1000),
                [](uint64_t seed, ProbeCounts*) {
                  const bool faulty = seed % 2 == 0;
                  return run_toy(seed, ToyBug::kNone, faulty ? told_faults() : DiskFaults()).status;
                });
  EXPECT_TRUE(report.ok()) << report.text();
  RecordProperty("seconds", std::to_string(report.seconds));
}

class ToyMutants : public ::testing::TestWithParam<std::pair<const char*, ToyBug>> {};

TEST_P(ToyMutants, AreCaughtWithinAThousandSeeds) {
  SeedOptions options;
  options.count = 1000;
  options.print = false;
  const ToyBug bug = GetParam().second;
  const SeedReport report = run_seeds("mutant", options, [bug](uint64_t seed, ProbeCounts*) {
    const bool faulty = bug == ToyBug::kRetriesSync;
    return run_toy(seed, bug, faulty ? told_faults() : DiskFaults()).status;
  });
  EXPECT_FALSE(report.ok()) << "the bug was not found";
  if (report.failed)
    std::printf("caught by seed %lu: %s\n", report.failed_seed, report.failure.c_str());
}

INSTANTIATE_TEST_SUITE_P(Toy, ToyMutants,
                         ::testing::Values(std::pair{"NoSync", ToyBug::kNoSync},
                                           std::pair{"AckBeforeDurable", ToyBug::kAckBeforeDurable},
                                           std::pair{"NoChecksum", ToyBug::kNoChecksum},
                                           std::pair{"NoDirSync", ToyBug::kNoDirSync},
                                           std::pair{"ParallelAppends", ToyBug::kParallelAppends},
                                           std::pair{"InPlaceCheckpoint",
                                                     ToyBug::kInPlaceCheckpoint},
                                           std::pair{"RetriesSync", ToyBug::kRetriesSync}),
                         [](const auto& info) { return std::string(info.param.first); });

TEST(Determinism, TheSameSeedGivesTheSameHistoryTwice) {
  std::vector<uint64_t> hashes;
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    const ToyResult first = run_toy(seed, ToyBug::kNone, DiskFaults::all(2000));
    // Something else in between, so that the heap looks different.
    (void)run_toy(seed + 1000, ToyBug::kNone, DiskFaults());
    const ToyResult second = run_toy(seed, ToyBug::kNone, DiskFaults::all(2000));
    EXPECT_EQ(first.hash, second.hash) << "seed " << seed;
    EXPECT_EQ(first.steps, second.steps) << "seed " << seed;
    for (const uint64_t other : hashes) EXPECT_NE(first.hash, other) << "seeds differ in nothing";
    hashes.push_back(first.hash);
  }
}

uint64_t hash_of_twenty() {
  uint64_t hash = 0;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    hash = hash * 31 + run_toy(seed, ToyBug::kNone, DiskFaults::all(2000)).hash;
  }
  return hash;
}

// Run by the next test in a process of its own.
TEST(Determinism, DISABLED_PrintHash) {
  std::printf("HASH=%lu\n", hash_of_twenty());
}

TEST(Determinism, AnotherProcessGetsTheSameHistory) {
  char self[4096];
  const ssize_t length = ::readlink("/proc/self/exe", self, sizeof self - 1);
  ASSERT_GT(length, 0);
  const std::string command = std::string(self, static_cast<size_t>(length)) +
                              " --gtest_also_run_disabled_tests "
                              "--gtest_filter=Determinism.DISABLED_PrintHash";
  FILE* child = ::popen(command.c_str(), "r");
  ASSERT_NE(child, nullptr);
  std::string output;
  char buffer[512];
  while (std::fgets(buffer, sizeof buffer, child) != nullptr) output += buffer;
  ASSERT_EQ(::pclose(child), 0) << output;
  EXPECT_NE(output.find(fmt::format("HASH={}\n", hash_of_twenty())), std::string::npos) << output;
}

}  // namespace
}  // namespace hf::sim
