#include "state/txn_retry.h"

#include <algorithm>

#include "runtime/fault_point.h"

namespace hf::state {
namespace {

constexpr Duration kFirstPause = std::chrono::milliseconds(5);
constexpr Duration kLongestPause = std::chrono::milliseconds(500);

bool compares_what_it_changes(const Txn& txn) {
  for (const Txn::Compare& compare : txn.compares()) {
    for (const Txn::Op& op : txn.ops()) {
      // A remove of a key expected absent changes nothing and would prove nothing.
      if (op.key == compare.key && (op.put || compare.mod_revision != 0)) return true;
    }
  }
  return false;
}

// Whether the store holds exactly what `txn` wrote. `revision` becomes that of what it put.
Task<Result<bool>> holds_what_was_written(KvStore& store, const Txn& txn, Revision* revision) {
  for (const Txn::Op& op : txn.ops()) {
    Result<std::optional<Entry>> entry = co_await store.get(op.key);
    HF_CO_TRY(entry);
    const std::optional<Entry>& found = entry.value();
    if (op.put != found.has_value()) co_return false;
    if (!op.put) continue;
    if (found->value != op.value) co_return false;
    *revision = found->mod_revision;
  }
  co_return true;
}

bool try_again(ErrorCode code) {
  return code == ErrorCode::kUnavailable || code == ErrorCode::kAmbiguous;
}

}  // namespace

Task<Result<TxnOutcome>> transact_sure(KvStore& store, Clock& clock, Txn txn, MonoTime deadline) {
  HF_ASSERT(compares_what_it_changes(txn), "a transaction that cannot be asked twice");
  bool ambiguous = false;
  Duration pause = kFirstPause;
  while (true) {
    Result<TxnOutcome> outcome = co_await store.transact(txn);
    Error error(ErrorCode::kInternal, "");
    if (outcome.ok()) {
      if (outcome->committed || !ambiguous) co_return std::move(outcome);
      HF_PROBE("state.read_back");
      Revision revision = 0;
      Result<bool> mine = co_await holds_what_was_written(store, txn, &revision);
      if (mine.ok() && mine.value()) {
        outcome->committed = true;
        outcome->revision = revision != 0 ? revision : outcome->revision;
        co_return std::move(outcome);
      }
      if (mine.ok()) {
        co_return make_error(
            ErrorCode::kAmbiguous,
            "the write to {} was overtaken by another; it may have happened before",
            txn.compares().front().key);
      }
      error = mine.error();
    } else {
      error = outcome.error();
      ambiguous = ambiguous || error.code() == ErrorCode::kAmbiguous;
    }
    const bool late = clock.now() + pause > deadline;
    if (!try_again(error.code()) || late) {
      if (ambiguous && error.code() == ErrorCode::kUnavailable) {
        co_return Error(ErrorCode::kAmbiguous, error.message());
      }
      co_return std::move(error);
    }
    Status slept = co_await clock.sleep_for(pause, CancelToken());
    HF_CO_TRY(slept);
    pause = std::min(pause * 2, kLongestPause);
  }
}

}  // namespace hf::state
