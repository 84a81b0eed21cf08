#include "block/fuse/fuse_buffers.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/log.h"
#include "runtime/fault_point.h"

namespace hf::fuse {
namespace {

constexpr size_t mapped_bytes(bool large) {
  return kBlockSize + (large ? Buffers::kLargeBytes : Buffers::kSmallBytes);
}

std::byte* map_resident(size_t bytes) {
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  HF_ASSERT(memory != MAP_FAILED, "no memory for a FUSE buffer of {} bytes", bytes);
  // Populated is what matters; the lock keeps swap away, and may be refused by a limit.
  static bool warned = false;
  if (mlock(memory, bytes) != 0 && !std::exchange(warned, true)) {
    HF_LOG(kWarn, "block",
           "fuse_buffers_not_locked error=\"{}\": raise LimitMEMLOCK where swap is used",
           strerror(errno));
  }
  return static_cast<std::byte*>(memory);
}

}  // namespace

Slot::~Slot() {
  if (base_ == nullptr) return;
  --*used_;
  owner_->give_back(base_, large_);
}

uint32_t Slot::capacity() const {
  return large_ ? Buffers::kLargeBytes : Buffers::kSmallBytes;
}

Buffers::~Buffers() {
  HF_ASSERT(used_[0] == 0 && used_[1] == 0, "FUSE buffers destroyed while in use");
  for (std::byte* base : free_small_) munmap(base, mapped_bytes(false));
  for (std::byte* base : free_large_) munmap(base, mapped_bytes(true));
}

bool Buffers::fits(const Share& share, bool large) const {
  const uint64_t most = large ? kLargeMax : kSmallMax;
  const uint64_t free = most - std::min(most, used_[large]);
  return share.used_[large] == 0 || share.used_[large] + 1 <= free;
}

Slot Buffers::make(Share& share, bool large) {
  std::vector<std::byte*>& free = large ? free_large_ : free_small_;
  if (free.empty()) {
    free.push_back(map_resident(mapped_bytes(large)));
    resident_ += mapped_bytes(large);
  }
  std::byte* base = free.back();
  free.pop_back();
  ++used_[large];
  ++share.used_[large];
  return Slot(this, &share.used_[large], base, large);
}

void Buffers::give_back(std::byte* base, bool large) {
  (large ? free_large_ : free_small_).push_back(base);
  --used_[large];
  given_back_.notify_all();
}

Task<Slot> Buffers::take(Share& share, uint64_t bytes) {
  HF_ASSERT(bytes <= kLargeBytes, "{}", bytes);
  const bool large = bytes > kSmallBytes;
  bool wait = share.waiting_[large] > 0 || !fits(share, large);
  if (wait) {
    HF_PROBE("fuse.buffers_full");
    ++share.waiting_[large];
    do {
      co_await given_back_.wait();
      wait = !fits(share, large);
    } while (wait);
    --share.waiting_[large];
  }
  co_return make(share, large);
}

Slot Buffers::try_take(Share& share, uint64_t bytes) {
  HF_ASSERT(bytes <= kLargeBytes, "{}", bytes);
  const bool large = bytes > kSmallBytes;
  if (share.waiting_[large] > 0 || !fits(share, large)) return Slot();
  return make(share, large);
}

}  // namespace hf::fuse
