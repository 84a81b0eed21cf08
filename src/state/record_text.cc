#include "state/record_text.h"

#include <fmt/format.h>

#include <charconv>

#include "base/bytes.h"
#include "base/crc32c.h"

namespace hf::state {
namespace {

uint32_t record_crc(std::string_view kind, uint32_t version, std::string_view body) {
  const std::string head = fmt::format("{} {}\n", kind, version);
  return crc32c_extend(crc32c(as_bytes(head)), as_bytes(body));
}

// A number to the end of the text; not a sign, blanks or leftovers.
bool read_number(std::string_view text, int base, uint32_t* out) {
  const char* end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, *out, base);
  return parsed.ec == std::errc() && parsed.ptr == end;
}

}  // namespace

std::string seal_record(std::string_view kind, uint32_t version, std::string_view body) {
  return fmt::format("{} {} {:08x}\n{}", kind, version, record_crc(kind, version, body), body);
}

std::optional<RecordText> open_record(std::string_view kind, std::string_view text) {
  const size_t end = text.find('\n');
  if (end == std::string_view::npos || !text.starts_with(kind)) return std::nullopt;
  const std::string_view line = text.substr(kind.size(), end - kind.size());
  const size_t blank = line.find(' ', 1);
  if (line.empty() || line[0] != ' ' || blank == std::string_view::npos) return std::nullopt;
  RecordText record;
  record.body = text.substr(end + 1);
  uint32_t crc = 0;
  if (!read_number(line.substr(1, blank - 1), 10, &record.version)) return std::nullopt;
  if (line.size() - blank != 9 || !read_number(line.substr(blank + 1), 16, &crc)) return std::nullopt;
  record.intact = crc == record_crc(kind, record.version, record.body);
  return record;
}

}  // namespace hf::state
