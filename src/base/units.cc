#include "base/units.h"

#include <array>
#include <cctype>

namespace hf {
namespace {

constexpr uint64_t kMaxSize = (uint64_t{1} << 63) - 1;
constexpr size_t kMaxDigits = 19;

Error bad_size(std::string_view text, std::string_view why) {
  return make_error(ErrorCode::kInvalidArgument,
                    "\"{}\" is not a size: {}; give a number with an optional unit B, K, M, G, T or P, "
                    "such as 10G, 1.5GiB or 512M",
                    text.substr(0, 64), why);
}

// The factor of a unit suffix, 0 for an unknown one.
uint64_t unit_factor(std::string_view unit, uint64_t bare_unit) {
  if (unit.empty()) return bare_unit;
  const char letter = static_cast<char>(std::toupper(static_cast<unsigned char>(unit[0])));
  const std::string_view rest = unit.substr(1);
  if (letter == 'B') return rest.empty() ? 1 : 0;
  const bool tail_ok = rest.empty() || rest == "B" || rest == "b" || rest == "iB" || rest == "ib" ||
                       rest == "IB" || rest == "i" || rest == "I";
  if (!tail_ok) return 0;
  switch (letter) {
    case 'K': return kKiB;
    case 'M': return kMiB;
    case 'G': return kGiB;
    case 'T': return kTiB;
    case 'P': return kPiB;
    default: return 0;
  }
}

}  // namespace

Result<uint64_t> parse_size(std::string_view text, uint64_t bare_unit) {
  size_t at = 0;
  uint64_t whole = 0, fraction = 0, scale = 1;
  const auto digit = [&] { return at < text.size() && text[at] >= '0' && text[at] <= '9'; };
  const size_t whole_start = at;
  for (; digit(); ++at) {
    if (at - whole_start >= kMaxDigits - 1) return bad_size(text, "the number is too long");
    whole = whole * 10 + static_cast<uint64_t>(text[at] - '0');
  }
  if (at == whole_start) return bad_size(text, "it does not start with a digit");
  if (at < text.size() && text[at] == '.') {
    const size_t start = ++at;
    for (; digit(); ++at) {
      if (at - start >= 9) return bad_size(text, "more than nine decimals");
      fraction = fraction * 10 + static_cast<uint64_t>(text[at] - '0');
      scale *= 10;
    }
    if (at == start) return bad_size(text, "no digit behind the point");
  }
  const uint64_t factor = unit_factor(text.substr(at), bare_unit);
  if (factor == 0) return bad_size(text, "unknown unit");
  const auto total = static_cast<unsigned __int128>(whole) * factor +
                     (static_cast<unsigned __int128>(fraction) * factor + scale - 1) / scale;
  if (total > kMaxSize) return bad_size(text, "more than 8 EiB");
  return static_cast<uint64_t>(total);
}

std::string format_size(uint64_t bytes) {
  static constexpr std::array<const char*, 6> kNames = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  size_t unit = 0;
  uint64_t factor = 1;
  while (unit + 1 < kNames.size() && bytes >= factor * 1024) {
    factor *= 1024;
    ++unit;
  }
  if (bytes % factor == 0) return fmt::format("{} {}", bytes / factor, kNames[unit]);
  return fmt::format("{:.2f} {}", static_cast<double>(bytes) / static_cast<double>(factor),
                     kNames[unit]);
}

}  // namespace hf
