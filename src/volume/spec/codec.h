// The written forms of a spec.
//
//   JSON    for the state store; versioned, with a checksum; holds every value, so that a later
//           change of a default does not change volumes that exist
//           (docs/formats/volume-spec-json.md)
//   inline  for people: the keys that the caller named or that differ from their defaults, in the
//           table's order, the name last
//   status  for people: the `Status` of `docker volume inspect`
//
// None of them ever holds a secret. What the JSON form keeps of a passphrase is that there is one.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "base/error.h"
#include "volume/spec/volume_spec.h"

namespace hf::spec {

inline constexpr uint32_t kSpecJsonVersion = 1;
inline constexpr size_t kMaxSpecJsonBytes = 256 * 1024;

// Errors: kInvalidSpec for a spec that validate() refuses.
Result<std::string> to_json(const VolumeSpec& spec);

// Errors: kNewerFormat for a version above kSpecJsonVersion; kCorruption for anything that to_json
// cannot have written (not JSON, checksum, unknown key, value out of bounds).
// from_json(to_json(s)) equals s without the secrets' values and without the request's keys
// (token, token_secret).
Result<VolumeSpec> from_json(std::string_view text);

// parse_volume_name(to_inline(s)) gives s again, except for secrets.
// A spec without explicit keys gives its plain name. Passes through `docker run -v` unless
// proxy_endpoint is set or a label or mount option holds ':'.
std::string to_inline(const VolumeSpec& spec);

// What the spec says, in words: size, fs, replicas, and every other key that was named or differs
// from its default. The caller adds what only the cluster knows (used, attached where).
std::map<std::string, std::string> status_map(const VolumeSpec& spec);

}  // namespace hf::spec
