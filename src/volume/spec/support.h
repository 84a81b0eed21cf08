// Which parts of a valid spec this cluster can keep. A key is refused only where ignoring it would
// break a promise; a hint is stored and takes effect once its feature is there. Pure: the caller
// says what the cluster can do. The reasons stand in one table (support.cc), which the
// documentation shows too.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "volume/spec/volume_spec.h"

namespace hf::spec {

// What this cluster, as it runs now, can honour. The defaults are those of one node of this
// version; the composition root raises what its features provide.
struct Capabilities {
  uint32_t max_replicas = 1;  // nodes with a pool, at most kMaxRepl
  bool encryption = false;    // secure, secret_key, passphrase
  bool shared = false;
  bool scale = false;
  bool aggregation = false;
  bool snapshot_schedules = false;
  bool clone = false;      // parent
  bool sticky = false;     // deletion honours the flag
  bool proxy = false;
  bool throttle = false;
  bool storage_policies = false;
  bool flush_durability =
      false;        // without it durability=flush is treated as sync, which is stricter
  bool xfs = true;  // mkfs of this file system is on every node
  bool btrfs = true;
  KeySet hints;  // hints that have an effect here (io_priority, journal, ...)
};

// One row per key that some cluster may not honour.
struct SupportRule {
  SpecKey key;
  bool promise;             // true: refused; false: stored, with a note
  std::string_view reason;  // what ignoring it would break, or why storing it is harmless
  // Whether `spec` asks for something that `have` lacks.
  bool (*lacking)(const VolumeSpec& spec, const Capabilities& have);
};
std::span<const SupportRule> support_rules();

// Ok, or kNotSupported "not yet supported" naming every key that cannot be kept, its value, the
// reason and the way out.
Status check_support(const VolumeSpec& spec, const Capabilities& have);

// One sentence per hint that is stored without effect here, for `inspect` and for the log.
std::vector<std::string> support_notes(const VolumeSpec& spec, const Capabilities& have);

}  // namespace hf::spec
