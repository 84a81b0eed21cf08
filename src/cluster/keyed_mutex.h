// KeyedMutex: one Mutex per key in use; keys nobody uses cost nothing. First come, first served per
// key.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "runtime/sync.h"
#include "runtime/task.h"

namespace hf::cluster {

class KeyedMutex {
 public:
  // Held until destroyed. Must not outlive the KeyedMutex.
  class Guard {
   public:
    Guard() = default;
    Guard(KeyedMutex& owner, std::string key) : owner_(&owner), key_(std::move(key)) {}
    Guard(Guard&& other) noexcept
        : owner_(std::exchange(other.owner_, nullptr)), key_(std::move(other.key_)) {}
    Guard& operator=(Guard&& other) noexcept {
      release();
      owner_ = std::exchange(other.owner_, nullptr);
      key_ = std::move(other.key_);
      return *this;
    }
    ~Guard() { release(); }
    void release() {
      if (owner_ != nullptr) std::exchange(owner_, nullptr)->leave(key_);
    }

   private:
    KeyedMutex* owner_ = nullptr;
    std::string key_;
  };

  Task<Guard> lock(std::string key) {
    Slot& slot = slots_[key];
    ++slot.users;
    co_await slot.mutex.lock();
    co_return Guard(*this, key);
  }
  size_t size() const { return slots_.size(); }

 private:
  struct Slot {
    Mutex mutex;
    size_t users = 0;
  };
  void leave(const std::string& key) {
    const auto slot = slots_.find(key);
    HF_ASSERT(slot != slots_.end(), "{} is not locked", key);
    slot->second.mutex.unlock();
    if (--slot->second.users == 0) slots_.erase(slot);
  }
  std::map<std::string, Slot> slots_;
};

}  // namespace hf::cluster
