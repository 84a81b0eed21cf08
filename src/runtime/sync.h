// Waiting inside one loop. All of these are first come first served, never resume on the signaller's
// stack, and must have no waiter left when destroyed (asserted).
#pragma once

#include <cstdint>
#include <optional>
#include <utility>

#include "base/assert.h"
#include "base/intrusive_list.h"
#include "runtime/loop.h"

namespace hf {

// A condition that is set for good, or until reset(). wait() returns at once while it is set.
class Event {
 public:
  ~Event() { HF_ASSERT(waiters_.empty(), "event destroyed with waiters"); }
  class Awaiter : public ReadyItem {
   public:
    explicit Awaiter(Event& event) : event_(event) {}
    bool await_ready() const { return event_.set_; }
    void await_suspend(std::coroutine_handle<> h) {
      handle = h;
      event_.waiters_.push_back(*this);
    }
    void await_resume() const {}

   private:
    Event& event_;
  };
  Awaiter wait() { return Awaiter(*this); }
  bool is_set() const { return set_; }
  void set() {
    set_ = true;
    wake_all();
  }
  void reset() { set_ = false; }

 private:
  friend class Signal;
  void wake_all() {
    while (!waiters_.empty()) Loop::current().ready(waiters_.pop_front());
  }
  bool set_ = false;
  IntrusiveList<ReadyItem> waiters_;
};

// An edge: notify_all() wakes those that wait now. Use in a loop that tests the condition:
//   while (!condition) co_await signal.wait();
class Signal {
 public:
  Event::Awaiter wait() { return event_.wait(); }
  void notify_all() { event_.wake_all(); }

 private:
  Event event_;
};

// A counter of units. acquire(n) waits until n units are free and nobody came earlier.
class Semaphore {
 public:
  explicit Semaphore(uint64_t units) : free_(units) {}
  ~Semaphore() { HF_ASSERT(waiters_.empty(), "semaphore destroyed with waiters"); }
  Semaphore(const Semaphore&) = delete;
  Semaphore& operator=(const Semaphore&) = delete;

  class Awaiter : public ReadyItem {
   public:
    Awaiter(Semaphore& semaphore, uint64_t units) : semaphore_(semaphore), units_(units) {}
    bool await_ready() { return semaphore_.try_acquire(units_); }
    void await_suspend(std::coroutine_handle<> h) {
      handle = h;
      semaphore_.waiters_.push_back(*this);
    }
    void await_resume() const {}

   private:
    friend class Semaphore;
    Semaphore& semaphore_;
    uint64_t units_;
  };
  Awaiter acquire(uint64_t units = 1) { return Awaiter(*this, units); }
  bool try_acquire(uint64_t units = 1) {
    if (!waiters_.empty() || free_ < units) return false;
    free_ -= units;
    return true;
  }
  void release(uint64_t units = 1) {
    free_ += units;
    while (!waiters_.empty() && waiters_.front().units_ <= free_) {
      Awaiter& waiter = waiters_.pop_front();
      free_ -= waiter.units_;
      Loop::current().ready(waiter);
    }
  }
  uint64_t free_units() const { return free_; }

 private:
  uint64_t free_;
  IntrusiveList<Awaiter> waiters_;
};

// Releases on destruction. Units unit;  co_await s.acquire();  Units held(s, 1);
class SemaphoreUnits {
 public:
  SemaphoreUnits() = default;
  SemaphoreUnits(Semaphore& semaphore, uint64_t units) : semaphore_(&semaphore), units_(units) {}
  SemaphoreUnits(SemaphoreUnits&& other) noexcept
      : semaphore_(std::exchange(other.semaphore_, nullptr)), units_(other.units_) {}
  SemaphoreUnits& operator=(SemaphoreUnits&& other) noexcept {
    std::swap(semaphore_, other.semaphore_);
    std::swap(units_, other.units_);
    return *this;
  }
  ~SemaphoreUnits() { reset(); }
  void reset() {
    if (semaphore_ != nullptr) std::exchange(semaphore_, nullptr)->release(units_);
  }

 private:
  Semaphore* semaphore_ = nullptr;
  uint64_t units_ = 0;
};

// Mutual exclusion between coroutines of one loop:
//   co_await mutex.lock();  MutexGuard guard(mutex);
class Mutex {
 public:
  Semaphore::Awaiter lock() { return semaphore_.acquire(1); }
  bool try_lock() { return semaphore_.try_acquire(1); }
  void unlock() { semaphore_.release(1); }

 private:
  Semaphore semaphore_{1};
};

// Takes over a lock that the caller has just acquired.
class MutexGuard {
 public:
  explicit MutexGuard(Mutex& mutex) : mutex_(&mutex) {}
  MutexGuard(MutexGuard&& other) noexcept : mutex_(std::exchange(other.mutex_, nullptr)) {}
  MutexGuard& operator=(MutexGuard&&) = delete;
  ~MutexGuard() { unlock(); }
  void unlock() {
    if (mutex_ != nullptr) std::exchange(mutex_, nullptr)->unlock();
  }

 private:
  Mutex* mutex_;
};

// A value that one side sets once and one side waits for.
template <typename T>
class OneShot {
 public:
  class Awaiter {
   public:
    explicit Awaiter(OneShot& shot) : shot_(shot), inner_(shot.event_.wait()) {}
    bool await_ready() const { return inner_.await_ready(); }
    void await_suspend(std::coroutine_handle<> h) { inner_.await_suspend(h); }
    T await_resume() { return std::move(*shot_.value_); }

   private:
    OneShot& shot_;
    Event::Awaiter inner_;
  };
  void set(T value) {
    HF_ASSERT(!value_.has_value(), "set twice");
    value_.emplace(std::move(value));
    event_.set();
  }
  bool is_set() const { return value_.has_value(); }
  Awaiter wait() { return Awaiter(*this); }

 private:
  Event event_;
  std::optional<T> value_;
};

}  // namespace hf
