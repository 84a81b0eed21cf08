// The contract of KvStore as tests. A back passes it by instantiating:
//
//   INSTANTIATE_TEST_SUITE_P(Sqlite, KvContract, ::testing::Values(&make_sqlite_host));
//
// Include from one test file per binary only.
#pragma once

#include <gtest/gtest.h>

#include <memory>

#include "runtime/gate.h"
#include "state/kv_store.h"
#include "state/txn_retry.h"

namespace hf::state {

// A store to test and the loop that it lives on.
class KvHost {
 public:
  virtual ~KvHost() = default;
  virtual KvStore& store() = 0;
  virtual Clock& clock() = 0;
  // Runs the task to its end on the store's loop.
  virtual void run(Task<void> task) = 0;
  // Closes the store and opens it anew over the same data.
  virtual Task<void> reopen() = 0;
};
using KvHostFactory = std::unique_ptr<KvHost> (*)();

class KvContract : public ::testing::TestWithParam<KvHostFactory> {
 protected:
  void SetUp() override { host_ = GetParam()(); }
  KvStore& store() { return host_->store(); }
  std::unique_ptr<KvHost> host_;
};

namespace kv_contract {

inline Task<Revision> put(KvStore& store, std::string key, std::string value) {
  Txn txn;
  txn.put(key, value);
  Result<TxnOutcome> done = co_await store.transact(txn);
  EXPECT_TRUE(done.ok() && done->committed) << key;
  co_return done.ok() ? done->revision : 0;
}

inline Task<std::string> value_of(KvStore& store, std::string key) {
  Result<std::optional<Entry>> entry = co_await store.get(key);
  EXPECT_TRUE(entry.ok());
  if (!entry.ok() || !entry.value()) co_return "(absent)";
  co_return entry.value()->value;
}

inline Task<void> put_get_remove(KvStore& store) {
  std::string none = co_await value_of(store, "a");
  EXPECT_EQ(none, "(absent)");
  const std::string bytes("\0\xff v\n", 5);
  Revision first = co_await put(store, "a", bytes);
  EXPECT_GT(first, 0u);
  Revision second = co_await put(store, "a", "");
  EXPECT_EQ(second, first + 1);
  Result<std::optional<Entry>> entry = co_await store.get("a");
  EXPECT_TRUE(entry.ok() && entry.value());
  if (!entry.ok() || !entry.value()) co_return;
  EXPECT_EQ(entry.value()->value, "");
  EXPECT_EQ(entry.value()->create_revision, first);
  EXPECT_EQ(entry.value()->mod_revision, second);
  EXPECT_EQ(entry.value()->version, 2u);
  Txn remove;
  remove.remove("a").remove("never there");
  Result<TxnOutcome> removed = co_await store.transact(remove);
  EXPECT_TRUE(removed.ok() && removed->committed);
  EXPECT_EQ(removed->revision, second + 1);
  Result<TxnOutcome> again = co_await store.transact(remove);
  EXPECT_TRUE(again.ok() && again->committed);
  EXPECT_EQ(again->revision, second + 1) << "nothing changed, so the revision stays";
  // A key that comes back is a new one.
  Revision third = co_await put(store, "a", "new");
  Result<std::optional<Entry>> back = co_await store.get("a");
  EXPECT_TRUE(back.ok() && back.value());
  EXPECT_EQ(back.value()->create_revision, third);
  EXPECT_EQ(back.value()->version, 1u);
}

inline Task<void> compare_and_set(KvStore& store) {
  Txn create;
  create.expect_absent("k").put("k", "1").put("index", "k");
  Result<TxnOutcome> made = co_await store.transact(create);
  EXPECT_TRUE(made.ok() && made->committed);
  Result<TxnOutcome> lost = co_await store.transact(create);
  EXPECT_TRUE(lost.ok() && !lost->committed);
  EXPECT_EQ(lost->current.size(), 1u);
  EXPECT_EQ(lost->current.at(0)->value, "1");
  EXPECT_EQ(lost->revision, made->revision);

  Txn swap;
  swap.expect("k", made->revision).expect_absent("other").put("k", "2").remove("index");
  Result<TxnOutcome> swapped = co_await store.transact(swap);
  EXPECT_TRUE(swapped.ok() && swapped->committed);
  Result<TxnOutcome> stale = co_await store.transact(swap);
  EXPECT_TRUE(stale.ok() && !stale->committed);
  EXPECT_EQ(stale->current.size(), 2u);
  EXPECT_EQ(stale->current.at(0)->value, "2");
  EXPECT_FALSE(stale->current.at(1).has_value());
  std::string index = co_await value_of(store, "index");
  EXPECT_EQ(index, "(absent)");
}

inline Task<void> pages(KvStore& store) {
  for (int i = 0; i < 25; ++i) {
    Revision r = co_await put(store, fmt::format("v/{:02}", i), std::string(1 + i, 'x'));
    EXPECT_GT(r, 0u);
  }
  Revision low = co_await put(store, "v.", "below the prefix");
  Revision high = co_await put(store, "v0", "above the prefix");
  EXPECT_EQ(high, low + 1);
  RangeRequest request("v/");
  request.limit = 10;
  std::vector<std::string> seen;
  int pages_read = 0;
  bool more = true;
  while (more) {
    Result<Page> page = co_await store.range(request);
    EXPECT_TRUE(page.ok());
    if (!page.ok()) co_return;
    EXPECT_EQ(page->revision, high);
    EXPECT_LE(page->entries.size(), 10u);
    for (const Entry& entry : page->entries) seen.push_back(entry.key);
    request.after = seen.back();
    more = page->more;
    ++pages_read;
  }
  EXPECT_EQ(pages_read, 3);
  EXPECT_EQ(seen.size(), 25u);
  EXPECT_TRUE(std::is_sorted(seen.begin(), seen.end()));
  Result<std::vector<Entry>> all = co_await range_all(store, "v/", 25);
  EXPECT_TRUE(all.ok() && all->size() == 25);
  Result<std::vector<Entry>> too_many = co_await range_all(store, "v/", 24);
  EXPECT_EQ(too_many.code(), ErrorCode::kLimitExceeded);
  Result<std::vector<Entry>> everything = co_await range_all(store, "", 100);
  EXPECT_TRUE(everything.ok() && everything->size() == 27);
  Result<std::vector<Entry>> nothing = co_await range_all(store, "w", 100);
  EXPECT_TRUE(nothing.ok() && nothing->empty());
}

inline Task<void> big_pages_end_early(KvStore& store) {
  for (int i = 0; i < 12; ++i) {
    Revision r = co_await put(store, fmt::format("big/{:02}", i), std::string(kMaxValueBytes, 'b'));
    EXPECT_GT(r, 0u);
  }
  RangeRequest request("big/");
  Result<Page> page = co_await store.range(request);
  EXPECT_TRUE(page.ok());
  EXPECT_TRUE(page->more);
  EXPECT_FALSE(page->entries.empty());
  EXPECT_LT(page->entries.size(), 12u);
  Result<std::vector<Entry>> all = co_await range_all(store, "big/", 100);
  EXPECT_TRUE(all.ok() && all->size() == 12);
}

inline Task<void> bounds(KvStore& store) {
  Result<std::optional<Entry>> empty = co_await store.get("");
  EXPECT_EQ(empty.code(), ErrorCode::kInvalidArgument);
  Result<std::optional<Entry>> long_key = co_await store.get(std::string(kMaxKeyBytes + 1, 'k'));
  EXPECT_EQ(long_key.code(), ErrorCode::kInvalidArgument);
  Txn big;
  big.put("k", std::string(kMaxValueBytes + 1, 'v'));
  Result<TxnOutcome> refused = co_await store.transact(big);
  EXPECT_EQ(refused.code(), ErrorCode::kInvalidArgument);
  Txn many;
  for (size_t i = 0; i <= kMaxTxnOps; ++i) many.put(fmt::format("{}", i), "v");
  refused = co_await store.transact(many);
  EXPECT_EQ(refused.code(), ErrorCode::kInvalidArgument);
  Txn twice;
  twice.put("k", "1").remove("k");
  refused = co_await store.transact(twice);
  EXPECT_EQ(refused.code(), ErrorCode::kInvalidArgument);
  Txn heavy;
  for (int i = 0; i < 3; ++i) heavy.put(fmt::format("{}", i), std::string(kMaxValueBytes, 'v'));
  refused = co_await store.transact(heavy);
  EXPECT_EQ(refused.code(), ErrorCode::kInvalidArgument);
  RangeRequest page("");
  page.limit = kMaxPageEntries + 1;
  Result<Page> range = co_await store.range(page);
  EXPECT_EQ(range.code(), ErrorCode::kInvalidArgument);
  std::string k = co_await value_of(store, "k");
  EXPECT_EQ(k, "(absent)");
}

inline Task<void> collect(Watch& watch, size_t want, std::vector<Event>* out, Status* end) {
  while (out->size() < want) {
    Result<WatchBatch> batch = co_await watch.next();
    if (!batch.ok()) {
      *end = batch.error();
      co_return;
    }
    for (Event& event : batch->events) out->push_back(std::move(event));
  }
}

inline Task<void> watch_sees_all(KvStore& store, Clock& clock) {
  Revision before = co_await put(store, "w/0", "before");
  Result<std::unique_ptr<Watch>> watch = co_await store.watch("w/", before + 1);
  EXPECT_TRUE(watch.ok());
  Gate gate;
  std::vector<Event> events;
  Status end;
  (void)spawn(gate, collect(*watch.value(), 4, &events, &end));
  Revision first = co_await put(store, "w/1", "one");
  Revision other = co_await put(store, "x", "not watched");
  Txn both;
  both.put("w/2", "two").remove("w/0").put("y", "not watched");
  Result<TxnOutcome> second = co_await store.transact(both);
  EXPECT_EQ(second->revision, other + 1);
  Revision third = co_await put(store, "w/1", "three");
  co_await gate.close();
  EXPECT_TRUE(end.ok());
  EXPECT_EQ(events.size(), 4u);
  if (events.size() != 4) co_return;
  EXPECT_EQ(events[0].key, "w/1");
  EXPECT_EQ(events[0].value, "one");
  EXPECT_EQ(events[0].mod_revision, first);
  EXPECT_EQ(events[1].key, "w/2");
  EXPECT_EQ(events[2].key, "w/0");
  EXPECT_TRUE(events[2].removed);
  EXPECT_EQ(events[2].mod_revision, second->revision);
  EXPECT_EQ(events[3].value, "three");
  EXPECT_EQ(events[3].mod_revision, third);

  // A second one from the past sees the same, as long as the history is there.
  Result<std::unique_ptr<Watch>> replay = co_await store.watch("w/", first);
  std::vector<Event> again;
  co_await collect(*replay.value(), 4, &again, &end);
  EXPECT_EQ(again.size(), 4u);

  // close() ends a pending next().
  Gate waiting;
  std::vector<Event> never;
  (void)spawn(waiting, collect(*watch.value(), 1, &never, &end));
  Status slept = co_await clock.sleep_for(std::chrono::milliseconds(1), CancelToken());
  EXPECT_TRUE(slept.ok());
  watch.value()->close();
  co_await waiting.close();
  EXPECT_EQ(end.code(), ErrorCode::kClosed);
}

inline Task<void> slow_watch_is_compacted(KvStore& store) {
  Result<std::unique_ptr<Watch>> watch = co_await store.watch("c/", 0);
  EXPECT_TRUE(watch.ok());
  const std::string value(256 * 1024, 'c');
  Revision last = 0;
  for (int i = 0; i < 80; ++i) last = co_await put(store, fmt::format("c/{}", i % 4), value);
  Result<WatchBatch> batch = co_await watch.value()->next();
  EXPECT_TRUE(batch.ok());
  EXPECT_TRUE(batch->compacted);
  EXPECT_TRUE(batch->events.empty());
  // The way back: the range, then a watch from its revision.
  RangeRequest request("c/");
  Result<Page> page = co_await store.range(request);
  EXPECT_TRUE(page.ok() && page->revision == last);
  Result<std::unique_ptr<Watch>> next = co_await store.watch("c/", page->revision + 1);
  Revision after = co_await put(store, "c/new", "n");
  Result<WatchBatch> told = co_await next.value()->next();
  EXPECT_TRUE(told.ok() && told->events.size() == 1 && told->events[0].mod_revision == after);
}

// Renews until `gone` is gone. False where the machine was too slow for a lease of `ttl`, granted
// after `renewed`, to be renewed in time: then nothing can be said about it.
inline Task<bool> renew_until_gone(KvStore& store, Clock& clock, LeaseId kept, MonoTime renewed,
                                   Duration ttl, std::string gone) {
  for (int i = 0; i < 90; ++i) {
    Status slept = co_await clock.sleep_for(ttl / 2, CancelToken());
    EXPECT_TRUE(slept.ok());
    const MonoTime asked = clock.now();
    Result<Duration> left = co_await store.keep_alive(kept);
    if (clock.now() - renewed >= ttl) co_return false;
    EXPECT_TRUE(left.ok() && left.value() == ttl);
    renewed = asked;
    // Longer than either was granted for.
    std::string value = co_await value_of(store, gone);
    if (i >= 3 && value == "(absent)") co_return true;
  }
  ADD_FAILURE() << gone << " stays although its lease is over";
  co_return true;
}

inline Task<void> leases_expire(KvStore& store, Clock& clock) {
  const Duration ttl = std::chrono::seconds(2);
  Result<Lease> kept = Error(ErrorCode::kUnavailable, "not asked for yet");
  Result<Lease> left = kept;
  std::unique_ptr<Watch> watch;
  bool in_time = false;
  for (int round = 0; round < 30 && !in_time; ++round) {
    const MonoTime granted = clock.now();
    kept = co_await store.grant_lease(ttl);
    left = co_await store.grant_lease(ttl);
    EXPECT_TRUE(kept.ok() && left.ok() && kept->id != left->id && kept->id != 0);
    Txn txn;
    txn.put("l/kept", "k", kept->id).put("l/left", "l", left->id).put("l/free", "f");
    Result<TxnOutcome> done = co_await store.transact(txn);
    if (!done.ok() && clock.now() - granted >= ttl / 2) continue;
    EXPECT_TRUE(done.ok() && done->committed);
    if (!done.ok()) co_return;
    Result<std::unique_ptr<Watch>> began = co_await store.watch("l/", done->revision + 1);
    EXPECT_TRUE(began.ok());
    watch = std::move(*began);
    in_time = co_await renew_until_gone(store, clock, kept->id, granted, ttl, "l/left");
  }
  EXPECT_TRUE(in_time) << "no lease of 2 s could be renewed in time, however often it was tried";
  if (!in_time) co_return;
  std::string alive = co_await value_of(store, "l/kept");
  EXPECT_EQ(alive, "k");
  Result<WatchBatch> batch = co_await watch->next();
  EXPECT_TRUE(batch.ok() && batch->events.size() == 1);
  EXPECT_TRUE(batch->events.at(0).removed);
  EXPECT_EQ(batch->events.at(0).key, "l/left");
  Result<Duration> expired = co_await store.keep_alive(left->id);
  EXPECT_EQ(expired.code(), ErrorCode::kNotFound);
  Txn late;
  late.put("l/late", "x", left->id);
  Result<TxnOutcome> refused = co_await store.transact(late);
  EXPECT_EQ(refused.code(), ErrorCode::kNotFound);
  // A key put again without the lease no longer hangs on it.
  Revision freed = co_await put(store, "l/kept", "free");
  EXPECT_GT(freed, 0u);
  Status revoked = co_await store.revoke_lease(kept->id);
  EXPECT_TRUE(revoked.ok());
  revoked = co_await store.revoke_lease(kept->id);
  EXPECT_TRUE(revoked.ok());
  alive = co_await value_of(store, "l/kept");
  EXPECT_EQ(alive, "free");
  Result<Lease> too_short = co_await store.grant_lease(std::chrono::milliseconds(1));
  EXPECT_EQ(too_short.code(), ErrorCode::kInvalidArgument);
}

inline Task<void> survives_reopen(KvHost& host) {
  const Duration ttl = std::chrono::seconds(5);
  Revision first = co_await put(host.store(), "r/1", "one");
  const MonoTime asked = host.clock().now();
  Result<Lease> lease = co_await host.store().grant_lease(ttl);
  Txn leased;
  leased.put("r/leased", "x", lease->id);
  Result<TxnOutcome> second = co_await host.store().transact(leased);
  EXPECT_TRUE(second.ok() && second->committed);
  co_await host.reopen();
  std::string value = co_await value_of(host.store(), "r/1");
  EXPECT_EQ(value, "one");
  Result<std::optional<Entry>> entry = co_await host.store().get("r/1");
  EXPECT_EQ(entry.value()->mod_revision, first);
  Revision next = co_await put(host.store(), "r/2", "two");
  EXPECT_GT(next, second->revision);
  Result<Duration> alive = co_await host.store().keep_alive(lease->id);
  // Where opening took so long, it may be over, and rightly.
  EXPECT_TRUE(alive.ok() || host.clock().now() - asked >= ttl);
  Status slept = co_await host.clock().sleep_for(std::chrono::seconds(7), CancelToken());
  EXPECT_TRUE(slept.ok());
  value = co_await value_of(host.store(), "r/leased");
  for (int i = 0; i < 90 && value != "(absent)"; ++i) {
    slept = co_await host.clock().sleep_for(std::chrono::seconds(1), CancelToken());
    value = co_await value_of(host.store(), "r/leased");
  }
  EXPECT_EQ(value, "(absent)");
  Result<Lease> another = co_await host.store().grant_lease(std::chrono::seconds(5));
  EXPECT_NE(another->id, lease->id);
  Status revoked = co_await host.store().revoke_lease(another->id);
  EXPECT_TRUE(revoked.ok());
}

inline Task<void> closes(KvStore& store) {
  Result<std::unique_ptr<Watch>> watch = co_await store.watch("", 0);
  co_await store.close();
  Result<WatchBatch> batch = co_await watch.value()->next();
  EXPECT_EQ(batch.code(), ErrorCode::kClosed);
  Result<std::optional<Entry>> entry = co_await store.get("a");
  EXPECT_EQ(entry.code(), ErrorCode::kClosed);
  Txn txn;
  txn.put("a", "b");
  Result<TxnOutcome> outcome = co_await store.transact(txn);
  EXPECT_EQ(outcome.code(), ErrorCode::kClosed);
}

inline Task<void> one_writer(KvStore& store, int times) {
  for (int i = 0; i < times;) {
    Result<std::optional<Entry>> entry = co_await store.get("counter");
    EXPECT_TRUE(entry.ok());
    const int have = entry.value() ? std::stoi(entry.value()->value) : 0;
    Txn txn;
    txn.expect("counter", entry.value() ? entry.value()->mod_revision : 0);
    txn.put("counter", std::to_string(have + 1));
    Result<TxnOutcome> outcome = co_await store.transact(txn);
    EXPECT_TRUE(outcome.ok());
    if (outcome->committed) ++i;
  }
}

inline Task<void> writers_lose_no_update(KvStore& store) {
  Gate gate;
  for (int i = 0; i < 4; ++i) (void)spawn(gate, one_writer(store, 25));
  co_await gate.close();
  std::string count = co_await value_of(store, "counter");
  EXPECT_EQ(count, "100");
}

}  // namespace kv_contract

TEST_P(KvContract, PutsGetsAndRemoves) {
  host_->run(kv_contract::put_get_remove(store()));
}
TEST_P(KvContract, ComparesAndSets) {
  host_->run(kv_contract::compare_and_set(store()));
}
TEST_P(KvContract, ReadsInPages) {
  host_->run(kv_contract::pages(store()));
}
TEST_P(KvContract, EndsBigPagesEarly) {
  host_->run(kv_contract::big_pages_end_early(store()));
}
TEST_P(KvContract, RefusesWhatIsOutOfBounds) {
  host_->run(kv_contract::bounds(store()));
}
TEST_P(KvContract, WatchSeesAllInOrder) {
  host_->run(kv_contract::watch_sees_all(store(), host_->clock()));
}
TEST_P(KvContract, TellsASlowWatchThatItMissed) {
  host_->run(kv_contract::slow_watch_is_compacted(store()));
}
TEST_P(KvContract, LeasesExpire) {
  host_->run(kv_contract::leases_expire(store(), host_->clock()));
}
TEST_P(KvContract, SurvivesReopening) {
  host_->run(kv_contract::survives_reopen(*host_));
}
TEST_P(KvContract, RefusesEverythingOnceClosed) {
  host_->run(kv_contract::closes(store()));
}
TEST_P(KvContract, LosesNoUpdate) {
  host_->run(kv_contract::writers_lose_no_update(store()));
}

}  // namespace hf::state
