#include "base/prng.h"

#include <gtest/gtest.h>

namespace hf {
namespace {

TEST(Prng, SameSeedSameSequence) {
  Prng a(7), b(7), c(8);
  bool differs = false;
  for (int i = 0; i < 100; ++i) {
    const uint64_t value = a.next();
    EXPECT_EQ(value, b.next());
    differs |= value != c.next();
  }
  EXPECT_TRUE(differs);
}

TEST(Prng, BelowStaysBelowAndReachesAll) {
  Prng prng(1);
  int seen[7] = {};
  for (int i = 0; i < 7000; ++i) ++seen[prng.below(7)];
  for (int count : seen) EXPECT_GT(count, 800);
}

}  // namespace
}  // namespace hf
