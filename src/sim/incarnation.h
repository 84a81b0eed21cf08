// Incarnation: one life of a simulated process, from start to kill. Everything that the process has
// asked of the world and not yet got an answer to is listed here, so that death and pause reach it.
#pragma once

#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "base/intrusive_list.h"
#include "base/prng.h"
#include "sim/sim_loop.h"

namespace hf::sim {

enum class Death : uint8_t {
  kKill,       // the process alone: what it had completed stays in the host's caches
  kPowerLoss,  // the host: caches of the kernel and of the disks are gone
};

// An operation that waits for the world. abort() completes it with "cancelled" (its effect partly
// there, by the seed) and unlinks it.
class Pending : public ListHook {
 public:
  virtual void abort(Death death) = 0;

 protected:
  ~Pending() = default;
};

// Something that the process holds open (a file, a socket); the kernel closes it when the process
// dies.
class Held : public ListHook {
 public:
  virtual void sever(Death death) = 0;

 protected:
  ~Held() = default;
};

class Incarnation {
 public:
  Incarnation(SimLoop& loop, uint64_t number, Prng prng)
      : loop_(loop), number_(number), prng_(prng) {}
  Incarnation(const Incarnation&) = delete;
  Incarnation& operator=(const Incarnation&) = delete;

  SimLoop& loop() { return loop_; }
  Prng& prng() { return prng_; }
  uint64_t number() const { return number_; }
  bool is_dead() const { return dead_; }
  bool is_paused() const { return paused_; }

  void add(Pending& pending) { pending_.push_back(pending); }
  void add(Held& held) { open_.push_back(held); }
  // Hands a result to the process: now, or when it is continued.
  void complete(ReadyItem& item) {
    if (paused_) {
      held_.push_back(item);
    } else {
      loop_.ready(item);
    }
  }

  // The same for a callback.
  void call(std::function<void()> fn) {
    if (paused_) {
      held_calls_.push_back(std::move(fn));
    } else {
      loop_.post(std::move(fn));
    }
  }

  void pause() { paused_ = !dead_; }
  void proceed() {
    paused_ = false;
    while (!held_.empty()) loop_.ready(held_.pop_front());
    for (std::function<void()>& fn : held_calls_) loop_.post(std::move(fn));
    held_calls_.clear();
  }
  // From now on every operation fails at once; those in flight are aborted in the order of their
  // start.
  void die(Death death) {
    dead_ = true;
    while (!pending_.empty()) pending_.front().abort(death);
    while (!open_.empty()) open_.front().sever(death);
    proceed();
  }

 private:
  SimLoop& loop_;
  const uint64_t number_;
  Prng prng_;
  bool dead_ = false;
  bool paused_ = false;
  IntrusiveList<Pending> pending_;
  IntrusiveList<Held> open_;
  IntrusiveList<ReadyItem> held_;  // results for a paused process
  std::vector<std::function<void()>> held_calls_;
};

// co_await of an instant: the base of every simulated latency. True when it came, false when the
// process died (or finish() was called) before.
class Delay : public SimEvent, public Pending {
 public:
  Delay(Incarnation& life, SimTime at) : life_(life), at_(at) {}
  bool await_ready() const { return life_.is_dead(); }
  void await_suspend(std::coroutine_handle<> handle) {
    item_.handle = handle;
    life_.add(*this);
    life_.loop().schedule(*this, at_);
  }
  bool await_resume() const { return came_; }

  void fire() override { finish(true); }
  void abort(Death) override { finish(false); }
  // Ends the wait now, if it still lasts.
  void finish(bool came) {
    if (!Pending::is_linked()) return;
    Pending::unlink();
    if (is_scheduled()) life_.loop().unschedule(*this);
    came_ = came;
    life_.complete(item_);
  }

 private:
  Incarnation& life_;
  SimTime at_;
  bool came_ = false;
  ReadyItem item_;
};

// co_await of something that another party brings about by finish(). False when the process died
// before, or when finish(false) said that it will not happen.
class Wait : public Pending {
 public:
  explicit Wait(Incarnation& life) : life_(life) {}
  virtual ~Wait() = default;
  bool await_ready() const { return life_.is_dead(); }
  void await_suspend(std::coroutine_handle<> handle) {
    item_.handle = handle;
    life_.add(*this);
  }
  bool await_resume() const { return came_; }
  void abort(Death) override { finish(false); }
  void finish(bool came) {
    if (!is_linked()) return;
    unlink();
    came_ = came;
    life_.complete(item_);
  }

 private:
  Incarnation& life_;
  bool came_ = false;
  ReadyItem item_;
};

inline Error dead_error(const char* what) {
  return make_error(ErrorCode::kCancelled, "{}: the simulated process was killed", what);
}

}  // namespace hf::sim
