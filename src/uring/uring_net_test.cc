// What only real sockets have: permissions, stale paths, long paths, full backlogs, adopted
// descriptors.
#include "uring/uring_net.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>

#include "uring/socket_address.h"
#include "uring/test_fixture.h"
#include "uring/unix_socket.h"
#include "uring/uring_stream.h"

namespace hf {
namespace {

class UringNetTest : public RealWorldTest {};

mode_t mode_of(const std::string& path) {
  struct stat info {};
  EXPECT_EQ(lstat(path.c_str(), &info), 0);
  return info.st_mode & 0777;
}

Task<void> listen_with_mode(World& world, std::string path, uint32_t mode) {
  ListenOptions options;
  options.unix_mode = mode;
  Result<std::unique_ptr<Listener>> listener = co_await world.net.listen("unix:" + path, options);
  HF_CO_ASSERT_OK(listener);
  EXPECT_EQ(mode_of(path), mode);
}
TEST_F(UringNetTest, AUnixSocketHasTheModeAskedForWhateverTheUmask) {
  for (const mode_t mask : {mode_t{0}, mode_t{022}, mode_t{077}}) {
    const mode_t before = umask(mask);
    for (const uint32_t mode : {0600u, 0660u, 0666u}) {
      run(listen_with_mode(world(), path("s"), mode));
      EXPECT_NE(access(path("s").c_str(), F_OK), 0) << "left behind";
    }
    umask(before);
  }
}

Task<void> expect_listen(World& world, std::string path, ErrorCode expected) {
  const ListenOptions options;
  Result<std::unique_ptr<Listener>> listener = co_await world.net.listen("unix:" + path, options);
  EXPECT_EQ(listener.code(), expected);
}

// A socket file whose owner is gone, as kill −9 leaves it.
void leave_stale_socket(const std::string& path) {
  const OwnedFd fd(socket(AF_UNIX, SOCK_STREAM, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  ASSERT_LT(path.size(), sizeof address.sun_path);
  std::memcpy(address.sun_path, path.c_str(), path.size());
  ASSERT_EQ(bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(listen(fd.get(), 1), 0);
}

TEST_F(UringNetTest, AStaleSocketIsReplacedAndOtherFilesAreNot) {
  char dir[] = "/tmp/hf-net-XXXXXX";
  ASSERT_NE(mkdtemp(dir), nullptr);
  const std::string stale = std::string(dir) + "/stale";
  leave_stale_socket(stale);
  run(expect_listen(world(), stale, ErrorCode::kOk));
  const std::string precious = path("precious");
  ASSERT_GE(OwnedFd(creat(precious.c_str(), 0600)).get(), 0);
  run(expect_listen(world(), precious, ErrorCode::kAlreadyExists));
  EXPECT_EQ(access(precious.c_str(), F_OK), 0);
  run(expect_listen(world(), path("no/such/dir/s"), ErrorCode::kNotFound));
  EXPECT_EQ(rmdir(dir), 0);
}

Task<void> keep_the_successors_socket(World& world, std::string path) {
  const ListenOptions options;
  Result<std::unique_ptr<Listener>> first = co_await world.net.listen("unix:" + path, options);
  HF_CO_ASSERT_OK(first);
  // Somebody removes our name and another daemon listens there.
  Status gone = co_await world.fs.unlink(path);
  EXPECT_TRUE(gone.ok());
  Result<std::unique_ptr<Listener>> second = co_await world.net.listen("unix:" + path, options);
  HF_CO_ASSERT_OK(second);
  (*first)->close();
  EXPECT_EQ(access(path.c_str(), F_OK), 0) << "the end of the first took the second's name";
}
TEST_F(UringNetTest, ClosingRemovesOnlyItsOwnSocket) {
  run(keep_the_successors_socket(world(), path("s")));
}

TEST_F(UringNetTest, PathsMayBeLongerThanTheKernelsAddresses) {
  std::string dir = path(std::string(100, 'd'));
  ASSERT_EQ(mkdir(dir.c_str(), 0700), 0);
  dir += "/" + std::string(100, 'e');
  ASSERT_EQ(mkdir(dir.c_str(), 0700), 0);
  run(expect_listen(world(), dir + "/s.sock", ErrorCode::kOk));
  run(expect_listen(world(), dir + "/" + std::string(100, 's'), ErrorCode::kInvalidArgument));
}

Task<void> connect_to_full_backlog(World& world, std::string path) {
  ListenOptions options;
  options.backlog = 0;
  Result<std::unique_ptr<Listener>> listener = co_await world.net.listen("unix:" + path, options);
  HF_CO_ASSERT_OK(listener);
  Result<std::unique_ptr<Stream>> first = co_await world.net.connect("unix:" + path, 1s);
  HF_CO_ASSERT_OK(first);
  const MonoTime begin = world.clock.now();
  Result<std::unique_ptr<Stream>> second = co_await world.net.connect("unix:" + path, 50ms);
  EXPECT_EQ(second.code(), ErrorCode::kTimeout);
  const Duration took = world.clock.now() - begin;
  EXPECT_GE(took.count(), Duration(50ms).count());
  EXPECT_LT(took.count(), Duration(60s).count());
}
TEST_F(UringNetTest, AConnectThatNobodyAnswersTimesOut) {
  run(connect_to_full_backlog(world(), path("s")));
}

Task<void> resolve_names(World& world) {
  const ListenOptions options;
  Result<std::unique_ptr<Listener>> listener =
      co_await world.net.listen("tcp:localhost:0", options);
  HF_CO_ASSERT_OK(listener);
  Result<std::unique_ptr<Stream>> stream = co_await world.net.connect((*listener)->address(), 5s);
  HF_CO_ASSERT_OK(stream);
}
TEST_F(UringNetTest, HostNamesAreResolved) {
  run(resolve_names(world()));
}

Task<void> expect_eof(Stream& stream, std::string expected) {
  std::string got;
  std::byte buffer[7];
  while (true) {
    Result<size_t> n = co_await stream.read_some(buffer);
    HF_CO_ASSERT_OK(n);
    if (*n == 0) break;
    got.append(reinterpret_cast<const char*>(buffer), *n);
  }
  EXPECT_EQ(got, expected);
}
Task<void> talk_over(UringLoop& loop, int read_fd, int write_fd) {
  const std::unique_ptr<UringStream> in = adopt_stream(loop, OwnedFd(read_fd), "reader");
  const std::unique_ptr<UringStream> out = adopt_stream(loop, OwnedFd(write_fd), "writer");
  Gate gate;
  spawn(gate, expect_eof(*in, "through a pipe"));
  Status sent = co_await out->write_bytes(as_bytes("through a pipe"));
  EXPECT_TRUE(sent.ok());
  out->close();
  co_await gate.close();
}
TEST_F(UringNetTest, PipesAndSocketPairsAreAdopted) {
  int fds[2];
  ASSERT_EQ(pipe2(fds, O_CLOEXEC), 0);
  run(talk_over(loop(), fds[0], fds[1]));
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
  run(talk_over(loop(), fds[0], fds[1]));
}

Task<void> expect_closed(Stream& stream, int* ended) {
  std::byte buffer[1];
  Result<size_t> n = co_await stream.read_some(buffer);
  EXPECT_EQ(n.code(), ErrorCode::kClosed);
  ++*ended;
}
Task<void> close_reading_pipe(World& world, UringLoop& loop, int read_fd) {
  const std::unique_ptr<UringStream> in = adopt_stream(loop, OwnedFd(read_fd), "reader");
  Gate gate;
  int ended = 0;
  spawn(gate, expect_closed(*in, &ended));
  Status slept = co_await world.clock.sleep_for(2ms, CancelToken());
  EXPECT_TRUE(slept.ok());
  in->close();
  co_await gate.close();
  EXPECT_EQ(ended, 1);
}
TEST_F(UringNetTest, AReadOfAPipeEndsWhenItsStreamIsClosed) {
  int fds[2];
  ASSERT_EQ(pipe2(fds, O_CLOEXEC), 0);
  const OwnedFd write_end(fds[1]);
  run(close_reading_pipe(world(), loop(), fds[0]));
}

TEST(SocketAddress, RoundTrips) {
  for (const char* text : {"unix:/run/x.sock", "tcp:127.0.0.1:10809", "tcp:[::1]:80",
                           "tcp:node-1.example:0", "tcp:[fe80::1]:65535"}) {
    const Result<SocketAddress> address = SocketAddress::parse(text);
    ASSERT_TRUE(address.ok()) << text;
    EXPECT_EQ(address->to_string(), text);
  }
  for (const char* text : {"tcp:::1:80", "tcp:[]:1", "tcp::1", "unix:x", "unix:/x/", "tcp:a:+1",
                           "tcp:a:1 ", "TCP:a:1"}) {
    EXPECT_EQ(SocketAddress::parse(text).code(), ErrorCode::kInvalidArgument) << text;
  }
}

}  // namespace
}  // namespace hf
