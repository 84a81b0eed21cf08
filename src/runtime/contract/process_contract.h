// The contract of Process (runtime/process.h), for worlds with real programs. See world_factory.h.
#pragma once

#include <string>
#include <vector>

#include "runtime/contract/contract_support.h"
#include "runtime/contract/world_factory.h"
#include "runtime/file.h"
#include "runtime/process.h"

namespace hf::contract {

class ProcessContract : public WorldTest {
 protected:
  void SetUp() override {
    WorldTest::SetUp();
    if (!under_test().has_programs()) GTEST_SKIP() << "no programs in this world";
  }
};

struct Expected {
  Expected(ErrorCode c, int e, std::string o) : code(c), exit_status(e), output(std::move(o)) {}
  ErrorCode code;
  int exit_status;
  std::string output;
};

inline Task<void> run_and_expect(Process& process, std::vector<std::string> argv, Duration timeout,
                                 const Expected& expected) {
  Result<CommandResult> result = co_await process.run(std::move(argv), timeout);
  EXPECT_EQ(result.code(), expected.code);
  if (!result.ok()) co_return;
  EXPECT_EQ(result->exit_status, expected.exit_status);
  EXPECT_EQ(result->output, expected.output);
}

TEST_P(ProcessContract, OutputAndErrorsComeInterleaved) {
  const Expected expected(ErrorCode::kOk, 0, "a\nb\nc\n");
  run(run_and_expect(world().process, {"sh", "-c", "echo a; echo b >&2; echo c"}, 30s, expected));
}

TEST_P(ProcessContract, ArgumentsArePassedAsTheyAre) {
  const Expected expected(ErrorCode::kOk, 0, "a b|$HOME|;|\n|");
  run(run_and_expect(world().process, {"/usr/bin/printf", "%s|", "a b", "$HOME", ";", "\n"}, 30s,
                     expected));
}

TEST_P(ProcessContract, AFailureOfTheProgramIsNotAnError) {
  const Expected failed(ErrorCode::kOk, 7, "");
  run(run_and_expect(world().process, {"sh", "-c", "exit 7"}, 30s, failed));
  const Expected killed(ErrorCode::kOk, 128 + 9, "");
  run(run_and_expect(world().process, {"sh", "-c", "kill -9 $$"}, 30s, killed));
}

TEST_P(ProcessContract, AProgramThatIsNotInstalledIsAMissingFeature) {
  const Expected missing(ErrorCode::kMissingFeature, 0, "");
  run(run_and_expect(world().process, {"holdfast-no-such-program"}, 30s, missing));
  run(run_and_expect(world().process, {"/nonexistent/program"}, 30s, missing));
  const Expected relative(ErrorCode::kInvalidArgument, 0, "");
  run(run_and_expect(world().process, {"bin/sh"}, 30s, relative));
}

TEST_P(ProcessContract, InputIsEmptyAndTheEnvironmentMinimal) {
  const Expected nothing(ErrorCode::kOk, 0, "");
  run(run_and_expect(world().process, {"cat"}, 30s, nothing));
  const Expected environment(ErrorCode::kOk, 0, "PATH=/usr/sbin:/usr/bin:/sbin:/bin\nLC_ALL=C\n");
  run(run_and_expect(world().process, {"env"}, 30s, environment));
}

TEST_P(ProcessContract, NoDescriptorOfOursIsInherited) {
  // 0, 1, 2 and the directory that ls itself reads.
  const Expected expected(ErrorCode::kOk, 0, "0\n1\n2\n3\n");
  run(run_and_expect(world().process, {"ls", "/proc/self/fd"}, 30s, expected));
}

inline Task<void> expect_tail(Process& process) {
  std::vector<std::string> argv;
  argv.push_back("sh");
  argv.push_back("-c");
  argv.push_back("head -c 300000 /dev/zero | tr '\\0' x; echo end");
  Result<CommandResult> result = co_await process.run(std::move(argv), 30s);
  HF_CO_ASSERT_OK(result);
  EXPECT_EQ(result->output.size(), 64 * kKiB);
  EXPECT_TRUE(result->output.ends_with("xxxend\n"));
}
TEST_P(ProcessContract, OfLongOutputTheLast64KiBAreKept) {
  run(expect_tail(world().process));
}

inline Task<void> expect_timeout(World& world) {
  std::vector<std::string> argv;
  argv.push_back("sh");
  argv.push_back("-c");
  // A grandchild, in the background and deaf to polite signals, dies with the group.
  argv.push_back("trap '' TERM INT HUP; echo before; sleep 1000 & sleep 1000");
  // A machine under load may need longer than the shortest of these until the shell has spoken.
  std::string said;
  for (const Duration limit : {Duration(300ms), Duration(3s), Duration(30s)}) {
    std::vector<std::string> words = argv;
    const MonoTime begin = world.clock.now();
    Result<CommandResult> result = co_await world.process.run(std::move(words), limit);
    EXPECT_EQ(result.code(), ErrorCode::kTimeout);
    HF_CO_ASSERT(!result.ok());
    EXPECT_GE((world.clock.now() - begin).count(), limit.count());
    EXPECT_LT((world.clock.now() - begin).count(), Duration(300s).count())
        << "the grandchild's time";
    said = result.error().message();
    if (said.find("before") != std::string::npos) break;
  }
  EXPECT_NE(said.find("before"), std::string::npos) << said;
}
TEST_P(ProcessContract, WhatTakesTooLongIsKilled) {
  run(expect_timeout(world()));
}

inline Task<void> run_one_of_many(Process& process, int id, int* ok) {
  std::vector<std::string> argv;
  argv.push_back("echo");
  argv.push_back(std::to_string(id));
  Result<CommandResult> result = co_await process.run(std::move(argv), 60s);
  HF_CO_ASSERT_OK(result);
  if (result->output == std::to_string(id) + "\n") ++*ok;
}
inline Task<void> run_many(Process& process, int* ok) {
  Gate gate;
  for (int i = 0; i < 100; ++i) spawn(gate, run_one_of_many(process, i, ok));
  co_await gate.close();
}
TEST_P(ProcessContract, ManyAtOnceAreEachToldTheirOwn) {
  int ok = 0;
  run(run_many(world().process, &ok));
  EXPECT_EQ(ok, 100);
}

inline Task<void> start_and_end(World& world, std::string log) {
  std::vector<std::string> argv;
  argv.push_back("sh");
  argv.push_back("-c");
  argv.push_back("trap 'echo told; exit 3' TERM; echo started >&2; while :; do sleep 0.01; done");
  Result<std::unique_ptr<Child>> child = world.process.start(std::move(argv), log);
  HF_CO_ASSERT_OK(child);
  EXPECT_GT((*child)->pid(), 1);
  for (int i = 0; i < 9000; ++i) {
    Result<std::string> text = co_await world.fs.read_file(log, 4096);
    if (text.ok() && text->find("started") != std::string::npos) break;
    Status slept = co_await world.clock.sleep_for(10ms, CancelToken());
    HF_CO_ASSERT_OK(slept);
  }
  (*child)->signal(15);
  int status = co_await (*child)->wait();
  EXPECT_EQ(status, 3);
  (*child)->signal(15);  // of a program that has ended: nothing
  Result<std::string> text = co_await world.fs.read_file(log, 4096);
  HF_CO_ASSERT_OK(text);
  EXPECT_EQ(*text, "started\ntold\n");
}
TEST_P(ProcessContract, AProgramThatStaysIsToldToEnd) {
  run(start_and_end(world(), under_test().scratch_dir() + "/child.log"));
}

inline Task<void> start_nothing(World& world, std::string log) {
  std::vector<std::string> argv;
  argv.push_back("holdfast-no-such-program");
  Result<std::unique_ptr<Child>> child = world.process.start(std::move(argv), log);
  EXPECT_EQ(child.code(), ErrorCode::kMissingFeature);
  co_return;
}
TEST_P(ProcessContract, AProgramThatStaysMustBeInstalled) {
  run(start_nothing(world(), under_test().scratch_dir() + "/child.log"));
}

}  // namespace hf::contract
