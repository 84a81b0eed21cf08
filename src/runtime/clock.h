// Clock: monotonic time for durations and leases, wall time for people, and sleeping.
#pragma once

#include <chrono>
#include <compare>
#include <cstdint>

#include "base/error.h"
#include "runtime/cancel.h"
#include "runtime/task.h"

namespace hf {

using Duration = std::chrono::nanoseconds;
using std::chrono_literals::operator""ns;
using std::chrono_literals::operator""us;
using std::chrono_literals::operator""ms;
using std::chrono_literals::operator""s;
using std::chrono_literals::operator""min;

// Nanoseconds since an arbitrary start; never goes back. Not comparable between nodes.
struct MonoTime {
  int64_t ns = 0;
  auto operator<=>(const MonoTime&) const = default;
  MonoTime operator+(Duration d) const { return MonoTime{ns + d.count()}; }
  Duration operator-(MonoTime other) const { return Duration(ns - other.ns); }
};

// Nanoseconds since the Unix epoch; may jump. For display, schedules and names only.
struct WallTime {
  int64_t ns = 0;
  auto operator<=>(const WallTime&) const = default;
};

class Clock {
 public:
  virtual ~Clock() = default;
  virtual MonoTime now() const = 0;
  virtual WallTime wall() const = 0;
  // Ends not before `at`. kCancelled as soon as the token is cancelled (also when it already was).
  virtual Task<Status> sleep_until(MonoTime at, CancelToken cancel) = 0;
  Task<Status> sleep_for(Duration d, CancelToken cancel) { return sleep_until(now() + d, cancel); }
};

}  // namespace hf
