// Small helpers of the contract suites.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>

#include "base/prng.h"
#include "runtime/file.h"
#include "runtime/gate.h"

// In a coroutine that returns Task<void>: gtest's ASSERT_ returns, which a coroutine cannot.
#define HF_CO_ASSERT(condition)            \
  do {                                     \
    const bool hf_holds = (condition);     \
    EXPECT_TRUE(hf_holds) << #condition;   \
    if (!hf_holds) co_return;              \
  } while (false)
// The same for a Result or Status, with its error in the message.
#define HF_CO_ASSERT_OK(result)                                           \
  do {                                                                    \
    const bool hf_ok = (result).ok();                                     \
    EXPECT_TRUE(hf_ok) << #result ": "                                    \
                       << (hf_ok ? std::string() : (result).error().to_string()); \
    if (!hf_ok) co_return;                                                \
  } while (false)

namespace hf::contract {

inline OpenOptions read_write() {
  OpenOptions options;
  options.write = options.create = true;
  return options;
}

inline OpenOptions direct_read_write() {
  OpenOptions options = read_write();
  options.direct = true;
  return options;
}

inline std::string text_of(ByteSpan bytes) {
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

inline void fill_random(Prng& prng, MutableByteSpan out) {
  for (std::byte& b : out) b = static_cast<std::byte>(prng.next());
}

}  // namespace hf::contract
