#include "sim/sim_clock.h"

#include <algorithm>

namespace hf::sim {
namespace {

constexpr int64_t kMillion = 1'000'000;
// 2026-01-01: so that wall time looks like one in logs.
constexpr int64_t kWallStartNs = 1'767'225'600LL * 1'000'000'000;
constexpr uint64_t kTimerSlackNs = 100'000;

}  // namespace

void ClockModel::boot(SimTime now) {
  const int64_t wall_now = anchor_ == 0 && wall_at_anchor_ == 0 ? kWallStartNs : wall(now).ns;
  wall_at_anchor_ = wall_now - wall_offset_ns_;
  anchor_ = now;
  mono_at_anchor_ = static_cast<int64_t>(prng_.below(1000LL * 1000 * kMillion));
}

int64_t ClockModel::elapsed(SimTime now) const {
  const int64_t true_ns = now - anchor_;
  return true_ns + static_cast<int64_t>(static_cast<__int128>(true_ns) * drift_ppm_ / kMillion);
}

void ClockModel::set_drift_ppm(SimTime now, int64_t ppm) {
  HF_ASSERT(std::abs(ppm) <= kDriftPpmMax, "{}", ppm);
  mono_at_anchor_ += elapsed(now);
  wall_at_anchor_ += elapsed(now);
  anchor_ = now;
  drift_ppm_ = ppm;
}

MonoTime ClockModel::mono(SimTime now) const {
  return MonoTime{mono_at_anchor_ + elapsed(now)};
}

WallTime ClockModel::wall(SimTime now) const {
  return WallTime{wall_at_anchor_ + elapsed(now) + wall_offset_ns_};
}

SimTime ClockModel::instant_of(MonoTime at) const {
  const __int128 wanted = static_cast<__int128>(at.ns) - mono_at_anchor_;
  if (wanted <= 0) return anchor_;
  const __int128 true_ns = wanted * kMillion / (kMillion + drift_ppm_);
  // Far timers ("never") stay far without overflowing.
  SimTime instant = anchor_ + static_cast<SimTime>(std::min<__int128>(true_ns, INT64_MAX / 4));
  while (true_ns < INT64_MAX / 4 && mono(instant) < at) ++instant;
  return instant;
}

Task<Status> SimClock::sleep_until(MonoTime at, CancelToken cancel) {
  if (life_.is_dead()) co_return dead_error("sleep");
  if (cancel.is_cancelled()) co_return make_error(ErrorCode::kCancelled, "sleep: cancelled");
  const SimTime earliest = std::max(model_.instant_of(at), life_.loop().now());
  Delay delay(life_, earliest + static_cast<SimTime>(life_.prng().below(kTimerSlackNs)));
  Delay* raw = &delay;
  std::function<void()> stop = [raw] { raw->finish(false); };
  CancelCallback on_cancel(cancel.source(), std::move(stop));
  bool came = co_await delay;
  if (!came) {
    co_return make_error(ErrorCode::kCancelled, "sleep: cancelled");
  }
  co_return Status();
}

}  // namespace hf::sim
