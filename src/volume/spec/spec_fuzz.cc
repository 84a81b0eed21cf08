// Anything that a client may send as the name of a volume, or that may stand in the state store.
//
// First byte of the input: 0 a stored JSON spec, 1 options ("key=value" lines behind a first line
// with the name), else a name or inline spec. Any other first byte belongs to the text itself.
// Checked: no crash; errors are bounded and printable; the canonical forms read back as the same
// spec; a spec matches itself; a secret never reaches an error or a written form.
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/assert.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "volume/spec/codec.h"
#include "volume/spec/inline_parser.h"
#include "volume/spec/reuse.h"
#include "volume/spec/support.h"
#include "volume/spec/validate.h"
#include "volume/spec/values.h"

namespace {

using namespace hf;        // NOLINT: a fuzzer's main file
using namespace hf::spec;  // NOLINT

constexpr std::string_view kMarker = "Zq7-w9Xk2";  // a passphrase that nothing else holds
constexpr size_t kMaxErrorBytes = 2048;
constexpr size_t kMaxSupportErrorBytes = 8192;  // one clause for every key

void check_text(std::string_view text, size_t max_bytes) {
  HF_ASSERT(!text.empty() && text.size() <= max_bytes, "error of {} bytes", text.size());
  for (const char c : text) {
    HF_ASSERT(c >= ' ' && c < 0x7f, "byte {} in an error", static_cast<int>(c));
  }
}

VolumeSpec without_request(VolumeSpec spec) {
  spec.passphrase.clear();
  spec.token.clear();
  spec.token_secret.clear();
  spec.explicit_keys.erase(SpecKey::kToken);
  spec.explicit_keys.erase(SpecKey::kTokenSecret);
  return spec;
}

void check_spec(const VolumeSpec& spec, bool stored_input) {
  HF_ASSERT(validate(spec).ok());
  const std::string shown = to_inline(spec);
  const auto again = parse_volume_name(shown);
  HF_ASSERT(again.ok(), "{}: {}", shown, again.error().to_string());
  VolumeSpec expected = without_request(spec);
  const auto stored_text = to_json(spec);
  HF_ASSERT(stored_text.ok());
  const auto stored = from_json(*stored_text);
  HF_ASSERT(stored.ok(), "{}", stored.error().to_string());
  HF_ASSERT(*stored == expected, "{}", *stored_text);
  expected.explicit_keys.erase(SpecKey::kPassphrase);
  // A stored spec may differ from the defaults in keys that nobody named: they are named from then
  // on.
  VolumeSpec values = again->spec;
  values.explicit_keys = expected.explicit_keys;
  HF_ASSERT(values == expected, "{}", shown);
  HF_ASSERT(stored_input || again->spec == expected, "{}", shown);
  HF_ASSERT(to_inline(again->spec) == shown);
  const auto same = compare_for_reuse(*stored, spec);
  HF_ASSERT(same.ok() && *same == SpecDecision{}, "{}", shown);
  const Capabilities none;
  if (const Status supported = check_support(spec, none); !supported.ok()) {
    check_text(supported.error().message(), kMaxSupportErrorBytes);
  }
  for (const std::string& note : support_notes(spec, none)) check_text(note, kMaxErrorBytes);
  for (const auto& [key, value] : status_map(spec)) HF_ASSERT(!key.empty() && !value.empty());
  HF_ASSERT(name_as_file(spec.name).find('/') == std::string::npos);
}

void fuzz_name(std::string_view text) {
  const auto parsed = parse_volume_name(text);
  if (parsed.ok()) {
    check_spec(parsed->spec, false);
  } else {
    check_text(parsed.error().message(), kMaxErrorBytes);
  }
  // The same with a passphrase somewhere behind it, whole and cut by a ','.
  if (text.find(kMarker) != std::string_view::npos) return;
  for (const std::string_view cut : {"", "x,"}) {
    const std::string secret = fmt::format("{},passphrase={}{}", text, cut, kMarker);
    const auto with_secret = parse_volume_name(secret);
    HF_ASSERT(redact_inline(secret).find(kMarker) == std::string::npos, "{}", secret);
    if (with_secret.ok()) {
      check_spec(with_secret->spec, false);
      const std::string stored = *to_json(with_secret->spec);
      HF_ASSERT(stored.find(kMarker) == std::string::npos, "{}", stored);
    } else {
      const std::string& message = with_secret.error().message();
      check_text(message, kMaxErrorBytes);
      HF_ASSERT(message.find(kMarker) == std::string::npos, "a secret in: {}", message);
    }
  }
}

void fuzz_options(std::string_view text) {
  const size_t line = text.find('\n');
  const std::string_view name = text.substr(0, line);
  OptionMap options;
  if (line != std::string_view::npos) {
    for (const std::string_view option : split(text.substr(line + 1), "\n")) {
      const size_t at = option.find('=');
      if (at == std::string_view::npos) continue;
      options.emplace(option.substr(0, at), option.substr(at + 1));
    }
  }
  const auto parsed = parse_options(name, options);
  if (parsed.ok()) {
    check_spec(*parsed, false);
  } else {
    check_text(parsed.error().message(), kMaxErrorBytes);
  }
}

// The same object with a checksum that holds, so that what lies behind it is reached; "" for other
// inputs.
std::string resealed(std::string_view text) {
  using nlohmann::json;
  json root = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!root.is_object() || !root.contains("values") || !root.contains("explicit")) return "";
  const auto dump = [](const json& part) {
    return part.dump(-1, ' ', false, json::error_handler_t::replace);
  };
  const std::string body = dump(root["values"]) + dump(root["explicit"]);
  root["crc32c"] = fmt::format("{:08x}", crc32c(as_bytes(body)));
  return dump(root);
}

void fuzz_stored_as_is(std::string_view text) {
  const auto parsed = from_json(text);
  if (parsed.ok()) {
    check_spec(*parsed, true);
  } else {
    check_text(parsed.error().message(), kMaxErrorBytes);
  }
}

void fuzz_stored(std::string_view text) {
  fuzz_stored_as_is(text);
  if (const std::string sealed = resealed(text); !sealed.empty()) fuzz_stored_as_is(sealed);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (text.starts_with('\0')) {
    fuzz_stored(text.substr(1));
  } else if (text.starts_with('\1')) {
    fuzz_options(text.substr(1));
  } else {
    fuzz_name(text);
  }
  return 0;
}
