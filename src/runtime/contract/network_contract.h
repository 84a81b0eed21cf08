// The contract of Network, Listener and Stream (runtime/net.h). See world_factory.h.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/crc32c.h"
#include "base/prng.h"
#include "runtime/clock.h"
#include "runtime/contract/contract_support.h"
#include "runtime/contract/world_factory.h"
#include "runtime/net.h"

namespace hf::contract {

class NetworkContract : public WorldTest {
 protected:
  // One address of each family.
  std::vector<std::string> addresses() { return {"tcp:127.0.0.1:0", "unix:" + path("n.sock")}; }
};

// Two connected streams, as a test of streams wants them.
struct StreamPair {
  std::unique_ptr<Listener> listener;
  std::unique_ptr<Stream> client;
  std::unique_ptr<Stream> server;
};

inline Task<void> accept_into(Listener& listener, std::unique_ptr<Stream>* out) {
  Result<std::unique_ptr<Stream>> stream = co_await listener.accept();
  EXPECT_TRUE(stream.ok());
  if (stream.ok()) *out = std::move(*stream);
}

inline Task<void> make_pair_at(World& world, std::string address, StreamPair* pair) {
  ListenOptions options;
  Result<std::unique_ptr<Listener>> listener = co_await world.net.listen(address, options);
  HF_CO_ASSERT_OK(listener);
  pair->listener = std::move(*listener);
  Gate gate;
  spawn(gate, accept_into(*pair->listener, &pair->server));
  Result<std::unique_ptr<Stream>> client =
      co_await world.net.connect(pair->listener->address(), 5s);
  EXPECT_TRUE(client.ok());
  if (!client.ok()) pair->listener->close();
  co_await gate.close();
  if (client.ok()) pair->client = std::move(*client);
}

inline Task<void> say_and_answer(World& world, std::string address) {
  StreamPair pair;
  co_await make_pair_at(world, address, &pair);
  HF_CO_ASSERT(pair.client && pair.server);
  EXPECT_FALSE(pair.client->peer().empty());
  EXPECT_FALSE(pair.server->peer().empty());
  // Segments arrive one behind the other; empty ones are nothing.
  const ByteSpan segments[] = {as_bytes("he"), ByteSpan(), as_bytes("llo"), ByteSpan()};
  Status sent = co_await pair.client->write_all(segments);
  EXPECT_TRUE(sent.ok());
  std::byte buffer[5];
  Status got = co_await pair.server->read_exact(buffer);
  EXPECT_TRUE(got.ok());
  EXPECT_EQ(std::memcmp(buffer, "hello", 5), 0);
  const std::span<const ByteSpan> no_segments;
  Status nothing = co_await pair.server->write_all(no_segments);
  EXPECT_TRUE(nothing.ok());
  Status back = co_await pair.server->write_bytes(buffer);
  EXPECT_TRUE(back.ok());
  Status heard = co_await pair.client->read_exact(buffer);
  EXPECT_TRUE(heard.ok());
}
TEST_P(NetworkContract, BothSidesTalk) {
  for (const std::string& address : addresses()) run(say_and_answer(world(), address));
}

inline Task<void> pump_out(Stream& stream, uint64_t seed, uint32_t* crc) {
  Prng prng(seed);
  std::vector<std::byte> bytes(8 * kMiB);
  for (std::byte& b : bytes) b = static_cast<std::byte>(prng.next());
  *crc = crc32c(bytes);
  ByteSpan rest = bytes;
  while (!rest.empty()) {
    // Up to 300 segments, more than one system call takes.
    std::vector<ByteSpan> segments;
    const uint64_t count = prng.between(1, 300);
    for (uint64_t i = 0; i < count && !rest.empty(); ++i) {
      const size_t n = std::min<size_t>(rest.size(), prng.between(1, 40'000));
      segments.push_back(rest.first(n));
      rest = rest.subspan(n);
    }
    Status sent = co_await stream.write_all(segments);
    HF_CO_ASSERT_OK(sent);
  }
}
inline Task<void> pump_in(Stream& stream, uint64_t seed, uint32_t* crc) {
  Prng prng(seed);
  std::vector<std::byte> bytes(8 * kMiB);
  size_t at = 0;
  while (at < bytes.size()) {
    const size_t want = std::min<size_t>(bytes.size() - at, prng.between(1, 300'000));
    Result<size_t> n = co_await stream.read_some(MutableByteSpan(bytes).subspan(at, want));
    HF_CO_ASSERT(n.ok() && *n > 0 && *n <= want);
    at += *n;
  }
  *crc = crc32c(bytes);
}
inline Task<void> pump_both_ways(World& world, std::string address) {
  StreamPair pair;
  co_await make_pair_at(world, address, &pair);
  HF_CO_ASSERT(pair.client && pair.server);
  Gate gate;
  uint32_t sent[2] = {}, got[2] = {1, 1};
  spawn(gate, pump_out(*pair.client, 1, &sent[0]));
  spawn(gate, pump_out(*pair.server, 2, &sent[1]));
  spawn(gate, pump_in(*pair.server, 3, &got[0]));
  spawn(gate, pump_in(*pair.client, 4, &got[1]));
  co_await gate.close();
  EXPECT_EQ(got[0], sent[0]);
  EXPECT_EQ(got[1], sent[1]);
}
TEST_P(NetworkContract, ManyBytesFlowBothWaysAtOnceUnchanged) {
  for (const std::string& address : addresses()) run(pump_both_ways(world(), address));
}

inline Task<void> end_in_order(World& world, std::string address) {
  StreamPair pair;
  co_await make_pair_at(world, address, &pair);
  HF_CO_ASSERT(pair.client && pair.server);
  Status sent = co_await pair.client->write_bytes(as_bytes("last words"));
  EXPECT_TRUE(sent.ok());
  pair.client->close();
  pair.client->close();
  std::byte buffer[10];
  Status got = co_await pair.server->read_exact(buffer);
  EXPECT_TRUE(got.ok()) << "what was sent before the close is lost";
  Result<size_t> end = co_await pair.server->read_some(buffer);
  HF_CO_ASSERT_OK(end);
  EXPECT_EQ(*end, 0u);
  Status more = co_await pair.server->read_exact(buffer);
  EXPECT_EQ(more.code(), ErrorCode::kClosed);
  // Nothing works on a closed stream.
  Result<size_t> read = co_await pair.client->read_some(buffer);
  EXPECT_EQ(read.code(), ErrorCode::kClosed);
  Status write = co_await pair.client->write_bytes(buffer);
  EXPECT_EQ(write.code(), ErrorCode::kClosed);
}
TEST_P(NetworkContract, AfterACloseThePeerReadsWhatWasSentAndThenTheEnd) {
  for (const std::string& address : addresses()) run(end_in_order(world(), address));
}

inline Task<void> end_in_the_middle(World& world, std::string address) {
  StreamPair pair;
  co_await make_pair_at(world, address, &pair);
  HF_CO_ASSERT(pair.client && pair.server);
  Status sent = co_await pair.client->write_bytes(as_bytes("half"));
  EXPECT_TRUE(sent.ok());
  pair.client->close();
  std::byte buffer[8];
  Status got = co_await pair.server->read_exact(buffer);
  EXPECT_EQ(got.code(), ErrorCode::kProtocol);
}
TEST_P(NetworkContract, AnEndInTheMiddleOfAMessageIsAProtocolError) {
  for (const std::string& address : addresses()) run(end_in_the_middle(world(), address));
}

inline Task<void> expect_read_closed(Stream& stream, int* ended) {
  std::byte buffer[16];
  Result<size_t> n = co_await stream.read_some(buffer);
  EXPECT_EQ(n.code(), ErrorCode::kClosed);
  ++*ended;
}
inline Task<void> write_until_closed(Stream& stream, int* ended) {
  const std::vector<std::byte> chunk(kMiB);
  while (true) {
    Status sent = co_await stream.write_bytes(chunk);
    if (sent.ok()) continue;
    EXPECT_EQ(sent.code(), ErrorCode::kClosed);
    ++*ended;
    co_return;
  }
}
inline Task<void> close_under_load(World& world, std::string address) {
  StreamPair pair;
  co_await make_pair_at(world, address, &pair);
  HF_CO_ASSERT(pair.client && pair.server);
  Gate gate;
  int ended = 0;
  // The server does not read: the client's write waits for room.
  spawn(gate, expect_read_closed(*pair.client, &ended));
  spawn(gate, write_until_closed(*pair.client, &ended));
  Status slept = co_await world.clock.sleep_for(20ms, CancelToken());
  EXPECT_TRUE(slept.ok());
  EXPECT_EQ(ended, 0);
  pair.client->close();
  co_await gate.close();
  EXPECT_EQ(ended, 2);
}
TEST_P(NetworkContract, ACloseEndsWhatIsPendingWithClosed) {
  for (const std::string& address : addresses()) run(close_under_load(world(), address));
}

inline Task<void> write_to_the_gone(World& world, std::string address) {
  StreamPair pair;
  co_await make_pair_at(world, address, &pair);
  HF_CO_ASSERT(pair.client && pair.server);
  pair.server.reset();
  Gate gate;
  int ended = 0;
  spawn(gate, write_until_closed(*pair.client, &ended));
  co_await gate.close();
  EXPECT_EQ(ended, 1);
}
TEST_P(NetworkContract, WritingToAPeerThatIsGoneEndsWithClosed) {
  for (const std::string& address : addresses()) run(write_to_the_gone(world(), address));
}

inline Task<void> expect_accept_closed(Listener& listener, int* ended) {
  Result<std::unique_ptr<Stream>> stream = co_await listener.accept();
  EXPECT_EQ(stream.code(), ErrorCode::kClosed);
  ++*ended;
}
inline Task<void> close_listener(World& world, std::string address) {
  ListenOptions options;
  Result<std::unique_ptr<Listener>> listener = co_await world.net.listen(address, options);
  HF_CO_ASSERT_OK(listener);
  const std::string at = (*listener)->address();
  Gate gate;
  int ended = 0;
  spawn(gate, expect_accept_closed(**listener, &ended));
  Status slept = co_await world.clock.sleep_for(2ms, CancelToken());
  EXPECT_TRUE(slept.ok());
  EXPECT_EQ(ended, 0);
  (*listener)->close();
  (*listener)->close();
  co_await gate.close();
  EXPECT_EQ(ended, 1);
  Result<std::unique_ptr<Stream>> after = co_await (*listener)->accept();
  EXPECT_EQ(after.code(), ErrorCode::kClosed);
  Result<std::unique_ptr<Stream>> refused = co_await world.net.connect(at, 5s);
  EXPECT_TRUE(refused.code() == ErrorCode::kUnavailable || refused.code() == ErrorCode::kNotFound)
      << static_cast<int>(refused.code());
  // The address is free again.
  Result<std::unique_ptr<Listener>> again = co_await world.net.listen(at, options);
  EXPECT_TRUE(again.ok()) << again.error().to_string();
}
TEST_P(NetworkContract, AClosedListenerAcceptsNobodyAndFreesItsAddress) {
  for (const std::string& address : addresses()) run(close_listener(world(), address));
}

inline Task<void> listen_twice(World& world, std::string address) {
  ListenOptions options;
  Result<std::unique_ptr<Listener>> first = co_await world.net.listen(address, options);
  HF_CO_ASSERT_OK(first);
  Result<std::unique_ptr<Listener>> second =
      co_await world.net.listen((*first)->address(), options);
  EXPECT_EQ(second.code(), ErrorCode::kInUse);
  // The first is none the worse.
  Gate gate;
  std::unique_ptr<Stream> server;
  spawn(gate, accept_into(**first, &server));
  Result<std::unique_ptr<Stream>> client = co_await world.net.connect((*first)->address(), 5s);
  EXPECT_TRUE(client.ok());
  if (!client.ok()) (*first)->close();
  co_await gate.close();
}
TEST_P(NetworkContract, AnAddressInUseIsRefused) {
  for (const std::string& address : addresses()) run(listen_twice(world(), address));
}

inline Task<void> expect_bad_address(Network& net, std::string address) {
  ListenOptions options;
  Result<std::unique_ptr<Listener>> listener = co_await net.listen(address, options);
  EXPECT_EQ(listener.code(), ErrorCode::kInvalidArgument) << address;
  Result<std::unique_ptr<Stream>> stream = co_await net.connect(address, 1s);
  EXPECT_EQ(stream.code(), ErrorCode::kInvalidArgument) << address;
}
TEST_P(NetworkContract, MalformedAddressesAreRefused) {
  for (const char* address :
       {"", "tcp", "tcp:", "tcp:127.0.0.1", "tcp:127.0.0.1:", "tcp:127.0.0.1:x",
        "tcp:127.0.0.1:65536", "tcp:127.0.0.1:-1", "udp:127.0.0.1:1", "unix:", "/run/x.sock"}) {
    run(expect_bad_address(world().net, address));
  }
}

inline Task<void> serve_in_line(Listener& listener, int clients) {
  for (int i = 0; i < clients; ++i) {
    Result<std::unique_ptr<Stream>> stream = co_await listener.accept();
    HF_CO_ASSERT_OK(stream);
    const std::byte number[1] = {static_cast<std::byte>(i)};
    Status sent = co_await (*stream)->write_bytes(number);
    EXPECT_TRUE(sent.ok());
  }
}
inline Task<void> ask_once(World& world, std::string address, int* answers) {
  Result<std::unique_ptr<Stream>> stream = co_await world.net.connect(address, 30s);
  HF_CO_ASSERT_OK(stream);
  std::byte number[1];
  Status got = co_await (*stream)->read_exact(number);
  EXPECT_TRUE(got.ok());
  ++*answers;
}
inline Task<void> many_clients(World& world, std::string address) {
  ListenOptions options;
  Result<std::unique_ptr<Listener>> listener = co_await world.net.listen(address, options);
  HF_CO_ASSERT_OK(listener);
  Gate gate;
  int answers = 0;
  spawn(gate, serve_in_line(**listener, 100));
  for (int i = 0; i < 100; ++i) spawn(gate, ask_once(world, (*listener)->address(), &answers));
  co_await gate.close();
  EXPECT_EQ(answers, 100);
}
TEST_P(NetworkContract, ManyClientsAreServed) {
  for (const std::string& address : addresses()) run(many_clients(world(), address));
}

}  // namespace hf::contract
