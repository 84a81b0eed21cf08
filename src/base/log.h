// Log lines for machines and people: "<time> <level> <room> <event> key=value …" on stderr (the
// journal of systemd takes it from there). Never put a secret, a token or user data in.
// Thread-safe. Log an error once, where it is born.
#pragma once

#include <fmt/format.h>

#include <string_view>

namespace hf {

enum class LogLevel { kDebug, kInfo, kWarn, kError, kOff };

// Starts at kInfo. Tests and the simulator set kOff or kWarn.
void set_log_level(LogLevel level);
bool log_enabled(LogLevel level);
// Parses "debug", "info", "warn", "error", "off"; false for anything else.
bool parse_log_level(std::string_view text, LogLevel* out);
void log_write(LogLevel level, std::string_view room, std::string_view line);

}  // namespace hf

// HF_LOG(kWarn, "store", "pool_watermark pool={} used_bytes={}", pool, used)
#define HF_LOG(level, room, ...)                                                    \
  do {                                                                              \
    if (::hf::log_enabled(::hf::LogLevel::level))                                   \
      ::hf::log_write(::hf::LogLevel::level, room, ::fmt::format(__VA_ARGS__));     \
  } while (false)
