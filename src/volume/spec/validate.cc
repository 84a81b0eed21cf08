#include "volume/spec/validate.h"

#include "volume/spec/key_table.h"
#include "volume/spec/values.h"

namespace hf::spec {
namespace {

// Every field lies within its bounds and is in canonical form: what its row prints, its row reads.
Status check_values(const VolumeSpec& spec) {
  VolumeSpec again;
  for (const KeyInfo& key : key_table()) {
    const std::string text = key.format(spec);
    if (text.empty()) {
      if (key.secret || !spec.explicit_keys.contains(key.key)) continue;
      return make_error(ErrorCode::kInvalidSpec, "{} is marked as given and has no value",
                        key.name);
    }
    const Status parsed = key.parse(again, text, ValueForm::kOption);
    if (!parsed.ok()) return bad_value(key, text, parsed.error().message());
    if (key.format(again) != text) return bad_value(key, text, "not in canonical form");
  }
  again.passphrase = spec.passphrase;
  again.token = spec.token;
  again.token_secret = spec.token_secret;
  again.explicit_keys = spec.explicit_keys;
  if (!(again == spec)) {
    return make_error(ErrorCode::kInvalidSpec,
                      "the spec of {} holds an entry that cannot be written", in_quotes(spec.name));
  }
  return {};
}

Status check_size(const VolumeSpec& spec) {
  const uint64_t min = min_volume_bytes(spec.fs);
  if (spec.size_bytes >= min || spec.proxy_endpoint) return {};
  if (spec.fs == FsType::kNone || min == kMinVolumeBytes) {
    return bad_value(key_info(SpecKey::kSize), format_exact_size(spec.size_bytes),
                     fmt::format("less than {}, the least size of a volume", format_size(min)));
  }
  return bad_value(
      key_info(SpecKey::kSize), format_exact_size(spec.size_bytes),
      fmt::format("less than {}, the least that fs={} can be made on; use a larger size, "
                  "or fs=ext4",
                  format_size(min), to_string(spec.fs)));
}

Status check_block_size(const VolumeSpec& spec) {
  const bool default_size = spec.block_size_bytes == VolumeSpec().block_size_bytes;
  if (spec.fs == FsType::kBtrfs && !default_size) {
    return bad_value(key_info(SpecKey::kBlockSize), fmt::format("{}", spec.block_size_bytes),
                     "fs=btrfs mounts only with 4096 here");
  }
  if (spec.fs == FsType::kNone && !default_size) {
    return bad_value(key_info(SpecKey::kBlockSize), fmt::format("{}", spec.block_size_bytes),
                     "it is the file system's, and fs=none has none");
  }
  return {};
}

Error exclusive(std::string_view first, std::string_view second, std::string_view why) {
  return make_error(ErrorCode::kInvalidSpec, "{} and {} do not go together: {}; leave one out",
                    first, second, why);
}

Status check_encryption(const VolumeSpec& spec) {
  const Encryption encryption = spec.encryption();
  if (encryption == Encryption::kPassphrase && !spec.secret_key.empty()) {
    return exclusive("secret_key", "passphrase", "both say what the volume is encrypted with");
  }
  const bool own_key =
      encryption == Encryption::kPassphrase || encryption == Encryption::kNamedSecret;
  if (own_key && !spec.secure && spec.explicit_keys.contains(SpecKey::kSecure)) {
    return exclusive("secure=false",
                     encryption == Encryption::kPassphrase ? "passphrase" : "secret_key",
                     "the second asks for encryption");
  }
  return {};
}

Status check_set(const VolumeSpec& spec) {
  if (spec.scale == 1) return {};
  if (spec.shared) {
    return exclusive("shared=true", fmt::format("scale={}", spec.scale),
                     "a shared volume is one for all, a set gives each container its own");
  }
  // The members are called NAME-1 to NAME-1023.
  constexpr size_t kMaxBase = kMaxNameBytes - 5;
  if (spec.name.size() > kMaxBase) {
    return bad_value(
        key_info(SpecKey::kName), spec.name,
        fmt::format("with scale the name may have {} bytes, so that its members' names "
                    "fit",
                    kMaxBase));
  }
  return {};
}

Status check_schedule(const VolumeSpec& spec) {
  if (spec.snap_interval_minutes == 0) return {};
  for (const SnapEntry& entry : spec.snap_schedule.entries) {
    if (entry.kind == SnapKind::kPeriodic) {
      return exclusive("snap_interval", "periodic in snap_schedule",
                       "both say how many minutes lie between snapshots");
    }
  }
  return {};
}

Status check_proxy(const VolumeSpec& spec) {
  if (!spec.proxy_endpoint) return {};
  const std::string_view why = "the volume is a share of another server, which keeps its data";
  if (spec.encryption() != Encryption::kNone) return exclusive("proxy_endpoint", "encryption", why);
  if (spec.repl != 1) return exclusive("proxy_endpoint", fmt::format("repl={}", spec.repl), why);
  if (spec.scale != 1) return exclusive("proxy_endpoint", fmt::format("scale={}", spec.scale), why);
  if (spec.aggregation_level > 1) {
    return exclusive("proxy_endpoint", fmt::format("aggregation_level={}", spec.aggregation_level),
                     why);
  }
  if (!spec.parent.empty()) return exclusive("proxy_endpoint", "parent", why);
  return {};
}

}  // namespace

Status validate(const VolumeSpec& spec) {
  if (!is_valid_name(spec.name)) {
    return bad_value(key_info(SpecKey::kName), spec.name, "not a volume name");
  }
  HF_TRY(check_values(spec));
  HF_TRY(check_size(spec));
  HF_TRY(check_block_size(spec));
  HF_TRY(check_encryption(spec));
  HF_TRY(check_set(spec));
  HF_TRY(check_schedule(spec));
  HF_TRY(check_proxy(spec));
  if (spec.group_strict && spec.group.empty()) {
    return make_error(ErrorCode::kInvalidSpec,
                      "fg=true makes the rule of a group strict, and no group "
                      "is given; add group=NAME or leave fg out");
  }
  if (spec.parent == spec.name) {
    return bad_value(key_info(SpecKey::kParent), spec.parent, "a volume cannot be its own parent");
  }
  if (spec.sticky && spec.ephemeral) {
    return exclusive("sticky=true", "ephemeral=true",
                     "the first forbids deletion, the second asks for it");
  }
  return {};
}

}  // namespace hf::spec
