#include "volume/spec/reuse.h"

#include <string>
#include <utility>
#include <vector>

#include "volume/spec/key_table.h"
#include "volume/spec/values.h"

namespace hf::spec {
namespace {

// One client sends "//" where another sends '/': that makes no difference.
bool same_text(const KeyInfo& key, const VolumeSpec& a, const VolumeSpec& b) {
  return fold_slashes(key.format(a)) == fold_slashes(key.format(b));
}

std::string value_text(const KeyInfo& key, const VolumeSpec& spec) {
  const std::string text = key.format(spec);
  return text.empty() ? "unset" : in_quotes(text);
}

std::string difference(const KeyInfo& key, const VolumeSpec& current, const VolumeSpec& requested) {
  return fmt::format("{} is {}, asked for {}", key.name, value_text(key, current),
                     value_text(key, requested));
}

struct SizeOutcome {
  SpecDecision decision;
  std::string difference;  // "" when there is none
};

SizeOutcome compare_size(const VolumeSpec& created, const VolumeSpec& current,
                         const VolumeSpec& requested) {
  const uint64_t asked = requested.size_bytes;
  if (asked == created.size_bytes || asked == current.size_bytes) return {};
  const bool may_grow = requested.explicit_keys.contains(SpecKey::kAllowGrow)
                            ? requested.allow_grow
                            : created.allow_grow || current.allow_grow;
  if (asked > current.size_bytes && may_grow) {
    return {SpecDecision{SpecDecision::Kind::kGrow, asked}, ""};
  }
  if (asked < current.size_bytes && requested.allow_grow) return {};  // it has at least that
  std::string text = difference(key_info(SpecKey::kSize), current, requested);
  text +=
      asked > current.size_bytes ? " (allow_grow=true would grow it)" : " (a volume never shrinks)";
  return {SpecDecision{}, std::move(text)};
}

}  // namespace

Result<SpecDecision> compare_for_reuse(const VolumeSpec& created, const VolumeSpec& current,
                                       const VolumeSpec& requested) {
  SpecDecision decision;
  std::vector<std::string> differences;
  for (const KeyInfo& key : key_table()) {
    if (!key.compared || !requested.explicit_keys.contains(key.key)) continue;
    if (key.key == SpecKey::kSize) {
      SizeOutcome size = compare_size(created, current, requested);
      decision = size.decision;
      if (!size.difference.empty()) differences.push_back(std::move(size.difference));
    } else if (key.key == SpecKey::kPassphrase) {
      if (current.encryption() != Encryption::kPassphrase) {
        differences.push_back(fmt::format("passphrase is unset (encryption: {}), asked for \"***\"",
                                          to_string(current.encryption())));
      }
    } else if (!same_text(key, requested, created) && !same_text(key, requested, current)) {
      differences.push_back(difference(key, current, requested));
    }
  }
  if (differences.empty()) return decision;
  return make_error(
      ErrorCode::kSpecMismatch,
      "volume {} exists with another spec: {}; give its name alone to use it as it is, "
      "or choose another name, or change the volume with `holdfast volume update`",
      current.name, join(differences, "; "));
}

}  // namespace hf::spec
