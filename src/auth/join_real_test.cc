// Two processes on one machine: one founds a cluster, the other joins it by the token's text over
// loopback, then they talk as peers. The real world, real files, the embedded state store's seam in
// memory.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "auth/join.h"
#include "auth/testing/test_trust.h"
#include "runtime/contract/contract_support.h"
#include "runtime/process.h"
#include "state/memory_store.h"
#include "uring/real_world_under_test.h"

namespace hf::auth {
namespace {

void say(int fd, const std::string& line) {
  const std::string text = line + "\n";
  HF_ASSERT(::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()));
}
std::string hear(int fd) {
  std::string line;
  char c = 0;
  while (::read(fd, &c, 1) == 1 && c != '\n') line += c;
  return line;
}

struct FirstNode {
  FirstNode(World& w, const std::string& dir, int in, int out)
      : world(w),
        server(w.clock),
        kv(server, w.clock, nullptr),
        store(kv, w.clock, w.random),
        files(w.fs, dir),
        from_parent(in),
        to_parent(out) {}
  World& world;
  state::MemoryServer server;
  state::MemoryStore kv;
  TrustStore store;
  TrustFiles files;
  int from_parent, to_parent;
};

Task<void> echo_peers(Listener& listener, Gate& gate);
Task<void> echo_one(std::unique_ptr<Stream> stream) {
  std::byte buffer[4096];
  while (true) {
    Result<size_t> n = co_await stream->read_some(buffer);
    if (!n.ok() || *n == 0) co_return;
    Status sent = co_await stream->write_bytes(ByteSpan(buffer).first(*n));
    if (!sent.ok()) co_return;
  }
}
Task<void> echo_peers(Listener& listener, Gate& gate) {
  while (true) {
    Result<std::unique_ptr<Stream>> stream = co_await listener.accept();
    if (!stream.ok()) co_return;
    std::unique_ptr<Stream> accepted = std::move(*stream);
    spawn(gate, echo_one(std::move(accepted)));
  }
}

Task<void> first_node(FirstNode& node) {
  World& world = node.world;
  std::vector<std::string> names = {"first.example"};
  const ClusterId cluster = new_id<ClusterId>(world.random);
  const NodeId self = new_id<NodeId>(world.random);
  Result<Membership> founded =
      co_await found_cluster(world, node.files, node.store, cluster, self, names);
  HF_ASSERT(founded.ok(), "{}", founded.error().to_string());
  std::function<std::vector<std::string>()> endpoints;
  JoinService service(world, node.store, founded->signer, founded->credentials, endpoints);
  Status started = co_await service.start("tcp:127.0.0.1:0");
  HF_ASSERT(started.ok(), "{}", started.error().to_string());
  TlsEndpoint tls(world.clock, TlsUse::kPeer, founded->credentials);
  TlsNetwork net(world.net, tls);
  ListenOptions options;
  Result<std::unique_ptr<Listener>> listener = co_await net.listen("tcp:127.0.0.1:0", options);
  HF_ASSERT(listener.ok(), "{}", listener.error().to_string());
  Gate peers, accepting;
  spawn(accepting, echo_peers(**listener, peers));
  TokenWish wish;
  wish.addresses = {service.address()};
  Result<JoinToken> token = co_await node.store.make_token(wish);
  HF_ASSERT(token.ok(), "{}", token.error().to_string());
  say(node.to_parent, encode_token(*token));
  say(node.to_parent, (*listener)->address());
  say(node.to_parent, self.to_string());
  // Until the parent has had enough: it closes its end.
  std::function<int()> wait = [&node] { return static_cast<int>(hear(node.from_parent).size()); };
  const int heard = co_await run_blocking<int>(world.blocking, wait);
  HF_ASSERT(heard >= 0);
  (*listener)->close();
  co_await accepting.close();
  co_await tls.stop();
  co_await peers.close();
  co_await service.stop();
  co_await node.kv.close();
  co_await node.server.close();
}

Task<void> second_node(World& world, std::string dir, std::string token_text,
                       std::string peer_address, std::string first) {
  const Result<JoinToken> token = decode_token(token_text);
  HF_CO_ASSERT_OK(token);
  TrustFiles files(world.fs, dir);
  std::vector<std::string> names = {"second.example", "10.9.8.7"};
  Result<Membership> joined = co_await join_cluster(world, files, *token, names);
  HF_CO_ASSERT_OK(joined);
  EXPECT_EQ(joined->self.cluster, token->cluster);
  EXPECT_FALSE(joined->signer) << "a node that does not sign has got the CA's key";

  Result<Membership> again = co_await join_cluster(world, files, *token, names);
  EXPECT_EQ(again.code(), ErrorCode::kAlreadyExists);
  // Another machine with the same token.
  const std::string other_dir = dir + "/other";
  Status made = co_await world.fs.make_directory(other_dir, 0700);
  EXPECT_TRUE(made.ok());
  TrustFiles other(world.fs, other_dir);
  Result<Membership> thief = co_await join_cluster(world, other, *token, names);
  EXPECT_EQ(thief.code(), ErrorCode::kPermissionDenied);
  // And one with a guessed secret.
  JoinToken guessed = *token;
  guessed.secret = JoinSecret();
  TrustFiles third(world.fs, other_dir);
  Result<Membership> wrong = co_await join_cluster(world, third, guessed, names);
  EXPECT_EQ(wrong.code(), ErrorCode::kUnauthenticated);

  Result<std::optional<Credentials>> kept = co_await files.load();
  HF_CO_ASSERT_OK(kept);
  HF_CO_ASSERT(kept->has_value());
  TlsEndpoint tls(world.clock, TlsUse::kPeer, **kept);
  TlsNetwork net(world.net, tls);
  Result<std::unique_ptr<Stream>> stream =
      co_await net.connect_to(*NodeId::parse(first), peer_address, 5s);
  HF_CO_ASSERT_OK(stream);
  Status sent = co_await (*stream)->write_bytes(as_bytes("hello"));
  EXPECT_TRUE(sent.ok());
  std::byte buffer[5];
  Status got = co_await (*stream)->read_exact(buffer);
  EXPECT_TRUE(got.ok());
  EXPECT_EQ(std::memcmp(buffer, "hello", 5), 0);
  stream->reset();

  // A fresh key and certificate from the node that signs.
  Result<Credentials> fresh = co_await renew_from(world, files, **kept, token->addresses[0]);
  HF_CO_ASSERT_OK(fresh);
  EXPECT_NE(fresh->key.public_der(), (*kept)->key.public_der());
  tls.replace(*fresh);
  stream = co_await net.connect_to(*NodeId::parse(first), peer_address, 5s);
  EXPECT_TRUE(stream.ok());
  if (stream.ok()) stream->reset();
  co_await tls.stop();
}

TEST(JoinReal, TwoProcessesOverLoopback) {
  int to_child[2], to_parent[2];
  ASSERT_EQ(pipe(to_child), 0);
  ASSERT_EQ(pipe(to_parent), 0);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    ::close(to_child[1]);
    ::close(to_parent[0]);
    {
      std::unique_ptr<contract::WorldUnderTest> real = make_real_world();
      FirstNode node(real->world(), real->scratch_dir(), to_child[0], to_parent[1]);
      real->run(first_node(node));
    }
    _exit(0);
  }
  ::close(to_child[0]);
  ::close(to_parent[1]);
  const std::string token = hear(to_parent[0]);
  const std::string address = hear(to_parent[0]);
  const std::string first = hear(to_parent[0]);
  ASSERT_FALSE(first.empty()) << "the first node did not come up";
  {
    std::unique_ptr<contract::WorldUnderTest> real = make_real_world();
    real->run(second_node(real->world(), real->scratch_dir(), token, address, first));
    for (const char* name : {"", "/ca.pem", "/node.pem"}) {
      struct stat info {};
      EXPECT_EQ(stat((real->scratch_dir() + "/trust" + name).c_str(), &info), 0) << name;
      EXPECT_EQ(info.st_mode & 077, 0u) << name;
    }
    struct stat info {};
    EXPECT_NE(stat((real->scratch_dir() + "/trust/joining.pem").c_str(), &info), 0)
        << "the joining key stayed";
    EXPECT_NE(stat((real->scratch_dir() + "/trust/signer.pem").c_str(), &info), 0);
  }
  ::close(to_child[1]);
  int status = 1;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  ::close(to_parent[0]);
}

}  // namespace
}  // namespace hf::auth
