// What of programs that stay only the real world shows.
#include "uring/uring_process.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <string>

#include "uring/uring_world.h"

namespace hf {
namespace {

// Runs in a process of its own: starts a program that stays, tells its pid, waits to be killed.
[[noreturn]] void be_a_daemon(int tell, bool patient) {
  Result<std::unique_ptr<UringWorld>> real = UringWorld::create(UringWorldOptions());
  if (!real.ok()) ::_exit(1);
  Result<std::unique_ptr<Child>> child =
      (*real)->world().process.start({"sleep", "1000"}, "/dev/null");
  if (!child.ok()) ::_exit(2);
  const int pid = (*child)->pid();
  std::string name;
  while (patient && name != "sleep") std::ifstream("/proc/" + std::to_string(pid) + "/comm") >> name;
  if (::write(tell, &pid, sizeof pid) != sizeof pid) ::_exit(3);
  while (true) ::pause();
}

bool runs(int pid) {
  std::ifstream in("/proc/" + std::to_string(pid) + "/stat");
  std::string number, name, state;
  in >> number >> name >> state;
  return in && state != "Z" && state != "X";
}

void kill_a_daemon(bool patient) {
  int tell[2];
  ASSERT_EQ(::pipe(tell), 0);
  const pid_t daemon = ::fork();
  if (daemon == 0) be_a_daemon(tell[1], patient);
  ::close(tell[1]);
  int pid = 0;
  ASSERT_EQ(::read(tell[0], &pid, sizeof pid), static_cast<ssize_t>(sizeof pid));
  ::close(tell[0]);
  if (patient) {
    EXPECT_TRUE(runs(pid));
  }
  ::kill(daemon, SIGKILL);
  ::waitpid(daemon, nullptr, 0);
  for (int i = 0; i < 6000 && runs(pid); ++i) ::usleep(10000);
  EXPECT_FALSE(runs(pid));
  if (runs(pid)) ::kill(pid, SIGKILL);
}

TEST(UringProcess, AProgramThatStaysDiesWithItsDaemon) { kill_a_daemon(true); }

// Killed before the program has asked for the signal: it must not begin.
TEST(UringProcess, AProgramOfADaemonThatDiedMeanwhileDoesNotStay) {
  for (int i = 0; i < 20; ++i) kill_a_daemon(false);
}

}  // namespace
}  // namespace hf
