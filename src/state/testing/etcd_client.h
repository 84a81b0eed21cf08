// A client of a real etcd on a real loop, for tests.
#pragma once

#include <memory>
#include <string>

#include "runtime/gate.h"
#include "state/etcd/store.h"
#include "uring/uring_world.h"

namespace hf::state {

class EtcdClient {
 public:
  EtcdClient() {
    Result<std::unique_ptr<UringWorld>> real = UringWorld::create(UringWorldOptions());
    HF_ASSERT(real.ok(), "{}", real.error().to_string());
    real_ = std::move(real).value();
  }
  ~EtcdClient() { close(); }
  EtcdClient(const EtcdClient&) = delete;
  EtcdClient& operator=(const EtcdClient&) = delete;

  UringLoop& loop() { return real_->loop(); }
  World& world() { return real_->world(); }
  Clock& clock() { return real_->world().clock; }
  EtcdStore& store() { return *store_; }
  // A task that hangs cannot be unwound: the test binary ends, loudly.
  void run(Task<void> task) { real_->loop().run_until(watched(std::move(task))); }
  void close() {
    if (store_ == nullptr) return;
    real_->loop().run_until(store_->close());
    store_.reset();
  }

  Task<void> open_into(EtcdOptions options, Status* out) {
    Result<std::unique_ptr<EtcdStore>> opened = co_await EtcdStore::open(world(), options);
    if (opened.ok()) {
      store_ = std::move(*opened);
      *out = Status();
    } else {
      *out = opened.error();
    }
  }
  Status try_open(EtcdOptions options) {
    Status status;
    run(open_into(std::move(options), &status));
    return status;
  }
  // An etcd that was just started needs a moment, on a machine under load a long one.
  void open(const EtcdOptions& options) {
    const MonoTime deadline = clock().now() + kStartTime;
    Status status = try_open(options);
    while (status.code() == ErrorCode::kUnavailable && clock().now() < deadline) {
      status = try_open(options);
    }
    HF_ASSERT(status.ok(), "{}", status.error().to_string());
  }

 private:
  static constexpr Duration kStartTime = 90s;
  static constexpr Duration kReasonableTime = 300s;

  Task<void> guard(CancelToken done) {
    Status slept = co_await clock().sleep_for(kReasonableTime, done);
    HF_ASSERT(!slept.ok(), "the task did not end within {} s", kReasonableTime / 1s);
  }
  Task<void> watched(Task<void> task) {
    Gate gate;
    CancelSource done;
    spawn(gate, guard(done));
    co_await std::move(task);
    done.cancel();
    co_await gate.close();
  }

  std::unique_ptr<UringWorld> real_;
  std::unique_ptr<EtcdStore> store_;
};

}  // namespace hf::state
