// MemoryBudget: how many bytes of request data connections may hold together, shared so that who
// waits keeps nobody else waiting. A pool without space holds its writes for as long as an operator
// needs; a slow client holds the answers it has not taken.
//
// Connections belong to shares: what may get stuck together (one pool's reads; its writes). A share
// may hold as much as is free for all others after it: one stuck share half of all, two three
// quarters, and so on. Beyond that, what keeps everybody going: a share that holds nothing may take
// one request of any size, a connection that holds nothing one of at most kClientBytesMin. So all
// together hold at most `bytes`, kMaxPayload for each share, and kClientBytesMin for each
// connection. One loop.
#pragma once

#include <algorithm>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <string>

#include "base/units.h"
#include "runtime/sync.h"
#include "runtime/task.h"

namespace hf::nbd {

class MemoryBudget {
 public:
  static constexpr uint64_t kClientBytesMin = 1 * kMiB;

  class Share {
   public:
    uint64_t used() const { return used_; }

   private:
    friend class MemoryBudget;
    uint64_t used_ = 0;
    std::list<uint64_t> waiting_;  // tickets, the oldest first
  };

  explicit MemoryBudget(uint64_t bytes) : bytes_(bytes) {}
  ~MemoryBudget() { HF_ASSERT(used_ == 0, "{}", used_); }
  MemoryBudget(const MemoryBudget&) = delete;
  MemoryBudget& operator=(const MemoryBudget&) = delete;

  // The same for all that ask by this name; lives as long as somebody has it.
  std::shared_ptr<Share> share(const std::string& name) {
    std::erase_if(shares_, [](const auto& entry) { return entry.second.expired(); });
    std::weak_ptr<Share>& known = shares_[name];
    std::shared_ptr<Share> found = known.lock();
    if (found == nullptr) known = found = std::make_shared<Share>();
    return found;
  }
  // `held`: what the connection holds already.
  bool try_take(Share& share, uint64_t held, uint64_t bytes) {
    if (!fits(share, held, bytes, share.waiting_.empty())) return false;
    share.used_ += bytes;
    used_ += bytes;
    return true;
  }
  // Waits; first come first served within a share.
  Task<void> take(Share& share, uint64_t held, uint64_t bytes) {
    const auto mine = share.waiting_.insert(share.waiting_.end(), next_ticket_++);
    while (!fits(share, held, bytes, mine == share.waiting_.begin())) co_await freed_.wait();
    share.waiting_.erase(mine);
    share.used_ += bytes;
    used_ += bytes;
    freed_.notify_all();  // the next of the share may fit as well
  }
  void give_back(Share& share, uint64_t bytes) {
    HF_ASSERT(bytes <= share.used_ && bytes <= used_, "{} {}", bytes, share.used_);
    share.used_ -= bytes;
    used_ -= bytes;
    freed_.notify_all();
  }
  uint64_t used() const { return used_; }

 private:
  bool fits(const Share& share, uint64_t held, uint64_t bytes, bool first) const {
    if (held == 0 && bytes <= kClientBytesMin) return true;
    if (!first) return false;
    const uint64_t free = bytes_ - std::min(bytes_, used_);
    return share.used_ == 0 || share.used_ + bytes <= free;
  }

  const uint64_t bytes_;
  uint64_t used_ = 0;
  uint64_t next_ticket_ = 0;
  std::map<std::string, std::weak_ptr<Share>> shares_;
  Signal freed_;
};

}  // namespace hf::nbd
