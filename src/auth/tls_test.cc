// TlsStream against everything that is not the friendly peer of the contract suite: strangers,
// tampering, cut connections, silence, revocation. Over the simulated network.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "auth/testing/test_trust.h"
#include "base/crc32c.h"
#include "runtime/contract/contract_support.h"
#include "sim/simulation.h"

namespace hf::auth {
namespace {

using ::testing::HasSubstr;

// A stream whose bytes somebody in the middle changes, or withholds.
class Meddler final : public Stream {
 public:
  explicit Meddler(std::unique_ptr<Stream> inner) : inner_(std::move(inner)) {}
  Task<Result<size_t>> read_some(MutableByteSpan out) override {
    Result<size_t> n = co_await inner_->read_some(out);
    if (n.ok() && *n > 0 && flip) {
      out[*n - 1] ^= std::byte{1};
      flip = false;
    }
    if (n.ok() && cut) co_return size_t{0};
    co_return n;
  }
  Task<Status> write_all(std::span<const ByteSpan> segments) override {
    return inner_->write_all(segments);
  }
  void close() override { inner_->close(); }
  const std::string& peer() const override { return inner_->peer(); }

  bool flip = false;  // one bit of the next read
  bool cut = false;   // an orderly end of the transport, but not of TLS

 private:
  std::unique_ptr<Stream> inner_;
};

struct Sides {
  Result<std::unique_ptr<TlsStream>> client = make_error(ErrorCode::kInternal, "never");
  Result<std::unique_ptr<TlsStream>> server = make_error(ErrorCode::kInternal, "never");
  Meddler* server_side = nullptr;
  Meddler* client_side = nullptr;
};

class Tls : public ::testing::Test {
 protected:
  Tls()
      : openssl_(1),
        sim_(1),
        host_(sim_.add_host("a")),
        process_(host_),
        cluster_(world().clock.wall()) {}
  World& world() { return process_.world(); }
  void run(Task<void> task) { sim_.run(std::move(task)); }
  std::unique_ptr<TlsEndpoint> endpoint(Credentials credentials, TlsUse use = TlsUse::kPeer) {
    return std::make_unique<TlsEndpoint>(world().clock, use, std::move(credentials));
  }
  std::unique_ptr<TlsEndpoint> node(uint64_t n) { return endpoint(cluster_.credentials(n)); }

  SeededOpenssl openssl_;
  sim::Simulation sim_;
  sim::SimHost& host_;
  sim::SimProcess process_;
  TestCluster cluster_;
};

Task<void> accept_raw(Listener& listener, std::unique_ptr<Stream>* out) {
  Result<std::unique_ptr<Stream>> stream = co_await listener.accept();
  EXPECT_TRUE(stream.ok());
  if (stream.ok()) *out = std::move(*stream);
}

Task<void> serve_side(TlsEndpoint& endpoint, std::unique_ptr<Stream> raw, Sides* sides) {
  sides->server = co_await endpoint.accept(std::move(raw), 2s);
}

// Connected plain streams with a meddler at each end.
Task<void> raw_pair(World& world, std::unique_ptr<Stream>* client,
                    std::unique_ptr<Stream>* server) {
  ListenOptions options;
  Result<std::unique_ptr<Listener>> listener =
      co_await world.net.listen("tcp:127.0.0.1:0", options);
  HF_CO_ASSERT_OK(listener);
  Gate gate;
  spawn(gate, accept_raw(**listener, server));
  Result<std::unique_ptr<Stream>> connected =
      co_await world.net.connect((*listener)->address(), 1s);
  HF_CO_ASSERT_OK(connected);
  *client = std::move(*connected);
  co_await gate.close();
}

Task<void> shake(World& world, TlsEndpoint& client, TlsEndpoint& server,
                 std::optional<NodeId> expected, Sides* sides) {
  std::unique_ptr<Stream> raw_client, raw_server;
  co_await raw_pair(world, &raw_client, &raw_server);
  auto near = std::make_unique<Meddler>(std::move(raw_client));
  auto far = std::make_unique<Meddler>(std::move(raw_server));
  sides->client_side = near.get();
  sides->server_side = far.get();
  Gate gate;
  std::unique_ptr<Stream> far_stream = std::move(far);
  spawn(gate, serve_side(server, std::move(far_stream), sides));
  std::unique_ptr<Stream> near_stream = std::move(near);
  sides->client = co_await client.connect(std::move(near_stream), expected, 2s);
  co_await gate.close();
}

// What the client learns when the server has refused it: at the latest with its first read.
Task<ErrorCode> first_word(Sides& sides, std::string* message) {
  if (!sides.client.ok()) {
    *message = sides.client.error().message();
    co_return sides.client.code();
  }
  std::byte buffer[1];
  Result<size_t> n = co_await (*sides.client)->read_some(buffer);
  *message = n.ok() ? "" : n.error().message();
  co_return n.code();
}

Task<void> stop_both(TlsEndpoint& a, TlsEndpoint& b, Sides& sides) {
  if (sides.client.ok()) sides.client->reset();
  if (sides.server.ok()) sides.server->reset();
  co_await a.stop();
  co_await b.stop();
}

Task<void> knows_each_other(World& world, TlsEndpoint& a, TlsEndpoint& b) {
  Sides sides;
  co_await shake(world, a, b, test_id<NodeId>(2), &sides);
  HF_CO_ASSERT_OK(sides.client);
  HF_CO_ASSERT_OK(sides.server);
  EXPECT_EQ((*sides.client)->identity()->node, test_id<NodeId>(2));
  EXPECT_EQ((*sides.server)->identity()->node, test_id<NodeId>(1));
  EXPECT_EQ(peer_identity(**sides.server)->node, test_id<NodeId>(1));
  EXPECT_THAT((*sides.client)->peer(), HasSubstr("node " + test_id<NodeId>(2).to_string()));
  co_await stop_both(a, b, sides);
}
TEST_F(Tls, BothSidesKnowWhoTheOtherIs) {
  auto a = node(1), b = node(2);
  run(knows_each_other(world(), *a, *b));
}

Task<void> other_node(World& world, TlsEndpoint& a, TlsEndpoint& b) {
  Sides sides;
  co_await shake(world, a, b, test_id<NodeId>(3), &sides);
  EXPECT_EQ(sides.client.code(), ErrorCode::kUnauthenticated);
  EXPECT_THAT(sides.client.error().message(), HasSubstr("changed hands"));
  EXPECT_FALSE(sides.server.ok());
  co_await stop_both(a, b, sides);
}
TEST_F(Tls, AnotherNodeAtTheAddressIsRefused) {
  auto a = node(1), b = node(2);
  run(other_node(world(), *a, *b));
}

// The server refuses: it says `at_server`, and the client gets `at_client` as a sentence.
Task<void> server_refuses(World& world, TlsEndpoint& client, TlsEndpoint& server,
                          ErrorCode at_server, ErrorCode at_client, std::string word) {
  Sides sides;
  co_await shake(world, client, server, std::nullopt, &sides);
  EXPECT_EQ(sides.server.code(), at_server)
      << (sides.server.ok() ? "" : sides.server.error().message());
  std::string message;
  ErrorCode code = co_await first_word(sides, &message);
  EXPECT_EQ(code, at_client) << message;
  EXPECT_THAT(message, HasSubstr(word));
  co_await stop_both(client, server, sides);
}

TEST_F(Tls, TwoClustersOnOneNetworkRefuseEachOther) {
  const TestCluster other(world().clock.wall(), 2);
  auto a = node(1), b = endpoint(other.credentials(1));
  run(server_refuses(world(), *a, *b, ErrorCode::kUnauthenticated, ErrorCode::kWrongOwner,
                     "belongs to cluster"));
}

TEST_F(Tls, RevokedNodeIsRefusedAndToldSo) {
  auto a = node(1), b = node(2);
  b->set_revoked({test_id<NodeId>(1)});
  run(server_refuses(world(), *a, *b, ErrorCode::kPermissionDenied, ErrorCode::kPermissionDenied,
                     "decommissioned"));
}

TEST_F(Tls, ExpiredNodeIsRefusedAndToldSo) {
  Credentials old = cluster_.credentials(1);
  CertificateOrder order = cluster_.order(1, old.key);
  order.not_after = WallTime{world().clock.wall().ns - 1'000'000'000};
  order.not_before = WallTime{order.not_after.ns - 3'600'000'000'000};
  old.certificate = cluster_.authority.issue(order).value();
  auto a = endpoint(old), b = node(2);
  run(server_refuses(world(), *a, *b, ErrorCode::kFailedPrecondition,
                     ErrorCode::kFailedPrecondition, "clock"));
}

TEST_F(Tls, SomebodyWithoutACertificateIsRefusedByPeersAndHeardByTheJoinService) {
  TlsEndpoint stranger(world().clock, cluster_.id,
                       fingerprint_of(cluster_.authority.certificate()));
  auto peer = node(2);
  // Another protocol first of all.
  run(server_refuses(world(), stranger, *peer, ErrorCode::kProtocol, ErrorCode::kProtocol,
                     "protocol"));
}

Task<void> joiner(World& world, TlsEndpoint& client, TlsEndpoint& server, bool welcome) {
  Sides sides;
  co_await shake(world, client, server, std::nullopt, &sides);
  EXPECT_EQ(sides.client.ok(), welcome);
  if (welcome) {
    EXPECT_TRUE(sides.server.ok());
    EXPECT_FALSE((*sides.server)->identity().has_value());
  } else {
    EXPECT_EQ(sides.client.code(), ErrorCode::kUnauthenticated);
  }
  co_await stop_both(client, server, sides);
}
TEST_F(Tls, JoinerBelievesTheFingerprintAndNothingElse) {
  TlsEndpoint knows(world().clock, cluster_.id, fingerprint_of(cluster_.authority.certificate()));
  auto answers = endpoint(cluster_.credentials(2), TlsUse::kJoinAnswer);
  run(joiner(world(), knows, *answers, true));
  // A CA of the same cluster id that is not the one of the token.
  const TestCluster forger(world().clock.wall(), 1);
  TlsEndpoint again(world().clock, cluster_.id, fingerprint_of(cluster_.authority.certificate()));
  auto forged = endpoint(forger.credentials(2), TlsUse::kJoinAnswer);
  run(joiner(world(), again, *forged, false));
}

Task<void> read_error(TlsStream& stream, ErrorCode* code) {
  std::byte buffer[64];
  Result<size_t> n = co_await stream.read_some(buffer);
  *code = n.code();
  EXPECT_FALSE(n.ok() && *n == 0) << "taken for the end that the peer meant";
  // And so for good.
  if (n.ok()) co_return;
  Result<size_t> again = co_await stream.read_some(buffer);
  EXPECT_EQ(again.code(), n.code());
}

Task<void> cut_off(World& world, TlsEndpoint& a, TlsEndpoint& b) {
  Sides sides;
  co_await shake(world, a, b, std::nullopt, &sides);
  HF_CO_ASSERT(sides.client.ok() && sides.server.ok());
  Status sent = co_await (*sides.client)->write_bytes(as_bytes("the first half"));
  EXPECT_TRUE(sent.ok());
  sides.server_side->cut = true;
  ErrorCode code = ErrorCode::kOk;
  co_await read_error(**sides.server, &code);
  EXPECT_EQ(code, ErrorCode::kClosed);
  co_await stop_both(a, b, sides);
}
TEST_F(Tls, AnEndThatThePeerDidNotSayIsAnError) {
  auto a = node(1), b = node(2);
  run(cut_off(world(), *a, *b));
}

Task<void> tampered(World& world, TlsEndpoint& a, TlsEndpoint& b) {
  Sides sides;
  co_await shake(world, a, b, std::nullopt, &sides);
  HF_CO_ASSERT(sides.client.ok() && sides.server.ok());
  sides.server_side->flip = true;
  Status sent = co_await (*sides.client)->write_bytes(as_bytes("attack at dawn"));
  EXPECT_TRUE(sent.ok());
  ErrorCode code = ErrorCode::kOk;
  co_await read_error(**sides.server, &code);
  EXPECT_EQ(code, ErrorCode::kProtocol);
  Status answer = co_await (*sides.server)->write_bytes(as_bytes("no"));
  EXPECT_FALSE(answer.ok());
  co_await stop_both(a, b, sides);
}
TEST_F(Tls, AFlippedBitIsAnError) {
  auto a = node(1), b = node(2);
  run(tampered(world(), *a, *b));
}

Task<void> silence(World& world, TlsEndpoint& b, Duration* took) {
  std::unique_ptr<Stream> client, server;
  co_await raw_pair(world, &client, &server);
  const MonoTime start = world.clock.now();
  Result<std::unique_ptr<TlsStream>> tls = co_await b.accept(std::move(server), 2s);
  EXPECT_EQ(tls.code(), ErrorCode::kTimeout);
  *took = world.clock.now() - start;
  co_await b.stop();
}
TEST_F(Tls, AHandshakeThatDoesNotComeEndsInTime) {
  auto b = node(2);
  Duration took{};
  run(silence(world(), *b, &took));
  EXPECT_GE(took, 2s);
  EXPECT_LT(took, 2100ms);
}

Task<void> nonsense(World& world, TlsEndpoint& b) {
  std::unique_ptr<Stream> client, server;
  co_await raw_pair(world, &client, &server);
  Status sent = co_await client->write_bytes(as_bytes("GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
  EXPECT_TRUE(sent.ok());
  Result<std::unique_ptr<TlsStream>> tls = co_await b.accept(std::move(server), 2s);
  EXPECT_EQ(tls.code(), ErrorCode::kProtocol);
  client->close();
  co_await b.stop();
}
TEST_F(Tls, WhoDoesNotSpeakTlsIsTold) {
  auto b = node(2);
  run(nonsense(world(), *b));
}

Task<void> pour(TlsStream& stream, size_t total, uint32_t* crc) {
  Prng prng(3);
  std::vector<std::byte> bytes(total);
  contract::fill_random(prng, bytes);
  *crc = crc32c(bytes);
  for (size_t at = 0; at < total;) {
    const size_t n = std::min<size_t>(total - at, prng.between(1, 9000));
    Status sent = co_await stream.write_bytes(ByteSpan(bytes).subspan(at, n));
    HF_CO_ASSERT_OK(sent);
    at += n;
  }
}
Task<void> drink(TlsStream& stream, size_t total, uint32_t* crc) {
  std::vector<std::byte> bytes(total);
  Status got = co_await stream.read_exact(bytes);
  EXPECT_TRUE(got.ok());
  *crc = crc32c(bytes);
}
Task<void> rekeys(World& world, TlsEndpoint& a, TlsEndpoint& b) {
  a.set_rekey_records(3);
  b.set_rekey_records(5);
  Sides sides;
  co_await shake(world, a, b, std::nullopt, &sides);
  HF_CO_ASSERT(sides.client.ok() && sides.server.ok());
  constexpr size_t kTotal = 512 * kKiB;
  uint32_t out[2] = {}, in[2] = {1, 1};
  Gate gate;
  spawn(gate, pour(**sides.client, kTotal, &out[0]));
  spawn(gate, pour(**sides.server, kTotal, &out[1]));
  spawn(gate, drink(**sides.server, kTotal, &in[0]));
  spawn(gate, drink(**sides.client, kTotal, &in[1]));
  co_await gate.close();
  EXPECT_EQ(in[0], out[0]);
  EXPECT_EQ(in[1], out[1]);
  co_await stop_both(a, b, sides);
}
TEST_F(Tls, KeysChangeUnderLoad) {
  auto a = node(1), b = node(2);
  run(rekeys(world(), *a, *b));
  EXPECT_GT(sim_.plan().probes().at("tls.rekeyed"), 50u);
}

Task<void> wait_read(TlsStream& stream, ErrorCode* code) {
  std::byte buffer[1];
  Result<size_t> n = co_await stream.read_some(buffer);
  *code = n.code();
}
Task<void> revoked_while_open(World& world, TlsEndpoint& a, TlsEndpoint& b) {
  Sides sides;
  co_await shake(world, a, b, std::nullopt, &sides);
  HF_CO_ASSERT(sides.client.ok() && sides.server.ok());
  Gate gate;
  ErrorCode code = ErrorCode::kOk;
  spawn(gate, wait_read(**sides.server, &code));
  b.set_revoked({test_id<NodeId>(3)});
  Status slept = co_await world.clock.sleep_for(10ms, CancelToken());
  EXPECT_TRUE(slept.ok());
  EXPECT_EQ(code, ErrorCode::kOk) << "another node's revocation";
  b.set_revoked({test_id<NodeId>(1), test_id<NodeId>(3)});
  co_await gate.close();
  EXPECT_EQ(code, ErrorCode::kPermissionDenied);
  Status write = co_await (*sides.server)->write_bytes(as_bytes("x"));
  EXPECT_EQ(write.code(), ErrorCode::kPermissionDenied);
  co_await stop_both(a, b, sides);
}
TEST_F(Tls, RevocationEndsWhatIsOpen) {
  auto a = node(1), b = node(2);
  run(revoked_while_open(world(), *a, *b));
}

Task<void> keep_accepting(Listener& listener, int* accepted) {
  while (true) {
    Result<std::unique_ptr<Stream>> stream = co_await listener.accept();
    if (!stream.ok()) co_return;
    ++*accepted;
  }
}
Task<void> slow_clients(World& world, TlsEndpoint& a, TlsEndpoint& b) {
  TlsNetwork out(world.net, a), in(world.net, b);
  ListenOptions options;
  Result<std::unique_ptr<Listener>> listener = co_await in.listen("tcp:127.0.0.1:0", options);
  HF_CO_ASSERT_OK(listener);
  Gate gate;
  int accepted = 0;
  spawn(gate, keep_accepting(**listener, &accepted));
  // These connect and say nothing.
  std::vector<std::unique_ptr<Stream>> mute;
  for (size_t i = 0; i < kMaxHandshakes / 2; ++i) {
    Result<std::unique_ptr<Stream>> one = co_await world.net.connect((*listener)->address(), 1s);
    HF_CO_ASSERT_OK(one);
    mute.push_back(std::move(*one));
  }
  const MonoTime start = world.clock.now();
  Result<std::unique_ptr<Stream>> good =
      co_await out.connect_to(test_id<NodeId>(2), (*listener)->address(), 1s);
  EXPECT_TRUE(good.ok());
  EXPECT_LT(world.clock.now() - start, 100ms) << "held up by those who say nothing";
  Status slept = co_await world.clock.sleep_for(kHandshakeTime * 2, CancelToken());
  EXPECT_TRUE(slept.ok());
  EXPECT_EQ(accepted, 1);
  (*listener)->close();
  co_await gate.close();
  if (good.ok()) good->reset();
  co_await a.stop();
  co_await b.stop();
}
TEST_F(Tls, WhoConnectsAndSaysNothingHoldsUpNobody) {
  auto a = node(1), b = node(2);
  run(slow_clients(world(), *a, *b));
}

Task<void> renewed(World& world, TlsEndpoint& a, TlsEndpoint& b, Credentials fresh) {
  Sides before, after;
  co_await shake(world, a, b, std::nullopt, &before);
  HF_CO_ASSERT(before.client.ok() && before.server.ok());
  b.replace(std::move(fresh));
  co_await shake(world, a, b, test_id<NodeId>(2), &after);
  HF_CO_ASSERT(after.client.ok() && after.server.ok());
  // What was open goes on.
  Status sent = co_await (*before.client)->write_bytes(as_bytes("x"));
  EXPECT_TRUE(sent.ok());
  std::byte buffer[1];
  Status got = co_await (*before.server)->read_exact(buffer);
  EXPECT_TRUE(got.ok());
  before.client->reset();
  before.server->reset();
  co_await stop_both(a, b, after);
}
TEST_F(Tls, ANewCertificateTakesTheOldOnesPlace) {
  auto a = node(1), b = node(2);
  run(renewed(world(), *a, *b, cluster_.credentials(2)));
}

TEST(TlsHistory, SameSeedSameHistory) {
  std::vector<uint64_t> hashes;
  for (int i = 0; i < 2; ++i) {
    SeededOpenssl openssl(9);
    sim::Simulation sim(9);
    sim::SimHost& host = sim.add_host("a");
    sim::SimProcess process(host);
    const TestCluster cluster(process.world().clock.wall());
    TlsEndpoint a(process.world().clock, TlsUse::kPeer, cluster.credentials(1));
    TlsEndpoint b(process.world().clock, TlsUse::kPeer, cluster.credentials(2));
    sim.run(rekeys(process.world(), a, b));
    hashes.push_back(sim.history().hash());
  }
  EXPECT_EQ(hashes[0], hashes[1]);
}

}  // namespace
}  // namespace hf::auth
