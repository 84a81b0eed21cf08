// CRC32C (Castagnoli, reflected polynomial 0x82F63B78; RFC 3720 appendix B.4), by ISA-L.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace hf {

// The standard CRC32C: crc32c("123456789") = 0xE3069283.
uint32_t crc32c(std::span<const std::byte> data);
// Continues a CRC: crc32c_extend(crc32c(a), b) = crc32c(a ‖ b).
uint32_t crc32c_extend(uint32_t crc, std::span<const std::byte> data);

}  // namespace hf
