// The one parser of volume specs.
//
//   inline := item { "," item }     order is free; "name=" is mandatory
//   item   := key "=" value
//
// A string without an item "name=" is a plain volume name. Everything returned is validated
// (spec/validate.h). Every failure is kInvalidSpec and names the key, the value and what is
// accepted; secrets never stand in an error. Input is untrusted; bounded by kMaxInlineBytes and
// kMaxOptions.
//
// Tolerated, because clients do it (Nomad cleans a volume name as a path): a trailing '/', and "//"
// folded to '/'. Quotes around the value of snap_schedule are dropped.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "volume/spec/volume_spec.h"

namespace hf::spec {

inline constexpr size_t kMaxInlineBytes = 16 * 1024;
inline constexpr size_t kMaxOptions = 64;

// Driver options, CSI parameters (without those of the sidecars), SDK labels: key to value.
using OptionMap = std::map<std::string, std::string, std::less<>>;

struct ParsedName {
  VolumeSpec spec;
  bool is_inline = false;  // false: a plain name; all keys have their defaults
};

// What a client sent as the name of a volume. The answers to the client must repeat the client's
// own string, not spec.name.
Result<ParsedName> parse_volume_name(std::string_view text);

// A name (plain or inline) together with options. A key in both is an error unless the values mean
// the same; an option `name` must mean the volume's name. `name` may be empty where an option gives
// it.
Result<VolumeSpec> parse_options(std::string_view name, const OptionMap& options);

// What a person should be told although the spec was accepted (a passphrase in clear, say).
std::vector<std::string> spec_warnings(const VolumeSpec& spec);

// A client's string with the values of secret keys, and of keys that are unknown, replaced by
// "***": fit for logs, events and errors. Never fails; also for strings that do not parse.
std::string redact_inline(std::string_view text);

}  // namespace hf::spec
