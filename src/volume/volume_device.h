// VolumeDevice: the BlockDevice of an attached volume, over its coordinator, with the counters that
// metrics and `volume inspect` show. Loop thread of the volume.
#pragma once

#include <cstdint>
#include <memory>

#include "replicate/coordinator.h"
#include "volume/block_device.h"

namespace hf {

struct DeviceStats {
  uint64_t reads = 0, writes = 0, discards = 0, flushes = 0;
  uint64_t read_bytes = 0, written_bytes = 0, discarded_bytes = 0;
  uint64_t errors = 0;
  uint64_t in_flight = 0;
};

class VolumeDevice : public BlockDevice {
 public:
  explicit VolumeDevice(std::unique_ptr<Coordinator> coordinator)
      : coordinator_(std::move(coordinator)) {}

  uint64_t size() const override { return coordinator_->size(); }
  Task<Status> read(uint64_t offset, MutableByteSpan out) override;
  Task<Status> write(uint64_t offset, ByteSpan data) override;
  Task<Status> write_zeroes(uint64_t offset, uint64_t length, bool deallocate) override;
  Task<Status> discard(uint64_t offset, uint64_t length) override;
  Task<Status> flush() override;
  Task<Result<std::vector<BlockExtent>>> extents(uint64_t offset, uint64_t length,
                                                 size_t limit) override;

  // Nobody will ever be served by it again. What was acknowledged is durable where the volume is served now, and nothing
  // else is kept here: so there is nothing left to flush, and the kernel can let go of the device.
  void give_up() { given_up_ = true; }

  Coordinator& coordinator() { return *coordinator_; }
  const DeviceStats& stats() const { return stats_; }

 private:
  // Counts one operation from its start to its end.
  class Count;
  std::unique_ptr<Coordinator> coordinator_;
  DeviceStats stats_;
  bool given_up_ = false;
};

}  // namespace hf
