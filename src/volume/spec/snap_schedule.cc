#include "volume/spec/snap_schedule.h"

#include <algorithm>
#include <array>

#include "volume/spec/values.h"

namespace hf::spec {
namespace {

constexpr std::array<std::string_view, 7> kDays = {"sunday",   "monday", "tuesday", "wednesday",
                                                   "thursday", "friday", "saturday"};

// "HH:MM" or "HHhMM", one or two digits for the hour, two for the minute.
Result<uint16_t> parse_time(std::string_view text) {
  const size_t at = text.find_first_of(":hH");
  if (at == std::string_view::npos || at == 0 || at > 2 || text.size() - at != 3) {
    return reason("{} is not a time HH:MM or HHhMM", in_quotes(text));
  }
  const Result<uint32_t> hour = parse_whole(text.substr(0, at), 0, 23);
  if (!hour.ok()) return reason("the hour of {} is {}", in_quotes(text), hour.error().message());
  const Result<uint32_t> minute = parse_whole(text.substr(at + 1), 0, 59);
  if (!minute.ok())
    return reason("the minute of {} is {}", in_quotes(text), minute.error().message());
  return static_cast<uint16_t>(*hour * 60 + *minute);
}

// A whole name or its first three letters.
Result<uint8_t> parse_weekday(std::string_view text) {
  const std::string lower = to_lower(text);
  for (size_t day = 0; day < kDays.size(); ++day) {
    if (lower == kDays[day] || lower == kDays[day].substr(0, 3)) return static_cast<uint8_t>(day);
  }
  return reason("{} is not a day of the week (sunday or sun, monday, ...)", in_quotes(text));
}

Status parse_when(std::string_view when, SnapEntry& entry) {
  if (entry.kind == SnapKind::kPeriodic) {
    const Result<uint32_t> minutes = parse_whole(when, 1, kMaxSnapPeriodMinutes);
    if (!minutes.ok()) {
      return reason("periodic={}: the minutes are {}", in_quotes(when), minutes.error().message());
    }
    entry.period_minutes = *minutes;
    return {};
  }
  std::string_view time = when;
  if (entry.kind != SnapKind::kDaily) {
    const size_t at = when.find('@');
    if (at == std::string_view::npos)
      return reason("{} has no DAY@ before its time", in_quotes(when));
    const std::string_view day = when.substr(0, at);
    time = when.substr(at + 1);
    if (entry.kind == SnapKind::kWeekly) {
      const Result<uint8_t> weekday = parse_weekday(day);
      if (!weekday.ok()) return weekday.error();
      entry.weekday = *weekday;
    } else {
      const Result<uint32_t> month_day = parse_whole(day, 1, 31);
      if (!month_day.ok()) {
        return reason("the day of the month {} is {}", in_quotes(day), month_day.error().message());
      }
      entry.month_day = static_cast<uint8_t>(*month_day);
    }
  }
  const Result<uint16_t> minute_of_day = parse_time(time);
  if (!minute_of_day.ok()) return minute_of_day.error();
  entry.minute_of_day = *minute_of_day;
  return {};
}

// "KIND=WHEN[#KEEP]", KIND not policy.
Result<SnapEntry> parse_entry(std::string_view kind, std::string_view value) {
  SnapEntry entry;
  if (kind == "periodic") {
    entry.kind = SnapKind::kPeriodic;
  } else if (kind == "daily") {
    entry.kind = SnapKind::kDaily;
  } else if (kind == "weekly") {
    entry.kind = SnapKind::kWeekly;
  } else if (kind == "monthly") {
    entry.kind = SnapKind::kMonthly;
  } else {
    return reason("{} is none of periodic, daily, weekly, monthly, policy", in_quotes(kind));
  }
  const size_t hash = value.find('#');
  entry.keep = default_keep(entry.kind);
  if (hash != std::string_view::npos) {
    const Result<uint32_t> keep = parse_whole(value.substr(hash + 1), 1, kMaxSnapKeep);
    if (!keep.ok()) {
      return reason("the number to keep in {} is {}", in_quotes(value), keep.error().message());
    }
    entry.keep = *keep;
  }
  if (const Status when = parse_when(value.substr(0, hash), entry); !when.ok()) return when.error();
  return entry;
}

bool same_moment(SnapEntry a, SnapEntry b) {
  a.keep = b.keep = 0;
  return a == b;
}

std::string format_entry(const SnapEntry& entry) {
  const std::string time =
      fmt::format("{:02}h{:02}#{}", entry.minute_of_day / 60, entry.minute_of_day % 60, entry.keep);
  switch (entry.kind) {
    case SnapKind::kPeriodic:
      return fmt::format("periodic={}#{}", entry.period_minutes, entry.keep);
    case SnapKind::kDaily:
      return fmt::format("daily={}", time);
    case SnapKind::kWeekly:
      HF_ASSERT(entry.weekday < kDays.size(), "weekday {}", entry.weekday);
      return fmt::format("weekly={}@{}", kDays[entry.weekday], time);
    case SnapKind::kMonthly:
      return fmt::format("monthly={}@{}", entry.month_day, time);
  }
  HF_UNREACHABLE("kind {}", static_cast<int>(entry.kind));
}

}  // namespace

uint32_t default_keep(SnapKind kind) {
  switch (kind) {
    case SnapKind::kPeriodic:
      return 5;
    case SnapKind::kDaily:
      return 7;
    case SnapKind::kWeekly:
      return 5;
    case SnapKind::kMonthly:
      return 12;
  }
  HF_UNREACHABLE("kind {}", static_cast<int>(kind));
}

Result<SnapSchedule> parse_snap_schedule(std::string_view text) {
  if (text.size() >= 2 && (text.front() == '"' || text.front() == '\'') &&
      text.back() == text.front()) {
    text = text.substr(1, text.size() - 2);
  }
  SnapSchedule out;
  for (const std::string_view part : split(text, ";")) {
    if (part.empty()) return reason("an entry is empty");
    if (out.entries.size() + out.policies.size() == kMaxSnapEntries) {
      return reason("more than {} entries", kMaxSnapEntries);
    }
    const size_t at = part.find('=');
    if (at == std::string_view::npos) return reason("{} has no '='", in_quotes(part));
    const std::string_view kind = part.substr(0, at);
    const std::string_view value = part.substr(at + 1);
    if (kind == "policy") {
      if (const Status word = check_word(value); !word.ok()) return word.error();
      out.policies.emplace_back(value);
      continue;
    }
    const Result<SnapEntry> entry = parse_entry(kind, value);
    if (!entry.ok()) return entry.error();
    out.entries.push_back(*entry);
  }
  std::sort(out.entries.begin(), out.entries.end());
  std::sort(out.policies.begin(), out.policies.end());
  const auto entry = std::adjacent_find(out.entries.begin(), out.entries.end(), same_moment);
  if (entry != out.entries.end()) return reason("{} is given twice", format_entry(*entry));
  const auto policy = std::adjacent_find(out.policies.begin(), out.policies.end());
  if (policy != out.policies.end()) return reason("policy={} is given twice", *policy);
  return out;
}

std::string format_snap_schedule(const SnapSchedule& schedule) {
  std::vector<std::string> parts;
  for (const SnapEntry& entry : schedule.entries) parts.push_back(format_entry(entry));
  for (const std::string& policy : schedule.policies) parts.push_back("policy=" + policy);
  return join(parts, ";");
}

}  // namespace hf::spec
