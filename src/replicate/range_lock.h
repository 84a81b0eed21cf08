// RangeLock: who may change which bytes of a volume now. First come, first served: a request waits
// for every range held and for every earlier request that it overlaps. Loop thread of the volume.
//
// Writes hold their range until all that must answer have answered, a resync's copy holds that of
// its chunk, a snapshot barrier the whole volume. Reads hold nothing: after the data is there they
// wait for the writes that they overlap (wait_written), so that nothing is returned that is not
// acknowledged.
#pragma once

#include <cstdint>
#include <map>
#include <utility>

#include "runtime/sync.h"
#include "runtime/task.h"

namespace hf {

class RangeLock {
 public:
  enum class Use : uint8_t {
    kWrite,  // readers wait for its end
    kCopy,   // changes no content: readers do not care
  };
  RangeLock() = default;
  RangeLock(const RangeLock&) = delete;
  RangeLock& operator=(const RangeLock&) = delete;
  ~RangeLock() { HF_ASSERT(held_.empty() && waiting_.empty()); }

  class Awaiter : public ReadyItem {
   public:
    Awaiter(RangeLock& lock, uint64_t begin, uint64_t end, Use use)
        : lock_(lock), begin_(begin), end_(end), use_(use) {}
    bool await_ready() { return lock_.try_lock(begin_, end_, use_); }
    void await_suspend(std::coroutine_handle<> h) {
      handle = h;
      lock_.waiting_.push_back(*this);
    }
    void await_resume() const {}

   private:
    friend class RangeLock;
    RangeLock& lock_;
    uint64_t begin_, end_;
    Use use_;
  };
  // The range is not empty. co_await lock.lock(a, b, use);  RangeHold held(lock, a);
  Awaiter lock(uint64_t begin, uint64_t end, Use use) {
    HF_ASSERT(begin < end, "{} {}", begin, end);
    return Awaiter(*this, begin, end, use);
  }
  void unlock(uint64_t begin);
  // Returns when every write that holds some of the range now has ended.
  Task<void> wait_written(uint64_t begin, uint64_t end);
  bool written_now(uint64_t begin, uint64_t end) const;
  size_t held() const { return held_.size(); }

 private:
  struct Held {
    uint64_t end = 0;
    uint64_t ticket = 0;
    Use use = Use::kWrite;
  };
  bool try_lock(uint64_t begin, uint64_t end, Use use);
  bool is_held(uint64_t begin, uint64_t end) const;
  void take(uint64_t begin, uint64_t end, Use use);
  bool written_before(uint64_t begin, uint64_t end, uint64_t ticket) const;

  std::map<uint64_t, Held> held_;  // by begin; they do not overlap
  IntrusiveList<ReadyItem> waiting_;
  uint64_t tickets_ = 0;
  Signal released_;
};

// Unlocks on destruction.
class RangeHold {
 public:
  RangeHold(RangeLock& lock, uint64_t begin) : lock_(&lock), begin_(begin) {}
  RangeHold(RangeHold&& other) noexcept
      : lock_(std::exchange(other.lock_, nullptr)), begin_(other.begin_) {}
  RangeHold& operator=(RangeHold&&) = delete;
  ~RangeHold() {
    if (lock_ != nullptr) lock_->unlock(begin_);
  }

 private:
  RangeLock* lock_;
  uint64_t begin_;
};

}  // namespace hf
