// SimLoop: virtual time. One per simulation; every simulated process runs on it.
//
// A turn resumes what is ready (at most kReadyBatch items), runs what was posted, and fires the
// events that are due; when nothing of that is left, time jumps to the earliest event. Events of
// one instant fire in an order chosen by the seed. A turn that did something costs kTurnCost of
// virtual time, so that a coroutine that spins on yield() sees time pass.
//
// Single thread. Nothing real: a run of an hour of virtual time takes as long as its events.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <utility>
#include <vector>

#include "base/prng.h"
#include "runtime/clock.h"
#include "runtime/gate.h"
#include "runtime/loop.h"
#include "sim/history.h"

namespace hf::sim {

// Nanoseconds since the simulation began; what no process can see directly.
using SimTime = int64_t;

class SimLoop;

// Something that happens at an instant. Embedded in what waits for it; unschedules itself when
// destroyed.
class SimEvent {
 public:
  SimEvent() = default;
  SimEvent(const SimEvent&) = delete;
  SimEvent& operator=(const SimEvent&) = delete;
  virtual ~SimEvent();
  virtual void fire() = 0;
  bool is_scheduled() const { return heap_index_ != kNotScheduled; }

 private:
  friend class SimLoop;
  static constexpr size_t kNotScheduled = ~size_t{0};
  SimLoop* loop_ = nullptr;
  SimTime at_ = 0;
  uint64_t tie_ = 0;  // the seed's choice among events of one instant
  uint64_t number_ = 0;
  size_t heap_index_ = kNotScheduled;
};

class SimLoop : public Loop {
 public:
  // Takes the thread's place of Loop::current() for its life.
  explicit SimLoop(uint64_t seed);
  ~SimLoop() override;

  SimTime now() const { return now_; }
  uint64_t seed() const { return seed_; }
  History& history() { return history_; }
  void record(const char* what, uint64_t a = 0, uint64_t b = 0, uint64_t c = 0) {
    history_.record(now_, what, a, b, c);
  }

  void schedule(SimEvent& event, SimTime at);
  void unschedule(SimEvent& event);
  void post(std::function<void()> fn) override;
  // Runs `fn` once after `delay`; owned by the loop.
  void after(Duration delay, std::function<void()> fn);

  // Runs until `task` has ended. Stops the process (with the seed) when nothing is left to happen
  // before that, or when the step limit is reached: a simulation that hangs has found a bug.
  void run(Task<void> task);
  // Runs until `done` says so; the same limits.
  void run_until(const std::function<bool()>& done);
  // Runs what happens within `d` from now (stops early when nothing is left).
  void run_for(Duration d);

  // Turns and events together. The default is far above what any sound seed needs.
  void set_step_limit(uint64_t steps) { step_limit_ = steps; }
  uint64_t steps() const { return steps_; }

 private:
  static constexpr size_t kReadyBatch = 64;
  static constexpr SimTime kTurnCost = 200;

  // False when nothing is left; does nothing that lies after `horizon`.
  bool turn(SimTime horizon);
  void fire_earliest();
  void count_step();
  bool earlier(const SimEvent& a, const SimEvent& b) const;
  void sift_up(size_t i);
  void sift_down(size_t i);
  void place(size_t i, SimEvent* event);

  const uint64_t seed_;
  Prng prng_;
  SimTime now_ = 0;
  uint64_t steps_ = 0;
  uint64_t step_limit_ = 200'000'000;
  uint64_t events_numbered_ = 0;
  History history_;
  std::vector<SimEvent*> heap_;
  std::deque<std::function<void()>> posts_;
  IntrusiveList<struct AfterEvent> afters_;
  Enter enter_;
};

}  // namespace hf::sim
