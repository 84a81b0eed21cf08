// Invariants. HF_ASSERT is on in every build: a broken invariant means that what the process
// believes is wrong, and a storage server that goes on believing loses data. Operating errors
// (a full disk, a bad spec, a lost peer) are never asserted: they are Results.
#pragma once

#include <fmt/format.h>

#include <string>

namespace hf {

// Prints "assertion failed: <expr> at <file>:<line>: <details>" to stderr and aborts.
[[noreturn]] void assert_failed(const char* expr, const char* file, int line,
                                const std::string& details);

}  // namespace hf

// HF_ASSERT(condition) or HF_ASSERT(condition, "format {}", values…).
#define HF_ASSERT(cond, ...)                                                          \
  do {                                                                                \
    if (!(cond)) [[unlikely]] {                                                       \
      ::hf::assert_failed(#cond, __FILE__, __LINE__,                                  \
                          ::std::string(__VA_OPT__(::fmt::format(__VA_ARGS__))));     \
    }                                                                                 \
  } while (false)

// A place that no value may reach.
#define HF_UNREACHABLE(...) \
  ::hf::assert_failed("unreachable", __FILE__, __LINE__, ::std::string(__VA_OPT__(::fmt::format(__VA_ARGS__))))
