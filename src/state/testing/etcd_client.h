// A client of a real etcd on a real loop, for tests.
#pragma once

#include <memory>
#include <string>

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
  void run(Task<void> task) { real_->loop().run_until(std::move(task)); }
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
  // An etcd that was just started needs a moment.
  void open(const EtcdOptions& options) {
    Status status;
    for (int i = 0; i < 8; ++i) {
      status = try_open(options);
      if (status.code() != ErrorCode::kUnavailable) break;
    }
    HF_ASSERT(status.ok(), "{}", status.error().to_string());
  }

 private:
  std::unique_ptr<UringWorld> real_;
  std::unique_ptr<EtcdStore> store_;
};

}  // namespace hf::state
