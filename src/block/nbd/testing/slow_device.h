// SlowDevice: a BlockDevice that takes its time before it passes an operation on, by a seed. Test
// code only.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "base/prng.h"
#include "runtime/clock.h"
#include "volume/block_device.h"

namespace hf::nbd {

class SlowDevice final : public BlockDevice {
 public:
  SlowDevice(Clock& clock, std::shared_ptr<BlockDevice> inner, Duration longest, uint64_t seed)
      : clock_(clock), inner_(std::move(inner)), longest_(longest), prng_(seed) {}

  uint64_t size() const override { return inner_->size(); }
  Task<Status> read(uint64_t offset, MutableByteSpan out) override {
    co_await pause();
    Status done = co_await inner_->read(offset, out);
    co_await pause();
    co_return done;
  }
  Task<Status> write(uint64_t offset, ByteSpan data) override {
    co_await pause();
    Status done = co_await inner_->write(offset, data);
    co_await pause();
    co_return done;
  }
  Task<Status> write_zeroes(uint64_t offset, uint64_t length, bool deallocate) override {
    co_await pause();
    co_return co_await inner_->write_zeroes(offset, length, deallocate);
  }
  Task<Status> discard(uint64_t offset, uint64_t length) override {
    co_await pause();
    co_return co_await inner_->discard(offset, length);
  }
  Task<Status> flush() override {
    co_await pause();
    co_return co_await inner_->flush();
  }
  Task<Result<std::vector<BlockExtent>>> extents(uint64_t offset, uint64_t length,
                                                 size_t limit) override {
    co_return co_await inner_->extents(offset, length, limit);
  }

  uint64_t in_progress = 0;

 private:
  Task<void> pause() {
    ++in_progress;
    const auto time =
        static_cast<int64_t>(prng_.below(static_cast<uint64_t>(longest_.count()) + 1));
    Status slept = co_await clock_.sleep_for(Duration(time), CancelToken());
    --in_progress;
    HF_ASSERT(slept.ok());
  }

  Clock& clock_;
  const std::shared_ptr<BlockDevice> inner_;
  const Duration longest_;
  Prng prng_;
};

}  // namespace hf::nbd
