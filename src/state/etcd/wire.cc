#include "state/etcd/wire.h"

namespace hf::state {
namespace {

Error broken(std::string_view what) {
  return make_error(ErrorCode::kProtocol, "etcd's answer makes no sense: {}", what);
}

Status check_kv(const mvccpb::KeyValue& kv, std::string_view prefix) {
  if (!std::string_view(kv.key()).starts_with(prefix) || kv.key().size() == prefix.size()) {
    return broken("a key that is not below our prefix");
  }
  if (kv.key().size() - prefix.size() > kMaxKeyBytes) return broken("a key that is too long");
  if (kv.mod_revision() <= 0) return broken("a key without a revision");
  return {};
}

}  // namespace

Result<Entry> entry_of(const mvccpb::KeyValue& kv, std::string_view prefix) {
  HF_TRY(check_kv(kv, prefix));
  Entry entry;
  entry.key = kv.key().substr(prefix.size());
  if (kv.value().size() > kMaxValueBytes) {
    return make_error(ErrorCode::kCorruption,
                      "{}: {} bytes in etcd, at most {} are ever written: a foreign hand",
                      entry.key, kv.value().size(), kMaxValueBytes);
  }
  if (kv.create_revision() <= 0 || kv.version() <= 0 || kv.lease() < 0) {
    return broken("a key without a version");
  }
  entry.value = kv.value();
  entry.create_revision = static_cast<Revision>(kv.create_revision());
  entry.mod_revision = static_cast<Revision>(kv.mod_revision());
  entry.version = static_cast<uint64_t>(kv.version());
  entry.lease = static_cast<LeaseId>(kv.lease());
  return entry;
}

Result<Event> event_of(const mvccpb::Event& event, std::string_view prefix) {
  HF_TRY(check_kv(event.kv(), prefix));
  Event out;
  out.removed = event.type() == mvccpb::Event::DELETE;
  if (!out.removed && event.type() != mvccpb::Event::PUT) return broken("an unknown event");
  out.key = event.kv().key().substr(prefix.size());
  if (!out.removed) out.value = event.kv().value();
  out.mod_revision = static_cast<Revision>(event.kv().mod_revision());
  return out;
}

etcdserverpb::TxnRequest txn_request(const Txn& txn, const std::string& prefix) {
  etcdserverpb::TxnRequest request;
  for (const Txn::Compare& compare : txn.compares()) {
    etcdserverpb::Compare* out = request.add_compare();
    out->set_result(etcdserverpb::Compare::EQUAL);
    out->set_target(etcdserverpb::Compare::MOD);
    out->set_key(prefix + compare.key);
    out->set_mod_revision(static_cast<int64_t>(compare.mod_revision));
    request.add_failure()->mutable_request_range()->set_key(prefix + compare.key);
  }
  for (const Txn::Op& op : txn.ops()) {
    etcdserverpb::RequestOp* out = request.add_success();
    if (!op.put) {
      out->mutable_request_delete_range()->set_key(prefix + op.key);
      continue;
    }
    etcdserverpb::PutRequest* put = out->mutable_request_put();
    put->set_key(prefix + op.key);
    put->set_value(op.value);
    put->set_lease(static_cast<int64_t>(op.lease));
  }
  return request;
}

Result<TxnOutcome> txn_outcome(const etcdserverpb::TxnResponse& answer, const Txn& txn,
                               std::string_view prefix) {
  TxnOutcome outcome;
  outcome.committed = answer.succeeded();
  if (answer.header().revision() <= 0) return broken("a transaction without a revision");
  outcome.revision = static_cast<Revision>(answer.header().revision());
  const size_t wanted = outcome.committed ? txn.ops().size() : txn.compares().size();
  if (static_cast<size_t>(answer.responses_size()) != wanted) {
    return broken("a transaction with too few or too many results");
  }
  if (outcome.committed) return outcome;
  for (size_t i = 0; i < wanted; ++i) {
    const etcdserverpb::ResponseOp& one = answer.responses(static_cast<int>(i));
    if (!one.has_response_range() || one.response_range().kvs_size() > 1) {
      return broken("a comparison without its key");
    }
    if (one.response_range().kvs_size() == 0) {
      outcome.current.emplace_back();
      continue;
    }
    Result<Entry> entry = entry_of(one.response_range().kvs(0), prefix);
    HF_TRY(entry);
    if (entry->key != txn.compares()[i].key) return broken("a comparison with another key");
    outcome.current.emplace_back(std::move(*entry));
  }
  return outcome;
}

}  // namespace hf::state
