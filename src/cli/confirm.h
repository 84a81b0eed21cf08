// Destructive commands ask first.
#pragma once

#include <string>

#include "base/error.h"

namespace hf::cli {

// Ok when `yes`, or when the person at the terminal types y or yes to "<question> [y/N]".
// kConfirmationNeeded otherwise, also without a terminal.
Status confirm(bool yes, const std::string& question);

}  // namespace hf::cli
