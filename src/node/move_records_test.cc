// What makes a node a member: records that move over a store that loses requests, answers late and is away; the files.
#include "node/move_records.h"

#include <gtest/gtest.h>

#include "base/prng.h"
#include "node/cluster_file.h"
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

Task<void> touch(FileSystem& fs, std::string path) {
  Status written = co_await fs.write_file_atomic(path, path, 0600);
  EXPECT_TRUE(written.ok());
}

// A member's old store is out of the way, with its log; without cluster.json nothing begins anew.
Task<void> embedded_goes_aside(FileSystem& fs) {
  Status may = co_await check_embedded(fs, "/s");
  EXPECT_TRUE(may.ok()) << "a new node";
  co_await touch(fs, "/s/state.db");
  co_await touch(fs, "/s/state.db-wal");
  may = co_await check_embedded(fs, "/s");
  EXPECT_TRUE(may.ok());
  for (int i = 0; i < 2; ++i) {
    Status aside = co_await set_embedded_aside(fs, "/s");
    EXPECT_TRUE(aside.ok());
  }
  Result<std::string> old = co_await fs.read_file("/s/before-cluster.db", 100);
  EXPECT_TRUE(old.ok() && *old == "/s/state.db");
  old = co_await fs.read_file("/s/before-cluster.db-wal", 100);
  EXPECT_TRUE(old.ok());
  Result<FileInfo> gone = co_await fs.stat("/s/state.db");
  EXPECT_EQ(gone.code(), ErrorCode::kNotFound);
  may = co_await check_embedded(fs, "/s");
  EXPECT_EQ(may.code(), ErrorCode::kNotFound) << "an empty store would have begun";
}

Task<void> damaged_file_is_no_missing_one(FileSystem& fs) {
  Result<std::optional<ClusterFile>> file = co_await load_cluster_file(fs, "/s");
  EXPECT_TRUE(file.ok() && !file->has_value());
  co_await touch(fs, "/s/cluster.json");
  file = co_await load_cluster_file(fs, "/s");
  EXPECT_EQ(file.code(), ErrorCode::kCorruption);
  EXPECT_NE(file.error().message().find("/s/cluster.json"), std::string::npos);
}

Task<void> keep_status(Task<Status> task, Status* out) { *out = co_await std::move(task); }

TEST(ClusterFile, OnDisk) {
  sim::Simulation sim(1);
  sim::SimHost& host = sim.add_host("n");
  host.add_disk("/");
  sim::SimProcess process(host);
  FileSystem& fs = process.world().fs;
  Status made;
  sim.run(keep_status(fs.make_directory("/s", 0700), &made));
  ASSERT_TRUE(made.ok());
  sim.run(embedded_goes_aside(fs));
  sim.run(damaged_file_is_no_missing_one(fs));
}

}  // namespace
}  // namespace hf::node
