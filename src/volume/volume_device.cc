#include "volume/volume_device.h"

namespace hf {

class VolumeDevice::Count {
 public:
  Count(DeviceStats& stats, uint64_t DeviceStats::*operations) : stats_(stats) {
    ++stats_.in_flight;
    ++(stats_.*operations);
  }
  ~Count() { --stats_.in_flight; }
  Status ended(Status status) {
    if (!status.ok()) ++stats_.errors;
    return status;
  }

 private:
  DeviceStats& stats_;
};

Task<Status> VolumeDevice::read(uint64_t offset, MutableByteSpan out) {
  Count count(stats_, &DeviceStats::reads);
  stats_.read_bytes += out.size();
  Status done = co_await coordinator_->read(offset, out);
  co_return count.ended(std::move(done));
}

Task<Status> VolumeDevice::write(uint64_t offset, ByteSpan data) {
  Count count(stats_, &DeviceStats::writes);
  stats_.written_bytes += data.size();
  Status done = co_await coordinator_->write(offset, data);
  co_return count.ended(std::move(done));
}

// The store keeps zeroes as holes either way; `deallocate` would only forbid that, and no client may
// rely on space being reserved in a thin pool.
Task<Status> VolumeDevice::write_zeroes(uint64_t offset, uint64_t length, bool /*deallocate*/) {
  Count count(stats_, &DeviceStats::writes);
  Status done = co_await coordinator_->write_zeroes(offset, length);
  co_return count.ended(std::move(done));
}

Task<Status> VolumeDevice::discard(uint64_t offset, uint64_t length) {
  Count count(stats_, &DeviceStats::discards);
  stats_.discarded_bytes += length;
  Status done = co_await coordinator_->discard(offset, length);
  co_return count.ended(std::move(done));
}

Task<Status> VolumeDevice::flush() {
  if (given_up_) co_return Status();
  Count count(stats_, &DeviceStats::flushes);
  Status done = co_await coordinator_->flush();
  co_return count.ended(std::move(done));
}

Task<Result<std::vector<BlockExtent>>> VolumeDevice::extents(uint64_t offset, uint64_t length,
                                                             size_t limit) {
  Result<std::vector<DataExtent>> found = co_await coordinator_->extents(offset, length, limit);
  HF_CO_TRY(found);
  std::vector<BlockExtent> out;
  out.reserve(found->size());
  for (const DataExtent& extent : *found) {
    BlockExtent& to = out.emplace_back();
    to.offset = extent.offset;
    to.length = extent.length;
    to.allocated = extent.data;
    to.reads_zero = !extent.data;
  }
  co_return out;
}

}  // namespace hf
