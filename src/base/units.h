// Byte sizes. Everything inside is in bytes; text is binary (1K = 1024).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"

namespace hf {

inline constexpr uint64_t kKiB = 1024;
inline constexpr uint64_t kMiB = 1024 * kKiB;
inline constexpr uint64_t kGiB = 1024 * kMiB;
inline constexpr uint64_t kTiB = 1024 * kGiB;
inline constexpr uint64_t kPiB = 1024 * kTiB;

// The unit of checksums, of the overlay and of every replica's address space.
inline constexpr uint64_t kBlockSize = 4 * kKiB;

// "10G", "1.5GiB", "512M", "4096B", "64KB": a number (a fraction is allowed) and one of B K M G T P
// (also KB, KiB, …), either case. A bare number counts in `bare_unit` bytes. The result is rounded up
// to a whole byte. Refuses negatives, exponents, blanks inside, and values above 8 EiB − 1.
Result<uint64_t> parse_size(std::string_view text, uint64_t bare_unit);

// "10 GiB", "1.50 GiB", "4 KiB", "17 B": at most two decimals, exact values without.
std::string format_size(uint64_t bytes);

constexpr uint64_t round_up(uint64_t value, uint64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}
constexpr uint64_t round_down(uint64_t value, uint64_t multiple) { return value / multiple * multiple; }
constexpr bool is_aligned(uint64_t value, uint64_t multiple) { return value % multiple == 0; }

}  // namespace hf
