// Between etcd's messages and the seam's structs. Pure; whatever an answer holds is checked here.
#pragma once

#include <string>

#include "etcd/rpc.pb.h"
#include "state/kv_store.h"

namespace hf::state {

// `prefix` goes from the key. kProtocol: no key of ours, a bound broken, a revision that is none.
Result<Entry> entry_of(const mvccpb::KeyValue& kv, std::string_view prefix);
Result<Event> event_of(const mvccpb::Event& event, std::string_view prefix);
// The whole range below a prefix (already in etcd's terms).
template <typename Request>
void set_range(Request* request, const std::string& prefix) {
  request->set_key(prefix);
  std::string end = prefix_end(prefix);
  request->set_range_end(end.empty() ? std::string(1, '\0') : std::move(end));
}
etcdserverpb::TxnRequest txn_request(const Txn& txn, const std::string& prefix);
// kProtocol where it does not fit to `txn`.
Result<TxnOutcome> txn_outcome(const etcdserverpb::TxnResponse& answer, const Txn& txn,
                               std::string_view prefix);

}  // namespace hf::state
