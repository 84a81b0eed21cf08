#include "replicate/range_lock.h"

#include <vector>

namespace hf {

bool RangeLock::is_held(uint64_t begin, uint64_t end) const {
  auto at = held_.lower_bound(end);
  return at != held_.begin() && std::prev(at)->second.end > begin;
}

void RangeLock::take(uint64_t begin, uint64_t end, Use use) {
  Held held;
  held.end = end;
  held.ticket = ++tickets_;
  held.use = use;
  held_.emplace(begin, held);
}

bool RangeLock::try_lock(uint64_t begin, uint64_t end, Use use) {
  bool behind = is_held(begin, end);
  if (!behind && !waiting_.empty()) {
    waiting_.for_each([&](ReadyItem& item) {
      const auto& other = static_cast<const Awaiter&>(item);
      behind = behind || (other.begin_ < end && begin < other.end_);
    });
  }
  if (behind) return false;
  take(begin, end, use);
  return true;
}

void RangeLock::unlock(uint64_t begin) {
  const size_t erased = held_.erase(begin);
  HF_ASSERT(erased == 1, "{} is not held", begin);
  // In order: whoever overlaps one that still waits waits behind it.
  std::vector<const Awaiter*> passed;
  waiting_.for_each([&](ReadyItem& item) {
    auto& other = static_cast<Awaiter&>(item);
    bool behind = is_held(other.begin_, other.end_);
    for (const Awaiter* earlier : passed) {
      behind = behind || (earlier->begin_ < other.end_ && other.begin_ < earlier->end_);
    }
    if (behind) {
      passed.push_back(&other);
      return;
    }
    take(other.begin_, other.end_, other.use_);
    other.unlink();
    Loop::current().ready(other);
  });
  released_.notify_all();
}

bool RangeLock::written_before(uint64_t begin, uint64_t end, uint64_t ticket) const {
  auto at = held_.lower_bound(end);
  while (at != held_.begin()) {
    --at;
    if (at->second.end <= begin) return false;
    if (at->second.use == Use::kWrite && at->second.ticket <= ticket) return true;
  }
  return false;
}

bool RangeLock::written_now(uint64_t begin, uint64_t end) const {
  return !held_.empty() && written_before(begin, end, tickets_);
}

Task<void> RangeLock::wait_written(uint64_t begin, uint64_t end) {
  const uint64_t ticket = tickets_;
  while (written_before(begin, end, ticket)) co_await released_.wait();
}

}  // namespace hf
