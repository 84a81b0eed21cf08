#include "volume/spec/key_doc.h"

#include <fmt/format.h>

#include <string_view>

#include "volume/spec/key_table.h"
#include "volume/spec/support.h"
#include "volume/spec/values.h"

namespace hf::spec {
namespace {

constexpr size_t kColumns = 80;
constexpr size_t kIndent = 21;  // behind the longest key, io_throttle_rd_iops

std::string alias_text(const KeyInfo& key, std::string_view quote) {
  std::string out;
  for (const std::string_view alias : key.aliases) {
    if (alias.empty()) continue;
    if (!out.empty()) out += ", ";
    out += fmt::format("{}{}{}", quote, alias, quote);
  }
  return out;
}

// `text` broken at blanks, continuation lines indented.
std::string wrapped(std::string_view text) {
  std::string out;
  size_t column = kIndent;
  for (const std::string_view word : split(text, " ")) {
    if (column > kIndent && column + 1 + word.size() > kColumns) {
      out += fmt::format("\n{:{}}", "", kIndent);
      column = kIndent;
    } else if (column > kIndent) {
      out += ' ';
      ++column;
    }
    out += word;
    column += word.size();
  }
  return out;
}

// '|' would end the cell.
std::string cell(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '|') out += '\\';
    out += c;
  }
  return out;
}

}  // namespace

std::string help_text() {
  std::string out;
  for (const KeyInfo& key : key_table()) {
    std::string text = fmt::format("{}; values: {}", key.help, key.accepted);
    if (!key.default_text.empty()) text += fmt::format(" (default {})", key.default_text);
    if (const std::string aliases = alias_text(key, ""); !aliases.empty()) {
      text += fmt::format(" [also {}]", aliases);
    }
    out += fmt::format("{:<{}}{}\n", key.name, kIndent, wrapped(text));
  }
  return out;
}

std::string markdown_key_table() {
  std::string out = "| key | also | what | values | default |\n|---|---|---|---|---|\n";
  for (const KeyInfo& key : key_table()) {
    out += fmt::format("| `{}` | {} | {} | {} | {} |\n", key.name, alias_text(key, "`"),
                       cell(key.help), cell(key.accepted), key.default_text);
  }
  return out;
}

std::string markdown_support_table() {
  std::string out = "| key | where the feature is missing | because |\n|---|---|---|\n";
  for (const SupportRule& rule : support_rules()) {
    out += fmt::format("| `{}` | {} | {} |\n", key_info(rule.key).name,
                       rule.promise ? "refused" : "stored, with a note", rule.reason);
  }
  return out;
}

std::string machine_list() {
  std::string out;
  for (const KeyInfo& key : key_table()) {
    std::string aliases = alias_text(key, "");
    std::erase(aliases, ' ');
    out += fmt::format("{}\t{}\t{}\n", key.name, aliases, key.help);
  }
  return out;
}

}  // namespace hf::spec
