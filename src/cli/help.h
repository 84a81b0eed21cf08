// The help as a terminal of 80 columns shows it.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace hf::cli {

inline constexpr size_t kHelpColumns = 80;

// Wraps what is longer: text at the margin is filled as a paragraph, text behind a name keeps its column, and
// examples (indented, without a column) stay as they are. Pure.
std::string reflow(const std::string& text);

// CLI11's own, reflowed.
class HelpFormatter : public CLI::Formatter {
 public:
  std::string make_help(const CLI::App* app, std::string name, CLI::AppFormatMode mode) const override {
    return reflow(CLI::Formatter::make_help(app, std::move(name), mode));
  }
};

}  // namespace hf::cli
