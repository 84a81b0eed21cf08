#include <fcntl.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <thread>

#include "holder/client.h"
#include "holder/store.h"

namespace hf::holder {
namespace {

Message request(Command command, std::string_view name, std::string_view state = "") {
  return make_message(kRequestMagic, static_cast<uint16_t>(command), name, as_bytes(state), 0);
}

ReplyStatus status_of(const Message& reply) {
  return static_cast<ReplyStatus>(reply.code);
}

TEST(HolderStore, PutGetListDelete) {
  Store store;
  int out = -1;
  const int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
  EXPECT_EQ(status_of(store.handle(request(Command::kPut, "a"), sizeof(Message), -1, &out)),
            ReplyStatus::kNotFound);  // no descriptor, no entry
  EXPECT_EQ(status_of(store.handle(request(Command::kPut, "a", "one"), sizeof(Message), fd, &out)),
            ReplyStatus::kOk);
  EXPECT_EQ(status_of(store.handle(request(Command::kPut, "a", "two"), sizeof(Message), -1, &out)),
            ReplyStatus::kOk);
  const Message got = store.handle(request(Command::kGet, "a"), sizeof(Message), -1, &out);
  EXPECT_EQ(out, fd);
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(got.state), got.state_size), "two");
  EXPECT_EQ(status_of(store.handle(request(Command::kDel, "a"), sizeof(Message), -1, &out)),
            ReplyStatus::kOk);
  EXPECT_EQ(fcntl(fd, F_GETFD), -1);  // closed
  EXPECT_EQ(status_of(store.handle(request(Command::kGet, "a"), sizeof(Message), -1, &out)),
            ReplyStatus::kNotFound);
}

TEST(HolderStore, RefusesMalformedRequestsAndClosesWhatCame) {
  int out = -1;
  Store store;
  const auto refused = [&](Message m, size_t size) {
    const int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    const Message reply = store.handle(m, size, fd, &out);
    return status_of(reply) == ReplyStatus::kBadRequest && fcntl(fd, F_GETFD) == -1 && out == -1;
  };
  Message m = request(Command::kPut, "x");
  EXPECT_TRUE(refused(m, sizeof m - 1));
  m.name[0] = 'y';
  EXPECT_TRUE(refused(m, sizeof m));  // checksum
  m = request(Command::kPut, "x");
  m.state_size = kStateMax + 1;
  m.crc = message_crc(m);
  EXPECT_TRUE(refused(m, sizeof m));
  m = request(Command::kPut, "x");
  m.version = 2;
  m.crc = message_crc(m);
  EXPECT_TRUE(refused(m, sizeof m));
  EXPECT_TRUE(refused(request(static_cast<Command>(99), "x"), sizeof m));
  EXPECT_TRUE(refused(request(Command::kPut, ""), sizeof m));
  EXPECT_TRUE(refused(request(Command::kPut, "a b"), sizeof m));
  EXPECT_EQ(store.size(), 0u);
}

TEST(HolderStore, TakesNothingAfterItsEnd) {
  Store store;
  int out = -1;
  ASSERT_EQ(status_of(store.handle(request(Command::kEnd, ""), sizeof(Message), -1, &out)),
            ReplyStatus::kOk);
  EXPECT_NE(status_of(store.handle(request(Command::kPut, "a"), sizeof(Message), dup(0), &out)),
            ReplyStatus::kOk);
  EXPECT_EQ(store.size(), 0u);
}

TEST(HolderStore, IsBounded) {
  Store store;
  int out = -1;
  for (size_t i = 0; i <= kEntriesMax; ++i) {
    const Message reply = store.handle(request(Command::kPut, "n" + std::to_string(i)),
                                       sizeof(Message), dup(0), &out);
    ASSERT_EQ(status_of(reply), i < kEntriesMax ? ReplyStatus::kOk : ReplyStatus::kFull) << i;
  }
}

// The real process, started as the daemon starts it.
class HolderProcess : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/hf-holder-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    dir_ = name;
    socket_ = dir_ + "/holder.sock";
  }
  void TearDown() override {
    if (pid_ > 0) {
      kill(pid_, SIGKILL);
      waitpid(pid_, nullptr, 0);
    }
    std::filesystem::remove_all(dir_);
  }
  void start(rlim_t open_files = 0) {
    pid_ = fork();
    if (pid_ == 0) {
      rlimit limit{};
      getrlimit(RLIMIT_NOFILE, &limit);
      if (open_files != 0) limit.rlim_cur = open_files;
      setrlimit(RLIMIT_NOFILE, &limit);
      execl(HF_HOLDER_PATH, "holdfast-holder", "--foreground", socket_.c_str(), nullptr);
      _exit(127);
    }
    Client client(socket_);
    for (int i = 0; i < 6000 && !client.ping().ok(); ++i) usleep(10'000);
    ASSERT_TRUE(client.ping().ok());
  }
  std::string dir_;
  std::string socket_;
  pid_t pid_ = -1;
};

TEST_F(HolderProcess, KeepsADescriptorForTheNextClient) {
  start();
  int pipe_fds[2];
  ASSERT_EQ(pipe2(pipe_fds, O_CLOEXEC), 0);
  {
    Client first(socket_);
    ASSERT_TRUE(first.put("fuse/1", pipe_fds[1], as_bytes("state")).ok());
    close(pipe_fds[1]);
  }
  Client second(socket_);
  const Result<std::vector<Held>> all = second.list("fuse/");
  ASSERT_TRUE(all.ok());
  ASSERT_EQ(all->size(), 1u);
  EXPECT_EQ((*all)[0].name, "fuse/1");
  Result<Held> held = second.get("fuse/1");
  ASSERT_TRUE(held.ok()) << held.error().to_string();
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(held->state.data()), held->state.size()),
            "state");
  ASSERT_EQ(write(held->fd, "x", 1), 1);
  close(held->fd);
  char c = 0;
  ASSERT_EQ(read(pipe_fds[0], &c, 1),
            1);  // the holder's copy keeps the pipe open: no end of file yet
  ASSERT_TRUE(second.remove("fuse/1").ok());
  ASSERT_TRUE(second.remove("fuse/1").ok());
  EXPECT_EQ(read(pipe_fds[0], &c, 1), 0);  // now it was the last one
  close(pipe_fds[0]);
}

// A shell's limit of 1024 is less than kEntriesMax.
TEST_F(HolderProcess, TakesMoreThanTheSoftLimitOfItsStarter) {
  start(32);
  Client client(socket_);
  for (int i = 0; i < 100; ++i) {
    const Status put = client.put("fuse/" + std::to_string(i), STDERR_FILENO, as_bytes("x"));
    ASSERT_TRUE(put.ok()) << i << ": " << put.error().to_string();
  }
}

TEST_F(HolderProcess, RefusesASecondAndStaysWhileItHolds) {
  start();
  struct stat st {};
  ASSERT_EQ(stat(socket_.c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 0777, 0600u);
  const std::string command =
      std::string(HF_HOLDER_PATH) + " --foreground " + socket_ + " 2>/dev/null";
  EXPECT_EQ(WEXITSTATUS(system(command.c_str())), 1);
  EXPECT_EQ(WEXITSTATUS(system((std::string(HF_HOLDER_PATH) + " " + socket_).c_str())), 0);
  EXPECT_EQ(WEXITSTATUS(system((std::string(HF_HOLDER_PATH) + " relative 2>/dev/null").c_str())),
            2);
  Client client(socket_);
  ASSERT_TRUE(client.put("keep", 0, {}).ok());
  kill(pid_, SIGTERM);
  usleep(100'000);
  ASSERT_TRUE(client.ping().ok());
  ASSERT_TRUE(client.remove("keep").ok());
  kill(pid_, SIGTERM);
  int status = -1;
  ASSERT_EQ(waitpid(pid_, &status, 0), pid_);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  pid_ = -1;
}

TEST_F(HolderProcess, ANewHolderIsAskedWhereTheOldOneHasEnded) {
  start();
  Client client(socket_);
  ASSERT_TRUE(client.put("a", 0, {}).ok());
  const uint64_t before = client.connections();
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
  start();
  const Status put = client.put("b", 0, {});
  EXPECT_TRUE(put.ok()) << put.error().to_string();
  EXPECT_EQ(client.connections(), before + 1) << "whoever needs something held must learn of it";
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
  pid_ = -1;
  EXPECT_EQ(client.put("c", 0, {}).code(), ErrorCode::kUnavailable);
}

void count_signal(int) {}

// The holder stands still while the client waits for its answer, which many signals interrupt.
TEST_F(HolderProcess, AClientThatIsInterruptedWaitsOn) {
  start();
  Client client(socket_);
  ASSERT_TRUE(client.ping().ok());
  struct sigaction action {};
  action.sa_handler = count_signal;  // without SA_RESTART
  struct sigaction before {};
  ASSERT_EQ(sigaction(SIGUSR1, &action, &before), 0);
  kill(pid_, SIGSTOP);
  Status put;
  std::atomic<bool> ended{false};
  std::thread asking([&] {
    put = client.put("a", 0, {});
    ended = true;
  });
  for (int i = 0; i < 100; ++i) {
    pthread_kill(asking.native_handle(), SIGUSR1);
    usleep(1000);
  }
  EXPECT_FALSE(ended);
  kill(pid_, SIGCONT);
  asking.join();
  sigaction(SIGUSR1, &before, nullptr);
  EXPECT_TRUE(put.ok()) << put.error().to_string();
}

// Two clients in one round of the holder's loop, over and over: either the end is refused, or who
// puts is told that it was not kept.
TEST_F(HolderProcess, KeepsOrRefusesWhatComesWithTheEnd) {
  int ends = 0;
  for (int round = 0; round < 40; ++round) {
    start();
    Client putter(socket_);
    Client ender(socket_);
    ASSERT_TRUE(putter.ping().ok() && ender.ping().ok());
    kill(pid_, SIGSTOP);
    Status put, end;
    std::thread first([&] { put = putter.put("a", 0, {}); });
    std::thread second([&] { end = ender.end_if_empty(); });
    usleep(5000);  // both requests wait
    kill(pid_, SIGCONT);
    first.join();
    second.join();
    EXPECT_NE(put.ok(), end.ok()) << "round " << round << (put.ok() ? "" : "; put: " + put.error().to_string())
                                  << (end.ok() ? "" : "; end: " + end.error().to_string());
    ends += end.ok() ? 1 : 0;
    if (!end.ok()) kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    pid_ = -1;
    std::filesystem::remove(socket_);
  }
  std::printf("%d of 40 rounds ended the holder\n", ends);
}

TEST_F(HolderProcess, SurvivesGarbageAndManyClients) {
  start();
  std::vector<int> sockets;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  memcpy(address.sun_path, socket_.c_str(), socket_.size());
  for (int i = 0; i < 40; ++i) {
    const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    ASSERT_EQ(connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    const std::string junk(static_cast<size_t>(1 + i * 37), 'j');
    (void)!send(fd, junk.data(), junk.size(), MSG_NOSIGNAL);
    sockets.push_back(fd);
  }
  for (const int fd : sockets) close(fd);
  Client client(socket_);
  bool ok = false;
  for (int i = 0; i < 6000 && !ok; ++i) {
    ok = client.ping().ok();
    if (!ok) usleep(10'000);
  }
  EXPECT_TRUE(ok);
}

}  // namespace
}  // namespace hf::holder
