// A code that came over a wire, by its number.
#pragma once

#include <cstdint>
#include <optional>

#include "base/error.h"

namespace hf {

// Nothing: no error code of this version; 0, which is none, neither.
inline std::optional<ErrorCode> known_code(uint64_t number) {
  const ErrorTable table = error_table();
  for (size_t i = 1; i < table.count; ++i) {
    if (static_cast<uint64_t>(table.rows[i].code) == number) return table.rows[i].code;
  }
  return std::nullopt;
}

}  // namespace hf
