#include "uring/uring_loop.h"

#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <string>
#include <thread>

#include "runtime/gate.h"
#include "runtime/sync.h"
#include "uring/uring_clock.h"
#include "uring/uring_world.h"

namespace hf {
namespace {

std::unique_ptr<UringLoop> make_loop(bool plain = false) {
  UringOptions options;
  options.entries = 64;
  options.plain_ring = plain;
  Result<std::unique_ptr<UringLoop>> loop = UringLoop::create(options);
  HF_ASSERT(loop.ok(), "{}", loop.error().to_string());
  return std::move(*loop);
}

Task<void> nothing() {
  co_return;
}

Task<void> yields(int times, int* count) {
  for (int i = 0; i < times; ++i) {
    co_await yield();
    ++*count;
  }
}

TEST(UringLoop, TellsWhichModeTheKernelGave) {
  EXPECT_STREQ(make_loop()->mode(), "single_issuer");  // Linux 6.0 and newer
  EXPECT_STREQ(make_loop(true)->mode(), "plain");
}

TEST(UringLoop, RunsATaskThatNeverWaits) {
  make_loop()->run_until(nothing());
}

TEST(UringLoop, RunsManyTurnsAndIsRunAgain) {
  const std::unique_ptr<UringLoop> loop = make_loop();
  int count = 0;
  loop->run_until(yields(10'000, &count));
  loop->run_until(yields(3, &count));
  EXPECT_EQ(count, 10'003);
}

TEST(UringLoop, IsBoundToTheThreadThatRunsItNotToItsMaker) {
  const std::unique_ptr<UringLoop> loop = make_loop();
  int count = 0;
  std::thread runner([&] { loop->run_until(yields(5, &count)); });
  runner.join();
  EXPECT_EQ(count, 5);
}

TEST(UringLoop, PostsOfManyThreadsAllRunEachThreadsInItsOrder) {
  constexpr int kThreads = 4, kPosts = 2000;
  const std::unique_ptr<UringLoop> loop = make_loop();
  int last[kThreads] = {};
  int total = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 1; i <= kPosts; ++i) {
        loop->post([&, t, i] {
          EXPECT_EQ(last[t], i - 1);
          last[t] = i;
          if (++total == kThreads * kPosts) loop->stop();
        });
      }
    });
  }
  loop->run();
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(total, kThreads * kPosts);
}

// Hops between two loops by post; what it touches is handed over with each hop, without locks.
struct PingPong {
  UringLoop& a;
  UringLoop& b;
  int hops = 0;
  void hop() {
    UringLoop& here = hops % 2 == 0 ? a : b;
    EXPECT_EQ(Loop::current_or_null(), &here);
    if (++hops == 5000) {
      a.stop();
      b.stop();
      return;
    }
    (&here == &a ? b : a).post([this] { hop(); });
  }
};

TEST(UringLoop, TwoLoopsOnTwoThreadsPostToEachOther) {
  const std::unique_ptr<UringLoop> a = make_loop(), b = make_loop();
  PingPong game{*a, *b};
  a->post([&game] { game.hop(); });
  std::thread other([&] { b->run(); });
  a->run();
  other.join();
  EXPECT_EQ(game.hops, 5000);
}

TEST(UringLoop, StopFromAnotherThreadEndsASleepingLoopAndPostsAreDroppedAfter) {
  const std::unique_ptr<UringLoop> loop = make_loop();
  std::thread stopper([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    loop->stop();
  });
  loop->run();
  stopper.join();
  auto alive = std::make_shared<int>(0);
  loop->post([alive] { ++*alive; });
  EXPECT_EQ(alive.use_count(), 1);
}

TEST(UringLoop, PostsBetweenTwoRunsWait) {
  const std::unique_ptr<UringLoop> loop = make_loop();
  int ran = 0;
  loop->run_until(nothing());
  loop->post([&] { ++ran; });
  EXPECT_EQ(ran, 0);
  int count = 0;
  loop->run_until(yields(2, &count));
  EXPECT_EQ(ran, 1);
}

Task<void> sleep_a_second(Clock& clock) {
  Status slept = co_await clock.sleep_for(1s, CancelToken());
  EXPECT_TRUE(slept.ok());
}

double cpu_seconds() {
  rusage usage{};
  getrusage(RUSAGE_THREAD, &usage);
  return static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

TEST(UringLoop, AnIdleLoopSleepsInTheKernel) {
  for (const bool plain : {false, true}) {
    const std::unique_ptr<UringLoop> loop = make_loop(plain);
    UringClock clock(*loop);
    const double before = cpu_seconds();
    const uint64_t turns = loop->turns();
    loop->run_until(sleep_a_second(clock));
    // One that spins takes a second and many thousand turns.
    EXPECT_LT(cpu_seconds() - before, 0.1);
    EXPECT_LE(loop->turns() - turns, 20u);
  }
}

Task<void> many_sleeps(Clock& clock, Gate& gate, int* ended, Duration d) {
  const bool entered = gate.try_enter();
  EXPECT_TRUE(entered);
  Status slept = co_await clock.sleep_for(d, CancelToken());
  EXPECT_TRUE(slept.ok());
  ++*ended;
  gate.leave();
}

Task<void> sleep_in_crowd(Clock& clock, int* ended) {
  Gate gate, inner;
  for (int i = 0; i < 5000; ++i) {
    spawn(gate, many_sleeps(clock, inner, ended, std::chrono::microseconds(i % 50)));
  }
  co_await gate.close();
}

TEST(UringLoop, ThousandsOfSleepersShareOneKernelTimeout) {
  const std::unique_ptr<UringLoop> loop = make_loop();
  UringClock clock(*loop);
  int ended = 0;
  loop->run_until(sleep_in_crowd(clock, &ended));
  EXPECT_EQ(ended, 5000);
  EXPECT_TRUE(loop->timers().empty());
}

// Forks, forbids io_uring as a container's seccomp profile does, and prints what create() says.
std::string refusal_when_forbidden(int error) {
  int fds[2];
  HF_ASSERT(pipe(fds) == 0);
  const pid_t pid = fork();
  if (pid == 0) {
    const auto deny = static_cast<uint32_t>(SECCOMP_RET_ERRNO | error);
    sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, deny),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    sock_fprog program{std::size(filter), filter};
    HF_ASSERT(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    HF_ASSERT(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
    const Result<std::unique_ptr<UringLoop>> loop = UringLoop::create(UringOptions());
    const std::string text = loop.ok() ? "no refusal" : loop.error().to_string();
    HF_ASSERT(write(fds[1], text.data(), text.size()) > 0);
    _exit(0);
  }
  close(fds[1]);
  char text[1024];
  const ssize_t n = read(fds[0], text, sizeof text);
  close(fds[0]);
  int status = 0;
  waitpid(pid, &status, 0);
  return std::string(text, n > 0 ? static_cast<size_t>(n) : 0);
}

TEST(UringLoop, RefusesClearlyWhereIoUringIsForbiddenOrMissing) {
  const std::string forbidden = refusal_when_forbidden(EPERM);
  EXPECT_NE(forbidden.find("missing_feature"), std::string::npos) << forbidden;
  EXPECT_NE(forbidden.find("kernel.io_uring_disabled"), std::string::npos) << forbidden;
  const std::string missing = refusal_when_forbidden(ENOSYS);
  EXPECT_NE(missing.find("missing_feature"), std::string::npos) << missing;
  EXPECT_NE(missing.find("6.1"), std::string::npos) << missing;
}

}  // namespace
}  // namespace hf
