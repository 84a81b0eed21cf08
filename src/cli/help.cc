#include "cli/help.h"

#include <sstream>
#include <vector>

namespace hf::cli {
namespace {

constexpr size_t kWrappedByHand = 55;  // a line at the margin that goes on in the next one is at least so long

constexpr size_t kFarIn = 20;           // what begins so far in belongs to the name in a line above

// Where the text begins that stands behind a name ("  --json      print …"); 0: there is none.
size_t text_column(const std::string& line) {
  const size_t name = line.find_first_not_of(' ');
  if (name != std::string::npos && name >= kFarIn) return name;
  const size_t gap = name == std::string::npos ? name : line.find("  ", name);
  return gap == std::string::npos ? 0 : line.find_first_not_of(' ', gap);
}

std::string filled(const std::string& text, size_t indent) {
  std::istringstream words(text);
  std::string out, word;
  size_t column = indent;
  while (words >> word) {
    if (column > indent && column + 1 + word.size() > kHelpColumns) {
      out += "\n" + std::string(indent, ' ');
      column = indent;
    } else if (column > indent) {
      out += ' ';
      ++column;
    }
    out += word;
    column += word.size();
  }
  return out;
}

bool is_at_margin(const std::string& line) {
  return !line.empty() && line.front() != ' ' && text_column(line) == 0;
}

}  // namespace

std::string reflow(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  std::string out;
  for (size_t i = 0; i < lines.size(); ++i) {
    std::string line = lines[i];
    if (is_at_margin(line)) {
      while (i + 1 < lines.size() && lines[i].size() >= kWrappedByHand && is_at_margin(lines[i + 1]) &&
             !lines[i + 1].starts_with("Usage:")) {
        line += " " + lines[++i];
      }
      line = filled(line, 0);
    } else if (line.size() > kHelpColumns) {
      const size_t column = text_column(line);
      if (column > 0) line = line.substr(0, column) + filled(line.substr(column), column);
    }
    out += line + "\n";
  }
  return out;
}

}  // namespace hf::cli
