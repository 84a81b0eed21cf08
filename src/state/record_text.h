// The written form of a record in the state store (docs/formats/state.md): a first line of kind, schema version and
// CRC32C of everything else, then the body. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace hf::state {

std::string seal_record(std::string_view kind, uint32_t version, std::string_view body);

struct RecordText {
  uint32_t version = 0;
  bool intact = false;    // the checksum holds; without it nothing else is to be believed
  std::string_view body;  // of the text that was opened
};

// Nothing when the first line is not that of a record of this kind.
std::optional<RecordText> open_record(std::string_view kind, std::string_view text);

}  // namespace hf::state
