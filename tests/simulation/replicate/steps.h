// What the tests that make one thing happen at a time share: a cluster driven by hand.
#pragma once

#include <gtest/gtest.h>

#include <memory>

#include "../store/model.h"
#include "base/log.h"
#include "cluster.h"

namespace hf::replicate_sim {

inline Shape quiet() {
  Shape shape;
  shape.clients = 0;
  return shape;
}

class Steps : public testing::Test {
 protected:
  void make(Shape shape = quiet(), uint64_t seed = 1) {
    set_log_level(LogLevel::kOff);
    cluster_ = std::make_unique<SimCluster>(seed, shape);
    drive(cluster_->create());
  }
  ~Steps() override {
    if (cluster_ == nullptr) return;
    drive(heal_and_stop());
    EXPECT_EQ(cluster_->failure(), "");
  }
  void drive(Task<void> task) { cluster_->sim().run(std::move(task)); }
  void wait(Duration d) { drive(cluster_->pause_for(d)); }
  Node& node(size_t number) { return cluster_->node(number - 1); }
  Coordinator& at(size_t number) { return *node(number).daemon->attachment->coordinator; }
  double now_s() { return static_cast<double>(cluster_->sim().loop().now()) / 1e9; }

  Task<void> heal_and_stop() {
    cluster_->let_clients(false);
    cluster_->sim().net().heal_all();
    for (size_t i = 0; i < cluster_->size(); ++i) {
      if (cluster_->node(i).paused) cluster_->node(i).process.proceed();
    }
    co_await cluster_->stop_all();
  }
  Task<void> keep(Task<Status> task, Status* out) { *out = co_await std::move(task); }
  Task<void> keep_attach(size_t number, NodeId away) {
    attached_ = co_await cluster_->attach(node(number), away);
  }
  // `away`: who is known not to answer.
  Status attach(size_t number, NodeId away = NodeId()) {
    attached_ = Status();
    drive(keep_attach(number, away));
    return attached_;
  }
  Status detach(size_t number) {
    Status done;
    drive(keep(cluster_->detach(node(number)), &done));
    return done;
  }
  Task<void> write_task(size_t number, uint64_t block, uint64_t value, Status* out) {
    AlignedBuffer data(kBlockSize);
    store_sim::fill_block(data.span(), value, block);
    *out = co_await at(number).write(block * kBlockSize, data.span());
  }
  Status write(size_t number, uint64_t block, uint64_t value) {
    Status done;
    drive(write_task(number, block, value, &done));
    return done;
  }
  Task<void> read_task(size_t number, uint64_t block, Status* out, uint64_t* value) {
    AlignedBuffer data(kBlockSize);
    *out = co_await at(number).read(block * kBlockSize, data.span());
    *value = store_sim::value_of_block(data.span(), block).value_or(~uint64_t{0});
  }
  uint64_t read(size_t number, uint64_t block) {
    Status done;
    uint64_t value = 0;
    drive(read_task(number, block, &done, &value));
    EXPECT_TRUE(done.ok()) << done.error().to_string();
    return value;
  }
  void kill(size_t number, bool power = false) { drive(cluster_->end(node(number), power)); }
  Task<void> start_task(size_t number) {
    bool up = co_await cluster_->start(node(number));
    HF_ASSERT(up);
  }
  void start(size_t number) { drive(start_task(number)); }
  void freeze(size_t number) {
    node(number).paused = true;
    node(number).process.pause();
  }
  void thaw(size_t number) {
    node(number).paused = false;
    node(number).process.proceed();
  }
  void isolate(size_t number) {
    for (size_t i = 1; i <= cluster_->size(); ++i) {
      if (i != number)
        cluster_->sim().net().partition(node(number).host.name(), node(i).host.name());
    }
  }
  Task<void> sync_task(Duration within, bool* done) {
    *done = co_await cluster_->all_in_sync(within);
  }
  bool in_sync(Duration within) {
    bool done = false;
    drive(sync_task(within, &done));
    return done;
  }
  Task<void> config_task(VolumeConfig* out) {
    Result<StoredConfig> stored = co_await cluster_->config();
    HF_ASSERT(stored.ok());
    *out = stored->config;
  }
  VolumeConfig config() {
    VolumeConfig out;
    drive(config_task(&out));
    return out;
  }
  // Seconds from now until a write through `number` has been acknowledged.
  double stall(size_t number, uint64_t block, uint64_t value) {
    const double before = now_s();
    const Status done = write(number, block, value);
    EXPECT_TRUE(done.ok()) << done.error().to_string();
    return now_s() - before;
  }

  std::unique_ptr<SimCluster> cluster_;
  Status attached_;
};

}  // namespace hf::replicate_sim
