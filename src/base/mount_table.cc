#include "base/mount_table.h"

#include <charconv>

namespace hf {
namespace {

bool is_octal(char c) {
  return c >= '0' && c <= '7';
}

// "\040" and friends: the kernel writes blanks, tabs, newlines and backslashes in octal.
std::string unescape(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size() && text[i + 1] <= '3' && is_octal(text[i + 1]) &&
        is_octal(text[i + 2]) && is_octal(text[i + 3])) {
      out.push_back(static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 +
                                      (text[i + 3] - '0')));
      i += 3;
    } else {
      out.push_back(text[i]);
    }
  }
  return out;
}

std::vector<std::string_view> split(std::string_view line) {
  std::vector<std::string_view> fields;
  while (!line.empty()) {
    const size_t blank = line.find(' ');
    fields.push_back(line.substr(0, blank));
    if (blank == std::string_view::npos) break;
    line.remove_prefix(blank + 1);
  }
  return fields;
}

// 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
bool parse_line(std::string_view line, MountEntry* out) {
  const std::vector<std::string_view> fields = split(line);
  size_t dash = 6;
  while (dash < fields.size() && fields[dash] != "-") {
    if (fields[dash].starts_with("shared:")) out->shared = true;
    ++dash;
  }
  if (dash + 2 >= fields.size()) return false;
  const std::string_view device = fields[2];
  const char* end = device.data() + device.size();
  const auto major = std::from_chars(device.data(), end, out->major);
  if (major.ec != std::errc() || major.ptr == end || *major.ptr != ':') return false;
  const auto minor = std::from_chars(major.ptr + 1, end, out->minor);
  if (minor.ec != std::errc() || minor.ptr != end) return false;
  out->root = unescape(fields[3]);
  out->point = unescape(fields[4]);
  out->options = std::string(fields[5]);
  out->fs_type = unescape(fields[dash + 1]);
  out->source = unescape(fields[dash + 2]);
  if (dash + 3 < fields.size()) out->super_options = unescape(fields[dash + 3]);
  return true;
}

}  // namespace

std::vector<MountEntry> parse_mount_table(std::string_view text) {
  std::vector<MountEntry> entries;
  while (!text.empty()) {
    const size_t newline = text.find('\n');
    MountEntry entry;
    if (parse_line(text.substr(0, newline), &entry)) entries.push_back(std::move(entry));
    if (newline == std::string_view::npos) break;
    text.remove_prefix(newline + 1);
  }
  return entries;
}

}  // namespace hf
