// Memory for FUSE messages, shared by all sessions of a loop, always resident.
//
// Why resident: when a process is killed while the kernel copies a message from or to it, a page
// that is absent cannot be faulted in any more, and the kernel ends that request with EIO, which is
// what no container may see (docs/facts-block.md, 1.2). So slots are populated and locked when
// made, and never given back.
//
//   slot:  | page: … header | payload, page-aligned … |
//                  ▲ a READ reply's header, or a request's, ends where the payload begins
//
// Bounds: kLargeMax slots of 1 MiB and kSmallMax of 32 KiB, made when first needed; who finds none
// waits.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "block/fuse/fuse_wire.h"
#include "runtime/sync.h"
#include "runtime/task.h"

namespace hf::fuse {

class Buffers;

// One slot, given back on destruction. Move-only.
class Slot {
 public:
  Slot() = default;
  Slot(Slot&& other) noexcept
      : owner_(std::exchange(other.owner_, nullptr)),
        base_(std::exchange(other.base_, nullptr)),
        large_(other.large_) {}
  Slot& operator=(Slot&& other) noexcept {
    std::swap(owner_, other.owner_);
    std::swap(base_, other.base_);
    std::swap(large_, other.large_);
    return *this;
  }
  Slot(const Slot&) = delete;
  Slot& operator=(const Slot&) = delete;
  ~Slot();

  bool valid() const { return base_ != nullptr; }
  uint32_t capacity() const;
  std::byte* payload() { return base_ + kBlockSize; }
  // `size` bytes that end where the payload begins.
  std::byte* before_payload(size_t size) { return base_ + kBlockSize - size; }

 private:
  friend class Buffers;
  Slot(Buffers* owner, std::byte* base, bool large) : owner_(owner), base_(base), large_(large) {}
  Buffers* owner_ = nullptr;
  std::byte* base_ = nullptr;
  bool large_ = false;
};

class Buffers {
 public:
  static constexpr uint32_t kSmallBytes = 32 * kKiB;
  static constexpr uint32_t kLargeBytes = kMaxWrite;
  static constexpr uint64_t kSmallMax = 256;
  static constexpr uint64_t kLargeMax = 16;

  Buffers() = default;
  ~Buffers();
  Buffers(const Buffers&) = delete;
  Buffers& operator=(const Buffers&) = delete;

  // Waits, first come first served, for a slot of at least `bytes` (at most kLargeBytes).
  Task<Slot> take(uint64_t bytes);
  // Invalid when all are taken.
  Slot try_take(uint64_t bytes);
  uint64_t resident_bytes() const { return resident_; }

 private:
  friend class Slot;
  Slot make(bool large);
  void give_back(std::byte* base, bool large);

  Semaphore small_{kSmallMax};
  Semaphore large_{kLargeMax};
  std::vector<std::byte*> free_small_;
  std::vector<std::byte*> free_large_;
  uint64_t resident_ = 0;
};

}  // namespace hf::fuse
