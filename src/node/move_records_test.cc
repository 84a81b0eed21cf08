// Records move from one store into another over a store that loses requests, answers late, and is away.
#include "node/move_records.h"

#include <gtest/gtest.h>

#include "base/prng.h"
#include "node/membership.h"
#include "sim/simulation.h"
#include "state/held_store.h"
#include "state/memory_store.h"

namespace hf::node {
namespace {

using state::MemoryServer;
using state::MemoryStore;
using state::StoreFate;

class Faults : public state::StoreFaults {
 public:
  Faults(uint64_t seed, uint32_t percent) : prng_(seed), percent_(percent) {}
  StoreFate fate(bool) override {
    if (prng_.below(100) >= percent_) return StoreFate::kFine;
    const StoreFate fates[] = {StoreFate::kAway, StoreFate::kLostRequest, StoreFate::kLostReply,
                               StoreFate::kLate};
    return fates[prng_.below(4)];
  }
  Duration latency() override { return std::chrono::microseconds(prng_.below(2000)); }
  Duration late_by() override { return std::chrono::milliseconds(prng_.below(200)); }

 private:
  Prng prng_;
  uint32_t percent_;
};

Task<Status> put(state::KvStore& store, std::string key, std::string value) {
  state::Txn txn;
  txn.put(std::move(key), std::move(value));
  Result<state::TxnOutcome> outcome = co_await store.transact(std::move(txn));
  HF_CO_TRY(outcome);
  co_return Status();
}

std::map<std::string, std::string> values(const MemoryServer& server) {
  std::map<std::string, std::string> out;
  for (const auto& [key, entry] : server.entries()) out[key] = entry.value;
  return out;
}

// What an earlier attempt may have left: the mark, and some of what was there then.
Task<void> fill(state::KvStore& from, state::KvStore& to, Prng& prng) {
  const bool earlier = prng.below(2) == 0;
  if (earlier) {
    Status marked = co_await put(to, kMovingKey, "earlier");
    EXPECT_TRUE(marked.ok());
  }
  const uint64_t records = prng.below(300);
  for (uint64_t i = 0; i < records; ++i) {
    const std::string key = fmt::format("holdfast/v1/{:03}", prng.below(400));
    const std::string value(1 + prng.below(40), static_cast<char>('a' + prng.below(26)));
    Status written = co_await put(from, key, value);
    EXPECT_TRUE(written.ok());
    if (!earlier || prng.below(2) == 0) continue;
    written = co_await put(to, key, value + "older");
    EXPECT_TRUE(written.ok());
  }
}

Task<void> move_by_seed(World& world, uint64_t seed) {
  Prng prng(seed);
  MemoryServer here(world.clock), there(world.clock);
  Faults faults(seed, static_cast<uint32_t>(prng.below(40)));
  MemoryStore from(here, world.clock, nullptr), sure(there, world.clock, nullptr);
  MemoryStore to(there, world.clock, &faults);
  co_await fill(from, sure, prng);
  Result<uint64_t> moved = co_await move_records(from, to);
  for (int i = 0; i < 200 && !moved.ok(); ++i) moved = co_await move_records(from, to);
  EXPECT_TRUE(moved.ok()) << "seed " << seed << ": " << moved.error().to_string();
  // What is late arrives, and changes nothing.
  Status slept = co_await world.clock.sleep_for(1s, CancelToken());
  EXPECT_TRUE(slept.ok());
  std::map<std::string, std::string> wanted = values(here), got = values(there);
  EXPECT_EQ(got.erase(kMovingKey), 1u);
  EXPECT_EQ(got, wanted) << "seed " << seed;
  co_await to.close();
  co_await sure.close();
  co_await from.close();
  co_await there.close();
  co_await here.close();
}

TEST(MoveRecords, WhateverTheStoreDoes) {
  for (uint64_t seed = 1; seed <= 100; ++seed) {
    sim::Simulation sim(seed);
    sim.run(move_by_seed(sim.driver(), seed));
  }
}

Task<void> refuses_used(World& world) {
  MemoryServer here(world.clock), there(world.clock);
  MemoryStore from(here, world.clock, nullptr), to(there, world.clock, nullptr);
  Status written = co_await put(from, "holdfast/v1/a", "old");
  EXPECT_TRUE(written.ok());
  written = co_await put(to, "holdfast/v1/a", "newer");
  EXPECT_TRUE(written.ok());
  Result<uint64_t> moved = co_await move_records(from, to);
  EXPECT_EQ(moved.code(), ErrorCode::kAlreadyExists);
  EXPECT_EQ(values(there).at("holdfast/v1/a"), "newer");
  co_await to.close();
  co_await from.close();
  co_await there.close();
  co_await here.close();
}

TEST(MoveRecords, RefusesAStoreThatSomebodyHasUsed) {
  sim::Simulation sim(1);
  sim.run(refuses_used(sim.driver()));
}

Task<void> write_one(state::KvStore& store, Status* out) {
  *out = co_await put(store, "slow", "1");
}

Task<void> holds_writes(World& world) {
  MemoryServer server(world.clock);
  Faults slow(1, 0);
  MemoryStore inner(server, world.clock, &slow);
  state::HeldStore held(inner);
  Status before = co_await put(held, "k", "1");
  EXPECT_TRUE(before.ok());
  Gate writers;
  Status slow_one = make_error(ErrorCode::kInternal, "not done");
  EXPECT_TRUE(spawn(writers, write_one(held, &slow_one)));
  co_await held.hold("being moved");
  EXPECT_EQ(values(server).count("slow"), 1u) << "a write that was under way was not waited for";
  Status refused = co_await put(held, "k", "2");
  EXPECT_EQ(refused.code(), ErrorCode::kUnavailable);
  EXPECT_NE(refused.error().message().find("being moved"), std::string::npos);
  Result<std::optional<state::Entry>> read = co_await held.get("k");
  EXPECT_TRUE(read.ok() && read->has_value() && (*read)->value == "1");
  co_await writers.close();
  EXPECT_TRUE(slow_one.ok());
  held.release();
  Status after = co_await put(held, "k", "3");
  EXPECT_TRUE(after.ok());
  co_await held.close();
  co_await inner.close();
  co_await server.close();
}

TEST(HeldStore, RefusesWritesWhileHeld) {
  sim::Simulation sim(1);
  sim.run(holds_writes(sim.driver()));
}

}  // namespace
}  // namespace hf::node
