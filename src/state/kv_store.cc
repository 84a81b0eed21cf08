#include "state/kv_store.h"

#include <algorithm>

namespace hf::state {

Txn& Txn::expect(std::string key, Revision mod_revision) {
  compares_.emplace_back(std::move(key), mod_revision);
  return *this;
}

Txn& Txn::put(std::string key, std::string value, LeaseId lease) {
  ops_.emplace_back(true, std::move(key), std::move(value), lease);
  return *this;
}

Txn& Txn::remove(std::string key) {
  ops_.emplace_back(false, std::move(key), std::string(), 0);
  return *this;
}

Status check_key(const std::string& key) {
  if (key.empty()) return Error(ErrorCode::kInvalidArgument, "state store: an empty key");
  if (key.size() > kMaxKeyBytes) {
    return make_error(ErrorCode::kInvalidArgument, "state store: a key of {} bytes, at most {}",
                      key.size(), kMaxKeyBytes);
  }
  return {};
}

Status Txn::check() const {
  if (ops_.size() > kMaxTxnOps || compares_.size() > kMaxTxnCompares) {
    return make_error(
        ErrorCode::kInvalidArgument,
        "state store: a transaction of {} operations and {} compares, at most {} and {}",
        ops_.size(), compares_.size(), kMaxTxnOps, kMaxTxnCompares);
  }
  size_t bytes = 0;
  for (const Compare& compare : compares_) {
    HF_TRY(check_key(compare.key));
    bytes += compare.key.size();
  }
  std::vector<std::string_view> keys;
  for (const Op& op : ops_) {
    HF_TRY(check_key(op.key));
    if (op.value.size() > kMaxValueBytes) {
      return make_error(ErrorCode::kInvalidArgument,
                        "state store: a value of {} bytes for {}, at most {}", op.value.size(),
                        op.key, kMaxValueBytes);
    }
    bytes += op.key.size() + op.value.size();
    keys.push_back(op.key);
  }
  std::sort(keys.begin(), keys.end());
  const auto twice = std::adjacent_find(keys.begin(), keys.end());
  if (twice != keys.end()) {
    return make_error(ErrorCode::kInvalidArgument, "state store: {} twice in one transaction",
                      *twice);
  }
  if (bytes > kMaxTxnBytes) {
    return make_error(ErrorCode::kInvalidArgument,
                      "state store: a transaction of {} bytes, at most {}", bytes, kMaxTxnBytes);
  }
  return {};
}

Status check_range(const RangeRequest& request) {
  if (request.prefix.size() > kMaxKeyBytes || request.after.size() > kMaxKeyBytes) {
    return make_error(ErrorCode::kInvalidArgument, "state store: a range bound above {} bytes",
                      kMaxKeyBytes);
  }
  if (request.limit == 0 || request.limit > kMaxPageEntries) {
    return make_error(ErrorCode::kInvalidArgument, "state store: a page of {} entries, 1 to {}",
                      request.limit, kMaxPageEntries);
  }
  return {};
}

Status check_ttl(Duration ttl) {
  if (ttl < kMinLeaseTtl || ttl > kMaxLeaseTtl) {
    return make_error(ErrorCode::kInvalidArgument, "state store: a lease of {} ms, 1 s to 24 h",
                      std::chrono::duration_cast<std::chrono::milliseconds>(ttl).count());
  }
  return {};
}

std::string prefix_end(std::string_view prefix) {
  std::string end(prefix);
  while (!end.empty() && static_cast<unsigned char>(end.back()) == 0xff) end.pop_back();
  if (!end.empty()) end.back() = static_cast<char>(static_cast<unsigned char>(end.back()) + 1);
  return end;
}

Task<Result<std::vector<Entry>>> range_all(KvStore& store, std::string prefix, size_t limit) {
  std::vector<Entry> all;
  RangeRequest request(prefix);
  while (true) {
    Result<Page> page = co_await store.range(request);
    HF_CO_TRY(page);
    if (all.size() + page->entries.size() > limit) {
      co_return make_error(ErrorCode::kLimitExceeded, "more than {} entries below {}", limit,
                           prefix);
    }
    for (Entry& entry : page->entries) all.push_back(std::move(entry));
    if (!page->more) co_return std::move(all);
    HF_ASSERT(!all.empty(), "a page with more behind it is not empty");
    request.after = all.back().key;
  }
}

}  // namespace hf::state
