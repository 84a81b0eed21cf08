// Properties over random valid specs: every way to give a spec means the same, and every written
// form reads back as what was written.
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "volume/spec/codec.h"
#include "volume/spec/inline_parser.h"
#include "volume/spec/key_table.h"
#include "volume/spec/reuse.h"
#include "volume/spec/validate.h"
#include "volume/spec/values.h"

namespace hf::spec {
namespace {

using Items = std::vector<std::pair<std::string, std::string>>;  // key, value; the name last

std::string text_of(std::string_view alphabet, int min, int max) {
  const int size = *rc::gen::inRange(min, max + 1);
  std::string out;
  for (int i = 0; i < size; ++i) {
    out += alphabet[*rc::gen::inRange<size_t>(0, alphabet.size())];
  }
  return out;
}

constexpr std::string_view kAlnum = "abcxyzABZ019";
constexpr std::string_view kWordTail = "abz019._-";
// Without ':' and '=', which would change where a map's entry is split only if they came first, and
// with what must survive: blanks inside are added by the tests beside the parser.
constexpr std::string_view kFree = "abz09._-/:=@+#%";

std::string word() {
  return text_of(kAlnum, 1, 1) + text_of(kWordTail, 0, 9);
}

std::string words() {
  std::vector<std::string> out;
  const int count = *rc::gen::inRange(1, 5);
  for (int i = 0; i < count; ++i) out.push_back(word() + std::to_string(i));
  return join(out, ";");
}

std::string map_text(bool value_optional) {
  std::string out;
  const int count = *rc::gen::inRange(1, 5);
  for (int i = 0; i < count; ++i) {
    if (i > 0) out += ';';
    out += "k" + std::to_string(i) + word();
    if (!value_optional || *rc::gen::arbitrary<bool>()) {
      out += *rc::gen::element(':', '=') + text_of(kFree, 1, 12);
    }
  }
  return out;
}

std::string number(uint32_t min, uint32_t max) {
  return std::to_string(*rc::gen::inRange<uint64_t>(min, uint64_t{max} + 1));
}

std::string schedule() {
  std::vector<std::string> parts;
  if (*rc::gen::arbitrary<bool>()) parts.push_back("periodic=" + number(1, kMaxSnapPeriodMinutes));
  if (*rc::gen::arbitrary<bool>()) {
    parts.push_back(fmt::format("daily={}:{:02}#{}", number(0, 23), *rc::gen::inRange(0, 60),
                                number(1, kMaxSnapKeep)));
  }
  if (*rc::gen::arbitrary<bool>()) {
    parts.push_back(fmt::format("weekly={}@{}h{:02}", *rc::gen::element("sun", "Friday", "wed"),
                                number(0, 23), *rc::gen::inRange(0, 60)));
  }
  if (*rc::gen::arbitrary<bool>()) {
    parts.push_back(fmt::format("monthly={}@0:{:02}", number(1, 31), *rc::gen::inRange(0, 60)));
  }
  if (parts.empty() || *rc::gen::arbitrary<bool>()) parts.push_back("policy=" + word());
  return join(parts, ";");
}

// A valid value of `key`.
std::string value_for(SpecKey key) {
  switch (key) {
    case SpecKey::kSize:
      return *rc::gen::element<std::string>(number(1, 64 * 1024), "0.5", "512M", "1.25T", "300MiB",
                                            number(400'000'000, 2'000'000'000) + "B");
    case SpecKey::kRepl:
      return number(1, kMaxRepl);
    case SpecKey::kScale:
      return number(1, kMaxScale);
    case SpecKey::kFs:
      return *rc::gen::element<std::string>("ext4", "XFS", "btrfs", "none");
    case SpecKey::kBlockSize:
      return *rc::gen::element<std::string>("1K", "2048", "4KiB");
    case SpecKey::kIoPriority:
      return *rc::gen::element<std::string>("1", "medium", "High");
    case SpecKey::kIoProfile:
      return *rc::gen::element<std::string>("auto", "db_remote", "none");
    case SpecKey::kSnapSchedule:
      return schedule();
    case SpecKey::kSnapInterval:
      return number(0, kMaxSnapPeriodMinutes);
    case SpecKey::kAggregationLevel:
      return *rc::gen::element<std::string>("1", "3", "auto");
    case SpecKey::kNodes:
    case SpecKey::kZones:
    case SpecKey::kRacks:
    case SpecKey::kRegions:
      return words();
    case SpecKey::kLabels:
      return map_text(false);
    case SpecKey::kMountOptions:
      return map_text(true);
    case SpecKey::kGroup:
    case SpecKey::kStoragePolicy:
      return word();
    case SpecKey::kSecretKey:
    case SpecKey::kParent:
      return word() + "/" + word() + "@" + word();
    case SpecKey::kDurability:
      return *rc::gen::element<std::string>("sync", "flush");
    case SpecKey::kQueueDepth:
      return number(1, kMaxQueueDepth);
    case SpecKey::kThrottleReadIops:
    case SpecKey::kThrottleWriteIops:
      return number(0, kMaxThrottleIops);
    case SpecKey::kThrottleReadBw:
    case SpecKey::kThrottleWriteBw:
      return number(0, kMaxThrottleMbPerS);
    case SpecKey::kProxyEndpoint:
      return "nfs://" + word() + *rc::gen::element<std::string>("", ":2049") + "/" + word();
    case SpecKey::kPassphrase:
    case SpecKey::kToken:
    case SpecKey::kTokenSecret:
      return text_of(kFree, 1, 12);
    default:
      return *rc::gen::element<std::string>("true", "false", "1", "off");
  }
}

// Random keys with valid values, such that the spec as a whole is valid.
Items valid_items() {
  Items items;
  for (const KeyInfo& key : key_table()) {
    if (key.key == SpecKey::kName || *rc::gen::inRange(0, 3) != 0) continue;
    const bool alias = !key.aliases[0].empty() && *rc::gen::arbitrary<bool>();
    items.emplace_back(alias ? key.aliases[0] : key.name, value_for(key.key));
  }
  items.emplace_back("name", word() + *rc::gen::element<std::string>("", "/x"));
  // Keys that exclude each other: take away what the validator objects to, last first.
  const auto valid = [&items] {
    OptionMap options(items.begin(), items.end());
    return parse_options("", options).ok();
  };
  while (!valid() && items.size() > 1) {
    items.erase(items.begin() + *rc::gen::inRange<int>(0, static_cast<int>(items.size()) - 1));
  }
  return items;
}

std::string inline_of(const Items& items) {
  std::string out;
  for (const auto& [key, value] : items) out += (out.empty() ? "" : ",") + key + "=" + value;
  return out;
}

VolumeSpec spec_of(const Items& items) {
  const Result<VolumeSpec> spec = parse_options("", OptionMap(items.begin(), items.end()));
  RC_ASSERT(spec.ok());
  return *spec;
}

// What every written form keeps.
VolumeSpec without_secrets(VolumeSpec spec, bool keep_passphrase_mark) {
  spec.passphrase.clear();
  spec.token.clear();
  spec.token_secret.clear();
  spec.explicit_keys.erase(SpecKey::kToken);
  spec.explicit_keys.erase(SpecKey::kTokenSecret);
  if (!keep_passphrase_mark) spec.explicit_keys.erase(SpecKey::kPassphrase);
  return spec;
}

RC_GTEST_PROP(SpecProperty, InlineMeansTheSameAsOptions, ()) {
  const Items items = valid_items();
  const VolumeSpec spec = spec_of(items);
  const Result<ParsedName> inline_spec = parse_volume_name(inline_of(items));
  RC_ASSERT(inline_spec.ok());
  RC_ASSERT(inline_spec->is_inline);
  RC_ASSERT(inline_spec->spec == spec);
  RC_ASSERT(spec.explicit_keys.size() == items.size() - 1);
}

RC_GTEST_PROP(SpecProperty, TheOrderIsFree, ()) {
  // The last item may lose a trailing '/' of its value to the client, so the name stays last.
  Items items = valid_items();
  const VolumeSpec spec = spec_of(items);
  const size_t turn = *rc::gen::inRange<size_t>(0, items.size());
  std::rotate(items.begin(), items.begin() + static_cast<long>(turn), items.end() - 1);
  RC_ASSERT(parse_volume_name(inline_of(items))->spec == spec);
}

RC_GTEST_PROP(SpecProperty, SplitBetweenNameAndOptions, ()) {
  const Items items = valid_items();
  const auto middle = items.begin() + *rc::gen::inRange<int>(0, static_cast<int>(items.size()));
  Items named(middle, items.end());
  const Result<VolumeSpec> spec = parse_options(inline_of(named), OptionMap(items.begin(), middle));
  RC_ASSERT(spec.ok());
  RC_ASSERT(*spec == spec_of(items));
}

RC_GTEST_PROP(SpecProperty, CanonicalInlineReadsBack, ()) {
  const VolumeSpec spec = spec_of(valid_items());
  const std::string text = to_inline(spec);
  const Result<ParsedName> again = parse_volume_name(text);
  // Without its passphrase a spec may say secure=false or name a secret_key no longer excluded:
  // still valid.
  RC_ASSERT(again.ok());
  RC_ASSERT(again->spec == without_secrets(spec, false));
  RC_ASSERT(to_inline(again->spec) == text);
}

RC_GTEST_PROP(SpecProperty, JsonReadsBack, ()) {
  const VolumeSpec spec = spec_of(valid_items());
  const Result<std::string> text = to_json(spec);
  RC_ASSERT(text.ok());
  const Result<VolumeSpec> again = from_json(*text);
  RC_ASSERT(again.ok());
  RC_ASSERT(*again == without_secrets(spec, true));
  RC_ASSERT(*to_json(*again) == *text);
}

RC_GTEST_PROP(SpecProperty, EverySpecIsValidAndMatchesItself, ()) {
  const VolumeSpec spec = spec_of(valid_items());
  RC_ASSERT(validate(spec).ok());
  RC_ASSERT(*compare_for_reuse(spec, spec) == SpecDecision{});
  const VolumeSpec stored = *from_json(*to_json(spec));
  RC_ASSERT(*compare_for_reuse(stored, spec) == SpecDecision{});
  RC_ASSERT(*compare_for_reuse(stored, parse_volume_name(spec.name)->spec) == SpecDecision{});
}

// Two specs match exactly when every key that the second names has the same value in the first.
RC_GTEST_PROP(SpecProperty, ReuseFindsExactlyTheDifferences, ()) {
  VolumeSpec existing = spec_of(valid_items());
  VolumeSpec requested = spec_of(valid_items());
  requested.name = existing.name;
  existing.allow_grow = requested.allow_grow = false;
  bool differs = false;
  for (const KeyInfo& key : key_table()) {
    if (!key.compared || key.secret || !requested.explicit_keys.contains(key.key)) continue;
    differs = differs || fold_slashes(key.format(existing)) != fold_slashes(key.format(requested));
  }
  if (requested.explicit_keys.contains(SpecKey::kPassphrase)) {
    differs = differs || existing.encryption() != Encryption::kPassphrase;
  }
  const auto decision = compare_for_reuse(existing, requested);
  RC_ASSERT(decision.ok() == !differs);
  if (differs) RC_ASSERT(decision.code() == ErrorCode::kSpecMismatch);
}

}  // namespace
}  // namespace hf::spec
