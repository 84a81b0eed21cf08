#include "volume/spec/inline_parser.h"

#include <array>
#include <utility>

#include "volume/spec/key_table.h"
#include "volume/spec/validate.h"
#include "volume/spec/values.h"

namespace hf::spec {
namespace {

Error invalid(std::string message) {
  return Error(ErrorCode::kInvalidSpec, std::move(message));
}

// Where a key was seen, for the error about a second one.
enum class Source : uint8_t { kNowhere, kName, kOption };

std::string_view in_words(Source source) {
  return source == Source::kName ? "in the name" : "as an option";
}

Error unknown_key(std::string_view spelled) {
  std::string message = fmt::format("unknown key {}", in_quotes(spelled));
  if (const std::string_view near = nearest_key(spelled); !near.empty()) {
    message += fmt::format(": did you mean \"{}\"?", near);
  }
  message += "; accepted keys:";
  for (const KeyInfo& row : key_table()) {
    message += fmt::format("{} {}", row.key == SpecKey::kName ? "" : ",", row.name);
  }
  return invalid(std::move(message));
}

bool has_blank_end(std::string_view text) {
  const auto blank = [](char c) { return c == ' ' || (c >= '\t' && c <= '\r'); };
  return !text.empty() && (blank(text.front()) || blank(text.back()));
}

const Secret* secret_of(const VolumeSpec& spec, SpecKey key) {
  switch (key) {
    case SpecKey::kPassphrase:
      return &spec.passphrase;
    case SpecKey::kToken:
      return &spec.token;
    case SpecKey::kTokenSecret:
      return &spec.token_secret;
    default:
      return nullptr;
  }
}

bool same_value(const KeyInfo& key, const VolumeSpec& a, const VolumeSpec& b) {
  if (const Secret* secret = secret_of(a, key.key)) return *secret == *secret_of(b, key.key);
  return key.format(a) == key.format(b);
}

// Builds one spec out of keys from a name and from options.
class SpecBuilder {
 public:
  Status add(std::string_view spelled, std::string_view value, Source source) {
    const KeyInfo* key = find_key(spelled);
    if (key == nullptr) return unknown_key(spelled);
    if (value.empty()) {
      return invalid(fmt::format("{} has no value; accepted: {}", key->name, key->accepted));
    }
    if (!key->secret && has_blank_end(value)) {
      return bad_value(*key, value, "it begins or ends with a blank");
    }
    Seen& seen = seen_[static_cast<size_t>(key->key)];
    if (seen.source == source) return repeated(*key, seen.spelled, spelled);
    const ValueForm form = source == Source::kName ? ValueForm::kInline : ValueForm::kOption;
    VolumeSpec candidate = spec_;
    const std::string folded = key->foldable ? fold_slashes(value) : std::string();
    const Status parsed = key->parse(candidate, key->foldable ? folded : value, form);
    if (!parsed.ok()) return bad_value(*key, value, parsed.error().message());
    if (seen.source != Source::kNowhere && !same_value(*key, spec_, candidate)) {
      return conflict(*key, candidate, seen, source);
    }
    spec_ = std::move(candidate);
    seen = Seen{source, std::string(spelled)};
    if (key->key != SpecKey::kName) spec_.explicit_keys.insert(key->key);
    return {};
  }

  // A name that stands alone.
  Status set_plain_name(std::string_view name) {
    spec_.name = fold_slashes(name);
    seen_[static_cast<size_t>(SpecKey::kName)] = Seen{Source::kName, "name"};
    if (is_valid_name(spec_.name)) return {};
    return bad_value(key_info(SpecKey::kName), name, "not a volume name");
  }

  Result<VolumeSpec> finish() && {
    if (spec_.name.empty()) return invalid("the volume has no name; give name=NAME");
    HF_TRY(validate(spec_));
    return std::move(spec_);
  }
  const VolumeSpec& spec() const { return spec_; }

 private:
  struct Seen {
    Source source = Source::kNowhere;
    std::string spelled;
  };

  static Error repeated(const KeyInfo& key, std::string_view first, std::string_view second) {
    if (first == second) return invalid(fmt::format("{} is given twice; give it once", key.name));
    return invalid(
        fmt::format("{} is given twice, as {} and as {}; give it once", key.name, first, second));
  }

  Error conflict(const KeyInfo& key, const VolumeSpec& candidate, const Seen& seen,
                 Source source) const {
    const auto text = [&](const VolumeSpec& spec) {
      return key.secret ? std::string("***") : in_quotes(key.format(spec));
    };
    return invalid(fmt::format(
        "{} is given twice with different values: {} {} and {} {}; give it "
        "once",
        key.name, text(spec_), in_words(seen.source), text(candidate), in_words(source)));
  }

  VolumeSpec spec_;
  std::array<Seen, kSpecKeyCount> seen_;
};

std::string_view key_of(std::string_view item) {
  return item.substr(0, item.find('='));
}

bool is_inline_text(const std::vector<std::string_view>& items) {
  for (const std::string_view item : items) {
    if (item.starts_with("name=")) return true;
  }
  return false;
}

// The client's trailing '/' belongs to no value, except to a secret that stands last: there it may.
std::string_view without_trailing_slashes(std::string_view item) {
  const KeyInfo* key = find_key(key_of(item));
  if (key != nullptr && key->secret) return item;
  while (item.ends_with('/')) item.remove_suffix(1);
  return item;
}

Status add_inline(SpecBuilder& builder, std::vector<std::string_view> items) {
  items.back() = without_trailing_slashes(items.back());
  bool after_secret = false;
  for (size_t i = 0; i < items.size(); ++i) {
    const std::string_view item = items[i];
    const size_t at = item.find('=');
    const KeyInfo* key = at == std::string_view::npos ? nullptr : find_key(item.substr(0, at));
    if (after_secret && key == nullptr) {
      // What follows a secret may be the rest of it, cut at its ',': never show that.
      return invalid(
          fmt::format("item {} of the inline spec is not KEY=VALUE with a known key; if the "
                      "secret before it holds ',', give it as an option or use secret_key",
                      i + 1));
    }
    if (item.empty()) {
      return invalid(fmt::format("item {} of the inline spec is empty: a ',' too many", i + 1));
    }
    if (at == std::string_view::npos) {
      if (const KeyInfo* bare = find_key(item)) {
        return invalid(fmt::format("{} has no value; write {}=VALUE, accepted: {}", bare->name,
                                   bare->name, bare->accepted));
      }
      return invalid(
          fmt::format("item {} of the inline spec, {}, is not KEY=VALUE", i + 1, in_quotes(item)));
    }
    HF_TRY(builder.add(item.substr(0, at), item.substr(at + 1), Source::kName));
    after_secret = key != nullptr && (key->secret || after_secret);
  }
  return {};
}

// The name that a client sent, into `builder`. Sets `is_inline`.
Status add_name(SpecBuilder& builder, std::string_view text, bool& is_inline) {
  if (text.size() > kMaxInlineBytes) {
    return invalid(fmt::format("a volume name or inline spec of {} bytes; at most {} are accepted",
                               text.size(), kMaxInlineBytes));
  }
  std::vector<std::string_view> items = split(text, ",");
  is_inline = is_inline_text(items);
  if (is_inline) return add_inline(builder, std::move(items));
  if (text.find_first_of(",=") != std::string_view::npos) {
    return invalid(
        fmt::format("{} is not a volume name, and an inline spec needs name=NAME among its "
                    "items, such as size=10G,name=db",
                    in_quotes(redact_inline(text))));
  }
  return builder.set_plain_name(text);
}

}  // namespace

Result<ParsedName> parse_volume_name(std::string_view text) {
  SpecBuilder builder;
  ParsedName out;
  HF_TRY(add_name(builder, text, out.is_inline));
  Result<VolumeSpec> spec = std::move(builder).finish();
  if (!spec.ok()) return spec.error();
  out.spec = std::move(*spec);
  return out;
}

Result<VolumeSpec> parse_options(std::string_view name, const OptionMap& options) {
  if (options.size() > kMaxOptions) {
    return invalid(fmt::format("{} options; at most {} are accepted", options.size(), kMaxOptions));
  }
  SpecBuilder builder;
  bool is_inline = false;
  if (!name.empty()) HF_TRY(add_name(builder, name, is_inline));
  for (const auto& [key, value] : options) HF_TRY(builder.add(key, value, Source::kOption));
  return std::move(builder).finish();
}

std::vector<std::string> spec_warnings(const VolumeSpec& spec) {
  std::vector<std::string> out;
  if (!spec.passphrase.empty()) {
    out.emplace_back(
        "passphrase stands in clear in the launch command and in whatever records it; "
        "store it as a secret and give secret_key=NAME");
  }
  if (!spec.token.empty()) {
    out.emplace_back("token stands in clear in the launch command and in whatever records it");
  }
  return out;
}

std::string redact_inline(std::string_view text) {
  if (text.find('=') == std::string_view::npos) return std::string(text);
  std::string out;
  bool hide = false;  // behind a secret, or behind a key that may be a misspelled one
  bool first = true;
  for (const std::string_view item : split(text, ",")) {
    if (!first) out += ',';
    first = false;
    const size_t at = item.find('=');
    const KeyInfo* key = at == std::string_view::npos ? nullptr : find_key(item.substr(0, at));
    if (key != nullptr && !key->secret) {
      out += item;
    } else if (at == std::string_view::npos || (key == nullptr && hide)) {
      out += hide ? "***" : item;
    } else {
      out += item.substr(0, at + 1);
      out += "***";
    }
    hide = hide || (at != std::string_view::npos && (key == nullptr || key->secret));
  }
  return out;
}

}  // namespace hf::spec
