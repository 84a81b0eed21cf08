// Prints the key table for documents and code generators: `hf_spec_doc help|markdown|support|keys`.
#include <cstdio>
#include <string>
#include <string_view>

#include "volume/spec/key_doc.h"

int main(int argc, char** argv) {
  const std::string_view what = argc == 2 ? argv[1] : "";
  std::string text;
  if (what == "help") {
    text = hf::spec::help_text();
  } else if (what == "markdown") {
    text = hf::spec::markdown_key_table();
  } else if (what == "support") {
    text = hf::spec::markdown_support_table();
  } else if (what == "keys") {
    text = hf::spec::machine_list();
  } else {
    std::fprintf(stderr, "usage: hf_spec_doc help|markdown|support|keys\n");
    return 2;
  }
  return std::fwrite(text.data(), 1, text.size(), stdout) == text.size() ? 0 : 1;
}
