// What one value alone cannot tell: bounds that depend on other keys, and keys that exclude each
// other.
#pragma once

#include "base/error.h"
#include "volume/spec/volume_spec.h"

namespace hf::spec {

// Ok, or kInvalidSpec naming the keys that do not fit and the way out. The parser calls it; call it
// yourself for a spec built or changed by hand (it checks every bound then, too).
Status validate(const VolumeSpec& spec);

}  // namespace hf::spec
