// Streams between simulated hosts: what arrives, what is held back, what breaks.
#include <gtest/gtest.h>

#include <set>
#include <vector>

#include "sim/disk_bench.h"

namespace hf::sim {
namespace {

struct NetBench {
  explicit NetBench(uint64_t seed)
      : sim(seed), a(sim.add_host("a")), b(sim.add_host("b")), client(a), server(b) {}
  Simulation sim;
  SimHost& a;
  SimHost& b;
  SimProcess client;
  SimProcess server;
};

const char* const kServerAddress = "tcp:10.0.0.2:700";

struct Pair {
  std::unique_ptr<Listener> listener;
  std::unique_ptr<Stream> near, far;  // client's and server's end
};

Task<void> accept_one(Listener& listener, std::unique_ptr<Stream>* out) {
  Result<std::unique_ptr<Stream>> stream = co_await listener.accept();
  if (stream.ok()) *out = std::move(*stream);
}

Task<void> connect_pair(NetBench& bench, Pair* pair) {
  ListenOptions options;
  Result<std::unique_ptr<Listener>> listener =
      co_await bench.server.world().net.listen(kServerAddress, options);
  HF_CO_ASSERT_OK(listener);
  pair->listener = std::move(*listener);
  Gate gate;
  spawn(gate, accept_one(*pair->listener, &pair->far));
  Result<std::unique_ptr<Stream>> stream =
      co_await bench.client.world().net.connect(kServerAddress, 1s);
  HF_CO_ASSERT_OK(stream);
  pair->near = std::move(*stream);
  co_await gate.close();
}

struct Received {
  std::string bytes;
  ErrorCode end = ErrorCode::kOk;  // kOk: an end in order
  std::vector<size_t> pieces;
  SimTime at = 0;
};

Task<void> receive(SimLoop& loop, Stream& stream, Received* out) {
  while (true) {
    std::byte buffer[8192];
    Result<size_t> n = co_await stream.read_some(buffer);
    out->end = n.code();
    out->at = loop.now();
    if (!n.ok() || *n == 0) co_return;
    out->bytes += std::string(reinterpret_cast<const char*>(buffer), *n);
    out->pieces.push_back(*n);
  }
}

std::string pattern(size_t length) {
  std::string out(length, '\0');
  for (size_t i = 0; i < length; ++i) out[i] = static_cast<char>(i * 7 + i / 251);
  return out;
}

Task<void> transfer(NetBench& bench, Received* got) {
  Pair pair;
  co_await connect_pair(bench, &pair);
  if (!pair.near) co_return;
  Gate gate;
  spawn(gate, receive(bench.sim.loop(), *pair.far, got));
  const std::string data = pattern(1'000'000);
  const ByteSpan parts[] = {as_bytes(data).first(10), as_bytes(data).subspan(10)};
  Status sent = co_await pair.near->write_all(parts);
  HF_CO_ASSERT_OK(sent);
  pair.near->close();
  co_await gate.close();
  EXPECT_TRUE(got->bytes == data);
  EXPECT_EQ(got->end, ErrorCode::kOk);
}

TEST(SimNet, BytesArriveInOrderCutAnywhereThroughABoundedWindow) {
  std::set<size_t> first_pieces;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    NetBench bench(seed);
    Received got;
    bench.sim.run(transfer(bench, &got));
    ASSERT_FALSE(got.pieces.empty());
    first_pieces.insert(got.pieces.front());
  }
  EXPECT_GT(first_pieces.size(), 5u);
}

Task<void> backpressure(NetBench& bench) {
  Pair pair;
  co_await connect_pair(bench, &pair);
  if (!pair.near) co_return;
  const std::string data = pattern(SimNet::kWindow + 1);
  bool sent_all = false;
  struct Sender {
    static Task<void> run(Stream& stream, ByteSpan bytes, bool* done) {
      Status sent = co_await stream.write_bytes(bytes);
      *done = sent.ok();
    }
  };
  Gate gate;
  spawn(gate, Sender::run(*pair.near, as_bytes(data), &sent_all));
  Status slept = co_await bench.sim.driver().clock.sleep_for(10s, CancelToken());
  HF_CO_ASSERT_OK(slept);
  EXPECT_FALSE(sent_all) << "nobody has read";
  std::vector<std::byte> all(data.size());
  Status read = co_await pair.far->read_exact(all);
  HF_CO_ASSERT_OK(read);
  co_await gate.close();
  EXPECT_TRUE(sent_all);
}

TEST(SimNet, AFullWindowHoldsTheWriter) {
  NetBench bench(1);
  bench.sim.run(backpressure(bench));
}

Task<void> blocked_link(NetBench& bench, bool one_way) {
  Pair pair;
  co_await connect_pair(bench, &pair);
  if (!pair.near) co_return;
  if (one_way) {
    bench.sim.net().set_blocked("a", "b", true);
  } else {
    bench.sim.net().partition("a", "b");
  }
  Received got;
  Gate gate;
  spawn(gate, receive(bench.sim.loop(), *pair.far, &got));
  Status sent = co_await pair.near->write_bytes(as_bytes("held back"));
  HF_CO_ASSERT_OK(sent);
  if (one_way) {  // the other way flows
    Status back = co_await pair.far->write_bytes(as_bytes("x"));
    HF_CO_ASSERT_OK(back);
    std::byte buffer[1];
    back = co_await pair.near->read_exact(buffer);
    HF_CO_ASSERT_OK(back);
  }
  Clock& clock = bench.sim.driver().clock;
  Status slept = co_await clock.sleep_for(30s, CancelToken());
  HF_CO_ASSERT_OK(slept);
  EXPECT_EQ(got.bytes, "");
  Result<std::unique_ptr<Stream>> second =
      co_await bench.client.world().net.connect(kServerAddress, 2s);
  EXPECT_EQ(second.code(), ErrorCode::kTimeout);
  bench.sim.net().heal_all();
  slept = co_await clock.sleep_for(10s, CancelToken());
  HF_CO_ASSERT_OK(slept);
  EXPECT_EQ(got.bytes, "held back");
  // For ever blocked: the sender learns it after a quarter of an hour.
  bench.sim.net().partition("a", "b");
  sent = co_await pair.near->write_bytes(as_bytes("never"));
  HF_CO_ASSERT_OK(sent);
  std::byte buffer[1];
  const SimTime before = bench.sim.loop().now();
  Status read = co_await pair.near->read_exact(buffer);
  EXPECT_EQ(read.code(), ErrorCode::kClosed);
  EXPECT_GE(bench.sim.loop().now() - before, SimNet::kGiveUp.count());
  pair.far->close();
  co_await gate.close();
}

TEST(SimNet, ABlockedLinkHoldsBackUntilItHeals) {
  for (const bool one_way : {false, true}) {
    NetBench bench(1);
    bench.sim.run(blocked_link(bench, one_way));
  }
}

Task<void> death_of_server(NetBench& bench, bool unread) {
  Pair pair;
  co_await connect_pair(bench, &pair);
  if (!pair.near) co_return;
  if (unread) {
    Status sent = co_await pair.near->write_bytes(as_bytes("unread"));
    HF_CO_ASSERT_OK(sent);
    Status slept = co_await bench.sim.driver().clock.sleep_for(1s, CancelToken());
    HF_CO_ASSERT_OK(slept);
  }
  Received got;
  Gate gate;
  spawn(gate, receive(bench.sim.loop(), *pair.near, &got));
  bench.server.kill();
  co_await gate.close();
  EXPECT_EQ(got.end, unread ? ErrorCode::kClosed : ErrorCode::kOk);
  Result<std::unique_ptr<Stream>> second =
      co_await bench.client.world().net.connect(kServerAddress, 1s);
  EXPECT_EQ(second.code(), ErrorCode::kUnavailable);
  std::byte buffer[1];
  Status dead = co_await pair.far->read_exact(buffer);
  EXPECT_EQ(dead.code(), ErrorCode::kCancelled);
  // Its address is free for the next life.
  bench.server.restart();
  pair.near.reset();
  pair.far.reset();
  pair.listener.reset();
  co_await connect_pair(bench, &pair);
  EXPECT_TRUE(pair.near != nullptr);
}

TEST(SimNet, AKilledProcessClosesItsSockets) {
  for (const bool unread : {false, true}) {
    NetBench bench(1);
    bench.sim.run(death_of_server(bench, unread));
  }
}

Task<void> power_of_server(NetBench& bench) {
  Pair pair;
  co_await connect_pair(bench, &pair);
  if (!pair.near) co_return;
  Received got;
  Gate gate;
  spawn(gate, receive(bench.sim.loop(), *pair.near, &got));
  bench.b.power_loss();
  Clock& clock = bench.sim.driver().clock;
  Status slept = co_await clock.sleep_for(60s, CancelToken());
  HF_CO_ASSERT_OK(slept);
  EXPECT_EQ(gate.inside(), 1u) << "silence";
  Status sent = co_await pair.near->write_bytes(as_bytes("anybody?"));
  HF_CO_ASSERT_OK(sent);
  slept = co_await clock.sleep_for(10s, CancelToken());
  HF_CO_ASSERT_OK(slept);
  EXPECT_EQ(gate.inside(), 1u) << "still silence";
  bench.b.power_on();
  co_await gate.close();
  EXPECT_EQ(got.end, ErrorCode::kClosed) << "the host is back and knows nothing of the stream";
}

TEST(SimNet, AHostWithoutPowerIsSilentAndThenResets) {
  NetBench bench(1);
  bench.sim.run(power_of_server(bench));
}

Task<void> small_things(NetBench& bench) {
  Network& net = bench.client.world().net;
  ListenOptions options;
  Result<std::unique_ptr<Listener>> local = co_await net.listen("unix:/run/x.sock", options);
  HF_CO_ASSERT_OK(local);
  Result<std::unique_ptr<Listener>> twice = co_await net.listen("unix:/run/x.sock", options);
  EXPECT_EQ(twice.code(), ErrorCode::kInUse);
  Result<std::unique_ptr<Stream>> stream =
      co_await bench.server.world().net.connect("unix:/run/x.sock", 1s);
  EXPECT_EQ(stream.code(), ErrorCode::kUnavailable) << "another host";
  stream = co_await net.connect("unix:/run/x.sock", 1s);
  HF_CO_ASSERT_OK(stream);
  Result<std::unique_ptr<Listener>> any = co_await net.listen("tcp:127.0.0.1:0", options);
  HF_CO_ASSERT_OK(any);
  EXPECT_NE((*any)->address(), "tcp:127.0.0.1:0");
  stream = co_await net.connect((*any)->address(), 1s);
  EXPECT_TRUE(stream.ok());
  stream = co_await net.connect("tcp:10.9.9.9:1", 1s);
  EXPECT_EQ(stream.code(), ErrorCode::kTimeout) << "nobody has this address";
  for (const char* bad :
       {"", "tcp:", "tcp:1.2.3.4", "tcp:1.2.3.4:99999", "tcp:1.2.3.4:x", "udp:x:1"}) {
    stream = co_await net.connect(bad, 1s);
    EXPECT_EQ(stream.code(), ErrorCode::kInvalidArgument) << bad;
  }
  // A reset by the network reaches both ends.
  Pair pair;
  co_await connect_pair(bench, &pair);
  if (!pair.near) co_return;
  bench.sim.net().reset_streams("a", "b");
  std::byte buffer[1];
  Status read = co_await pair.near->read_exact(buffer);
  EXPECT_EQ(read.code(), ErrorCode::kClosed);
  read = co_await pair.far->read_exact(buffer);
  EXPECT_EQ(read.code(), ErrorCode::kClosed);
  Status write = co_await pair.far->write_bytes(as_bytes("x"));
  EXPECT_EQ(write.code(), ErrorCode::kClosed);
}

TEST(SimNet, AddressesListenersAndResets) {
  NetBench bench(1);
  bench.sim.run(small_things(bench));
  EXPECT_EQ(bench.sim.net().open_connections(), 0u);
}

Task<void> two_streams(NetBench& bench, std::string* order) {
  Pair one, two;
  co_await connect_pair(bench, &one);
  one.listener.reset();
  co_await connect_pair(bench, &two);
  if (!one.near || !two.near) co_return;
  Status sent = co_await one.near->write_bytes(as_bytes("1"));
  HF_CO_ASSERT_OK(sent);
  sent = co_await two.near->write_bytes(as_bytes("2"));
  HF_CO_ASSERT_OK(sent);
  one.near->close();
  two.near->close();
  Received first, second;
  Gate gate;
  spawn(gate, receive(bench.sim.loop(), *one.far, &first));
  spawn(gate, receive(bench.sim.loop(), *two.far, &second));
  co_await gate.close();
  *order = first.at <= second.at ? "12" : "21";
}

TEST(SimNet, StreamsOvertakeEachOther) {
  std::set<std::string> orders;
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    NetBench bench(seed);
    std::string order;
    bench.sim.run(two_streams(bench, &order));
    orders.insert(order);
  }
  EXPECT_EQ(orders.size(), 2u);
}

Task<void> transfer_until_reset(NetBench& bench, Received* got, bool* sent_all) {
  Pair pair;
  co_await connect_pair(bench, &pair);
  if (!pair.near) co_return;
  Gate gate;
  spawn(gate, receive(bench.sim.loop(), *pair.far, got));
  const std::string data = pattern(100'000);
  Status sent;
  for (size_t at = 0; at < data.size() && sent.ok(); at += 1000) {
    sent = co_await pair.near->write_bytes(as_bytes(data).subspan(at, 1000));
  }
  *sent_all = sent.ok();
  pair.near->close();
  co_await gate.close();
  EXPECT_TRUE(data.starts_with(got->bytes)) << "never anything else than what was sent";
  EXPECT_TRUE(got->end != ErrorCode::kOk || got->bytes == data) << "an end in order is the end";
}

TEST(SimNet, ResetsAndStallsComeByThemselves) {
  int resets = 0;
  SimTime slowest = 0;
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    NetBench bench(seed);
    bench.sim.net().faults().reset_ppm = 3000;
    bench.sim.net().faults().stall_ppm = 3000;
    Received got;
    bool sent_all = false;
    bench.sim.run(transfer_until_reset(bench, &got, &sent_all));
    resets += got.end != ErrorCode::kOk;
    slowest = std::max(slowest, got.at);
  }
  EXPECT_GT(resets, 5);
  EXPECT_LT(resets, 45);
  EXPECT_GT(slowest, 1'000'000'000);
}

}  // namespace
}  // namespace hf::sim
