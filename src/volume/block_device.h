// BlockDevice: a volume as everything above the coordinator sees it. Exports (FUSE, NBD, ublk) serve one;
// filters (alignment, encryption, throttle, statistics) are BlockDevices around a BlockDevice.
//
// Offsets and lengths are multiples of kBlockSize (asserted; exports whose clients may ask for less put
// an AlignFilter in front). Ranges lie inside size() (kInvalidArgument otherwise: a resize may race).
// Buffers aligned to kBlockSize avoid a copy on reads. Loop thread of the volume only.
//
// Durability: a write, zero or discard that was answered is on stable media on every in-sync replica (with
// durability=flush: after the next flush). Order: operations that overlap take effect in the order in
// which they were started. A write that failed may have happened, whole or in part, per 4 KiB block.
#pragma once

#include <cstdint>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "runtime/task.h"

namespace hf {

// A run of blocks for block-status queries.
struct BlockExtent {
  uint64_t offset = 0;  // bytes
  uint64_t length = 0;  // bytes
  bool allocated = true;
  bool reads_zero = false;
};

// At most this many bytes in one operation; exports split larger ones.
inline constexpr uint64_t kMaxBlockIoBytes = 4 * kMiB;

class BlockDevice {
 public:
  virtual ~BlockDevice() = default;
  // Bytes, a multiple of kBlockSize. Grows by a resize; never shrinks while attached.
  virtual uint64_t size() const = 0;
  virtual Task<Status> read(uint64_t offset, MutableByteSpan out) = 0;
  virtual Task<Status> write(uint64_t offset, ByteSpan data) = 0;
  // Reads as zeroes afterwards. `deallocate` lets the store give the space back.
  virtual Task<Status> write_zeroes(uint64_t offset, uint64_t length, bool deallocate) = 0;
  // Gives the space back where possible; the range then reads as zeroes.
  virtual Task<Status> discard(uint64_t offset, uint64_t length) = 0;
  // Everything answered before is on stable media.
  virtual Task<Status> flush() = 0;
  // From `offset` on, in order, without gaps, at most `limit` extents, at least one if length > 0.
  virtual Task<Result<std::vector<BlockExtent>>> extents(uint64_t offset, uint64_t length,
                                                         size_t limit) = 0;
};

}  // namespace hf
