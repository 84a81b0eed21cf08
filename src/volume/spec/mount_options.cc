#include "volume/spec/mount_options.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <span>

#include "base/units.h"
#include "volume/spec/key_table.h"

namespace hf::spec {
namespace {

// What may stand behind the '='.
enum class Takes : uint8_t {
  kNothing,
  kNumber,     // 1 to `most`
  kPowerOf2,   // a size, kMinAlloc to kMaxAlloc, such as 64k
  kOneOf,      // of `words`, between blanks
  kMaybeOneOf  // the same, or nothing
};

struct Allowed {
  std::string_view name;
  Takes takes = Takes::kNothing;
  uint64_t most = 0;
  std::string_view words;
};

constexpr uint64_t kMinAlloc = 4 * kKiB, kMaxAlloc = kGiB;

constexpr auto kCommon = std::to_array<Allowed>({
    {"ro"}, {"rw"}, {"noatime"}, {"relatime"}, {"strictatime"}, {"lazytime"}, {"nodiratime"},
    {"sync"}, {"dirsync"}, {"nosuid"}, {"nodev"}, {"noexec"}, {"discard"}, {"nodiscard"}});
constexpr auto kExt4 = std::to_array<Allowed>({
    {"data", Takes::kOneOf, 0, "ordered journal"},
    {"commit", Takes::kNumber, 300, {}},
    {"errors", Takes::kOneOf, 0, "remount-ro"},
    {"acl"}, {"noacl"}, {"user_xattr"},
    {"stripe", Takes::kNumber, 65536, {}},
    {"auto_da_alloc"}});
constexpr auto kXfs = std::to_array<Allowed>({
    {"allocsize", Takes::kPowerOf2, 0, {}},
    {"inode64"}, {"largeio"}, {"swalloc"},
    {"logbsize", Takes::kOneOf, 0, "32k 64k 128k 256k"}});
constexpr auto kBtrfs = std::to_array<Allowed>({
    {"compress", Takes::kMaybeOneOf, 0, "zlib lzo zstd zstd:1 zstd:3 zstd:9 no"},
    {"compress-force", Takes::kMaybeOneOf, 0, "zlib lzo zstd zstd:1 zstd:3 zstd:9"},
    {"ssd"}, {"nossd"}, {"autodefrag"},
    {"space_cache", Takes::kOneOf, 0, "v2"},
    {"commit", Takes::kNumber, 300, {}}});

std::span<const Allowed> special_of(FsType fs) {
  switch (fs) {
    case FsType::kExt4: return kExt4;
    case FsType::kXfs: return kXfs;
    case FsType::kBtrfs: return kBtrfs;
    case FsType::kNone: return {};
  }
  return {};
}

bool is_word(std::string_view words, std::string_view value) {
  while (!words.empty()) {
    const size_t blank = words.find(' ');
    if (words.substr(0, blank) == value) return true;
    if (blank == std::string_view::npos) return false;
    words.remove_prefix(blank + 1);
  }
  return false;
}

bool is_number(std::string_view value, uint64_t most) {
  uint64_t number = 0;
  const auto parsed = std::from_chars(value.data(), value.data() + value.size(), number);
  return parsed.ec == std::errc() && parsed.ptr == value.data() + value.size() && number >= 1 && number <= most;
}

// As the kernel reads it: digits, and k, m or g.
bool is_power_of_2(std::string_view value) {
  uint64_t number = 0;
  const auto parsed = std::from_chars(value.data(), value.data() + value.size(), number);
  const std::string_view unit(parsed.ptr, static_cast<size_t>(value.data() + value.size() - parsed.ptr));
  if (parsed.ec != std::errc() || number > kMaxAlloc) return false;
  if (unit == "k") number *= kKiB;
  else if (unit == "m") number *= kMiB;
  else if (unit == "g") number *= kGiB;
  else if (!unit.empty()) return false;
  return number >= kMinAlloc && number <= kMaxAlloc && (number & (number - 1)) == 0;
}

bool fits(const Allowed& allowed, std::string_view value) {
  switch (allowed.takes) {
    case Takes::kNothing: return value.empty();
    case Takes::kNumber: return is_number(value, allowed.most);
    case Takes::kPowerOf2: return is_power_of_2(value);
    case Takes::kOneOf: return !value.empty() && is_word(allowed.words, value);
    case Takes::kMaybeOneOf: return value.empty() || is_word(allowed.words, value);
  }
  return false;
}

std::string shown(const Allowed& allowed) {
  std::string words(allowed.words);
  std::ranges::replace(words, ' ', '|');
  switch (allowed.takes) {
    case Takes::kNothing: return std::string(allowed.name);
    case Takes::kNumber: return fmt::format("{}=1..{}", allowed.name, allowed.most);
    case Takes::kPowerOf2: return fmt::format("{}=4k..1g", allowed.name);
    case Takes::kOneOf: return fmt::format("{}={}", allowed.name, words);
    case Takes::kMaybeOneOf: return fmt::format("{0} {0}={1}", allowed.name, words);
  }
  return {};
}

std::string accepted_for(FsType fs) {
  std::string text;
  for (const std::span<const Allowed> list : {std::span<const Allowed>(kCommon), special_of(fs)}) {
    for (const Allowed& allowed : list) text += (text.empty() ? "" : " ") + shown(allowed);
  }
  return text;
}

}  // namespace

Status check_mount_options(FsType fs, const std::map<std::string, std::string>& options) {
  if (fs == FsType::kNone && !options.empty()) {
    return make_error(ErrorCode::kInvalidSpec,
                      "mount_options={}: fs=none has no file system to mount; leave it out",
                      in_quotes(options.begin()->first));
  }
  for (const auto& [name, value] : options) {
    const auto takes_it = [&](const Allowed& allowed) { return allowed.name == name && fits(allowed, value); };
    if (std::ranges::any_of(kCommon, takes_it) || std::ranges::any_of(special_of(fs), takes_it)) continue;
    return make_error(ErrorCode::kInvalidSpec, "mount_options={}: not accepted for fs={}; accepted: {}",
                      in_quotes(value.empty() ? name : name + "=" + value), to_string(fs), accepted_for(fs));
  }
  return {};
}

}  // namespace hf::spec
