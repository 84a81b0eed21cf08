#include "base/error.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <set>

namespace hf {
namespace {

TEST(Error, TableIsWellFormed) {
  const ErrorTable table = error_table();
  std::set<int> codes;
  std::set<std::string_view> names;
  for (size_t i = 0; i < table.count; ++i) {
    const ErrorInfo& row = table.rows[i];
    EXPECT_TRUE(codes.insert(static_cast<int>(row.code)).second) << row.name;
    EXPECT_TRUE(names.insert(row.name).second) << row.name;
    if (row.code == ErrorCode::kOk) continue;
    EXPECT_NE(row.sys_errno, 0) << row.name;
    EXPECT_NE(row.nbd_errno, 0u) << row.name;
    EXPECT_NE(row.exit_code, 0) << row.name;
    EXPECT_GE(row.http_status, 400) << row.name;
  }
}

TEST(Error, TextCarriesCodeNameAndMessage) {
  const Error error = make_error(ErrorCode::kNoSpace, "pool {} is full", "p0");
  EXPECT_EQ(error.to_string(), "HF1007 no_space: pool p0 is full");
  EXPECT_EQ(error.with_context("create db").message(), "create db: pool p0 is full");
}

TEST(Error, ErrnoMapping) {
  EXPECT_EQ(Error::from_errno(ENOSPC, "write").code(), ErrorCode::kNoSpace);
  EXPECT_EQ(Error::from_errno(EIO, "write").code(), ErrorCode::kIo);
  EXPECT_EQ(Error::from_errno(ENOENT, "open /x").message(), "open /x: No such file or directory");
}

Result<int> half(int n) {
  if (n % 2 != 0) return make_error(ErrorCode::kInvalidArgument, "{} is odd", n);
  return n / 2;
}

Status twice_halved(int n) {
  HF_TRY(half(n));
  HF_TRY(half(n / 2));
  return {};
}

TEST(Result, CarriesValueOrError) {
  EXPECT_EQ(half(4).value(), 2);
  EXPECT_EQ(half(3).code(), ErrorCode::kInvalidArgument);
  EXPECT_TRUE(twice_halved(4).ok());
  EXPECT_EQ(twice_halved(2).code(), ErrorCode::kInvalidArgument);
}

TEST(ResultDeathTest, ValueOfAnErrorStopsTheProcess) {
  EXPECT_DEATH((void)half(3).value(), "assertion failed.*3 is odd");
}

}  // namespace
}  // namespace hf
