// FileDevice: a BlockDevice on a plain file, for tests of exports without a store. Writes are
// durable when answered (O_DIRECT and dsync), as the volume's are. A delay by chance before and
// after each write lets kills fall between "on the medium" and "answered".
#pragma once

#include <memory>
#include <string>

#include "base/prng.h"
#include "runtime/clock.h"
#include "runtime/file.h"
#include "volume/block_device.h"

namespace hf {

class FileDevice final : public BlockDevice {
 public:
  FileDevice(std::unique_ptr<File> file, Clock& clock, uint64_t size, uint64_t delay_us_max,
             uint64_t seed)
      : file_(std::move(file)),
        clock_(clock),
        size_(size),
        delay_us_max_(delay_us_max),
        prng_(seed) {}

  uint64_t size() const override { return size_; }
  void grow(uint64_t size) { size_ = size; }

  Task<Status> read(uint64_t offset, MutableByteSpan out) override {
    co_await delay();
    AlignedBuffer bounce;
    MutableByteSpan into = out;
    if (!is_aligned(reinterpret_cast<uintptr_t>(out.data()), kBlockSize)) {
      bounce = AlignedBuffer(out.size());
      into = bounce.span();
    }
    Result<size_t> n = co_await file_->read_at(offset, into);
    HF_CO_TRY(n);
    if (!bounce.empty()) std::memcpy(out.data(), bounce.data(), out.size());
    co_return Status();
  }
  Task<Status> write(uint64_t offset, ByteSpan data) override {
    co_await delay();
    AlignedBuffer bounce;
    if (!is_aligned(reinterpret_cast<uintptr_t>(data.data()), kBlockSize)) {
      bounce = AlignedBuffer(data.size());
      std::memcpy(bounce.data(), data.data(), data.size());
      data = bounce.span();
    }
    Result<size_t> n = co_await file_->write_durable_at(offset, data);
    HF_CO_TRY(n);
    co_await delay();
    co_return Status();
  }
  Task<Status> write_zeroes(uint64_t offset, uint64_t length, bool deallocate) override {
    if (deallocate) {
      Result<size_t> punched = co_await file_->punch_hole(offset, length);
      HF_CO_TRY(punched);
    } else {
      Result<size_t> zeroed = co_await file_->zero_range(offset, length);
      HF_CO_TRY(zeroed);
    }
    co_return Status();
  }
  Task<Status> discard(uint64_t offset, uint64_t length) override {
    return write_zeroes(offset, length, true);
  }
  Task<Status> flush() override {
    Result<size_t> synced = co_await file_->sync_data();
    HF_CO_TRY(synced);
    co_return Status();
  }
  Task<Result<std::vector<BlockExtent>>> extents(uint64_t offset, uint64_t length,
                                                 size_t) override {
    std::vector<BlockExtent> one;
    BlockExtent extent;
    extent.offset = offset;
    extent.length = length;
    one.push_back(extent);
    co_return one;
  }

 private:
  Task<void> delay() {
    if (delay_us_max_ == 0) co_return;
    Status slept = co_await clock_.sleep_for(
        std::chrono::microseconds(prng_.next() % delay_us_max_), CancelToken());
    (void)slept;
  }
  std::unique_ptr<File> file_;
  Clock& clock_;
  uint64_t size_;
  const uint64_t delay_us_max_;
  Prng prng_;
};

}  // namespace hf
