#include "volume/spec/key_table.h"

#include <algorithm>
#include <utility>

#include "volume/spec/values.h"

namespace hf::spec {
namespace {

// Makers of the two function pointers of a row. Each parse sets one field, each format prints it.

template <bool VolumeSpec::*field>
Status parse_flag(VolumeSpec& spec, std::string_view value, ValueForm) {
  const Result<bool> parsed = parse_bool(value);
  if (!parsed.ok()) return parsed.error();
  spec.*field = *parsed;
  return {};
}
template <bool VolumeSpec::*field>
std::string format_flag(const VolumeSpec& spec) {
  return spec.*field ? "true" : "false";
}

template <uint32_t VolumeSpec::*field, uint32_t min, uint32_t max>
Status parse_number(VolumeSpec& spec, std::string_view value, ValueForm) {
  const Result<uint32_t> parsed = parse_whole(value, min, max);
  if (!parsed.ok()) return parsed.error();
  spec.*field = *parsed;
  return {};
}
template <uint32_t VolumeSpec::*field>
std::string format_number(const VolumeSpec& spec) {
  return fmt::format("{}", spec.*field);
}

template <std::string VolumeSpec::*field, Status (*check)(std::string_view)>
Status parse_text(VolumeSpec& spec, std::string_view value, ValueForm) {
  HF_TRY(check(value));
  spec.*field = value;
  return {};
}
template <std::string VolumeSpec::*field>
std::string format_text(const VolumeSpec& spec) {
  return spec.*field;
}

template <std::vector<std::string> VolumeSpec::*field>
Status parse_list(VolumeSpec& spec, std::string_view value, ValueForm) {
  Result<std::vector<std::string>> parsed = parse_words(value);
  if (!parsed.ok()) return parsed.error();
  spec.*field = std::move(*parsed);
  return {};
}
template <std::vector<std::string> VolumeSpec::*field>
std::string format_list(const VolumeSpec& spec) {
  return join(spec.*field, ";");
}

template <Secret VolumeSpec::*field, size_t max_bytes>
Status parse_secret(VolumeSpec& spec, std::string_view value, ValueForm) {
  if (value.size() > max_bytes) return reason("longer than {} bytes", max_bytes);
  if (value.find('\0') != std::string_view::npos) return reason("it holds a zero byte");
  spec.*field = Secret(value);
  return {};
}
std::string format_secret(const VolumeSpec&) {
  return "";
}

// The one of `choices` whose name is `value`, in any case. `numbered`: 1, 2, 3 name them in order
// too.
template <typename E>
Result<E> parse_choice(std::string_view value, std::initializer_list<E> choices,
                       bool numbered = false) {
  const std::string lower = to_lower(value);
  uint32_t number = 0;
  for (const E choice : choices) {
    ++number;
    if (lower == to_string(choice) || (numbered && lower == std::to_string(number))) return choice;
  }
  return reason("not one of them");
}

Status check_name(std::string_view value) {
  if (is_valid_name(value)) return {};
  if (value.size() > kMaxNameBytes) return reason("longer than {} bytes", kMaxNameBytes);
  return reason("not a volume name");
}

Status parse_size_value(VolumeSpec& spec, std::string_view value, ValueForm) {
  const Result<uint64_t> parsed = parse_volume_size(value);
  if (!parsed.ok()) return parsed.error();
  spec.size_bytes = *parsed;
  return {};
}

Status parse_fs(VolumeSpec& spec, std::string_view value, ValueForm) {
  const auto parsed =
      parse_choice(value, {FsType::kExt4, FsType::kXfs, FsType::kBtrfs, FsType::kNone});
  if (!parsed.ok()) return parsed.error();
  spec.fs = *parsed;
  return {};
}

Status parse_block_size(VolumeSpec& spec, std::string_view value, ValueForm) {
  const Result<uint64_t> parsed = parse_size(value, 1);
  if (!parsed.ok()) return reason("not a size");
  if (*parsed != 1024 && *parsed != 2048 && *parsed != 4096) {
    return reason("{} bytes is no block size that Linux mounts here", *parsed);
  }
  spec.block_size_bytes = static_cast<uint32_t>(*parsed);
  return {};
}

Status parse_io_priority(VolumeSpec& spec, std::string_view value, ValueForm) {
  const auto parsed =
      parse_choice(value, {IoPriority::kLow, IoPriority::kMedium, IoPriority::kHigh}, true);
  if (!parsed.ok()) return parsed.error();
  spec.io_priority = *parsed;
  return {};
}

Status parse_io_profile(VolumeSpec& spec, std::string_view value, ValueForm) {
  const auto parsed =
      parse_choice(value, {IoProfile::kAuto, IoProfile::kDb, IoProfile::kDbRemote,
                           IoProfile::kSequential, IoProfile::kRandom, IoProfile::kCms,
                           IoProfile::kSyncShared, IoProfile::kJournal, IoProfile::kNone});
  if (!parsed.ok()) return parsed.error();
  spec.io_profile = *parsed;
  return {};
}

Status parse_durability(VolumeSpec& spec, std::string_view value, ValueForm) {
  const auto parsed = parse_choice(value, {Durability::kSync, Durability::kFlush});
  if (!parsed.ok()) return parsed.error();
  spec.durability = *parsed;
  return {};
}

Status parse_aggregation(VolumeSpec& spec, std::string_view value, ValueForm form) {
  if (to_lower(value) == "auto") {
    spec.aggregation_level = 0;
    return {};
  }
  return parse_number<&VolumeSpec::aggregation_level, 1, kMaxAggregation>(spec, value, form);
}

Status parse_schedule(VolumeSpec& spec, std::string_view value, ValueForm) {
  Result<SnapSchedule> parsed = parse_snap_schedule(value);
  if (!parsed.ok()) return parsed.error();
  spec.snap_schedule = std::move(*parsed);
  return {};
}

Status parse_label_value(VolumeSpec& spec, std::string_view value, ValueForm form) {
  auto parsed = parse_labels(value, form);
  if (!parsed.ok()) return parsed.error();
  spec.labels = std::move(*parsed);
  return {};
}

Status parse_mount_value(VolumeSpec& spec, std::string_view value, ValueForm form) {
  auto parsed = parse_mount_options(value, form);
  if (!parsed.ok()) return parsed.error();
  spec.mount_options = std::move(*parsed);
  return {};
}

Status parse_proxy(VolumeSpec& spec, std::string_view value, ValueForm) {
  if (value.starts_with("nfs:///")) return reason("it names no host");
  Result<ProxyEndpoint> parsed = parse_proxy_endpoint(fold_slashes(value));
  if (!parsed.ok()) return parsed.error();
  spec.proxy_endpoint = std::move(*parsed);
  return {};
}

using V = VolumeSpec;
using S = const VolumeSpec&;

constexpr std::string_view kBool = "true or false (also 1 or 0, yes or no, on or off)";
constexpr std::string_view kWord =
    "a name of letters, digits, '.', '_' and '-' that begins with a letter or digit";
constexpr std::string_view kWords = "names of letters, digits, '.', '_' and '-', with ';' between";

// clang-format off
template <bool VolumeSpec::*field>
constexpr KeyInfo flag(SpecKey key, std::string_view name, std::array<std::string_view, 2> aliases,
                       std::string_view help) {
  return {.key = key, .name = name, .aliases = aliases, .accepted = kBool,
          .default_text = "false", .help = help,
          .parse = parse_flag<field>, .format = format_flag<field>};
}

template <std::vector<std::string> VolumeSpec::*field>
constexpr KeyInfo list(SpecKey key, std::string_view name, std::array<std::string_view, 2> aliases,
                       std::string_view help) {
  return {.key = key, .name = name, .aliases = aliases, .accepted = kWords,
          .default_text = "", .help = help,
          .parse = parse_list<field>, .format = format_list<field>};
}

template <uint32_t VolumeSpec::*field, uint32_t max>
constexpr KeyInfo throttle(SpecKey key, std::string_view name, std::string_view accepted,
                           std::string_view help) {
  return {.key = key, .name = name, .accepted = accepted, .default_text = "0", .help = help,
          .parse = parse_number<field, 0, max>, .format = format_number<field>};
}

// clang-format on
constexpr std::string_view kIops = "a whole number, 0 to 10000000; 0 is off";
constexpr std::string_view kMbPerS =
    "a whole number of MB/s (1 MB is 1 MiB), 0 to 100000; 0 is off";
static_assert(kMaxThrottleIops == 10'000'000 && kMaxThrottleMbPerS == 100'000);

// One row per key, in few lines.
// clang-format off
constexpr std::array<KeyInfo, kSpecKeyCount> kTable = {{
    {.key = SpecKey::kName, .name = "name",
     .accepted = "1 to 128 letters, digits, '.', '_' and '-', beginning with a letter or digit; '/' "
                 "may stand between such parts",
     .default_text = "", .help = "the volume's name; mandatory in an inline spec",
     .compared = false, .foldable = true,
     .parse = parse_text<&V::name, check_name>, .format = format_text<&V::name>},
    {.key = SpecKey::kSize, .name = "size",
     .accepted = "a number, fraction allowed, with B, K, M, G, T or P behind it (binary; also KB, "
                 "KiB, ...); a bare number is GiB; 16M to 64T",
     .default_text = "1G", .help = "how large the volume is",
     .parse = parse_size_value,
     .format = [](S s) { return format_exact_size(s.size_bytes); }},
    {.key = SpecKey::kRepl, .name = "repl", .aliases = {"ha", "ha_level"}, .accepted = "1 to 3",
     .default_text = "1", .help = "on how many nodes every write is kept",
     .parse = parse_number<&V::repl, 1, kMaxRepl>, .format = format_number<&V::repl>},
    {.key = SpecKey::kScale, .name = "scale", .accepted = "1 to 1024", .default_text = "1",
     .help = "a set of so many volumes; every container that mounts it gets one of its own",
     .parse = parse_number<&V::scale, 1, kMaxScale>, .format = format_number<&V::scale>},
    {.key = SpecKey::kFs, .name = "fs", .aliases = {"format"},
     .accepted = "ext4, xfs, btrfs or none", .default_text = "ext4",
     .help = "the file system that is made on the volume; none leaves it raw",
     .parse = parse_fs, .format = [](S s) { return std::string(to_string(s.fs)); }},
    {.key = SpecKey::kBlockSize, .name = "block_size", .aliases = {"bs"},
     .accepted = "4096, also 4K", .default_text = "4096",
     .help = "block size of the file system",
     .parse = parse_block_size, .format = format_number<&V::block_size_bytes>},
    {.key = SpecKey::kIoPriority, .name = "io_priority", .aliases = {"priority_io", "cos"},
     .accepted = "high or 3, medium or 2, low or 1", .default_text = "low",
     .help = "class of pool that the volume prefers",
     .parse = parse_io_priority,
     .format = [](S s) { return std::string(to_string(s.io_priority)); }},
    {.key = SpecKey::kIoProfile, .name = "io_profile",
     .accepted = "auto, db, db_remote, sequential, random, cms, sync_shared, journal or none",
     .default_text = "auto", .help = "what the application's I/O is like",
     .parse = parse_io_profile,
     .format = [](S s) { return std::string(to_string(s.io_profile)); }},
    flag<&V::shared>(SpecKey::kShared, "shared", {"sharedv4", "shared_v4"},
                     "mounted read-write by many containers on many nodes; not with scale"),
    flag<&V::secure>(SpecKey::kSecure, "secure", {}, "encrypted: with the cluster's key, or with that of secret_key"),
    {.key = SpecKey::kSecretKey, .name = "secret_key",
     .accepted = "the name of a secret: letters, digits, '.', '_' and '-', with '/' between parts",
     .default_text = "", .help = "encrypted with the secret of this name", .foldable = true,
     .parse = parse_text<&V::secret_key, check_reference>,
     .format = format_text<&V::secret_key>},
    {.key = SpecKey::kPassphrase, .name = "passphrase",
     .accepted = "up to 1024 bytes (inline: without ',')", .default_text = "",
     .help = "encrypted with this secret itself; stands in clear in the launch command, so prefer "
             "secret_key",
     .secret = true, .parse = parse_secret<&V::passphrase, kMaxPassphraseBytes>,
     .format = format_secret},
    {.key = SpecKey::kSnapSchedule, .name = "snap_schedule",
     .accepted = "periodic=MIN#KEEP;daily=HH:MM#KEEP;weekly=DAY@HH:MM#KEEP;monthly=DAY@HH:MM#KEEP;"
                 "policy=NAME, any of them, HHhMM for HH:MM, #KEEP left out for 5, 7, 5, 12; UTC",
     .default_text = "", .help = "when snapshots are taken and how many are kept",
     .parse = parse_schedule,
     .format = [](S s) { return format_snap_schedule(s.snap_schedule); }},
    {.key = SpecKey::kSnapInterval, .name = "snap_interval",
     .accepted = "minutes, 0 to 525600; 0 is off", .default_text = "0",
     .help = "minutes between snapshots",
     .parse = parse_number<&V::snap_interval_minutes, 0, kMaxSnapPeriodMinutes>,
     .format = format_number<&V::snap_interval_minutes>},
    {.key = SpecKey::kAggregationLevel, .name = "aggregation_level", .aliases = {"aggr_level"},
     .accepted = "1 to 3, or auto", .default_text = "1",
     .help = "over how many replica sets the volume is striped",
     .parse = parse_aggregation,
     .format = [](S s) {
       return s.aggregation_level == 0 ? std::string("auto")
                                       : fmt::format("{}", s.aggregation_level);
     }},
    list<&V::nodes>(SpecKey::kNodes, "nodes", {}, "ids of nodes or pools that may hold replicas"),
    list<&V::zones>(SpecKey::kZones, "zones", {"zone"}, "zones that may hold replicas"),
    list<&V::racks>(SpecKey::kRacks, "racks", {"rack"}, "racks that may hold replicas"),
    list<&V::regions>(SpecKey::kRegions, "regions", {"region"}, "regions that may hold replicas"),
    {.key = SpecKey::kGroup, .name = "group", .accepted = kWord, .default_text = "",
     .help = "placement group: its volumes are spread over different nodes",
     .parse = parse_text<&V::group, check_word>, .format = format_text<&V::group>},
    flag<&V::group_strict>(SpecKey::kFg, "fg", {},
                           "the rule of the group is strict: rather no volume than a broken rule"),
    {.key = SpecKey::kLabels, .name = "labels", .aliases = {"label"},
     .accepted = "k:v;k2:v2, or with '=' for ':' (docker run -v splits at ':'); as an option also "
                 "k=v,k2=v2",
     .default_text = "", .help = "labels for people and tools to find volumes by",
     .parse = parse_label_value, .format = [](S s) { return format_map(s.labels); }},
    {.key = SpecKey::kParent, .name = "parent",
     .accepted = "name or id of a volume or snapshot: letters, digits, '.', '_' and '-', with '/' or "
                 "'@' between parts",
     .default_text = "", .help = "create as a clone of this volume or snapshot", .foldable = true,
     .parse = parse_text<&V::parent, check_reference>, .format = format_text<&V::parent>},
    flag<&V::sticky>(SpecKey::kSticky, "sticky", {}, "cannot be deleted until this is cleared"),
    flag<&V::journal>(SpecKey::kJournal, "journal", {},
                      "prefer pools with a journal device for its writes"),
    flag<&V::nodiscard>(SpecKey::kNodiscard, "nodiscard", {},
                        "mount without discard: deleted files do not give space back at once"),
    flag<&V::auto_fstrim>(SpecKey::kAutoFstrim, "auto_fstrim", {},
                          "give the space of deleted files back from time to time"),
    flag<&V::compressed>(SpecKey::kCompressed, "compressed", {}, "keep the data compressed"),
    flag<&V::ephemeral>(SpecKey::kEphemeral, "ephemeral", {},
                        "may be deleted when its last container is gone"),
    {.key = SpecKey::kDurability, .name = "durability", .accepted = "sync or flush",
     .default_text = "sync",
     .help = "sync: a write is on stable media when acknowledged; flush: when the application syncs",
     .parse = parse_durability,
     .format = [](S s) { return std::string(to_string(s.durability)); }},
    {.key = SpecKey::kQueueDepth, .name = "queue_depth", .accepted = "1 to 256",
     .default_text = "128", .help = "requests that the block device keeps in flight",
     .parse = parse_number<&V::queue_depth, 1, kMaxQueueDepth>,
     .format = format_number<&V::queue_depth>},
    throttle<&V::throttle_read_iops, kMaxThrottleIops>(
        SpecKey::kThrottleReadIops, "io_throttle_rd_iops", kIops, "most reads a second"),
    throttle<&V::throttle_write_iops, kMaxThrottleIops>(
        SpecKey::kThrottleWriteIops, "io_throttle_wr_iops", kIops, "most writes a second"),
    throttle<&V::throttle_read_mb_per_s, kMaxThrottleMbPerS>(
        SpecKey::kThrottleReadBw, "io_throttle_rd_bw", kMbPerS, "most MB read a second"),
    throttle<&V::throttle_write_mb_per_s, kMaxThrottleMbPerS>(
        SpecKey::kThrottleWriteBw, "io_throttle_wr_bw", kMbPerS, "most MB written a second"),
    {.key = SpecKey::kMountOptions, .name = "mount_options",
     .accepted = "k;k2:v2, or with '=' for ':' (docker run -v splits at ':'); as an option also "
                 "k,k2=v2",
     .default_text = "", .help = "options for mounting the file system",
     .parse = parse_mount_value, .format = [](S s) { return format_map(s.mount_options); }},
    {.key = SpecKey::kProxyEndpoint, .name = "proxy_endpoint",
     .accepted = "nfs://host/path, nfs://host:port/path", .default_text = "",
     .help = "the volume is a share of that server (not with docker run -v, which splits at ':')",
     .parse = parse_proxy,
     .format = [](S s) {
       return s.proxy_endpoint ? format_proxy_endpoint(*s.proxy_endpoint) : std::string();
     }},
    {.key = SpecKey::kStoragePolicy, .name = "storagepolicy", .accepted = kWord,
     .default_text = "the cluster's", .help = "policy whose values are defaults or limits",
     .parse = parse_text<&V::storage_policy, check_word>,
     .format = format_text<&V::storage_policy>},
    {.key = SpecKey::kToken, .name = "token", .accepted = "up to 8192 bytes (inline: without ',')",
     .default_text = "", .help = "who asks, where security is on; never stored",
     .secret = true, .compared = false, .parse = parse_secret<&V::token, kMaxSecretBytes>,
     .format = format_secret},
    {.key = SpecKey::kTokenSecret, .name = "token_secret",
     .accepted = "up to 8192 bytes (inline: without ',')", .default_text = "",
     .help = "likewise, for a token kept as a secret; never stored",
     .secret = true, .compared = false, .parse = parse_secret<&V::token_secret, kMaxSecretBytes>,
     .format = format_secret},
    {.key = SpecKey::kAllowGrow, .name = "allow_grow", .accepted = kBool, .default_text = "false",
     .help = "a larger size for an existing volume grows it instead of being refused",
     .compared = false, .parse = parse_flag<&V::allow_grow>, .format = format_flag<&V::allow_grow>},
}};
// clang-format on

// Only the order: gcc 12 with -fsanitize=undefined cannot compare a function with nullptr in a
// constant expression. A test asks every row to parse and print.
consteval bool in_order() {
  for (size_t i = 0; i < kTable.size(); ++i) {
    if (static_cast<size_t>(kTable[i].key) != i) return false;
  }
  return true;
}
static_assert(in_order(), "the rows stand in the order of SpecKey");

}  // namespace

std::span<const KeyInfo> key_table() {
  return kTable;
}

const KeyInfo& key_info(SpecKey key) {
  const auto index = static_cast<size_t>(key);
  HF_ASSERT(index < kTable.size(), "key {}", index);
  return kTable[index];
}

}  // namespace hf::spec
