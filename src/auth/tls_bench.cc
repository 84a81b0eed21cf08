// What TLS costs: messages over loopback from one loop to itself, plain and encrypted, in one run.
// Prints the rate and the CPU (user and system, both ends together) per message; asserts nothing.
//
//   ninja -C build tls_bench && build/src/auth/tls_bench
#include <sys/resource.h>

#include <cstdio>

#include "auth/testing/test_trust.h"
#include "runtime/gate.h"
#include "uring/uring_world.h"

namespace hf::auth {
namespace {

constexpr Duration kRunTime = 2s;

struct Usage {
  int64_t user_ns = 0, system_ns = 0;
};
Usage usage() {
  rusage raw{};
  HF_ASSERT(getrusage(RUSAGE_SELF, &raw) == 0);
  auto ns = [](const timeval& t) { return int64_t{t.tv_sec} * 1'000'000'000 + t.tv_usec * 1000; };
  return Usage{ns(raw.ru_utime), ns(raw.ru_stime)};
}

struct Pair {
  std::unique_ptr<Listener> listener;
  std::unique_ptr<Stream> client, server;
};

Task<void> accept_into(Listener& listener, std::unique_ptr<Stream>* out) {
  Result<std::unique_ptr<Stream>> stream = co_await listener.accept();
  HF_ASSERT(stream.ok(), "{}", stream.error().to_string());
  *out = std::move(*stream);
}
Task<void> connect_pair(Network& net, Pair* pair) {
  ListenOptions options;
  Result<std::unique_ptr<Listener>> listener = co_await net.listen("tcp:127.0.0.1:0", options);
  HF_ASSERT(listener.ok());
  pair->listener = std::move(*listener);
  Gate gate;
  spawn(gate, accept_into(*pair->listener, &pair->server));
  Result<std::unique_ptr<Stream>> client = co_await net.connect(pair->listener->address(), 5s);
  HF_ASSERT(client.ok());
  pair->client = std::move(*client);
  co_await gate.close();
}

// A header and a payload, as peers send them.
Task<void> send_all(Clock& clock, Stream& stream, size_t payload, uint64_t* sent) {
  const std::vector<std::byte> head(64), body(payload);
  const MonoTime end = clock.now() + kRunTime;
  while (clock.now() < end) {
    const ByteSpan segments[2] = {head, body};
    Status status = co_await stream.write_all(segments);
    HF_ASSERT(status.ok(), "{}", status.error().to_string());
    ++*sent;
  }
  stream.close();
}
Task<void> receive_all(Stream& stream) {
  std::vector<std::byte> buffer(256 * 1024);
  while (true) {
    Result<size_t> n = co_await stream.read_some(buffer);
    if (!n.ok() || *n == 0) co_return;
  }
}
Task<void> stream_one_way(World& world, Network& net, const char* name, size_t payload) {
  Pair pair;
  co_await connect_pair(net, &pair);
  const Usage before = usage();
  const MonoTime start = world.clock.now();
  uint64_t sent = 0;
  Gate gate;
  spawn(gate, send_all(world.clock, *pair.client, payload, &sent));
  spawn(gate, receive_all(*pair.server));
  co_await gate.close();
  const Usage after = usage();
  const double seconds = static_cast<double>((world.clock.now() - start).count()) / 1e9;
  const double n = static_cast<double>(sent);
  std::printf(
      "%-6s one way  %7zu B: %9.0f /s %8.1f MiB/s  CPU %6.2f us (user %5.2f, system %5.2f)\n", name,
      payload, n / seconds, n / seconds * static_cast<double>(payload) / 1048576,
      static_cast<double>(after.user_ns - before.user_ns + after.system_ns - before.system_ns) / n /
          1e3,
      static_cast<double>(after.user_ns - before.user_ns) / n / 1e3,
      static_cast<double>(after.system_ns - before.system_ns) / n / 1e3);
}

Task<void> echo(Stream& stream, size_t payload) {
  std::vector<std::byte> buffer(payload + 64);
  const std::vector<std::byte> answer(32);
  while (true) {
    Status got = co_await stream.read_exact(buffer);
    if (!got.ok()) co_return;
    Status sent = co_await stream.write_bytes(answer);
    if (!sent.ok()) co_return;
  }
}
// One message with payload there, a short answer back: a replicated write at queue depth 1.
Task<void> ping_pong(World& world, Network& net, const char* name, size_t payload) {
  Pair pair;
  co_await connect_pair(net, &pair);
  Gate gate;
  spawn(gate, echo(*pair.server, payload));
  const std::vector<std::byte> head(64), body(payload);
  std::vector<std::byte> answer(32);
  const Usage before = usage();
  const MonoTime start = world.clock.now();
  uint64_t rounds = 0;
  while (world.clock.now() - start < kRunTime) {
    const ByteSpan segments[2] = {head, body};
    Status sent = co_await pair.client->write_all(segments);
    HF_ASSERT(sent.ok());
    Status got = co_await pair.client->read_exact(answer);
    HF_ASSERT(got.ok());
    ++rounds;
  }
  const Usage after = usage();
  const double n = static_cast<double>(rounds);
  std::printf(
      "%-6s there and back %zu B: %8.2f us each, CPU %6.2f us\n", name, payload,
      static_cast<double>((world.clock.now() - start).count()) / n / 1e3,
      static_cast<double>(after.user_ns - before.user_ns + after.system_ns - before.system_ns) / n /
          1e3);
  pair.client->close();
  co_await gate.close();
}

Task<void> handshakes(World& world, Network& net) {
  const Usage before = usage();
  const MonoTime start = world.clock.now();
  uint64_t rounds = 0;
  while (world.clock.now() - start < 1s) {
    Pair pair;
    co_await connect_pair(net, &pair);
    pair.listener->close();
    ++rounds;
  }
  const Usage after = usage();
  std::printf(
      "tls    connection and handshake: CPU %.0f us, both ends\n",
      static_cast<double>(after.user_ns - before.user_ns + after.system_ns - before.system_ns) /
          static_cast<double>(rounds) / 1e3);
}

Task<void> all(World& world, TlsNetwork& tls, TlsEndpoint& endpoint) {
  for (const size_t payload : {4096ul, 65536ul, 1048576ul}) {
    co_await stream_one_way(world, world.net, "plain", payload);
    co_await stream_one_way(world, tls, "tls", payload);
  }
  co_await ping_pong(world, world.net, "plain", 4096);
  co_await ping_pong(world, tls, "tls", 4096);
  co_await handshakes(world, tls);
  co_await endpoint.stop();
}

}  // namespace
}  // namespace hf::auth

int main() {
  using namespace hf;        // NOLINT
  using namespace hf::auth;  // NOLINT
  Result<std::unique_ptr<UringWorld>> real = UringWorld::create(UringWorldOptions());
  HF_ASSERT(real.ok(), "{}", real.error().to_string());
  World& world = (*real)->world();
  const TestCluster cluster(world.clock.wall());
  TlsEndpoint endpoint(world.clock, TlsUse::kPeer, cluster.credentials(1));
  TlsNetwork tls(world.net, endpoint);
  (*real)->loop().run_until(all(world, tls, endpoint));
  return 0;
}
