// LostDevice: stands in for the data of a volume that is lost, so that what its users wait for in
// the kernel ends with an error. Nothing is written anywhere, so nothing is ever left to flush.
#pragma once

#include <string>
#include <vector>

#include "volume/block_device.h"

namespace hf::cluster {

class LostDevice final : public BlockDevice {
 public:
  LostDevice(std::string volume, uint64_t size) : volume_(std::move(volume)), size_(size) {}
  uint64_t size() const override { return size_; }
  Task<Status> read(uint64_t, MutableByteSpan) override { co_return refused(); }
  Task<Status> write(uint64_t, ByteSpan) override { co_return refused(); }
  Task<Status> write_zeroes(uint64_t, uint64_t, bool) override { co_return refused(); }
  Task<Status> discard(uint64_t, uint64_t) override { co_return refused(); }
  Task<Status> flush() override { co_return Status(); }
  Task<Result<std::vector<BlockExtent>>> extents(uint64_t, uint64_t, size_t) override {
    co_return refused();
  }

 private:
  Error refused() const {
    return make_error(ErrorCode::kIo, "volume {} is lost and was given up", volume_);
  }
  const std::string volume_;
  const uint64_t size_;
};

}  // namespace hf::cluster
