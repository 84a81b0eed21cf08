#include "mount/mountinfo.h"

#include <charconv>

namespace hf::mount {
namespace {

bool is_octal(char c) { return c >= '0' && c <= '7'; }

std::string unescape(std::string_view field) {
  std::string out;
  for (size_t i = 0; i < field.size(); ++i) {
    if (field[i] == '\\' && field.size() - i > 3 && is_octal(field[i + 1]) && is_octal(field[i + 2]) &&
        is_octal(field[i + 3])) {
      out.push_back(static_cast<char>((field[i + 1] - '0') * 64 + (field[i + 2] - '0') * 8 +
                                      (field[i + 3] - '0')));
      i += 3;
    } else {
      out.push_back(field[i]);
    }
  }
  return out;
}

std::vector<std::string_view> split(std::string_view line) {
  std::vector<std::string_view> fields;
  while (!line.empty()) {
    const size_t space = line.find(' ');
    fields.push_back(line.substr(0, space));
    line = space == std::string_view::npos ? std::string_view() : line.substr(space + 1);
  }
  return fields;
}

bool parse_device(std::string_view text, MountEntry* entry) {
  const size_t colon = text.find(':');
  if (colon == std::string_view::npos) return false;
  const auto number = [](std::string_view digits, uint32_t* out) {
    const auto parsed = std::from_chars(digits.data(), digits.data() + digits.size(), *out);
    return parsed.ec == std::errc() && parsed.ptr == digits.data() + digits.size();
  };
  return number(text.substr(0, colon), &entry->major) && number(text.substr(colon + 1), &entry->minor);
}

// id parent major:minor root point options [tag…] - type source super-options
bool parse_line(std::string_view line, MountEntry* entry) {
  const std::vector<std::string_view> fields = split(line);
  size_t dash = 6;
  while (dash < fields.size() && fields[dash] != "-") ++dash;
  if (dash + 2 >= fields.size() || !parse_device(fields[2], entry)) return false;
  entry->root = unescape(fields[3]);
  entry->mount_point = unescape(fields[4]);
  entry->options = std::string(fields[5]);
  for (size_t i = 6; i < dash; ++i) {
    if (!entry->tags.empty()) entry->tags += ' ';
    entry->tags += fields[i];
  }
  entry->fs_type = std::string(fields[dash + 1]);
  entry->source = unescape(fields[dash + 2]);
  return true;
}

}  // namespace

std::vector<MountEntry> parse_mountinfo(std::string_view text) {
  std::vector<MountEntry> entries;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    MountEntry entry;
    if (parse_line(text.substr(0, end), &entry)) entries.push_back(std::move(entry));
    text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
  }
  return entries;
}

}  // namespace hf::mount
