// A transaction whose outcome is known, over a store that is slow, away or ambiguous.
#pragma once

#include "state/kv_store.h"

namespace hf::state {

// Asks until the answer is known or `deadline` has passed. Safe because the transaction compares a
// key that it also changes (asserted): once applied, asked again it loses its comparison, and then
// what is there is compared with what was to be written. Values must be unique per writing (records
// carry a generation), so that equal bytes mean "mine". committed: `revision` is the mod_revision
// of what was put. Errors: those of transact(); kUnavailable: did not happen; kAmbiguous: the
// deadline came first, or another writer did, and ours may have happened before its. Not committed
// is definite.
Task<Result<TxnOutcome>> transact_sure(KvStore& store, Clock& clock, Txn txn, MonoTime deadline);

}  // namespace hf::state
