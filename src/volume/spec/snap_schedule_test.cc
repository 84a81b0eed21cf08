#include "volume/spec/snap_schedule.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace hf::spec {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(SnapSchedule, ReadsEveryKind) {
  const Result<SnapSchedule> schedule = parse_snap_schedule(
      "periodic=60#9;daily=12:05#3;weekly=sunday@08h00#4;monthly=31@23:59#6;policy=gold");
  ASSERT_TRUE(schedule.ok()) << schedule.error().to_string();
  EXPECT_THAT(schedule->entries, ElementsAre(SnapEntry{SnapKind::kPeriodic, 60, 0, 0, 0, 9},
                                             SnapEntry{SnapKind::kDaily, 0, 0, 0, 725, 3},
                                             SnapEntry{SnapKind::kWeekly, 0, 0, 0, 480, 4},
                                             SnapEntry{SnapKind::kMonthly, 0, 0, 31, 1439, 6}));
  EXPECT_THAT(schedule->policies, ElementsAre("gold"));
  EXPECT_EQ(format_snap_schedule(*schedule),
            "periodic=60#9;daily=12h05#3;weekly=sunday@08h00#4;monthly=31@23h59#6;policy=gold");
}

TEST(SnapSchedule, KeepsByDefault5_7_5_12) {
  const Result<SnapSchedule> schedule =
      parse_snap_schedule("monthly=1@0:00;weekly=Sat@1h30;daily=9:00;periodic=15");
  ASSERT_TRUE(schedule.ok()) << schedule.error().to_string();
  EXPECT_EQ(format_snap_schedule(*schedule),
            "periodic=15#5;daily=09h00#7;weekly=saturday@01h30#5;monthly=1@00h00#12");
}

TEST(SnapSchedule, SeveralOfAKind) {
  EXPECT_EQ(parse_snap_schedule("daily=20:00;daily=08:00")->entries.size(), 2u);
  EXPECT_THAT(parse_snap_schedule("daily=08:00#1;daily=8h00#2").error().message(),
              HasSubstr("twice"));
  EXPECT_THAT(parse_snap_schedule("policy=a;policy=a").error().message(), HasSubstr("twice"));
}

TEST(SnapSchedule, RefusesWithTheReason) {
  const std::pair<const char*, const char*> cases[] = {
      {"", "empty"},
      {";", "empty"},
      {"daily=08:00;", "empty"},
      {"daily", "no '='"},
      {"hourly=5", "none of periodic"},
      {"periodic=0", "less than 1"},
      {"periodic=", "not a whole number"},
      {"periodic=5#0", "number to keep"},
      {"periodic=5#1001", "number to keep"},
      {"periodic=5#", "number to keep"},
      {"periodic=525601", "more than 525600"},
      {"daily=24:00", "hour"},
      {"daily=12:60", "minute"},
      {"daily=12:5", "not a time"},
      {"daily=1200", "not a time"},
      {"daily=:00", "not a time"},
      {"weekly=08:00", "DAY@"},
      {"weekly=funday@08:00", "day of the week"},
      {"monthly=0@08:00", "day of the month"},
      {"monthly=32@08:00", "day of the month"},
      {"policy=", "empty"},
      {"policy=a b", "\"a b\""},
  };
  for (const auto& [text, why] : cases) {
    const Result<SnapSchedule> schedule = parse_snap_schedule(text);
    ASSERT_FALSE(schedule.ok()) << text;
    EXPECT_EQ(schedule.code(), ErrorCode::kInvalidSpec);
    EXPECT_THAT(schedule.error().message(), HasSubstr(why)) << text;
  }
  std::string many = "periodic=1";
  for (int i = 2; i <= 17; ++i) many += fmt::format(";periodic={}", i);
  EXPECT_THAT(parse_snap_schedule(many).error().message(), HasSubstr("more than 16"));
}

}  // namespace
}  // namespace hf::spec
