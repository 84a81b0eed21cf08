// The one key table. Parser, validator, error texts, codecs, comparison, the support check, the
// help of the command line and docs/volume-spec.md are all driven by it: a key exists if it has a
// row here.
#pragma once

#include <array>
#include <span>
#include <string>
#include <string_view>

#include "base/error.h"
#include "volume/spec/volume_spec.h"

namespace hf::spec {

// Where a value came from. Lists and maps may use ',' where nothing else splits at it.
enum class ValueForm : uint8_t {
  kInline,  // an item of an inline string: ',' cannot occur
  kOption,  // a driver option, CSI parameter or stored value
};

struct KeyInfo {
  SpecKey key;
  std::string_view name;                    // canonical spelling
  std::array<std::string_view, 2> aliases;  // "" where there are fewer
  std::string_view accepted;                // what a value may be, one line of ASCII
  std::string_view default_text;            // what stands when the key is not given, for people
  std::string_view help;                    // one line
  bool secret = false;                      // its value never reaches a text, a log or the store
  bool compared = true;   // counts when an existing volume is asked for again (spec/reuse.h)
  bool foldable = false;  // its value is path-like: "//" means "/" and a trailing '/' nothing

  // Sets the field of `spec` from a non-empty value. Errors: kInvalidSpec with the reason alone
  // ("unknown unit"); the caller adds key, value and what is accepted. Never called with
  // out-of-form text.
  Status (*parse)(VolumeSpec& spec, std::string_view value, ValueForm form);
  // The canonical value text: parse(format(spec)) gives the same field in either form. "" when
  // nothing is set. For a secret always "".
  std::string (*format)(const VolumeSpec& spec);
};

std::span<const KeyInfo> key_table();  // in SpecKey's order, kSpecKeyCount rows
const KeyInfo& key_info(SpecKey key);
// By canonical name or alias, exactly as spelled. nullptr for an unknown one.
const KeyInfo* find_key(std::string_view spelled);
// The spelling nearest to a typo ("sise", "Size", "io-priority"); "" when none is near.
std::string_view nearest_key(std::string_view spelled);

// `text` between double quotes for an error: at most 64 bytes of it, what is not printable ASCII
// escaped as \xNN.
std::string in_quotes(std::string_view text);

// kInvalidSpec naming key, value (unless secret), the reason and what is accepted.
Error bad_value(const KeyInfo& key, std::string_view value, std::string_view why);

}  // namespace hf::spec
