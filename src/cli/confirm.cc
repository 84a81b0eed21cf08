#include "cli/confirm.h"

#include <unistd.h>

#include <cstdio>
#include <iostream>

namespace hf::cli {

Status confirm(bool yes, const std::string& question) {
  if (yes) return {};
  if (::isatty(STDIN_FILENO) == 0) {
    return make_error(ErrorCode::kConfirmationNeeded,
                      "{} Without a terminal to ask at, give --yes to confirm", question);
  }
  std::fprintf(stderr, "%s [y/N] ", question.c_str());
  std::string answer;
  std::getline(std::cin, answer);
  if (answer == "y" || answer == "Y" || answer == "yes") return {};
  return make_error(ErrorCode::kConfirmationNeeded, "not confirmed; nothing was changed");
}

}  // namespace hf::cli
