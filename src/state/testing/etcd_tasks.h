// Small steps on a store, for tests of the real etcd.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "state/kv_store.h"

namespace hf::state::steps {

// Until it works or `patience` has passed; what went wrong last is told. A put that was carried out
// unheard stands twice in the history.
inline Task<Revision> put(KvStore& store, Clock& clock, std::string key, std::string value,
                          Duration patience) {
  const MonoTime deadline = clock.now() + patience;
  Txn txn;
  txn.put(key, value);
  while (true) {
    Result<TxnOutcome> done = co_await store.transact(txn);
    if (done.ok()) co_return done->revision;
    if (clock.now() > deadline) {
      ADD_FAILURE() << key << ": " << done.error().to_string();
      co_return 0;
    }
    Status slept = co_await clock.sleep_for(20ms, CancelToken());
    if (!slept.ok()) co_return 0;
  }
}

// Asked again while the members look for a leader.
inline Task<std::string> value_of(KvStore& store, Clock& clock, std::string key) {
  const MonoTime deadline = clock.now() + Duration(90s);
  Result<std::optional<Entry>> entry = co_await store.get(key);
  while (entry.code() == ErrorCode::kUnavailable && clock.now() < deadline) {
    Status slept = co_await clock.sleep_for(20ms, CancelToken());
    if (!slept.ok()) break;
    entry = co_await store.get(key);
  }
  if (!entry.ok()) co_return entry.error().to_string();
  if (!entry.value()) co_return "(absent)";
  co_return entry.value()->value;
}

// One write: what it came to.
inline Task<ErrorCode> try_put(KvStore& store, std::string key, std::string value) {
  Txn txn;
  txn.put(key, value);
  Result<TxnOutcome> done = co_await store.transact(txn);
  co_return done.code();
}

inline Task<void> collect(Watch& watch, size_t want, std::vector<Event>* out, bool* compacted) {
  while (out->size() < want) {
    Result<WatchBatch> batch = co_await watch.next();
    if (!batch.ok()) co_return;
    *compacted = batch->compacted;
    if (batch->compacted) co_return;
    for (Event& event : batch->events) out->push_back(std::move(event));
  }
}

inline Task<void> pause(Clock& clock, Duration time) {
  Status slept = co_await clock.sleep_for(time, CancelToken());
  EXPECT_TRUE(slept.ok());
}

}  // namespace hf::state::steps
