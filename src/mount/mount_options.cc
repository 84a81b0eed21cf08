#include "mount/mount_options.h"

#include <algorithm>
#include <array>
#include <span>

namespace hf::mount {
namespace {

using spec::FsType;

constexpr std::array<std::string_view, 14> kCommon = {
    "ro", "rw", "noatime", "relatime", "strictatime", "lazytime", "nodiratime", "sync", "dirsync",
    "nosuid", "nodev", "noexec", "discard", "nodiscard"};
constexpr std::array<std::string_view, 9> kExt4 = {"data=ordered", "data=journal", "commit", "acl", "noacl",
                                                   "user_xattr", "stripe", "auto_da_alloc", "errors"};
constexpr std::array<std::string_view, 7> kXfs = {"allocsize", "inode64", "largeio", "swalloc",
                                                  "sunit", "swidth", "logbsize"};
constexpr std::array<std::string_view, 7> kBtrfs = {"compress", "compress-force", "ssd", "nossd",
                                                    "autodefrag", "space_cache", "commit"};

std::span<const std::string_view> of(FsType fs) {
  switch (fs) {
    case FsType::kExt4: return kExt4;
    case FsType::kXfs: return kXfs;
    case FsType::kBtrfs: return kBtrfs;
    case FsType::kNone: return {};
  }
  return {};
}

bool is_plain(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-' || c == '=' || c == '.' || c == ':';
  });
}

bool is_allowed(std::string_view option, FsType fs) {
  const std::string_view name = option.substr(0, option.find('='));
  const auto matches = [&](std::string_view allowed) { return allowed == option || allowed == name; };
  return is_plain(option) &&
         (std::ranges::any_of(kCommon, matches) || std::ranges::any_of(of(fs), matches));
}

std::string accepted(FsType fs) {
  std::string text;
  for (const std::string_view option : kCommon) text += std::string(option) + " ";
  for (const std::string_view option : of(fs)) text += std::string(option) + " ";
  if (!text.empty()) text.pop_back();
  return text;
}

}  // namespace

Result<std::string> mount_options(const FilesystemSpec& spec) {
  std::vector<std::string> options;
  if (spec.discard) options.push_back("discard");
  if (spec.fs == FsType::kXfs) options.push_back("nouuid");
  if (spec.fs == FsType::kExt4) {
    options.push_back("errors=remount-ro");
    if (spec.journal_data) options.push_back("data=journal");
  }
  for (const std::string& option : spec.mount_options) {
    if (!is_allowed(option, spec.fs)) {
      return make_error(ErrorCode::kInvalidSpec, "mount option \"{}\" is not accepted for {}; accepted: {}",
                        option.substr(0, 64), spec::to_string(spec.fs), accepted(spec.fs));
    }
    options.push_back(option);
  }
  std::string text;
  for (const std::string& option : options) text += (text.empty() ? "" : ",") + option;
  return text.empty() ? std::string("rw") : text;
}

}  // namespace hf::mount
