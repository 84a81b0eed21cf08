// The whole server over the simulated network: streams cut anywhere, delays, resets.
#include "block/nbd/nbd_server.h"

#include <gtest/gtest.h>

#include "base/log.h"
#include "block/nbd/testing/slow_device.h"
#include "block/nbd/testing/test_client.h"
#include "runtime/contract/contract_support.h"
#include "sim/seed_runner.h"
#include "sim/simulation.h"
#include "volume/testing/memory_device.h"

namespace hf::nbd {
namespace {

using sim::SimHost;
using sim::SimProcess;
using sim::Simulation;

constexpr const char* kAddress = "tcp:10.0.0.1:10809";

// A server on one host, clients on another.
struct Place {
  explicit Place(uint64_t seed)
      : sim(seed),
        server_host(sim.add_host("server")),
        client_host(sim.add_host("client")),
        server_process(server_host),
        client_process(client_host),
        memory(std::make_shared<MemoryDevice>(4 * kMiB)),
        server(server_process.world(), table, server_options()) {
    set_log_level(LogLevel::kOff);
  }
  static NbdServerOptions server_options() {
    NbdServerOptions options;
    options.connections_max = 8;
    return options;
  }
  World& client_world() { return client_process.world(); }

  Task<void> start(std::shared_ptr<BlockDevice> device, std::string name = "pg") {
    NbdExport item;
    item.name = std::move(name);
    item.device = std::move(device);
    const Status added = table.add(std::move(item));
    HF_ASSERT(added.ok());
    if (!server.addresses().empty()) co_return;
    const ListenOptions options;
    Status listening = co_await server.listen(kAddress, options);
    HF_ASSERT(listening.ok(), "{}", listening.error().to_string());
  }
  Task<Result<std::unique_ptr<TestClient>>> connect() {
    Result<std::unique_ptr<Stream>> stream = co_await client_world().net.connect(kAddress, 5s);
    HF_CO_TRY(stream);
    co_return std::make_unique<TestClient>(std::move(*stream));
  }
  // Connected and past the handshake.
  Task<Result<std::unique_ptr<TestClient>>> open(std::string name = "pg") {
    Result<std::unique_ptr<TestClient>> client = co_await connect();
    HF_CO_TRY(client);
    Status gone = co_await (*client)->go(std::move(name), true);
    HF_CO_TRY(gone);
    co_return std::move(client);
  }
  Task<void> pause(Duration time) {
    Status slept = co_await sim.driver().clock.sleep_for(time, CancelToken());
    HF_ASSERT(slept.ok());
  }

  Simulation sim;
  SimHost& server_host;
  SimHost& client_host;
  SimProcess server_process;
  SimProcess client_process;
  std::shared_ptr<MemoryDevice> memory;
  ExportTable table;
  NbdServer server;
};

Task<void> two_connections(Place& place) {
  co_await place.start(place.memory);
  Result<std::unique_ptr<TestClient>> a = co_await place.open();
  HF_CO_ASSERT_OK(a);
  Result<std::unique_ptr<TestClient>> b = co_await place.open("");
  HF_CO_ASSERT_OK(b);
  EXPECT_EQ((*a)->size(), 4 * kMiB);
  EXPECT_NE((*a)->flags() & kCanMultiConn, 0);
  EXPECT_EQ(place.server.connections(), 2u);
  const std::vector<std::byte> data(5000, std::byte{7});
  Result<TestReply> reply = co_await (*a)->call(test_request(Command::kWrite, 1, 100, 5000), data);
  HF_CO_ASSERT_OK(reply);
  EXPECT_EQ(reply->nbd_errno, 0u);
  reply = co_await (*b)->call(test_request(Command::kFlush, 1, 0, 0), ByteSpan());
  HF_CO_ASSERT_OK(reply);
  EXPECT_EQ(place.memory->flushes, 1u);
  reply = co_await (*b)->call(test_request(Command::kRead, 2, 100, 5000), ByteSpan());
  HF_CO_ASSERT_OK(reply);
  EXPECT_EQ(reply->data, data);
  Status sent = co_await (*a)->send(test_request(Command::kDisconnect, 0, 0, 0), ByteSpan());
  EXPECT_TRUE(sent.ok());
  bool ended = co_await (*a)->sees_the_end();
  EXPECT_TRUE(ended);
  EXPECT_EQ(place.server.connections(), 1u);
  co_await place.server.stop();
  EXPECT_EQ(place.server.connections(), 0u);
  EXPECT_EQ(place.server.counts().transmission.requests, 3u);
}
TEST(NbdServer, ConnectionsShareTheirExport) {
  Place place(1);
  place.sim.run(two_connections(place));
}

Task<void> stop_with_work(Place& place) {
  co_await place.start(place.memory);
  Result<std::unique_ptr<TestClient>> client = co_await place.open();
  HF_CO_ASSERT_OK(client);
  place.memory->hold = true;
  const std::vector<std::byte> data(4096, std::byte{7});
  Status sent = co_await (*client)->send(test_request(Command::kWrite, 1, 0, 4096), data);
  EXPECT_TRUE(sent.ok());
  co_await place.pause(1s);
  Gate gate;
  spawn(gate, place.server.stop());
  sent = co_await (*client)->send(test_request(Command::kWrite, 2, 4096, 4096), data);
  EXPECT_TRUE(sent.ok());
  co_await place.pause(1s);
  EXPECT_EQ(gate.inside(), 1u) << "a write is in progress";
  place.memory->release();
  Status got = co_await (*client)->receive(1);
  EXPECT_TRUE(got.ok());
  std::map<uint64_t, TestReply> replies = (*client)->parser().take_done();
  EXPECT_EQ(replies.size(), 1u) << "what came later is not begun, for the client to send again";
  EXPECT_EQ(replies[1].nbd_errno, 0u) << "what was in progress is carried out and answered";
  co_await gate.close();
  bool ended = co_await (*client)->sees_the_end();
  EXPECT_TRUE(ended);
  EXPECT_EQ(place.memory->writes, 1u);
  Result<std::unique_ptr<TestClient>> late = co_await place.open();
  EXPECT_FALSE(late.ok());
}
TEST(NbdServer, StoppingAnswersWhatIsInProgress) {
  Place place(2);
  place.sim.run(stop_with_work(place));
}

Task<void> stop_with_deaf_client(Place& place) {
  co_await place.start(place.memory);
  Result<std::unique_ptr<TestClient>> client = co_await place.open();
  HF_CO_ASSERT_OK(client);
  // Never received: more than the network holds.
  const std::vector<std::byte> data(1 * kMiB, std::byte{7});
  for (uint64_t i = 0; i < 4; ++i) {
    Status sent = co_await (*client)->send(test_request(Command::kWrite, i, i * kMiB, kMiB), data);
    EXPECT_TRUE(sent.ok());
  }
  for (uint64_t i = 10; i < 14; ++i) {
    Status sent =
        co_await (*client)->send(test_request(Command::kRead, i, 0, 4 * kMiB), ByteSpan());
    EXPECT_TRUE(sent.ok());
  }
  co_await place.pause(1s);
  const MonoTime begin = place.sim.driver().clock.now();
  co_await place.server.stop();
  const Duration took = place.sim.driver().clock.now() - begin;
  EXPECT_GE(took / 1s, 9);
  EXPECT_LE(took / 1s, 12);
}
TEST(NbdServer, StoppingDoesNotWaitForADeafClientForEver) {
  Place place(3);
  place.sim.run(stop_with_deaf_client(place));
}

Task<void> remove_while_used(Place& place) {
  const auto other = std::make_shared<MemoryDevice>(1 * kMiB);
  co_await place.start(place.memory);
  co_await place.start(other, "other");
  Result<std::unique_ptr<TestClient>> a = co_await place.open("pg");
  HF_CO_ASSERT_OK(a);
  Result<std::unique_ptr<TestClient>> b = co_await place.open("other");
  HF_CO_ASSERT_OK(b);
  Status removed = place.table.remove("pg");
  EXPECT_TRUE(removed.ok());
  co_await place.server.disconnect("pg");
  EXPECT_EQ(place.memory.use_count(), 1) << "nobody uses the device any more";
  bool ended = co_await (*a)->sees_the_end();
  EXPECT_TRUE(ended);
  Result<TestReply> reply =
      co_await (*b)->call(test_request(Command::kRead, 1, 0, 4096), ByteSpan());
  EXPECT_TRUE(reply.ok()) << "another export is not touched";
  Result<std::unique_ptr<TestClient>> again = co_await place.open("pg");
  EXPECT_EQ(again.code(), ErrorCode::kNotFound);
  removed = place.table.remove("pg");
  EXPECT_EQ(removed.code(), ErrorCode::kNotFound);
  co_await place.server.stop();
}
TEST(NbdServer, ARemovedExportIsLetGo) {
  Place place(4);
  place.sim.run(remove_while_used(place));
}

Task<void> silent_clients(Place& place) {
  co_await place.start(place.memory);
  std::vector<std::unique_ptr<TestClient>> clients;
  for (int i = 0; i < 8; ++i) {
    Result<std::unique_ptr<TestClient>> client = co_await place.connect();
    HF_CO_ASSERT_OK(client);
    clients.push_back(std::move(*client));
  }
  co_await place.pause(1s);
  EXPECT_EQ(place.server.connections(), 8u);
  Result<std::unique_ptr<TestClient>> ninth = co_await place.open();
  EXPECT_FALSE(ninth.ok());
  EXPECT_EQ(place.server.counts().refused, 1u);
  co_await place.pause(31s);
  EXPECT_EQ(place.server.connections(), 0u) << "who does not finish the handshake must go";
  Result<std::unique_ptr<TestClient>> fresh = co_await place.open();
  EXPECT_TRUE(fresh.ok());
  co_await place.pause(60s);
  EXPECT_EQ(place.server.connections(), 1u) << "an idle client in its second phase may stay";
  co_await place.server.stop();
}
TEST(NbdServer, ConnectionsAndHandshakesAreBounded) {
  Place place(5);
  place.sim.run(silent_clients(place));
}

Task<void> broken_client(Place& place) {
  co_await place.start(place.memory);
  Result<std::unique_ptr<TestClient>> a = co_await place.connect();
  HF_CO_ASSERT_OK(a);
  Status greeted = co_await (*a)->greet(0xff);
  EXPECT_TRUE(greeted.ok());
  bool ended = co_await (*a)->sees_the_end();
  EXPECT_TRUE(ended);
  Result<std::unique_ptr<TestClient>> b = co_await place.open();
  HF_CO_ASSERT_OK(b);
  const std::vector<std::byte> junk(100, std::byte{0x55});
  Status sent = co_await (*b)->stream().write_bytes(junk);
  EXPECT_TRUE(sent.ok());
  ended = co_await (*b)->sees_the_end();
  EXPECT_TRUE(ended);
  EXPECT_EQ(place.server.counts().protocol_errors, 2u);
  co_await place.server.stop();
}
TEST(NbdServer, WhatIsNotNbdEndsItsConnection) {
  Place place(6);
  place.sim.run(broken_client(place));
}

// Pools without space, whose requests wait for as long as an operator needs, and everything that
// their clients may send.
Task<void> stuck_pools(Place& place) {
  const auto stuck = std::make_shared<MemoryDevice>(64 * kMiB);
  const auto other = std::make_shared<MemoryDevice>(64 * kMiB);
  co_await place.start(stuck, "stuck");
  co_await place.start(other, "other");
  stuck->hold = true;
  const std::vector<std::byte> data(kMaxBlockIoBytes, std::byte{7});
  for (uint64_t at = 0; at < kMaxPayload; at += data.size()) {
    Status filled = co_await other->write(at, data);
    EXPECT_TRUE(filled.ok());
  }
  std::vector<std::unique_ptr<TestClient>> clients;
  for (int i = 0; i < 5; ++i) {
    Result<std::unique_ptr<TestClient>> client = co_await place.open("stuck");
    HF_CO_ASSERT_OK(client);
    for (uint64_t cookie = 1; cookie <= 4; ++cookie) {
      Status sent = co_await (*client)->send(test_request(Command::kRead, cookie, 0, kMaxPayload),
                                             ByteSpan());
      EXPECT_TRUE(sent.ok());
    }
    clients.push_back(std::move(*client));
  }
  co_await place.pause(5s);
  Result<std::unique_ptr<TestClient>> free = co_await place.open("other");
  HF_CO_ASSERT_OK(free);
  for (const uint32_t length : {4096u, kMaxPayload}) {
    const uint64_t before = other->reads;
    Status sent =
        co_await (*free)->send(test_request(Command::kRead, length, 0, length), ByteSpan());
    EXPECT_TRUE(sent.ok());
    co_await place.pause(60s);
    EXPECT_GT(other->reads, before) << "a read of another pool waits";
    HF_CO_ASSERT(other->reads > before);
    Status got = co_await (*free)->receive(1);
    EXPECT_TRUE(got.ok());
    (void)(*free)->parser().take_done();
  }
  stuck->release();
  for (auto& client : clients) client->stream().close();
  co_await place.server.stop();
}
TEST(NbdServer, APoolThatWaitsStopsNobodyElse) {
  Place place(7);
  place.sim.run(stuck_pools(place));
}

// 8 KiB a second, of an answer of 32 MiB.
Task<void> slow_reader(Place& place) {
  const auto device = std::make_shared<MemoryDevice>(kMaxPayload);
  co_await place.start(device);
  Result<std::unique_ptr<TestClient>> client = co_await place.connect();
  HF_CO_ASSERT_OK(client);
  Status gone = co_await (*client)->go("pg", false);
  EXPECT_TRUE(gone.ok());
  Status sent =
      co_await (*client)->send(test_request(Command::kRead, 1, 0, kMaxPayload), ByteSpan());
  EXPECT_TRUE(sent.ok());
  std::vector<std::byte> buffer(16 * kKiB);
  uint64_t got = 0;
  while (got < kMaxPayload) {
    Result<size_t> n = co_await (*client)->stream().read_some(buffer);
    HF_CO_ASSERT_OK(n);
    HF_CO_ASSERT(*n > 0);
    got += *n;
    co_await place.pause(2s);
  }
  EXPECT_EQ(place.server.counts().stalled, 0u);
  // One that takes nothing at all is dead.
  for (uint64_t cookie = 2; cookie < 4; ++cookie) {
    sent =
        co_await (*client)->send(test_request(Command::kRead, cookie, 0, kMaxPayload), ByteSpan());
    EXPECT_TRUE(sent.ok());
  }
  co_await place.pause(200s);
  EXPECT_EQ(place.server.counts().stalled, 1u);
  EXPECT_EQ(place.server.connections(), 0u);
  co_await place.server.stop();
}
TEST(NbdServer, ASlowReaderIsWaitedFor) {
  Place place(8);
  place.sim.run(slow_reader(place));
}

// --- many seeds
// -----------------------------------------------------------------------------------

// A client with a region of its own that pipelines requests, loses its connection now and then, and
// knows what every byte of the region may be.
class RegionClient {
 public:
  static constexpr uint64_t kRegion = 192 * kKiB;
  static constexpr uint64_t kMaxOps = 12;

  RegionClient(Place& place, uint64_t base, uint64_t seed)
      : place_(place), base_(base), prng_(seed), sure_(kRegion, std::byte{0}) {}

  Task<void> run(int rounds) {
    for (int i = 0; i < rounds && failure_.empty(); ++i) {
      if (client_ == nullptr) co_await reconnect();
      if (client_ == nullptr || !failure_.empty()) continue;
      Status status = co_await round();
      if (status.ok()) continue;
      if (status.code() == ErrorCode::kProtocol) failure_ = status.error().to_string();
      client_.reset();
    }
    client_.reset();
  }
  const std::string& failure() const { return failure_; }
  uint64_t reconnects() const { return reconnects_; }
  uint64_t answered() const { return answered_; }

 private:
  struct Op {
    Request request;
    std::vector<std::byte> after;  // of what changes: the range when it is done
  };

  // After a lost connection: what was not answered may have happened. It has ended on the server
  // once the slowest operation is over; then what is found is what is.
  Task<void> reconnect() {
    co_await place_.pause(2s);
    Result<std::unique_ptr<TestClient>> opened = co_await place_.open();
    if (!opened.ok()) co_return;
    ++reconnects_;
    const Request all = test_request(Command::kRead, 1, base_, kRegion);
    Result<TestReply> reply = co_await (*opened)->call(all, ByteSpan());
    if (!reply.ok() || reply->nbd_errno != 0) co_return;
    std::vector<std::byte> may = sure_;
    for (const Op& op : open_) {
      std::copy(op.after.begin(), op.after.end(),
                may.begin() + static_cast<ptrdiff_t>(op.request.offset - base_));
    }
    for (size_t i = 0; i < kRegion; ++i) {
      if (reply->data[i] != sure_[i] && reply->data[i] != may[i]) {
        failure_ = fmt::format("byte {} is neither old nor new after a lost connection", base_ + i);
        co_return;
      }
    }
    sure_ = std::move(reply->data);
    open_.clear();
    client_ = std::move(*opened);
  }

  Op make_op(uint64_t cookie, uint64_t begin, uint64_t end) {
    Op op;
    const uint64_t offset = prng_.between(begin, end - 1);
    const auto length = static_cast<uint32_t>(prng_.between(1, end - offset));
    const uint16_t fua = prng_.chance(1, 4) ? kFlagFua : 0;
    const uint64_t dice = prng_.below(10);
    op.request = test_request(Command::kRead, cookie, base_ + offset, length);
    if (dice < 3) return op;
    if (dice < 4) {
      op.request.command = Command::kBlockStatus;
      return op;
    }
    op.after.resize(length);
    op.request.flags = fua;
    if (dice < 8) {
      op.request.command = Command::kWrite;
      for (std::byte& b : op.after) b = static_cast<std::byte>(prng_.next());
    } else {
      op.request.command = dice == 8 ? Command::kTrim : Command::kWriteZeroes;
    }
    return op;
  }

  Task<Status> round() {
    const uint64_t count = prng_.between(1, kMaxOps);
    for (uint64_t i = 0; i < count; ++i) {
      open_.push_back(make_op(i + 1, i * kRegion / count, (i + 1) * kRegion / count));
    }
    for (const Op& op : open_) {
      const ByteSpan payload =
          op.request.command == Command::kWrite ? ByteSpan(op.after) : ByteSpan();
      Status sent = co_await client_->send(op.request, payload);
      HF_CO_TRY(sent);
    }
    Status got = co_await client_->receive(count);
    // Also where the connection was lost in the middle: what was answered holds.
    const std::map<uint64_t, TestReply> replies = client_->parser().take_done();
    for (const Op& op : open_) {
      const auto reply = replies.find(op.request.cookie);
      if (reply != replies.end()) check(op, reply->second);
    }
    std::erase_if(open_, [&](const Op& op) { return replies.contains(op.request.cookie); });
    answered_ += replies.size();
    co_return got;
  }

  void check(const Op& op, const TestReply& reply) {
    const auto at = sure_.begin() + static_cast<ptrdiff_t>(op.request.offset - base_);
    if (reply.nbd_errno != 0) {
      failure_ = fmt::format("error {}: {}", reply.nbd_errno, reply.text);
    } else if (op.request.command == Command::kRead) {
      if (!std::equal(reply.data.begin(), reply.data.end(), at)) {
        failure_ = fmt::format("read of {} at {} differs", op.request.length, op.request.offset);
      }
    } else if (op.request.command == Command::kBlockStatus) {
      check_zeroes(op.request.offset - base_, reply);
    } else {
      std::copy(op.after.begin(), op.after.end(), at);
    }
  }
  void check_zeroes(size_t at, const TestReply& reply) {
    for (const TestExtent& extent : reply.extents) {
      if ((extent.state & kStateZero) != 0 &&
          !all_zero(ByteSpan(sure_).subspan(at, extent.length))) {
        failure_ = fmt::format("{} bytes at {} are not zero", extent.length, base_ + at);
      }
      at += extent.length;
    }
  }

  Place& place_;
  const uint64_t base_;
  Prng prng_;
  std::unique_ptr<TestClient> client_;
  std::vector<std::byte> sure_;
  std::vector<Op> open_;  // sent, or about to be, and not answered
  std::string failure_;
  uint64_t reconnects_ = 0;
  uint64_t answered_ = 0;
};

Task<void> reset_now_and_then(Place& place, CancelToken done) {
  while (!done.is_cancelled()) {
    const auto time = static_cast<int64_t>(place.sim.prng().below(3'000'000'000));
    Status slept = co_await place.sim.driver().clock.sleep_for(Duration(time), done);
    if (!slept.ok()) co_return;
    place.sim.net().reset_streams("server", "client");
  }
}

Task<void> many_clients(Place& place, uint64_t seed, Status* result) {
  const auto slow =
      std::make_shared<SlowDevice>(place.server_process.world().clock, place.memory, 20ms, seed);
  co_await place.start(slow);
  std::vector<std::unique_ptr<RegionClient>> clients;
  Gate gate, resets;
  CancelSource done;
  spawn(resets, reset_now_and_then(place, done));
  for (uint64_t i = 0; i < 4; ++i) {
    // Not at a block's border: neighbours share blocks.
    clients.push_back(
        std::make_unique<RegionClient>(place, 100 + i * RegionClient::kRegion, seed * 10 + i));
    spawn(gate, clients.back()->run(30));
  }
  co_await gate.close();
  done.cancel();
  co_await resets.close();
  co_await place.server.stop();
  uint64_t answered = 0;
  for (const auto& client : clients) {
    answered += client->answered();
    if (!client->failure().empty()) {
      *result = Error(ErrorCode::kCorruption, client->failure());
      co_return;
    }
  }
  if (answered == 0) *result = Error(ErrorCode::kInternal, "nothing was answered");
  if (slow->in_progress != 0) *result = Error(ErrorCode::kInternal, "the device is still in use");
}

TEST(NbdServerSeeds, NothingAcknowledgedIsLostOverCutAndResetStreams) {
  sim::ProbeCounts probes;
  const sim::SeedReport report = sim::run_seeds(
      "NbdServerSeeds.NothingAcknowledgedIsLostOverCutAndResetStreams",
      sim::SeedOptions::from_command_line(150), [](uint64_t seed, sim::ProbeCounts* counts) {
        Place place(seed);
        Status result;
        place.sim.run(many_clients(place, seed, &result));
        place.sim.plan().add_to(counts);
        return result;
      });
  EXPECT_TRUE(report.ok()) << report.text();
  EXPECT_EQ(sim::require_probes(report.probes, {"nbd.payload_received_in_place"}), "");
}

}  // namespace
}  // namespace hf::nbd
