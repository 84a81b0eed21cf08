// The real world for the contract suites of src/runtime/contract.
#pragma once

#include <memory>

#include "runtime/contract/world_factory.h"

namespace hf {

// In a fresh folder below $HF_TEST_DIR, or else the working directory.
std::unique_ptr<contract::WorldUnderTest> make_real_world();
// The same on a ring without the newer kernels' modes.
std::unique_ptr<contract::WorldUnderTest> make_plain_ring_world();

}  // namespace hf
