// IdleTrim: when to give the memory that the allocator keeps for later back to the kernel. Pure.
//
// A thousand creates, a list of all volumes, a burst of writes: each leaves some megabytes of freed memory
// resident (measured: most of what 1,000 idle volumes seemed to cost). Walking the heap takes milliseconds
// and holds its lock, so it is done once when the daemon has become idle, not under load.
#pragma once

#include "runtime/clock.h"

namespace hf::node {

class IdleTrim {
 public:
  static constexpr Duration kEvery = 2s;
  static constexpr double kIdleShare = 0.02;   // of a core since the last look: idle
  static constexpr double kWorthSeconds = 0.05;  // so much work since the last trim leaves something

  // Called every kEvery with the CPU seconds of the process so far. True: trim now.
  bool look(double cpu_seconds) {
    const double used = cpu_seconds - looked_;
    looked_ = cpu_seconds;
    const double every = std::chrono::duration<double>(kEvery).count();
    if (used > every * kIdleShare || cpu_seconds - trimmed_ < kWorthSeconds) return false;
    trimmed_ = cpu_seconds;
    return true;
  }

 private:
  double looked_ = 0;
  double trimmed_ = 0;
};

}  // namespace hf::node
