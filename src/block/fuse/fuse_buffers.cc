#include "block/fuse/fuse_buffers.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>

#include "base/log.h"

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
  if (base_ != nullptr) owner_->give_back(base_, large_);
}

uint32_t Slot::capacity() const {
  return large_ ? Buffers::kLargeBytes : Buffers::kSmallBytes;
}

Buffers::~Buffers() {
  HF_ASSERT(small_.free_units() == kSmallMax && large_.free_units() == kLargeMax,
            "FUSE buffers destroyed while in use");
  for (std::byte* base : free_small_) munmap(base, mapped_bytes(false));
  for (std::byte* base : free_large_) munmap(base, mapped_bytes(true));
}

Slot Buffers::make(bool large) {
  std::vector<std::byte*>& free = large ? free_large_ : free_small_;
  if (free.empty()) {
    free.push_back(map_resident(mapped_bytes(large)));
    resident_ += mapped_bytes(large);
  }
  std::byte* base = free.back();
  free.pop_back();
  return Slot(this, base, large);
}

void Buffers::give_back(std::byte* base, bool large) {
  (large ? free_large_ : free_small_).push_back(base);
  (large ? large_ : small_).release();
}

Task<Slot> Buffers::take(uint64_t bytes) {
  HF_ASSERT(bytes <= kLargeBytes, "{}", bytes);
  const bool large = bytes > kSmallBytes;
  co_await (large ? large_ : small_).acquire();
  co_return make(large);
}

Slot Buffers::try_take(uint64_t bytes) {
  HF_ASSERT(bytes <= kLargeBytes, "{}", bytes);
  const bool large = bytes > kSmallBytes;
  if (!(large ? large_ : small_).try_acquire()) return Slot();
  return make(large);
}

}  // namespace hf::fuse
