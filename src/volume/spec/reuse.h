// A volume exists, and somebody asks for it by name again, with a spec: is it the same volume?
//
//   requested value of an explicit key    existing volume                           outcome
//   as created, or as it is now           -                                         same
//   size, larger than now                 allow_grow in either spec                 grow
//   size, smaller than now                allow_grow in the request                 same: at least
//   that anything else                         - kSpecMismatch
//
// A key that the request does not name never differs: a plain name matches every volume.
// The value as created counts beside the value now, so that `volume resize` or `volume update` does
// not lock out a container that is started again with the string that once created the volume. The
// keys name, token, token_secret and allow_grow belong to the request, not to the volume. A
// passphrase cannot be compared (it is not stored), only whether there is one; the attach verifies
// it. Pure: no I/O.
#pragma once

#include <cstdint>

#include "base/error.h"
#include "volume/spec/volume_spec.h"

namespace hf::spec {

struct SpecDecision {
  enum class Kind : uint8_t { kSame, kGrow };
  Kind kind = Kind::kSame;
  uint64_t grow_to_bytes = 0;  // kGrow only: larger than the current size
  bool operator==(const SpecDecision&) const = default;
};

// `created` is the spec that the volume was created with, `current` what it is now (resized,
// updated). Errors: kSpecMismatch listing every differing key with both values and the way out.
Result<SpecDecision> compare_for_reuse(const VolumeSpec& created, const VolumeSpec& current,
                                       const VolumeSpec& requested);

// For a volume that was never changed.
inline Result<SpecDecision> compare_for_reuse(const VolumeSpec& existing,
                                              const VolumeSpec& requested) {
  return compare_for_reuse(existing, existing, requested);
}

}  // namespace hf::spec
