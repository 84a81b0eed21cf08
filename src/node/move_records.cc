#include "node/move_records.h"

#include <map>

#include "base/log.h"
#include "node/membership.h"
#include "state/record_text.h"

namespace hf::node {
namespace {

constexpr size_t kMaxRecords = 1'000'000;
constexpr size_t kBatchOps = 60;
constexpr size_t kBatchBytes = 256 * 1024;
constexpr int kAttempts = 5;

using Records = std::map<std::string, state::Entry>;

Task<Result<Records>> all_of(state::KvStore& store) {
  Result<std::vector<state::Entry>> entries = co_await state::range_all(store, "", kMaxRecords);
  HF_CO_TRY(entries);
  Records out;
  for (state::Entry& entry : *entries) out.emplace(entry.key, std::move(entry));
  co_return std::move(out);
}

// Compared with what was read, so that a write whose answer is lost cannot come true later over a
// newer one.
void change(state::Txn* txn, const Records& there, const std::string& key, const std::string* value) {
  const auto old = there.find(key);
  txn->expect(key, old == there.end() ? 0 : old->second.mod_revision);
  if (value == nullptr) {
    txn->remove(key);
  } else {
    txn->put(key, *value);
  }
}

Task<Status> commit(state::KvStore& to, state::Txn txn) {
  Result<state::TxnOutcome> outcome = co_await to.transact(std::move(txn));
  HF_CO_TRY(outcome);
  if (outcome->committed) co_return Status();
  co_return make_error(ErrorCode::kAmbiguous, "somebody else writes to {} meanwhile", to.describe());
}

// One pass: what differs is written, what is too much removed.
Task<Status> copy(state::KvStore& to, const Records& from, const Records& there) {
  state::Txn batch;
  size_t bytes = 0;
  std::vector<std::pair<std::string, const std::string*>> changes;
  for (const auto& [key, entry] : from) {
    const auto old = there.find(key);
    if (old == there.end() || old->second.value != entry.value) changes.emplace_back(key, &entry.value);
  }
  for (const auto& [key, entry] : there) {
    if (!from.contains(key) && key != kMovingKey) changes.emplace_back(key, nullptr);
  }
  for (const auto& [key, value] : changes) {
    change(&batch, there, key, value);
    bytes += key.size() + (value == nullptr ? 0 : value->size());
    if (batch.ops().size() < kBatchOps && bytes < kBatchBytes) continue;
    state::Txn full = std::move(batch);
    Status written = co_await commit(to, std::move(full));
    HF_CO_TRY(written);
    batch = state::Txn();
    bytes = 0;
  }
  if (batch.ops().empty()) co_return Status();
  co_return co_await commit(to, std::move(batch));
}

bool same(const Records& from, const Records& there) {
  if (there.size() != from.size() + 1 || !there.contains(kMovingKey)) return false;
  for (const auto& [key, entry] : from) {
    const auto copy = there.find(key);
    if (copy == there.end() || copy->second.value != entry.value) return false;
  }
  return true;
}

Task<Result<uint64_t>> attempt(state::KvStore& from, state::KvStore& to) {
  Result<Records> source = co_await all_of(from);
  HF_CO_TRY(source);
  Result<Records> there = co_await all_of(to);
  HF_CO_TRY(there);
  if (!there->contains(kMovingKey)) {
    if (!there->empty()) {
      co_return make_error(ErrorCode::kAlreadyExists,
                           "{} holds {} records of this cluster that have been used: this node has been "
                           "moved there before, and what it has here is older; restore its "
                           "cluster.json from a backup",
                           to.describe(), there->size());
    }
    state::Txn begin;
    begin.expect_absent(kMovingKey).put(kMovingKey, state::seal_record("moving", 1, "{}"));
    Status begun = co_await commit(to, std::move(begin));
    HF_CO_TRY(begun);
  }
  Status copied = co_await copy(to, *source, *there);
  HF_CO_TRY(copied);
  Result<Records> now = co_await all_of(to);
  HF_CO_TRY(now);
  if (!same(*source, *now)) {
    co_return make_error(ErrorCode::kAmbiguous, "{} does not hold what was written there",
                         to.describe());
  }
  co_return source->size();
}

}  // namespace

Task<Result<uint64_t>> move_records(state::KvStore& from, state::KvStore& to) {
  for (int i = 1;; ++i) {
    Result<uint64_t> moved = co_await attempt(from, to);
    const bool again = moved.code() == ErrorCode::kAmbiguous ||
                       moved.code() == ErrorCode::kUnavailable;
    if (!again || i == kAttempts) co_return moved;
    HF_LOG(kWarn, "node", "records_moved_again why=\"{}\"", moved.error().to_string());
  }
}

}  // namespace hf::node
