// LocalPort: a session with a replica of this node, by direct calls.
#pragma once

#include "replicate/port.h"
#include "replicate/replica_service.h"

namespace hf {

class LocalPort final : public ReplicaPort {
 public:
  explicit LocalPort(std::shared_ptr<ReplicaService> service) : service_(std::move(service)) {}

  Task<Result<FenceAnswer>> fence(Session session) override {
    session_ = session;
    return service_->fence(session);
  }
  Task<Status> heartbeat(Stamp commit) override { co_return service_->heartbeat(session_, commit); }
  Task<Status> release() override { co_return service_->release(session_); }
  Task<Status> write(WriteHeader header, uint64_t offset, WriteData data) override {
    return service_->write(session_, header, offset, std::move(data));
  }
  Task<Status> write_zeroes(WriteHeader header, uint64_t offset, uint64_t length) override {
    return service_->write_zeroes(session_, header, offset, length);
  }
  Task<Status> read(uint64_t offset, MutableByteSpan out) override {
    return service_->read(session_, offset, out);
  }
  Task<Result<std::vector<DataExtent>>> extents(uint64_t offset, uint64_t length,
                                                size_t limit) override {
    return service_->extents(session_, offset, length, limit);
  }
  Status flush() override { return service_->replica().flush(); }
  void advance_commit(Stamp commit) override {
    if (service_->session() == session_) service_->replica().advance_commit(commit);
  }
  Task<Result<std::vector<ByteRange>>> window(uint64_t from, size_t limit) override {
    return service_->window(session_, from, limit);
  }
  Task<Result<std::vector<ByteRange>>> dirty(uint32_t slot, uint64_t from, size_t limit) override {
    return service_->dirty(session_, slot, from, limit);
  }
  Task<Status> mark_dirty(WriteHeader header, SlotMask slots,
                          std::vector<ByteRange> ranges) override {
    return service_->mark_dirty(session_, header, slots, std::move(ranges));
  }
  Task<Status> clear_dirty(WriteHeader header, SlotMask slots) override {
    return service_->clear_dirty(session_, header, slots);
  }
  Task<Status> settle_window(WriteHeader header) override {
    return service_->settle_window(session_, header);
  }
  Task<Status> set_config(std::string config) override {
    return service_->set_config(session_, std::move(config));
  }
  Task<Status> resize(WriteHeader header, uint64_t size_bytes) override {
    return service_->resize(session_, header, size_bytes);
  }
  Task<Result<SnapshotInfo>> snapshot(WriteHeader header, SnapshotId id) override {
    return service_->snapshot(session_, header, id);
  }
  Task<Status> delete_snapshot(SnapshotId id) override {
    return service_->delete_snapshot(session_, id);
  }
  // What runs in the store runs to its end.
  void close() override {}

 private:
  std::shared_ptr<ReplicaService> service_;
  Session session_;
};

}  // namespace hf
