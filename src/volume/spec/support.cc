#include "volume/spec/support.h"

#include <array>

#include "volume/spec/key_table.h"
#include "volume/spec/values.h"

namespace hf::spec {
namespace {

using S = const VolumeSpec&;
using C = const Capabilities&;

constexpr std::string_view kEncrypt = "the data would be written in clear";
constexpr std::string_view kThrottle = "the volume could take more than its share";
constexpr std::string_view kSnap = "snapshots that somebody relies on would not be taken";
constexpr std::string_view kHint = "a hint: it changes speed or cost, not what is kept";

constexpr std::array<SupportRule, 28> kRules = {{
    // Promises.
    {SpecKey::kRepl, true, "writes would be kept on fewer nodes than asked",
     [](S s, C c) { return s.repl > c.max_replicas; }},
    {SpecKey::kScale, true, "containers would share one volume where each was to have its own",
     [](S s, C c) { return s.scale > 1 && !c.scale; }},
    {SpecKey::kFs, true, "the tools that make this file system are missing on a node",
     [](S s, C c) {
       return (s.fs == FsType::kXfs && !c.xfs) || (s.fs == FsType::kBtrfs && !c.btrfs);
     }},
    {SpecKey::kBlockSize, true, "a volume's sectors have 4096 bytes, no file system has smaller blocks; 4096 is accepted",
     [](S s, C) { return s.block_size_bytes < 4096; }},
    {SpecKey::kShared, true, "a second node could not mount it",
     [](S s, C c) { return s.shared && !c.shared; }},
    {SpecKey::kSecure, true, kEncrypt, [](S s, C c) { return s.secure && !c.encryption; }},
    {SpecKey::kSecretKey, true, kEncrypt,
     [](S s, C c) { return !s.secret_key.empty() && !c.encryption; }},
    {SpecKey::kPassphrase, true, kEncrypt,
     [](S s, C c) { return s.encryption() == Encryption::kPassphrase && !c.encryption; }},
    {SpecKey::kSnapSchedule, true, kSnap,
     [](S s, C c) { return !s.snap_schedule.empty() && !c.snapshot_schedules; }},
    {SpecKey::kSnapInterval, true, kSnap,
     [](S s, C c) { return s.snap_interval_minutes > 0 && !c.snapshot_schedules; }},
    {SpecKey::kAggregationLevel, true, "the volume could not outgrow one replica set",
     [](S s, C c) { return s.aggregation_level > 1 && !c.aggregation; }},
    {SpecKey::kParent, true, "the volume would be empty instead of a clone",
     [](S s, C c) { return !s.parent.empty() && !c.clone; }},
    {SpecKey::kSticky, true, "the volume could be deleted",
     [](S s, C c) { return s.sticky && !c.sticky; }},
    {SpecKey::kThrottleReadIops, true, kThrottle,
     [](S s, C c) { return s.throttle_read_iops > 0 && !c.throttle; }},
    {SpecKey::kThrottleWriteIops, true, kThrottle,
     [](S s, C c) { return s.throttle_write_iops > 0 && !c.throttle; }},
    {SpecKey::kThrottleReadBw, true, kThrottle,
     [](S s, C c) { return s.throttle_read_mb_per_s > 0 && !c.throttle; }},
    {SpecKey::kThrottleWriteBw, true, kThrottle,
     [](S s, C c) { return s.throttle_write_mb_per_s > 0 && !c.throttle; }},
    {SpecKey::kProxyEndpoint, true, "data would be kept here instead of on that server",
     [](S s, C c) { return s.proxy_endpoint.has_value() && !c.proxy; }},
    {SpecKey::kStoragePolicy, true, "the policy's limits would not hold",
     [](S s, C c) { return !s.storage_policy.empty() && !c.storage_policies; }},
    // Hints.
    {SpecKey::kIoPriority, false, kHint,
     [](S s, C c) {
       return s.io_priority != IoPriority::kLow && !c.hints.contains(SpecKey::kIoPriority);
     }},
    {SpecKey::kIoProfile, false, kHint,
     [](S s, C c) {
       return s.io_profile != IoProfile::kAuto && !c.hints.contains(SpecKey::kIoProfile);
     }},
    {SpecKey::kJournal, false, kHint,
     [](S s, C c) { return s.journal && !c.hints.contains(SpecKey::kJournal); }},
    {SpecKey::kAutoFstrim, false, "space of deleted files is given back by discard, or later",
     [](S s, C c) { return s.auto_fstrim && !c.hints.contains(SpecKey::kAutoFstrim); }},
    {SpecKey::kCompressed, false, kHint,
     [](S s, C c) { return s.compressed && !c.hints.contains(SpecKey::kCompressed); }},
    {SpecKey::kEphemeral, false, "the volume is kept longer than it had to be",
     [](S s, C c) { return s.ephemeral && !c.hints.contains(SpecKey::kEphemeral); }},
    {SpecKey::kQueueDepth, false, kHint,
     [](S s, C c) {
       return s.queue_depth != kDefaultQueueDepth && !c.hints.contains(SpecKey::kQueueDepth);
     }},
    {SpecKey::kDurability, false, "treated as sync, which keeps more",
     [](S s, C c) { return s.durability == Durability::kFlush && !c.flush_durability; }},
    {SpecKey::kAggregationLevel, false, "auto means 1 here",
     [](S s, C c) { return s.aggregation_level == 0 && !c.aggregation; }},
}};

std::string setting(const SupportRule& rule, S spec) {
  const KeyInfo& key = key_info(rule.key);
  return fmt::format("{}={}", key.name, key.secret ? "***" : key.format(spec));
}

}  // namespace

std::span<const SupportRule> support_rules() {
  return kRules;
}

Status check_support(S spec, C have) {
  std::string refused;
  for (const SupportRule& rule : kRules) {
    if (!rule.promise || !rule.lacking(spec, have)) continue;
    if (!refused.empty()) refused += "; ";
    std::string text = setting(rule, spec);
    if (text.size() > 80) text = text.substr(0, 77) + "...";
    refused += fmt::format("{} ({}", text, rule.reason);
    if (rule.key == SpecKey::kRepl) {
      refused += fmt::format("; this cluster can keep {}", have.max_replicas);
    }
    refused += ')';
  }
  if (refused.empty()) return {};
  return make_error(
      ErrorCode::kNotSupported,
      "not yet supported on this cluster: {}; leave it out to create the volume without", refused);
}

std::vector<std::string> support_notes(S spec, C have) {
  std::vector<std::string> out;
  for (const SupportRule& rule : kRules) {
    if (rule.promise || !rule.lacking(spec, have)) continue;
    out.push_back(
        fmt::format("{} is stored and has no effect yet: {}", setting(rule, spec), rule.reason));
  }
  return out;
}

}  // namespace hf::spec
