// Watches of descriptors, channels that carry them, driver commands, helper programs' families.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "uring/fd_channel.h"
#include "uring/fd_watch.h"
#include "uring/test_fixture.h"
#include "uring/uring_command.h"

namespace hf {
namespace {

class KernelObjectsTest : public RealWorldTest {};

void add(int fd, uint64_t value) {
  ASSERT_EQ(write(fd, &value, sizeof value), 8);
}
uint64_t drain(int fd) {
  uint64_t value = 0;
  return read(fd, &value, sizeof value) == 8 ? value : 0;
}

Task<void> nap(World& world) {
  Status slept = co_await world.clock.sleep_for(5ms, CancelToken());
  EXPECT_TRUE(slept.ok());
}

Task<void> watch_events(World& world, UringLoop& loop, int fd) {
  uint64_t total = 0;
  int calls = 0;
  {
    const FdWatch watch(loop, fd, POLLIN, [&](uint32_t events) {
      EXPECT_EQ(events & POLLIN, static_cast<uint32_t>(POLLIN));
      ++calls;
      total += drain(fd);
    });
    co_await nap(world);
    EXPECT_EQ(calls, 0);
    for (int i = 1; i <= 3; ++i) {
      add(fd, static_cast<uint64_t>(i));
      co_await nap(world);
      EXPECT_EQ(calls, i);
    }
    EXPECT_EQ(total, 6u);
  }
  add(fd, 1);
  co_await nap(world);
  EXPECT_EQ(calls, 3) << "called back after its end";
  EXPECT_EQ(loop.in_flight(), 0u);
}
TEST_F(KernelObjectsTest, AWatchCallsBackUntilItsEndAndNotAfter) {
  const OwnedFd fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  run(watch_events(world(), loop(), fd.get()));
}

Task<void> end_watch_in_callback(World& world, UringLoop& loop, int fd) {
  std::unique_ptr<FdWatch> watch;
  int calls = 0;
  watch = std::make_unique<FdWatch>(loop, fd, POLLIN, [&](uint32_t) {
    ++calls;
    watch.reset();
  });
  add(fd, 1);
  co_await nap(world);
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(watch, nullptr);
  co_await nap(world);
  EXPECT_EQ(loop.in_flight(), 0u);
}
TEST_F(KernelObjectsTest, AWatchMayEndInItsOwnCallback) {
  const OwnedFd fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  run(end_watch_in_callback(world(), loop(), fd.get()));
}

TEST_F(KernelObjectsTest, AWatchClosedJustBeforeTheLoopsEndIsFreed) {
  const OwnedFd fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  struct Local {
    static Task<void> open_and_close(UringLoop& loop, int fd) {
      const FdWatch watch(loop, fd, POLLIN, [](uint32_t) {});
      co_return;
    }
  };
  run(Local::open_and_close(loop(), fd.get()));
}

Task<void> watch_unpollable(World& world, UringLoop& loop, int fd) {
  uint32_t seen = 0;
  const FdWatch watch(loop, fd, POLLIN, [&](uint32_t events) { seen |= events; });
  co_await nap(world);
  EXPECT_EQ(seen, static_cast<uint32_t>(POLLNVAL));
}
TEST_F(KernelObjectsTest, AWatchOfAClosedDescriptorSaysSo) {
  run(watch_unpollable(world(), loop(), 19'999));
}

Task<void> poll_and_cancel(World& world, UringLoop& loop, int fd) {
  add(fd, 1);
  Result<uint32_t> ready = co_await poll_once(loop, fd, POLLIN, CancelToken());
  HF_CO_ASSERT_OK(ready);
  EXPECT_EQ(*ready, static_cast<uint32_t>(POLLIN));
  EXPECT_EQ(drain(fd), 1u);
  CancelSource source;
  world.loop.post([&source] { source.cancel(); });
  Result<uint32_t> cancelled = co_await poll_once(loop, fd, POLLIN, source);
  EXPECT_EQ(cancelled.code(), ErrorCode::kCancelled);
}
TEST_F(KernelObjectsTest, OnePollCanBeCancelled) {
  const OwnedFd fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  run(poll_and_cancel(world(), loop(), fd.get()));
}

Task<void> receive_file(FdChannel& channel) {
  Result<FdMessage> message = co_await channel.receive();
  HF_CO_ASSERT_OK(message);
  EXPECT_EQ(contract::text_of(message->bytes), "keep this");
  HF_CO_ASSERT(message->fds.size() == 2);
  EXPECT_EQ(fcntl(message->fds[0].get(), F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
  char text[4] = {};
  EXPECT_EQ(pread(message->fds[0].get(), text, 3, 0), 3);
  EXPECT_STREQ(text, "abc");
  Result<FdMessage> plain = co_await channel.receive();
  HF_CO_ASSERT_OK(plain);
  EXPECT_TRUE(plain->fds.empty());
  Result<FdMessage> end = co_await channel.receive();
  EXPECT_EQ(end.code(), ErrorCode::kClosed);
}
Task<void> accept_and_receive(FdChannelListener& listener) {
  Result<std::unique_ptr<FdChannel>> channel = co_await listener.accept();
  HF_CO_ASSERT_OK(channel);
  const Result<uint32_t> uid = (*channel)->peer_uid();
  HF_CO_ASSERT_OK(uid);
  EXPECT_EQ(*uid, getuid());
  co_await receive_file(**channel);
}
Task<void> pass_descriptors(UringLoop& loop, std::string path, int fd) {
  Result<std::unique_ptr<FdChannelListener>> listener = FdChannelListener::listen(loop, path, 0600);
  HF_CO_ASSERT_OK(listener);
  EXPECT_EQ(FdChannelListener::listen(loop, path, 0600).code(), ErrorCode::kInUse);
  Gate gate;
  spawn(gate, accept_and_receive(**listener));
  Result<std::unique_ptr<FdChannel>> channel = co_await connect_fd_channel(loop, path, 5s);
  HF_CO_ASSERT_OK(channel);
  const int fds[] = {fd, fd};
  Status sent = co_await (*channel)->send(as_bytes("keep this"), fds);
  EXPECT_TRUE(sent.ok());
  const std::span<const int> none;
  sent = co_await (*channel)->send(as_bytes("and nothing"), none);
  EXPECT_TRUE(sent.ok());
  (*channel)->close();
  co_await gate.close();
}
TEST_F(KernelObjectsTest, DescriptorsTravelBetweenProcesses) {
  const OwnedFd fd(open(path("f").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  ASSERT_EQ(write(fd.get(), "abc", 3), 3);
  run(pass_descriptors(loop(), path("holder.sock"), fd.get()));
}

// /dev/null answers driver commands with 0 since Linux 5.19; a regular file has none.
struct CommandOp : UringOp {
  CommandOp() : UringOp(&on_complete) {}
  static void on_complete(UringOp& op, int32_t result, uint32_t) {
    auto& self = static_cast<CommandOp&>(op);
    self.result = result;
    self.done.set();
  }
  int32_t result = 1;
  Event done;
};
Task<void> command_null(UringLoop& loop, int fd, int expected) {
  CommandOp op;
  std::byte cmd[kSmallCommandBytes] = {};
  submit_command(loop, op, fd, 0, cmd);
  co_await op.done.wait();
  EXPECT_EQ(op.result, expected);
}
TEST_F(KernelObjectsTest, SmallCommandsGoThroughTheLoopsRing) {
  const OwnedFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  run(command_null(loop(), null.get(), 0));
  const OwnedFd file(open(path("f").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  run(command_null(loop(), file.get(), -EOPNOTSUPP));
}

Task<void> one_large_command(CommandRing& ring, int fd, int* ok, int* refused) {
  std::byte cmd[kLargeCommandBytes] = {};
  Result<int> result = co_await ring.command("null", fd, 0, cmd);
  if (result.ok()) {
    ++*ok;
  } else {
    EXPECT_EQ(result.code(), ErrorCode::kLimitExceeded);
    ++*refused;
  }
}
Task<void> large_commands(UringLoop& loop, int null, int fuse) {
  Result<std::unique_ptr<CommandRing>> ring = CommandRing::create(loop);
  HF_CO_ASSERT_OK(ring);
  for (int round = 0; round < 3; ++round) {
    Gate gate;
    int ok = 0, refused = 0;
    for (uint32_t i = 0; i < CommandRing::kEntries + 5; ++i) {
      spawn(gate, one_large_command(**ring, null, &ok, &refused));
    }
    co_await gate.close();
    EXPECT_EQ(ok, static_cast<int>(CommandRing::kEntries));
    EXPECT_EQ(refused, 5);
  }
  if (fuse < 0) co_return;
  // FUSE looks at the entry's size before all else; this descriptor is no connection yet.
  std::byte cmd[kLargeCommandBytes] = {};
  Result<int> result = co_await (*ring)->command("fuse register", fuse, 1, cmd);
  EXPECT_FALSE(result.ok());
}
TEST_F(KernelObjectsTest, LargeCommandsGoThroughARingOfTheirOwn) {
  const OwnedFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  const OwnedFd fuse(open("/dev/fuse", O_RDWR | O_CLOEXEC));
  run(large_commands(loop(), null.get(), fuse.get()));
}

// A zombie that nobody reaps here is dead enough.
bool runs(int pid) {
  const OwnedFd fd(open(("/proc/" + std::to_string(pid) + "/stat").c_str(), O_RDONLY | O_CLOEXEC));
  char buffer[256] = {};
  const ssize_t n = read(fd.get(), buffer, sizeof buffer - 1);
  return n > 0 && std::string(buffer).find(") Z ") == std::string::npos;
}

Task<void> time_out_family(World& world, std::string pid_file) {
  std::vector<std::string> argv;
  argv.push_back("sh");
  argv.push_back("-c");
  argv.push_back("trap '' TERM; sleep 1000 & echo $! > " + pid_file + "; wait; sleep 1000");
  // A machine under load may need longer than the shortest of these until the shell has written.
  Result<std::string> text = make_error(ErrorCode::kNotFound, "not begun");
  for (const Duration limit : {Duration(500ms), Duration(5s), Duration(50s)}) {
    std::vector<std::string> words = argv;
    Result<CommandResult> result = co_await world.process.run(std::move(words), limit);
    EXPECT_EQ(result.code(), ErrorCode::kTimeout);
    text = co_await world.fs.read_file(pid_file, 100);
    if (text.ok() && text->ends_with("\n")) break;
  }
  HF_CO_ASSERT_OK(text);
  const int pid = std::stoi(*text);
  // Killed with its group; the kernel may take a moment.
  bool alive = runs(pid);
  for (int i = 0; i < 6000 && alive; ++i) {
    co_await nap(world);
    alive = runs(pid);
  }
  EXPECT_FALSE(alive) << pid;
}
TEST_F(KernelObjectsTest, ATimeOutKillsGrandchildrenToo) {
  run(time_out_family(world(), path("pid")));
}

Task<void> leave_daemon_behind(World& world) {
  std::vector<std::string> argv;
  argv.push_back("sh");
  argv.push_back("-c");
  argv.push_back("sleep 1000 & echo $!");
  Result<CommandResult> result = co_await world.process.run(std::move(argv), 60s);
  HF_CO_ASSERT_OK(result);  // waiting for the daemon would have been a timeout
  const int pid = std::stoi(result->output);
  EXPECT_TRUE(runs(pid));
  kill(pid, SIGKILL);
}
TEST_F(KernelObjectsTest, AProgramThatLeavesADaemonBehindHasEnded) {
  run(leave_daemon_behind(world()));
}

}  // namespace
}  // namespace hf
