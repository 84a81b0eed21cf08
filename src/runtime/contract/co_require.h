// HF_CO_REQUIRE(condition) or HF_CO_REQUIRE(condition, text): gtest's ASSERT for coroutines of
// contract tests (ASSERT_TRUE returns, and a coroutine cannot). Ends the task where the condition
// does not hold.
#pragma once

#include <gtest/gtest.h>

#define HF_CO_REQUIRE(condition, ...)                                              \
  do {                                                                             \
    if (!(condition)) {                                                            \
      ADD_FAILURE() << "not so: " #condition __VA_OPT__(<< ": " << (__VA_ARGS__)); \
      co_return;                                                                   \
    }                                                                              \
  } while (false)
