// MemoryDevice: a BlockDevice in memory, for tests of what stands above it. Checks what its callers
// owe (alignment, bounds, at most kMaxBlockIoBytes); may yield to the loop before it acts, hold
// operations back, and fail on demand. Test code only.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "runtime/sync.h"
#include "volume/block_device.h"

namespace hf {

class MemoryDevice : public BlockDevice {
 public:
  explicit MemoryDevice(uint64_t size) : bytes_(size), allocated_(size / kBlockSize, false) {
    HF_ASSERT(is_aligned(size, kBlockSize));
  }
  uint64_t size() const override { return bytes_.size(); }
  Task<Status> read(uint64_t offset, MutableByteSpan out) override {
    Status ready = co_await enter(offset, out.size());
    HF_CO_TRY(ready);
    std::memcpy(out.data(), bytes_.data() + offset, out.size());
    ++reads;
    co_return Status();
  }
  Task<Status> write(uint64_t offset, ByteSpan data) override {
    Status ready = co_await enter(offset, data.size());
    HF_CO_TRY(ready);
    std::memcpy(bytes_.data() + offset, data.data(), data.size());
    mark(offset, data.size(), true);
    ++writes;
    co_return Status();
  }
  Task<Status> write_zeroes(uint64_t offset, uint64_t length, bool deallocate) override {
    Status ready = co_await enter(offset, length);
    HF_CO_TRY(ready);
    std::memset(bytes_.data() + offset, 0, length);
    mark(offset, length, !deallocate);
    ++zeroes;
    co_return Status();
  }
  Task<Status> discard(uint64_t offset, uint64_t length) override {
    Status ready = co_await enter(offset, length);
    HF_CO_TRY(ready);
    std::memset(bytes_.data() + offset, 0, length);
    mark(offset, length, false);
    ++discards;
    co_return Status();
  }
  Task<Status> flush() override {
    co_await yield();
    ++flushes;
    if (fail_with != ErrorCode::kOk) co_return Error(fail_with, "the test wants it so");
    co_return Status();
  }
  Task<Result<std::vector<BlockExtent>>> extents(uint64_t offset, uint64_t length,
                                                 size_t limit) override {
    Status ready = co_await enter(offset, 0);
    HF_CO_TRY(ready);
    std::vector<BlockExtent> found;
    const uint64_t end = offset + length;
    while (offset < end && found.size() < limit) {
      const bool allocated = allocated_[offset / kBlockSize];
      uint64_t stop = offset;
      while (stop < end && allocated_[stop / kBlockSize] == allocated) stop += kBlockSize;
      BlockExtent extent;
      extent.offset = offset;
      extent.length = stop - offset;
      extent.allocated = allocated;
      extent.reads_zero = !allocated;
      found.push_back(extent);
      offset = stop;
    }
    co_return found;
  }

  void grow(uint64_t size) {
    bytes_.resize(size);
    allocated_.resize(size / kBlockSize, false);
  }
  std::vector<std::byte>& bytes() { return bytes_; }

  uint64_t reads = 0, writes = 0, zeroes = 0, discards = 0, flushes = 0;
  ErrorCode fail_with = ErrorCode::kOk;  // every operation, while it is not kOk
  bool hold = false;                     // operations wait until release()
  void release() {
    hold = false;
    released_.notify_all();
  }

 private:
  Task<Status> enter(uint64_t offset, uint64_t length) {
    HF_ASSERT(is_aligned(offset, kBlockSize) && is_aligned(length, kBlockSize), "{} {}", offset,
              length);
    HF_ASSERT(length <= kMaxBlockIoBytes, "{}", length);
    while (hold) co_await released_.wait();
    if (fail_with != ErrorCode::kOk) co_return Error(fail_with, "the test wants it so");
    if (offset + length > size())
      co_return Error(ErrorCode::kInvalidArgument, "outside the device");
    co_return Status();
  }
  void mark(uint64_t offset, uint64_t length, bool allocated) {
    for (uint64_t at = offset; at < offset + length; at += kBlockSize) {
      allocated_[at / kBlockSize] = allocated;
    }
  }

  std::vector<std::byte> bytes_;
  std::vector<bool> allocated_;
  Signal released_;
};

}  // namespace hf
