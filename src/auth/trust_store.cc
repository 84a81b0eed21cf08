#include "auth/trust_store.h"

#include <algorithm>

#include "base/log.h"
#include "base/utc.h"
#include "runtime/fault_point.h"
#include "state/txn_retry.h"

namespace hf::auth {
namespace {

using state::Entry;
using state::Revision;
using state::Txn;
using state::TxnOutcome;

constexpr Duration kStoreTime = 10s;  // for one call's transaction to become known
constexpr Duration kWatchPause = 1s;
constexpr Duration kConflictPause = 5ms;

std::string utc(WallTime time) {
  return format_utc(time.ns / 1'000'000'000);
}

Error wrong_token() {
  return make_error(
      ErrorCode::kUnauthenticated,
      "the join token is not known to this cluster: it is mistyped, was withdrawn, or expired long "
      "ago; make a new one with `holdfast cluster token`");
}

Error used_token(const TokenRecord& token) {
  return make_error(
      ErrorCode::kPermissionDenied,
      "the join token was used already, at {} by node {}; make a new one with `holdfast cluster "
      "token`, and if that node is none of yours, decommission it",
      utc(token.used), token.node.to_string());
}

Result<std::vector<std::string>> canonical_names(const std::vector<std::string>& names) {
  std::vector<std::string> out;
  for (const std::string& name : names) {
    Result<std::string> canonical = canonical_name(name);
    HF_TRY(canonical);
    if (std::find(out.begin(), out.end(), *canonical) == out.end())
      out.push_back(std::move(*canonical));
  }
  if (out.size() > kMaxNames) {
    return make_error(ErrorCode::kInvalidArgument,
                      "{} names and addresses are too many for a node, which may have {}",
                      out.size(), kMaxNames);
  }
  return out;
}

Admission admission_of(const NodeRecord& record, const std::string& public_der) {
  HF_ASSERT(!record.certificates.empty());
  const IssuedCertificate& newest = record.certificates.back();
  Admission admission;
  admission.signer = record.signer;
  admission.order.node = record.node;
  admission.order.public_der = public_der;
  admission.order.names = record.names;
  admission.order.serial = newest.serial;
  admission.order.not_before = newest.not_before;
  admission.order.not_after = newest.not_after;
  return admission;
}

Error revoked_error(const NodeRecord& record) {
  return make_error(
      ErrorCode::kPermissionDenied,
      "node {} was decommissioned at {}; it can join again with a new token, as a new node",
      record.node.to_string(), utc(record.revoked));
}

}  // namespace

Result<bool> judge_claim(const TokenRecord& token, const JoinClaim& claim, WallTime now) {
  const Hash hash = claim.secret.hash(claim.token);
  const std::string shown = to_hex(bytes_of(hash));
  if (token.id != claim.token ||
      !equal_in_constant_time(as_bytes(shown), as_bytes(token.secret_hash))) {
    return wrong_token();
  }
  if (!token.used_by.empty()) {
    const bool same = token.used_by == to_hex(as_bytes(claim.public_der));
    if (!same || now.ns > token.used.ns + kRepeatTime.count()) return used_token(token);
    return false;
  }
  if (now.ns >= token.expires.ns) {
    return make_error(
        ErrorCode::kFailedPrecondition,
        "the join token expired at {}, and the cluster's clock says {}; make a new one with "
        "`holdfast cluster token`",
        utc(token.expires), utc(now));
  }
  return true;
}

TrustStore::TrustStore(state::KvStore& store, Clock& clock, Random& random)
    : store_(store), clock_(clock), random_(random), writer_(random.next()) {}

TrustStamp TrustStore::stamp(uint64_t generation) const {
  TrustStamp stamp;
  stamp.generation = generation;
  stamp.writer = writer_;
  return stamp;
}

IssuedCertificate TrustStore::new_certificate() {
  IssuedCertificate out;
  out.serial = new_serial(random_);
  out.not_before = WallTime{clock_.wall().ns - kBackdate.count()};
  out.not_after = WallTime{clock_.wall().ns + kCertificateLife.count()};
  return out;
}

template <typename Record>
Task<Result<std::optional<std::pair<Record, Revision>>>> TrustStore::read(std::string key) {
  using Found = std::optional<std::pair<Record, Revision>>;
  Result<std::optional<Entry>> entry = co_await store_.get(key);
  HF_CO_TRY(entry);
  if (!entry->has_value()) co_return Found();
  Result<Record> record = decode_record<Record>(key, (*entry)->value);
  HF_CO_TRY(record);
  co_return Found(std::in_place, std::move(*record), (*entry)->mod_revision);
}

Task<Result<Admission>> TrustStore::found(Certificate authority, NodeId node,
                                          std::string public_der, std::vector<std::string> names) {
  const Result<std::vector<std::string>> canonical = canonical_names(names);
  HF_CO_TRY(canonical);
  const Result<ClusterId> cluster = authority.authority_of();
  HF_CO_TRY(cluster);
  CaRecord ca;
  ca.stamp = stamp(1);
  ca.cluster = *cluster;
  ca.bundle_pem = authority.pem();
  ca.signing = to_hex(bytes_of(authority.fingerprint()));
  NodeRecord first;
  first.stamp = stamp(1);
  first.node = node;
  first.public_key = to_hex(as_bytes(public_der));
  first.signer = true;
  first.names = *canonical;
  first.certificates.push_back(new_certificate());
  first.joined = clock_.wall();
  NameOwner owner;
  owner.stamp = stamp(1);
  owner.node = node;
  Txn txn;
  txn.expect_absent(ca_key()).put(ca_key(), encode_record(ca));
  txn.expect_absent(node_key(node)).put(node_key(node), encode_record(first));
  for (const std::string& name : first.names) {
    txn.expect_absent(name_key(name)).put(name_key(name), encode_record(owner));
  }
  Result<TxnOutcome> outcome =
      co_await state::transact_sure(store_, clock_, txn, clock_.now() + kStoreTime);
  HF_CO_TRY(outcome);
  if (outcome->committed) co_return admission_of(first, public_der);
  Result<CaRecord> there = co_await authorities();
  HF_CO_TRY(there);
  if (there->cluster != ca.cluster || there->signing != ca.signing) {
    co_return make_error(ErrorCode::kAlreadyExists,
                         "this state store has the trust of cluster {} already; join that cluster, "
                         "or use an empty one",
                         there->cluster.to_string());
  }
  co_return co_await renew(node, public_der);
}

Task<Result<CaRecord>> TrustStore::authorities() {
  Result<std::optional<std::pair<CaRecord, Revision>>> found = co_await read<CaRecord>(ca_key());
  HF_CO_TRY(found);
  if (!found->has_value()) {
    co_return make_error(
        ErrorCode::kNotFound,
        "this cluster has no CA yet: run `holdfast cluster init` on its first node");
  }
  co_return std::move((*found)->first);
}

Task<Status> TrustStore::sweep_tokens() {
  Result<std::vector<TokenRecord>> all = co_await tokens();
  HF_CO_TRY(all);
  size_t kept = 0;
  for (const TokenRecord& token : *all) {
    if (clock_.wall().ns < token.expires.ns + kTokenKept.count()) {
      ++kept;
      continue;
    }
    Status removed = co_await remove_token(token.id);
    HF_CO_TRY(removed);
  }
  if (kept >= kMaxTokens) {
    co_return make_error(ErrorCode::kLimitExceeded,
                         "there are {} join tokens, as many as may be; withdraw some, or wait a "
                         "day after they expired",
                         kept);
  }
  co_return Status();
}

Task<Result<JoinToken>> TrustStore::make_token(TokenWish wish) {
  if (wish.life <= Duration(0) || wish.life > kTokenLifeMax) {
    co_return make_error(ErrorCode::kInvalidArgument, "a join token lives for up to {} hours",
                         kTokenLifeMax / std::chrono::hours(1));
  }
  if (wish.addresses.empty() || wish.addresses.size() > kMaxTokenAddresses) {
    co_return make_error(ErrorCode::kInvalidArgument, "a join token names 1 to {} addresses to ask",
                         kMaxTokenAddresses);
  }
  for (const std::string& address : wish.addresses) {
    if (address.starts_with("tcp:") && address.size() <= kMaxAddressBytes) continue;
    co_return make_error(ErrorCode::kInvalidArgument,
                         "'{}' is no address to ask: tcp:<host>:<port>", address.substr(0, 64));
  }
  Result<std::vector<std::string>> names = canonical_names(wish.names);
  HF_CO_TRY(names);
  Result<CaRecord> ca = co_await authorities();
  HF_CO_TRY(ca);
  Status swept = co_await sweep_tokens();
  HF_CO_TRY(swept);
  JoinToken token;
  token.cluster = ca->cluster;
  token.id = new_id<TokenId>(random_);
  const std::optional<std::string> signing = from_hex(ca->signing);
  std::memcpy(token.authority.data(), signing->data(),
              std::min(signing->size(), token.authority.size()));
  token.secret = JoinSecret::make(random_);
  token.addresses = wish.addresses;
  TokenRecord record;
  record.stamp = stamp(1);
  record.id = token.id;
  record.secret_hash = to_hex(bytes_of(token.secret.hash(token.id)));
  record.node = new_id<NodeId>(random_);
  record.signer = wish.signer;
  record.names = std::move(*names);
  record.created = clock_.wall();
  record.expires = WallTime{record.created.ns + wish.life.count()};
  Txn txn;
  txn.expect_absent(token_key(token.id)).put(token_key(token.id), encode_record(record));
  Result<TxnOutcome> outcome =
      co_await state::transact_sure(store_, clock_, txn, clock_.now() + kStoreTime);
  HF_CO_TRY(outcome);
  HF_ASSERT(outcome->committed, "two tokens with one id");
  co_return std::move(token);
}

Task<Result<std::vector<TokenRecord>>> TrustStore::tokens() {
  Result<std::vector<Entry>> entries =
      co_await state::range_all(store_, std::string(kTokenPrefix), 2 * kMaxTokens);
  HF_CO_TRY(entries);
  std::vector<TokenRecord> out;
  for (const Entry& entry : *entries) {
    Result<TokenRecord> record = decode_record<TokenRecord>(entry.key, entry.value);
    HF_CO_TRY(record);
    out.push_back(std::move(*record));
  }
  co_return std::move(out);
}

Task<Status> TrustStore::remove_token(TokenId token) {
  const MonoTime deadline = clock_.now() + kStoreTime;
  Result<std::optional<Entry>> entry = co_await store_.get(token_key(token));
  HF_CO_TRY(entry);
  if (!entry->has_value()) co_return Status();
  Txn txn;
  txn.expect(token_key(token), (*entry)->mod_revision).remove(token_key(token));
  Result<TxnOutcome> outcome = co_await state::transact_sure(store_, clock_, txn, deadline);
  HF_CO_TRY(outcome);
  if (!outcome->committed && outcome->current.at(0).has_value()) {
    co_return make_error(ErrorCode::kConflict,
                         "the join token is being used at this moment; look again");
  }
  co_return Status();
}

// The token says that this key used it: what the cluster wrote down then.
Task<Result<Admission>> TrustStore::admitted_before(TokenRecord token, std::string public_der) {
  HF_PROBE("trust.admitted_before");
  Result<std::optional<std::pair<NodeRecord, Revision>>> found =
      co_await read<NodeRecord>(node_key(token.node));
  HF_CO_TRY(found);
  if (!found->has_value()) {
    co_return make_error(ErrorCode::kCorruption, "the token's node {} has no record",
                         token.node.to_string());
  }
  const NodeRecord& record = (*found)->first;
  if (record.revoked.ns != 0) co_return revoked_error(record);
  if (record.public_key != to_hex(as_bytes(public_der))) co_return used_token(token);
  co_return admission_of(record, public_der);
}

Task<Result<Admission>> TrustStore::admit(JoinClaim claim) {
  const MonoTime deadline = clock_.now() + kStoreTime;
  while (true) {
    Result<std::optional<std::pair<TokenRecord, Revision>>> found =
        co_await read<TokenRecord>(token_key(claim.token));
    HF_CO_TRY(found);
    if (!found->has_value()) co_return wrong_token();
    TokenRecord token = (*found)->first;
    const Result<bool> first_time = judge_claim(token, claim, clock_.wall());
    HF_CO_TRY(first_time);
    if (!*first_time) co_return co_await admitted_before(std::move(token), claim.public_der);

    const Result<std::vector<std::string>> names =
        canonical_names(token.names.empty() ? claim.names : token.names);
    HF_CO_TRY(names);
    NodeRecord node;
    node.stamp = stamp(1);
    node.node = token.node;
    node.public_key = to_hex(as_bytes(claim.public_der));
    node.signer = token.signer;
    node.names = *names;
    node.certificates.push_back(new_certificate());
    node.joined = clock_.wall();
    token.stamp = stamp(token.stamp.generation + 1);
    token.used_by = node.public_key;
    token.used = clock_.wall();
    NameOwner owner;
    owner.stamp = stamp(1);
    owner.node = node.node;
    Txn txn;
    txn.expect(token_key(token.id), (*found)->second)
        .put(token_key(token.id), encode_record(token));
    txn.expect_absent(node_key(node.node)).put(node_key(node.node), encode_record(node));
    for (const std::string& name : node.names) {
      txn.expect_absent(name_key(name)).put(name_key(name), encode_record(owner));
    }
    Result<TxnOutcome> outcome = co_await state::transact_sure(store_, clock_, txn, deadline);
    if (!outcome.ok()) {
      // Ambiguous in time: somebody else has changed the token since; what it says now decides.
      if (outcome.code() != ErrorCode::kAmbiguous || clock_.now() >= deadline)
        co_return outcome.error();
      HF_PROBE("trust.admit_ambiguous");
      Status slept = co_await clock_.sleep_for(kConflictPause, CancelToken());
      HF_CO_TRY(slept);
      continue;
    }
    if (outcome->committed) {
      HF_LOG(kInfo, "auth", "node_admitted node={} token={} signer={}", node.node.to_string(),
             token.id.to_string(), node.signer);
      co_return admission_of(node, claim.public_der);
    }
    HF_PROBE("trust.admit_lost");
    for (size_t i = 2; i < outcome->current.size(); ++i) {
      if (!outcome->current[i].has_value()) continue;
      const std::string& key = outcome->current[i]->key;
      const Result<NameOwner> taken = decode_record<NameOwner>(key, outcome->current[i]->value);
      HF_CO_TRY(taken);
      if (taken->node == node.node) continue;
      co_return make_error(ErrorCode::kInUse,
                           "{} belongs to node {} of this cluster; if that one is gone for good, "
                           "decommission it first",
                           node.names[i - 2], taken->node.to_string());
    }
    if (clock_.now() >= deadline) {
      co_return make_error(ErrorCode::kUnavailable,
                           "the record of the join token keeps changing; try again");
    }
    Status slept = co_await clock_.sleep_for(kConflictPause, CancelToken());
    HF_CO_TRY(slept);
  }
}

Task<Result<Admission>> TrustStore::renew(NodeId node, std::string public_der,
                                          std::string ended_key) {
  const MonoTime deadline = clock_.now() + kStoreTime;
  const std::string shown = to_hex(as_bytes(public_der));
  while (true) {
    Result<std::optional<std::pair<NodeRecord, Revision>>> found =
        co_await read<NodeRecord>(node_key(node));
    HF_CO_TRY(found);
    if (!found->has_value()) {
      co_return make_error(ErrorCode::kUnauthenticated,
                           "node {} is not known to this cluster; it joins with a token",
                           node.to_string());
    }
    NodeRecord record = std::move((*found)->first);
    if (record.revoked.ns != 0) co_return revoked_error(record);
    const bool newest = ended_key.empty() || record.public_key == to_hex(as_bytes(ended_key));
    if (!newest && record.public_key != shown) {
      co_return make_error(ErrorCode::kUnauthenticated,
                           "node {} shows a certificate that has ended and was replaced since; it "
                           "joins with a token",
                           node.to_string());
    }
    const int64_t now = clock_.wall().ns;
    const int64_t age = record.certificates.empty()
                            ? INT64_MAX
                            : now - record.certificates.back().not_before.ns - kBackdate.count();
    // A clock that went back counts as no age.
    if (record.public_key == shown && age < kRepeatTime.count())
      co_return admission_of(record, public_der);
    std::erase_if(record.certificates,
                  [now](const IssuedCertificate& c) { return c.not_after.ns < now; });
    if (record.certificates.size() >= NodeRecord::kMaxCertificates) {
      co_return make_error(ErrorCode::kLimitExceeded,
                           "node {} has {} certificates that are still valid, as many as may be",
                           node.to_string(), record.certificates.size());
    }
    record.stamp = stamp(record.stamp.generation + 1);
    record.public_key = shown;
    record.certificates.push_back(new_certificate());
    Txn txn;
    txn.expect(node_key(node), (*found)->second).put(node_key(node), encode_record(record));
    Result<TxnOutcome> outcome = co_await state::transact_sure(store_, clock_, txn, deadline);
    if (outcome.ok() && outcome->committed) co_return admission_of(record, public_der);
    if (!outcome.ok() && outcome.code() != ErrorCode::kAmbiguous) co_return outcome.error();
    if (clock_.now() >= deadline) {
      co_return make_error(ErrorCode::kUnavailable,
                           "the record of node {} keeps changing; try again", node.to_string());
    }
    Status slept = co_await clock_.sleep_for(kConflictPause, CancelToken());
    HF_CO_TRY(slept);
  }
}

Task<Status> TrustStore::revoke(NodeId node) {
  const MonoTime deadline = clock_.now() + kStoreTime;
  while (true) {
    Result<std::optional<std::pair<NodeRecord, Revision>>> found =
        co_await read<NodeRecord>(node_key(node));
    HF_CO_TRY(found);
    if (!found->has_value()) {
      co_return make_error(ErrorCode::kNotFound, "node {} is not known to this cluster",
                           node.to_string());
    }
    NodeRecord record = std::move((*found)->first);
    if (record.revoked.ns != 0) co_return Status();
    Txn txn;
    for (const std::string& name : record.names) txn.remove(name_key(name));
    record.stamp = stamp(record.stamp.generation + 1);
    record.revoked = clock_.wall();
    record.names.clear();
    txn.expect(node_key(node), (*found)->second).put(node_key(node), encode_record(record));
    Result<TxnOutcome> outcome = co_await state::transact_sure(store_, clock_, txn, deadline);
    if (outcome.ok() && outcome->committed) {
      HF_LOG(kInfo, "auth", "node_revoked node={}", node.to_string());
      co_return Status();
    }
    if (!outcome.ok() && outcome.code() != ErrorCode::kAmbiguous) co_return outcome.error();
    if (clock_.now() >= deadline) {
      co_return make_error(ErrorCode::kAmbiguous,
                           "whether node {} is revoked is not known; ask again", node.to_string());
    }
    Status slept = co_await clock_.sleep_for(kConflictPause, CancelToken());
    HF_CO_TRY(slept);
  }
}

Task<Result<std::vector<NodeRecord>>> TrustStore::nodes() {
  Result<std::vector<Entry>> entries =
      co_await state::range_all(store_, std::string(kNodePrefix), kMaxNodes);
  HF_CO_TRY(entries);
  std::vector<NodeRecord> out;
  for (const Entry& entry : *entries) {
    Result<NodeRecord> record = decode_record<NodeRecord>(entry.key, entry.value);
    HF_CO_TRY(record);
    out.push_back(std::move(*record));
  }
  co_return std::move(out);
}

Task<Result<std::set<NodeId>>> TrustStore::revoked() {
  Result<std::vector<Entry>> entries =
      co_await state::range_all(store_, std::string(kNodePrefix), kMaxNodes);
  HF_CO_TRY(entries);
  std::set<NodeId> out;
  for (const Entry& entry : *entries) {
    const Result<NodeRecord> node = decode_record<NodeRecord>(entry.key, entry.value);
    if (!node.ok()) {
      HF_LOG(kError, "auth", "node_record_unreadable error=\"{}\"", node.error().to_string());
    } else if (node->revoked.ns != 0) {
      out.insert(node->node);
    }
  }
  co_return std::move(out);
}

Task<void> TrustStore::follow_revoked(std::function<void(std::set<NodeId>)> changed,
                                      CancelToken stop) {
  while (!stop.is_cancelled()) {
    // The watch begins before the range is read, so nothing falls between the two.
    Result<std::unique_ptr<state::Watch>> watch =
        co_await store_.watch(std::string(kNodePrefix), 0);
    bool good = watch.ok();
    if (good) {
      state::Watch* const raw = watch->get();
      std::function<void()> end = [raw] { raw->close(); };
      CancelCallback on_stop(stop.source(), end);
      while (good) {
        Result<std::set<NodeId>> now = co_await revoked();
        good = now.ok();
        if (!good) break;
        changed(std::move(*now));
        Result<state::WatchBatch> batch = co_await raw->next();
        good = batch.ok() && !batch->compacted;
      }
    }
    if (stop.is_cancelled()) co_return;
    Status slept = co_await clock_.sleep_for(kWatchPause, stop);
    if (!slept.ok()) co_return;
  }
}

}  // namespace hf::auth
