#include "base/utc.h"

#include <ctime>

namespace hf {

std::string format_utc(int64_t unix_seconds) {
  if (unix_seconds == 0) return "";
  const std::time_t seconds = unix_seconds;
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  char buffer[32];
  std::strftime(buffer, sizeof buffer, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return buffer;
}

}  // namespace hf
