// ConfigStore: a volume's configuration in the state store, changed by compare-and-set. The outcome
// of a change is always known when it returns: what is ambiguous is read back, for as long as that
// takes or until `give_up` is cancelled. Never on the path of I/O.
#pragma once

#include <optional>

#include <map>

#include "format/config_format.h"
#include "runtime/random.h"
#include "state/kv_store.h"

namespace hf {

struct StoredConfig {
  StoredConfig() = default;
  VolumeConfig config;
  state::Revision revision = 0;
};

struct ConfigChange {
  ConfigChange() = default;
  bool done = false;
  StoredConfig now;  // done: as written; else what is there instead
};

class ConfigStore {
 public:
  ConfigStore(state::KvStore& store, Clock& clock, Random& random)
      : store_(store), clock_(clock), random_(random) {}

  // kNotFound, kCorruption, kNewerFormat, kUnavailable.
  Task<Result<StoredConfig>> load(VolumeId volume);
  // Of all volumes, by few reads. One that cannot be understood is left out, and logged.
  Task<Result<std::map<VolumeId, VolumeConfig>>> load_all();
  // kAlreadyExists.
  Task<Result<StoredConfig>> create(VolumeConfig config);
  // Replaces `from` by `next` (whose generation is set to the following one, unless it is above that, and its nonce) if it
  // is still there. Asks until it knows: while the state store is away this does not return.
  // kCancelled when `give_up` is; the change may then have happened, or may still.
  Task<Result<ConfigChange>> replace(StoredConfig from, VolumeConfig next, CancelToken give_up);

  static std::string key_of(VolumeId volume);

 private:
  Task<Result<StoredConfig>> read(VolumeId volume);

  state::KvStore& store_;
  Clock& clock_;
  Random& random_;
};

}  // namespace hf
