#include "shadow.h"

#include <algorithm>

#include "../store/model.h"
#include "judge.h"

namespace hf::replicate_sim {

uint64_t Shadow::begin(uint64_t block, const std::vector<uint64_t>& values) {
  ++orders_;
  for (size_t i = 0; i < values.size() && block + i < blocks_.size(); ++i) {
    blocks_[block + i].open.push_back({orders_, values[i]});
  }
  return orders_;
}

void Shadow::done(uint64_t block, const std::vector<uint64_t>& values, uint64_t order) {
  for (size_t i = 0; i < values.size() && block + i < blocks_.size(); ++i) {
    Block& b = blocks_[block + i];
    if (order < b.order) continue;
    b.value = values[i];
    b.order = order;
    std::erase_if(b.open, [order](const Open& open) { return open.order <= order; });
  }
}

void Shadow::undone(uint64_t block, const std::vector<uint64_t>& values, uint64_t order) {
  for (size_t i = 0; i < values.size() && block + i < blocks_.size(); ++i) {
    std::erase_if(blocks_[block + i].open,
                  [order](const Open& open) { return open.order == order; });
  }
}

void Shadow::cleared(SlotMask slots) {
  for (uint8_t slot = 0; slot < kMemberSlots; ++slot) clears_[slot] += (slots >> slot) & 1;
}

bool Shadow::settle(uint64_t block, uint64_t value) {
  Block& b = blocks_[block];
  const bool may_be =
      b.value == value || std::any_of(b.open.begin(), b.open.end(),
                                      [value](const Open& open) { return open.value == value; });
  b.value = value;
  b.order = orders_;
  b.open.clear();
  return may_be;
}

namespace {

class ObservedReplica final : public Replica {
 public:
  ObservedReplica(std::shared_ptr<Replica> inner, Shadow& shadow, Judge& judge)
      : inner_(std::move(inner)), shadow_(shadow), judge_(judge) {}

  ReplicaId id() const override { return inner_->id(); }
  VolumeId volume() const override { return inner_->volume(); }
  LineageId lineage() const override { return inner_->lineage(); }
  uint64_t size() const override { return inner_->size(); }
  uint64_t segment_bytes() const override { return inner_->segment_bytes(); }
  uint64_t promised_epoch() const override { return inner_->promised_epoch(); }
  const std::string& config() const override { return inner_->config(); }
  ReplicaStats stats() const override { return inner_->stats(); }
  Status flush() override { return inner_->flush(); }
  Task<Status> read(uint64_t offset, MutableByteSpan out) override {
    return inner_->read(offset, out);
  }
  Task<Status> write(WriteHeader header, uint64_t offset, ByteSpan data) override {
    std::vector<uint64_t> values;
    for (uint64_t at = 0; at < data.size(); at += kBlockSize) {
      // What is not of a client of this run (a directed test's own) counts as value 0.
      values.push_back(
          store_sim::value_of_block(data.subspan(at, kBlockSize), (offset + at) / kBlockSize)
              .value_or(0));
    }
    co_return co_await change(header, offset / kBlockSize, std::move(values),
                              inner_->write(header, offset, data));
  }
  Task<Status> write_zeroes(WriteHeader header, uint64_t offset, uint64_t length) override {
    std::vector<uint64_t> values(length / kBlockSize, 0);
    co_return co_await change(header, offset / kBlockSize, std::move(values),
                              inner_->write_zeroes(header, offset, length));
  }
  Task<Status> discard(WriteHeader header, uint64_t offset, uint64_t length) override {
    std::vector<uint64_t> values(length / kBlockSize, 0);
    co_return co_await change(header, offset / kBlockSize, std::move(values),
                              inner_->discard(header, offset, length));
  }
  Task<Result<std::vector<DataExtent>>> extents(uint64_t offset, uint64_t length,
                                                size_t limit) override {
    return inner_->extents(offset, length, limit);
  }
  Task<Result<SnapshotInfo>> snapshot(WriteHeader header, SnapshotId id) override {
    return inner_->snapshot(header, id);
  }
  Task<Status> delete_snapshot(SnapshotId id) override { return inner_->delete_snapshot(id); }
  std::vector<SnapshotInfo> snapshots() const override { return inner_->snapshots(); }
  Task<Status> read_snapshot(SnapshotId id, uint64_t offset, MutableByteSpan out) override {
    return inner_->read_snapshot(id, offset, out);
  }
  Task<Status> restore(WriteHeader header, SnapshotId id) override {
    return inner_->restore(header, id);
  }
  Task<Status> resize(WriteHeader header, uint64_t size_bytes) override {
    return inner_->resize(header, size_bytes);
  }
  Task<Status> promise(uint64_t epoch) override {
    Status done = co_await inner_->promise(epoch);
    if (done.ok()) {
      shadow_.promise(epoch);
      judge_.promised(id(), epoch);
    }
    co_return done;
  }
  Task<Status> set_config(std::string config) override {
    judge_.given_config(id(), config);
    return inner_->set_config(std::move(config));
  }
  Stamp commit() const override { return inner_->commit(); }
  void advance_commit(Stamp commit) override { inner_->advance_commit(commit); }
  Task<Status> settle_window(WriteHeader header) override { return inner_->settle_window(header); }
  Task<Result<std::vector<ByteRange>>> window(uint64_t from, size_t limit) override {
    return inner_->window(from, limit);
  }
  Task<Result<std::vector<ByteRange>>> dirty(uint32_t slot, uint64_t from, size_t limit) override {
    return inner_->dirty(slot, from, limit);
  }
  Task<Result<uint64_t>> dirty_bytes(uint32_t slot) override { return inner_->dirty_bytes(slot); }
  Task<Status> mark_dirty(WriteHeader header, SlotMask slots,
                          std::vector<ByteRange> ranges) override {
    return inner_->mark_dirty(header, slots, std::move(ranges));
  }
  Task<Status> clear_dirty(WriteHeader header, SlotMask slots) override {
    shadow_.cleared(slots);
    return inner_->clear_dirty(header, slots);
  }
  Task<Status> clear_dirty_range(WriteHeader header, uint32_t slot, ByteRange range) override {
    shadow_.cleared(slot_bit(static_cast<uint8_t>(slot)));
    return inner_->clear_dirty_range(header, slot, range);
  }
  Task<Result<uint64_t>> allocated_bytes() override { return inner_->allocated_bytes(); }
  Task<Status> wait_drained() override { return inner_->wait_drained(); }

 private:
  // The write is called when it is awaited, at once.
  Task<Status> change(WriteHeader header, uint64_t block, std::vector<uint64_t> values,
                      Task<Status> write) {
    const uint64_t promised = shadow_.promised();
    judge_.taken(header.stamp(), values);
    const uint64_t order = shadow_.begin(block, values);
    Status done = co_await std::move(write);
    const ErrorCode code = done.code();
    if (done.ok()) {
      shadow_.done(block, values, order);
      judge_.applied(id(), header.epoch, promised, block, values);
    } else if (code == ErrorCode::kFenced || code == ErrorCode::kNoSpace) {
      shadow_.undone(block, values, order);
    }
    co_return done;
  }

  const std::shared_ptr<Replica> inner_;
  Shadow& shadow_;
  Judge& judge_;
};

}  // namespace

std::shared_ptr<Replica> observe(std::shared_ptr<Replica> replica, Shadow& shadow, Judge& judge) {
  return std::make_shared<ObservedReplica>(std::move(replica), shadow, judge);
}

}  // namespace hf::replicate_sim
