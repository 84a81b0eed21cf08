// One pool with one replica on a simulated disk, for tests that make one thing happen at a time.
#pragma once

#include <gtest/gtest.h>

#include "base/log.h"
#include "model.h"
#include "sim/simulation.h"
#include "store/pool.h"

namespace hf::store_sim {

struct OnePoolOptions {
  OnePoolOptions() = default;
  uint64_t capacity_bytes = 64 * kMiB;  // of the disk; zero: its own default
  uint64_t size_bytes = 1 * kMiB;       // of the replica
  uint64_t segment_bytes = 0;           // ReplicaSpec's
  uint64_t large_write_bytes = kDefaultLargeWriteBytes;  // PoolConfig's
  Duration full_patience = kDefaultFullPatience;         // PoolConfig's
};

class OnePool : public testing::Test {
 protected:
  explicit OnePool(OnePoolOptions options = OnePoolOptions())
      : options_(options), sim_(1), host_(sim_.add_host("a")), disk_(host_.add_disk("/")), process_(host_) {
    set_log_level(LogLevel::kOff);
    if (options_.capacity_bytes != 0) disk_.set_capacity(options_.capacity_bytes);
    config_.journal_dir = config_.data_dir = "/pool";
    config_.journal_bytes = config_.journal_bytes_min = kSmallestJournalBytes;
    config_.reserve_bytes = 1 * kMiB;
    config_.drain_delay = 1min;
    config_.large_write_bytes = options_.large_write_bytes;
    config_.full_patience = options_.full_patience;
    sim_.run(create());
  }
  ~OnePool() override {
    if (pool_ != nullptr) sim_.run(stop());
  }
  Task<void> create() {
    Status made = co_await process_.world().fs.make_directory("/pool", 0700);
    HF_ASSERT(made.ok());
    Status named = co_await process_.world().fs.sync_dir("/");
    HF_ASSERT(named.ok());
    Result<std::unique_ptr<Pool>> pool = co_await Pool::create(process_.world(), config_);
    HF_ASSERT(pool.ok(), "{}", pool.error().to_string());
    pool_ = std::move(*pool);
    ReplicaSpec spec;
    spec.replica = replica_ = new_id<ReplicaId>(process_.world().random);
    spec.volume = new_id<VolumeId>(process_.world().random);
    spec.size_bytes = options_.size_bytes;
    spec.segment_bytes = options_.segment_bytes;
    Result<std::shared_ptr<Replica>> replica = co_await pool_->create_replica(spec);
    HF_ASSERT(replica.ok(), "{}", replica.error().to_string());
  }
  Task<void> stop() {
    Status stopped = co_await pool_->stop();
    (void)stopped;
    pool_.reset();
  }
  Task<void> open(Status* status) {
    Result<std::unique_ptr<Pool>> pool = co_await Pool::open(process_.world(), config_);
    if (pool.ok()) pool_ = std::move(*pool);
    *status = pool.ok() ? Status() : Status(pool.error());
  }
  Status opened() {
    Status status;
    sim_.run(open(&status));
    return status;
  }
  void kill() {
    process_.kill();
    sim_.run(stop());
    process_.restart();
  }
  std::shared_ptr<Replica> replica() { return pool_->find(replica_); }
  Task<void> write(uint64_t value, Status* status) {
    AlignedBuffer block(kBlockSize);
    fill_block(block.span(), value, 0);
    WriteHeader header;
    header.epoch = replica()->promised_epoch();
    *status = co_await replica()->write(header, 0, block.span());
  }
  Status write(uint64_t value) {
    Status status;
    sim_.run(write(value, &status));
    return status;
  }
  Task<void> cut(SnapshotId* id, Status* status) {
    *id = new_id<SnapshotId>(process_.world().random);
    WriteHeader header;
    header.epoch = replica()->promised_epoch();
    Result<SnapshotInfo> info = co_await replica()->snapshot(header, *id);
    *status = info.ok() ? Status() : Status(info.error());
  }
  Status cut(SnapshotId* id = nullptr) {
    Status status;
    SnapshotId unused;
    sim_.run(cut(id != nullptr ? id : &unused, &status));
    return status;
  }
  Task<void> promise(uint64_t epoch, Status* status) {
    *status = co_await replica()->promise(epoch);
  }
  Task<void> remove(SnapshotId id, Status* status) {
    *status = co_await replica()->delete_snapshot(id);
  }
  Task<void> drain(Status* status) { *status = co_await pool_->wait_drained(); }
  Status drained() {
    Status status;
    sim_.run(drain(&status));
    return status;
  }
  // All that is free, or all but some.
  void fill_disk(uint64_t leave = 0) { disk_.set_capacity(used() + leave); }
  uint64_t used() const { return disk_.space().used() * kBlockSize; }

  const OnePoolOptions options_;
  sim::Simulation sim_;
  sim::SimHost& host_;
  sim::SimDisk& disk_;
  sim::SimProcess process_;
  PoolConfig config_;
  std::unique_ptr<Pool> pool_;
  ReplicaId replica_;
};

}  // namespace hf::store_sim
