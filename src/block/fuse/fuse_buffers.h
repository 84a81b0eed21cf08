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
// waits. A full pool holds writes back: so that they stop nobody else, sessions take from shares, and a
// share may hold as many of each as are free for all others after it. One that holds none gets one in any
// case: all together hold at most one for each share more than the bounds.
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
        used_(std::exchange(other.used_, nullptr)),
        base_(std::exchange(other.base_, nullptr)),
        large_(other.large_) {}
  Slot& operator=(Slot&& other) noexcept {
    std::swap(owner_, other.owner_);
    std::swap(used_, other.used_);
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
  Slot(Buffers* owner, uint64_t* used, std::byte* base, bool large)
      : owner_(owner), used_(used), base_(base), large_(large) {}
  Buffers* owner_ = nullptr;
  uint64_t* used_ = nullptr;  // of its share
  std::byte* base_ = nullptr;
  bool large_ = false;
};

class Buffers {
 public:
  static constexpr uint32_t kSmallBytes = 32 * kKiB;
  static constexpr uint32_t kLargeBytes = kMaxWrite;
  static constexpr uint64_t kSmallMax = 256;
  static constexpr uint64_t kLargeMax = 16;

  // Outlives the slots that are taken from it.
  class Share {
   public:
    ~Share() { HF_ASSERT(used_[0] == 0 && used_[1] == 0, "slots are out"); }

   private:
    friend class Buffers;
    uint64_t used_[2] = {0, 0};  // small, large
    uint64_t waiting_[2] = {0, 0};
  };

  Buffers() = default;
  ~Buffers();
  Buffers(const Buffers&) = delete;
  Buffers& operator=(const Buffers&) = delete;

  // Waits, first come first served within a share, for a slot of at least `bytes` (at most kLargeBytes).
  Task<Slot> take(Share& share, uint64_t bytes);
  // Invalid when the share may not have one now.
  Slot try_take(Share& share, uint64_t bytes);
  uint64_t resident_bytes() const { return resident_; }

 private:
  friend class Slot;
  bool fits(const Share& share, bool large) const;
  Slot make(Share& share, bool large);
  void give_back(std::byte* base, bool large);

  uint64_t used_[2] = {0, 0};  // small, large
  Signal given_back_;
  std::vector<std::byte*> free_small_;
  std::vector<std::byte*> free_large_;
  uint64_t resident_ = 0;
};

}  // namespace hf::fuse
