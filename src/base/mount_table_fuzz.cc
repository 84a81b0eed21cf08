// Arbitrary bytes as /proc/<pid>/mountinfo. What is understood, written again as the kernel would,
// is understood the same way; and a table is no more than its lines.
#include <fmt/format.h>

#include <cstdint>
#include <string>

#include "base/assert.h"
#include "base/mount_table.h"

namespace {

using namespace hf;  // NOLINT: a fuzzer's main file

std::string escape(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == ' ' || c == '\t' || c == '\n' || c == '\\') {
      out += fmt::format("\\{:03o}", static_cast<unsigned>(c));
    } else {
      out.push_back(c);
    }
  }
  return out;
}

std::string written(const MountEntry& entry) {
  return fmt::format("1 1 {}:{} {} {} {} {}- {} {} {}\n", entry.major, entry.minor,
                     escape(entry.root), escape(entry.point), entry.options,
                     entry.shared ? "shared:1 " : "", escape(entry.fs_type), escape(entry.source),
                     escape(entry.super_options));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  size_t by_line = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    by_line += parse_mount_table(text.substr(at, end - at)).size();
    at = end + 1;
  }
  const std::vector<MountEntry> entries = parse_mount_table(text);
  HF_ASSERT(entries.size() == by_line, "{} entries of a table, {} of its lines", entries.size(),
            by_line);
  for (const MountEntry& entry : entries) {
    const std::string line = written(entry);
    const std::vector<MountEntry> again = parse_mount_table(line);
    HF_ASSERT(again.size() == 1 && written(again[0]) == line && again[0].point == entry.point &&
                  again[0].source == entry.source && again[0].root == entry.root,
              "{}", line);
  }
  return 0;
}
