// SimClock: the clock of a simulated host. Monotonic time may drift from true time and starts
// somewhere else after each boot; wall time is skewed and jumps when told to. Timers fire late by a
// little.
#pragma once

#include "runtime/clock.h"
#include "sim/incarnation.h"

namespace hf::sim {

// What a host's clock hardware does; shared by its processes.
class ClockModel {
 public:
  static constexpr int64_t kDriftPpmMax = 200'000;  // a fifth: far beyond any real crystal

  explicit ClockModel(Prng prng) : prng_(prng) { boot(0); }
  // Chosen anew: the start of monotonic time. Wall time goes on.
  void boot(SimTime now);
  // The rate from now on: 1 + ppm/10⁶.
  void set_drift_ppm(SimTime now, int64_t ppm);
  // Wall time jumps, forwards or back.
  void jump_wall(Duration by) { wall_offset_ns_ += by.count(); }

  MonoTime mono(SimTime now) const;
  WallTime wall(SimTime now) const;
  // The first instant at which mono() is not before `at`.
  SimTime instant_of(MonoTime at) const;

 private:
  int64_t elapsed(SimTime now) const;
  Prng prng_;
  SimTime anchor_ = 0;  // the rate has held since here
  int64_t mono_at_anchor_ = 0;
  int64_t wall_at_anchor_ = 0;
  int64_t wall_offset_ns_ = 0;
  int64_t drift_ppm_ = 0;
};

class SimClock : public Clock {
 public:
  SimClock(Incarnation& life, ClockModel& model) : life_(life), model_(model) {}
  MonoTime now() const override { return model_.mono(life_.loop().now()); }
  WallTime wall() const override { return model_.wall(life_.loop().now()); }
  Task<Status> sleep_until(MonoTime at, CancelToken cancel) override;

 private:
  Incarnation& life_;
  ClockModel& model_;
};

}  // namespace hf::sim
