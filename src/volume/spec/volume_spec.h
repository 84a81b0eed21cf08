// VolumeSpec: what a volume is asked to be. A plain value without I/O, the same whether it came
// inline in a volume's name, as driver options, as CSI parameters or from the SDK.
//
// A VolumeSpec that a function of this folder returned is valid: every value lies within its bounds
// and the values fit together (spec/validate.h). One built by hand is valid after validate() said
// so. Which keys this cluster can honour is another question (spec/support.h).
#pragma once

#include <bit>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/units.h"
#include "volume/spec/secret.h"
#include "volume/spec/snap_schedule.h"

namespace hf::spec {

// One per row of the key table (spec/key_table.h), in the order in which keys are shown.
enum class SpecKey : uint8_t {
  kName,
  kSize,
  kRepl,
  kScale,
  kFs,
  kBlockSize,
  kIoPriority,
  kIoProfile,
  kShared,
  kSecure,
  kSecretKey,
  kPassphrase,
  kSnapSchedule,
  kSnapInterval,
  kAggregationLevel,
  kNodes,
  kZones,
  kRacks,
  kRegions,
  kGroup,
  kFg,
  kLabels,
  kParent,
  kSticky,
  kJournal,
  kNodiscard,
  kAutoFstrim,
  kCompressed,
  kEphemeral,
  kDurability,
  kQueueDepth,
  kThrottleReadIops,
  kThrottleWriteIops,
  kThrottleReadBw,
  kThrottleWriteBw,
  kMountOptions,
  kProxyEndpoint,
  kStoragePolicy,
  kToken,
  kTokenSecret,
  kAllowGrow,
};
inline constexpr size_t kSpecKeyCount = static_cast<size_t>(SpecKey::kAllowGrow) + 1;

// A set of keys in one word.
class KeySet {
 public:
  bool contains(SpecKey key) const { return (bits_ >> static_cast<unsigned>(key) & 1) != 0; }
  void insert(SpecKey key) { bits_ |= uint64_t{1} << static_cast<unsigned>(key); }
  void erase(SpecKey key) { bits_ &= ~(uint64_t{1} << static_cast<unsigned>(key)); }
  bool empty() const { return bits_ == 0; }
  size_t size() const { return static_cast<size_t>(std::popcount(bits_)); }
  bool operator==(const KeySet&) const = default;

 private:
  static_assert(kSpecKeyCount <= 64);
  uint64_t bits_ = 0;
};

enum class FsType : uint8_t { kExt4, kXfs, kBtrfs, kNone };
enum class IoPriority : uint8_t { kLow = 1, kMedium = 2, kHigh = 3 };
enum class IoProfile : uint8_t {
  kAuto,
  kDb,
  kDbRemote,
  kSequential,
  kRandom,
  kCms,
  kSyncShared,
  kJournal,
  kNone
};
enum class Durability : uint8_t { kSync, kFlush };
// Where the key that encrypts a volume comes from.
enum class Encryption : uint8_t { kNone, kClusterKey, kNamedSecret, kPassphrase };

// nfs://host[:port]/path
struct ProxyEndpoint {
  std::string host;   // a name, an IPv4 address, or an IPv6 address in brackets
  uint16_t port = 0;  // 0: the protocol's own
  std::string path;   // starts with '/', no "//", no trailing '/' (except "/" itself)
  bool operator==(const ProxyEndpoint&) const = default;
};

// Bounds. The size of a volume is a multiple of kBlockSize.
inline constexpr uint64_t kMinVolumeBytes =
    16 * kMiB;                                        // ext4 with a journal still has room for data
inline constexpr uint64_t kMinXfsBytes = 300 * kMiB;  // mkfs.xfs 5.19 and later refuse less
inline constexpr uint64_t kMinBtrfsBytes = 128 * kMiB;  // mkfs.btrfs 6.2 needs 109 MiB
inline constexpr uint64_t kMaxVolumeBytes = 64 * kTiB;
inline constexpr uint64_t kDefaultVolumeBytes = kGiB;
inline constexpr uint32_t kMaxRepl = 3;
inline constexpr uint32_t kMaxScale = 1024;
inline constexpr uint32_t kMaxAggregation = 3;
inline constexpr uint32_t kMaxQueueDepth = 256;
inline constexpr uint32_t kDefaultQueueDepth = 128;
inline constexpr uint32_t kMaxThrottleIops = 10'000'000;
inline constexpr uint32_t kMaxThrottleMbPerS = 100'000;
inline constexpr size_t kMaxNameBytes = 128;
inline constexpr size_t kMaxListEntries = 64;  // nodes, zones, racks, regions
inline constexpr size_t kMaxLabels = 64;
inline constexpr size_t kMaxMountOptions = 32;
inline constexpr size_t kMaxSecretBytes = 8 * 1024;  // a token (JWT) with many claims
inline constexpr size_t kMaxPassphraseBytes = 1024;

struct VolumeSpec {
  std::string name;  // see is_valid_name()
  uint64_t size_bytes = kDefaultVolumeBytes;
  uint32_t repl = 1;
  uint32_t scale = 1;
  FsType fs = FsType::kExt4;
  uint32_t block_size_bytes = 4096;
  IoPriority io_priority = IoPriority::kLow;
  IoProfile io_profile = IoProfile::kAuto;
  bool shared = false;
  bool secure = false;     // with the cluster's key, unless one of the next two is set
  std::string secret_key;  // the name of a secret, not the secret
  Secret passphrase;
  SnapSchedule snap_schedule;
  uint32_t snap_interval_minutes = 0;  // 0: off
  uint32_t aggregation_level = 1;      // 0: auto
  std::vector<std::string> nodes;      // node or pool ids; lists are sorted and without duplicates
  std::vector<std::string> zones;
  std::vector<std::string> racks;
  std::vector<std::string> regions;
  std::string group;
  bool group_strict = false;  // fg
  std::map<std::string, std::string> labels;
  std::string parent;  // volume or snapshot, by name or id
  bool sticky = false;
  bool journal = false;
  bool nodiscard = false;
  bool auto_fstrim = false;
  bool compressed = false;
  bool ephemeral = false;
  Durability durability = Durability::kSync;
  uint32_t queue_depth = kDefaultQueueDepth;
  uint32_t throttle_read_iops = 0;  // 0: off, for all four
  uint32_t throttle_write_iops = 0;
  uint32_t throttle_read_mb_per_s = 0;  // 1 MB is 1 MiB, as everywhere in the grammar
  uint32_t throttle_write_mb_per_s = 0;
  std::map<std::string, std::string> mount_options;  // an option without a value maps to ""
  std::optional<ProxyEndpoint> proxy_endpoint;
  std::string storage_policy;
  Secret token;         // who asks: of one request, never part of the volume
  Secret token_secret;  // likewise
  bool allow_grow = false;

  // The keys that the caller named, kName never among them. The others hold their defaults.
  // A stored spec remembers kPassphrase here, so that the kind of encryption is known without it.
  KeySet explicit_keys;

  Encryption encryption() const;
  bool operator==(const VolumeSpec&) const = default;
};

// A volume name: 1 to kMaxNameBytes bytes, segments of [0-9A-Za-z][0-9A-Za-z._-]* with single '/'
// between them (docs/decisions/volume-names.md), so that "." and ".." can never be a segment.
bool is_valid_name(std::string_view name);
// The same name as one path component: '/' becomes '+', which no name holds, so two names never
// meet.
std::string name_as_file(std::string_view name);

// The least size that `fs` can be made on.
uint64_t min_volume_bytes(FsType fs);

// Stable lower-case names, as in the grammar ("ext4", "db_remote", "high", "flush").
std::string_view to_string(FsType fs);
std::string_view to_string(IoPriority priority);
std::string_view to_string(IoProfile profile);
std::string_view to_string(Durability durability);
std::string_view to_string(Encryption encryption);

}  // namespace hf::spec

namespace hf {
using spec::VolumeSpec;
}  // namespace hf
