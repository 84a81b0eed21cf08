#include "base/utc.h"

#include <gtest/gtest.h>

namespace hf {
namespace {

TEST(Utc, FormatsSeconds) {
  EXPECT_EQ(format_utc(0), "");
  EXPECT_EQ(format_utc(1), "1970-01-01T00:00:01Z");
  EXPECT_EQ(format_utc(951'782'400), "2000-02-29T00:00:00Z");
}

}  // namespace
}  // namespace hf
