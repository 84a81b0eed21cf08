// When snapshots of a volume are taken and how many are kept: the value of the key snap_schedule.
//
//   periodic=MIN#KEEP;daily=HH:MM#KEEP;weekly=DAY@HH:MM#KEEP;monthly=DAY@HH:MM#KEEP;policy=NAME
//
// Entries may come in any order and number (bounded), "#KEEP" may be left out (5, 7, 5, 12), a time
// may be written HHhMM as well, since `docker run -v` splits at ':'. Times are UTC: the nodes of a
// cluster need not share a time zone. Pure text and values; running schedules is the cluster's
// part.
#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace hf::spec {

enum class SnapKind : uint8_t { kPeriodic, kDaily, kWeekly, kMonthly };

// Entries of one schedule, counted together with its policies: more is a mistake, and each costs
// work.
inline constexpr size_t kMaxSnapEntries = 16;
// A year. Also the bound of snap_interval.
inline constexpr uint32_t kMaxSnapPeriodMinutes = 525'600;
inline constexpr uint32_t kMaxSnapKeep = 1000;

struct SnapEntry {
  SnapKind kind = SnapKind::kPeriodic;
  uint32_t period_minutes = 0;  // periodic: 1 to kMaxSnapPeriodMinutes; else 0
  uint8_t weekday = 0;          // weekly: 0 Sunday to 6 Saturday; else 0
  uint8_t month_day = 0;        // monthly: 1 to 31, the last day of a shorter month; else 0
  uint16_t minute_of_day = 0;   // daily, weekly, monthly: 0 to 1439, UTC; else 0
  uint32_t keep = 0;            // 1 to kMaxSnapKeep: older ones of this entry are deleted
  auto operator<=>(const SnapEntry&) const = default;
};

struct SnapSchedule {
  std::vector<SnapEntry> entries;     // sorted, no two alike in all but `keep`
  std::vector<std::string> policies;  // names of schedule policies, sorted, no duplicates
  bool empty() const { return entries.empty() && policies.empty(); }
  bool operator==(const SnapSchedule&) const = default;
};

uint32_t default_keep(SnapKind kind);

// Surrounding single or double quotes are dropped. Errors: kInvalidSpec with the reason alone,
// without the key's name (the caller adds it).
Result<SnapSchedule> parse_snap_schedule(std::string_view text);

// Canonical: sorted, keep always given, HHhMM, so that it passes through `docker run -v`. "" if
// empty.
std::string format_snap_schedule(const SnapSchedule& schedule);

}  // namespace hf::spec
