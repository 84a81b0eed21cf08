#include "replicate/config_store.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/log.h"
#include "runtime/fault_point.h"
#include "state/txn_retry.h"

namespace hf {
namespace {

const std::string kPrefix = "holdfast/v1/replication/";
constexpr size_t kMaxConfigs = 20'000;
constexpr Duration kOneTry = 2s;  // of transact_sure, which asks again within it
constexpr Duration kBetweenTries = 50ms;

bool comes_back(ErrorCode code) {
  return code == ErrorCode::kUnavailable || code == ErrorCode::kAmbiguous ||
         code == ErrorCode::kTimeout;
}

}  // namespace

std::string ConfigStore::key_of(VolumeId volume) {
  return kPrefix + volume.to_string();
}

Task<Result<StoredConfig>> ConfigStore::read(VolumeId volume) {
  Result<std::optional<state::Entry>> entry = co_await store_.get(key_of(volume));
  HF_CO_TRY(entry);
  if (!entry->has_value()) {
    co_return make_error(ErrorCode::kNotFound, "volume {} has no configuration in the state store",
                         volume.to_string());
  }
  Result<VolumeConfig> config = decode_config((*entry)->value);
  if (!config.ok()) co_return config.error().with_context(key_of(volume));
  StoredConfig stored;
  stored.config = std::move(*config);
  stored.revision = (*entry)->mod_revision;
  co_return stored;
}

Task<Result<StoredConfig>> ConfigStore::load(VolumeId volume) {
  co_return co_await read(volume);
}

Task<Result<std::map<VolumeId, VolumeConfig>>> ConfigStore::load_all() {
  Result<std::vector<state::Entry>> entries = co_await state::range_all(store_, kPrefix, kMaxConfigs);
  HF_CO_TRY(entries);
  std::map<VolumeId, VolumeConfig> all;
  for (const state::Entry& entry : entries.value()) {
    Result<VolumeConfig> config = decode_config(entry.value);
    if (!config.ok()) {
      HF_LOG(kWarn, "replicate", "config_unread key={} why=\"{}\"", entry.key, config.error().to_string());
      continue;
    }
    const VolumeId volume = config->volume;
    all[volume] = std::move(config).value();
  }
  co_return all;
}

Task<Result<StoredConfig>> ConfigStore::create(VolumeConfig config) {
  config.generation = 1;
  config.nonce = random_.next();
  state::Txn txn;
  const std::string key = key_of(config.volume);
  txn.expect_absent(key).put(key, encode_config(config));
  Result<state::TxnOutcome> outcome =
      co_await state::transact_sure(store_, clock_, std::move(txn), clock_.now() + kOneTry);
  HF_CO_TRY(outcome);
  if (!outcome->committed) {
    co_return make_error(ErrorCode::kAlreadyExists, "volume {} has a configuration already",
                         config.volume.to_string());
  }
  StoredConfig stored;
  stored.config = std::move(config);
  stored.revision = outcome->revision;
  co_return stored;
}

Task<Result<ConfigChange>> ConfigStore::replace(StoredConfig from, VolumeConfig next,
                                                CancelToken give_up) {
  next.generation = std::max(next.generation, from.config.generation + 1);
  next.nonce = random_.next();
  const std::string key = key_of(next.volume);
  const std::string value = encode_config(next);
  ConfigChange change;
  while (true) {
    state::Txn txn;
    txn.expect(key, from.revision).put(key, value);
    Result<state::TxnOutcome> outcome =
        co_await state::transact_sure(store_, clock_, std::move(txn), clock_.now() + kOneTry);
    if (outcome.ok() && outcome->committed) {
      change.done = true;
      change.now.config = std::move(next);
      change.now.revision = outcome->revision;
      co_return change;
    }
    if (!outcome.ok() && !comes_back(outcome.code())) co_return outcome.error();
    // Lost, or not known: what is there decides. An old request of ours that still travels can only
    // succeed as long as the revision that it compares stands, so while that stands we ask again.
    Result<StoredConfig> now = co_await read(next.volume);
    if (now.ok() && now->revision != from.revision) {
      change.done = now->config.nonce == next.nonce && now->config.generation == next.generation;
      if (change.done) HF_PROBE("replicate.config_read_back");
      change.now = std::move(*now);
      co_return change;
    }
    if (!now.ok() && !comes_back(now.code())) co_return now.error();
    Status slept = co_await clock_.sleep_for(kBetweenTries, give_up);
    HF_CO_TRY(slept);
  }
}

}  // namespace hf
