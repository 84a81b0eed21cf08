#include "base/assert.h"

#include <cstdio>
#include <cstdlib>

namespace hf {

void assert_failed(const char* expr, const char* file, int line, const std::string& details) {
  std::fprintf(stderr, "assertion failed: %s at %s:%d%s%s\n", expr, file, line,
               details.empty() ? "" : ": ", details.c_str());
  std::fflush(stderr);
  std::abort();
}

}  // namespace hf
