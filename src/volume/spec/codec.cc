#include "volume/spec/codec.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "volume/spec/key_table.h"
#include "volume/spec/validate.h"
#include "volume/spec/values.h"

namespace hf::spec {
namespace {

using nlohmann::json;

constexpr std::string_view kFormat = "holdfast volume spec";

// Of one request, not of the volume: not stored.
bool of_request(const KeyInfo& key) {
  return key.key == SpecKey::kToken || key.key == SpecKey::kTokenSecret;
}

// Over the two members that carry meaning, in nlohmann's canonical dump: no blanks, keys sorted.
std::string checksum(const json& values, const json& explicit_keys) {
  const std::string body = values.dump() + explicit_keys.dump();
  return fmt::format("{:08x}", crc32c(as_bytes(body)));
}

Error corrupt(std::string_view why) {
  return make_error(ErrorCode::kCorruption, "a stored volume spec cannot be read: {}", why);
}

// The member `name` of `object` when it is a string, else "".
std::string_view text_member(const json& object, const char* name) {
  const auto it = object.find(name);
  if (it == object.end() || !it->is_string()) return "";
  return it->get_ref<const std::string&>();
}

Status check_envelope(const json& root) {
  if (!root.is_object() || text_member(root, "format") != kFormat) {
    return corrupt("it is not a volume spec");
  }
  const auto version = root.find("version");
  if (version == root.end() || !version->is_number_unsigned() || version->get<uint64_t>() == 0) {
    return corrupt("it has no version");
  }
  if (version->get<uint64_t>() > kSpecJsonVersion) {
    return make_error(
        ErrorCode::kNewerFormat,
        "a stored volume spec has version {} and this program reads up to {}; run the "
        "newer version",
        version->get<uint64_t>(), kSpecJsonVersion);
  }
  const auto values = root.find("values");
  const auto explicit_keys = root.find("explicit");
  if (values == root.end() || !values->is_object() || explicit_keys == root.end() ||
      !explicit_keys->is_array()) {
    return corrupt("values or explicit is missing");
  }
  if (text_member(root, "crc32c") != checksum(*values, *explicit_keys)) {
    return corrupt("its checksum does not hold");
  }
  return {};
}

// A key as it was written: a canonical name, never an alias.
const KeyInfo* stored_key(std::string_view name) {
  const KeyInfo* key = find_key(name);
  return key != nullptr && key->name == name && !of_request(*key) ? key : nullptr;
}

Status read_values(const json& values, VolumeSpec& spec) {
  for (const auto& [name, value] : values.items()) {
    const KeyInfo* key = stored_key(name);
    if (key == nullptr || key->secret || !value.is_string()) {
      return corrupt(fmt::format("the value of {}", in_quotes(name)));
    }
    const auto& text = value.get_ref<const std::string&>();
    const std::string folded = key->foldable ? fold_slashes(text) : text;
    if (const Status parsed = key->parse(spec, folded, ValueForm::kOption); !parsed.ok()) {
      return corrupt(bad_value(*key, text, parsed.error().message()).message());
    }
  }
  return {};
}

Status read_explicit(const json& names, VolumeSpec& spec) {
  for (const json& name : names) {
    const KeyInfo* key =
        name.is_string() ? stored_key(name.get_ref<const std::string&>()) : nullptr;
    if (key == nullptr || key->key == SpecKey::kName || spec.explicit_keys.contains(key->key)) {
      return corrupt("the list of explicit keys");
    }
    spec.explicit_keys.insert(key->key);
  }
  return {};
}

// Whether `text`, the value of `key` in `spec`, says more than a plain name would.
bool worth_showing(const KeyInfo& key, const VolumeSpec& spec, const std::string& text) {
  static const VolumeSpec kDefaults;
  if (text.empty() || key.key == SpecKey::kName) return false;
  return spec.explicit_keys.contains(key.key) || text != key.format(kDefaults);
}

}  // namespace

Result<std::string> to_json(const VolumeSpec& spec) {
  HF_TRY(validate(spec));
  json values = json::object();
  json explicit_keys = json::array();
  for (const KeyInfo& key : key_table()) {
    if (of_request(key)) continue;
    if (std::string text = key.format(spec); !text.empty()) {
      values[std::string(key.name)] = std::move(text);
    }
    const bool named = spec.explicit_keys.contains(key.key) ||
                       (key.key == SpecKey::kPassphrase && !spec.passphrase.empty());
    if (named) explicit_keys.push_back(key.name);
  }
  const json root = {{"format", kFormat},
                     {"version", kSpecJsonVersion},
                     {"crc32c", checksum(values, explicit_keys)},
                     {"values", std::move(values)},
                     {"explicit", std::move(explicit_keys)}};
  return root.dump();
}

Result<VolumeSpec> from_json(std::string_view text) {
  if (text.size() > kMaxSpecJsonBytes) {
    return corrupt(fmt::format("{} bytes are too many", text.size()));
  }
  const json root = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (root.is_discarded()) return corrupt("it is not JSON");
  HF_TRY(check_envelope(root));
  VolumeSpec spec;
  HF_TRY(read_values(root["values"], spec));
  HF_TRY(read_explicit(root["explicit"], spec));
  if (const Status valid = validate(spec); !valid.ok()) return corrupt(valid.error().message());
  return spec;
}

std::string to_inline(const VolumeSpec& spec) {
  std::string out;
  for (const KeyInfo& key : key_table()) {
    const std::string text = key.format(spec);
    if (worth_showing(key, spec, text)) out += fmt::format("{}={},", key.name, text);
  }
  if (out.empty()) return spec.name;
  return out + "name=" + spec.name;
}

std::map<std::string, std::string> status_map(const VolumeSpec& spec) {
  std::map<std::string, std::string> out;
  for (const KeyInfo& key : key_table()) {
    std::string text = key.format(spec);
    const bool always = key.key == SpecKey::kFs || key.key == SpecKey::kRepl;
    if (always || worth_showing(key, spec, text)) out[std::string(key.name)] = std::move(text);
  }
  out["size"] = format_size(spec.size_bytes);
  if (spec.encryption() != Encryption::kNone) out["encryption"] = to_string(spec.encryption());
  return out;
}

}  // namespace hf::spec
