#include <gtest/gtest.h>

#include <stdlib.h>
#include <unistd.h>

#include "runtime/file.h"
#include "runtime/gate.h"
#include "uring/uring_world.h"

namespace hf {
namespace {

// One path through every seam, as a tool would use them; the contract suites look closer.
Task<void> serve_once(Listener& listener) {
  Result<std::unique_ptr<Stream>> stream = co_await listener.accept();
  EXPECT_TRUE(stream.ok());
  std::byte buffer[5];
  Status got = co_await (*stream)->read_exact(buffer);
  EXPECT_TRUE(got.ok());
  Status sent = co_await (*stream)->write_bytes(buffer);
  EXPECT_TRUE(sent.ok());
}

Task<void> echo(World& world, std::string address) {
  ListenOptions options;
  Result<std::unique_ptr<Listener>> listener = co_await world.net.listen(address, options);
  EXPECT_TRUE(listener.ok()) << listener.error().to_string();
  Gate gate;
  spawn(gate, serve_once(**listener));
  Result<std::unique_ptr<Stream>> stream = co_await world.net.connect((*listener)->address(), 1s);
  EXPECT_TRUE(stream.ok()) << stream.error().to_string();
  Status sent = co_await (*stream)->write_bytes(as_bytes("hello"));
  EXPECT_TRUE(sent.ok());
  std::byte buffer[5];
  Status got = co_await (*stream)->read_exact(buffer);
  EXPECT_TRUE(got.ok());
  co_await gate.close();
}

Task<void> touch_all(World& world, std::string dir) {
  Status written = co_await world.fs.write_file_atomic(dir + "/x", "content", 0600);
  EXPECT_TRUE(written.ok()) << written.error().to_string();
  Result<std::string> read = co_await world.fs.read_file(dir + "/x", 100);
  EXPECT_EQ(*read, "content");
  std::vector<std::string> argv;
  argv.push_back("cat");
  argv.push_back(dir + "/x");
  Result<CommandResult> ran = co_await world.process.run(std::move(argv), 10s);
  EXPECT_TRUE(ran.ok()) << ran.error().to_string();
  EXPECT_EQ(ran->output, "content");
  EXPECT_EQ(ran->exit_status, 0);
  co_await echo(world, "tcp:127.0.0.1:0");
  co_await echo(world, "unix:" + dir + "/s.sock");
}

TEST(UringWorld, EverySeamWorks) {
  Result<std::unique_ptr<UringWorld>> real = UringWorld::create(UringWorldOptions());
  ASSERT_TRUE(real.ok()) << real.error().to_string();
  char dir[] = "/tmp/hf-smoke-XXXXXX";
  ASSERT_NE(mkdtemp(dir), nullptr);
  (*real)->loop().run_until(touch_all((*real)->world(), dir));
  EXPECT_EQ(unlink((std::string(dir) + "/x").c_str()), 0);
  EXPECT_EQ(rmdir(dir), 0);  // the socket is gone with its listener
}

}  // namespace
}  // namespace hf
