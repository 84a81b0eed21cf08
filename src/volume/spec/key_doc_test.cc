#include "volume/spec/key_doc.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

#include "volume/spec/key_table.h"

namespace hf::spec {
namespace {

using ::testing::HasSubstr;

std::string read_page(const std::string& path) {
  std::ifstream in(path);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

// Replaces what stands between the markers of `part`; "" when a marker is missing.
std::string with_part(const std::string& page, const std::string& part, const std::string& table) {
  const std::string begin = "<!-- " + part + ": written by hf_spec_doc -->\n";
  const std::string end = "<!-- end of " + part + " -->";
  const size_t from = page.find(begin);
  const size_t to = page.find(end);
  if (from == std::string::npos || to == std::string::npos || to < from) return "";
  return page.substr(0, from + begin.size()) + table + page.substr(to);
}

// The page shows exactly the table. HOLDFAST_UPDATE_DOCS=1 in the environment writes it anew.
TEST(KeyDoc, ThePageShowsTheTable) {
  const std::string path = HF_SOURCE_DIR "/docs/volume-spec.md";
  const std::string page = read_page(path);
  ASSERT_FALSE(page.empty()) << path;
  std::string wanted = with_part(page, "keys", markdown_key_table());
  ASSERT_FALSE(wanted.empty()) << "no markers of the part keys in " << path;
  wanted = with_part(wanted, "support", markdown_support_table());
  ASSERT_FALSE(wanted.empty()) << "no markers of the part support in " << path;
  if (std::getenv("HOLDFAST_UPDATE_DOCS") != nullptr) {
    std::ofstream(path) << wanted;
    return;
  }
  EXPECT_EQ(page, wanted) << "run HOLDFAST_UPDATE_DOCS=1 volume_spec_tests";
}

TEST(KeyDoc, HelpShowsEveryKeyWithinTheLine) {
  const std::string help = help_text();
  for (const KeyInfo& key : key_table()) {
    EXPECT_THAT("\n" + help, HasSubstr("\n" + std::string(key.name) + " "));
  }
  std::istringstream lines(help);
  size_t keys = 0;
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with(' ')) ++keys;
    const bool one_word = line.find(' ', 22) == std::string::npos;
    EXPECT_TRUE(line.size() <= 100 || one_word) << line;
  }
  EXPECT_EQ(keys, kSpecKeyCount);
}

TEST(KeyDoc, TheMachineListHasOneLineForEachKey) {
  std::istringstream lines(machine_list());
  size_t index = 0;
  for (std::string line; std::getline(lines, line); ++index) {
    ASSERT_LT(index, kSpecKeyCount);
    EXPECT_TRUE(line.starts_with(std::string(key_table()[index].name) + "\t")) << line;
  }
  EXPECT_EQ(index, kSpecKeyCount);
  EXPECT_THAT(machine_list(), HasSubstr("repl\tha,ha_level\t"));
}

// Texts of the table go to terminals, JSON and HTTP: printable ASCII in one line.
TEST(KeyDoc, TextsArePlain) {
  for (const KeyInfo& key : key_table()) {
    for (const std::string_view text : {key.name, key.accepted, key.default_text, key.help}) {
      for (const char c : text) EXPECT_TRUE(c >= ' ' && c < 0x7f) << key.name;
    }
    EXPECT_FALSE(key.accepted.empty() || key.help.empty()) << key.name;
  }
}

}  // namespace
}  // namespace hf::spec
