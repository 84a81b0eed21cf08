// Times for people and programs.
#pragma once

#include <cstdint>
#include <string>

namespace hf {

// RFC 3339 in UTC, whole seconds: "2026-11-22T20:15:00Z"; "" for zero.
std::string format_utc(int64_t unix_seconds);

}  // namespace hf
