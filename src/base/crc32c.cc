#include "base/crc32c.h"

#include <isa-l/crc.h>

namespace hf {

uint32_t crc32c_extend(uint32_t crc, std::span<const std::byte> data) {
  // ISA-L's crc32_iscsi takes and returns the raw register, takes an int length and a non-const pointer.
  uint32_t state = ~crc;
  const std::byte* p = data.data();
  size_t left = data.size();
  while (left > 0) {
    const size_t chunk = left < (1u << 30) ? left : (1u << 30);
    auto* raw = const_cast<unsigned char*>(reinterpret_cast<const unsigned char*>(p));
    state = crc32_iscsi(raw, static_cast<int>(chunk), state);
    p += chunk;
    left -= chunk;
  }
  return ~state;
}

uint32_t crc32c(std::span<const std::byte> data) { return crc32c_extend(0, data); }

}  // namespace hf
