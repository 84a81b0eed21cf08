// The embedded store in the real world: its calls run on threads of the pool, its time is real.
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include "state/contract/kv_contract.h"
#include "state/sqlite_store.h"
#include "uring/uring_world.h"

namespace hf::state {
namespace {

class RealHost : public KvHost {
 public:
  RealHost() {
    char name[] = "/tmp/hf-state-XXXXXX";
    HF_ASSERT(::mkdtemp(name) != nullptr);
    folder_ = name;
    Result<std::unique_ptr<UringWorld>> real = UringWorld::create(UringWorldOptions());
    HF_ASSERT(real.ok(), "{}", real.error().to_string());
    real_ = std::move(real).value();
    real_->loop().run_until(open());
  }
  ~RealHost() override {
    real_->loop().run_until(store_->close());
    store_.reset();
    for (const char* end : {"", "-wal", ".lock"}) ::unlink((folder_ + "/state.db" + end).c_str());
    ::rmdir(folder_.c_str());
  }
  KvStore& store() override { return *store_; }
  Clock& clock() override { return real_->world().clock; }
  void run(Task<void> task) override { real_->loop().run_until(std::move(task)); }
  Task<void> reopen() override {
    co_await store_->close();
    co_await open();
  }

 private:
  Task<void> open() {
    Result<std::unique_ptr<SqliteStore>> opened = co_await SqliteStore::open(
        real_->world().blocking, real_->world().clock, folder_ + "/state.db");
    HF_ASSERT(opened.ok(), "{}", opened.error().to_string());
    store_ = std::move(opened).value();
  }
  std::string folder_;
  std::unique_ptr<UringWorld> real_;
  std::unique_ptr<SqliteStore> store_;
};

std::unique_ptr<KvHost> make_real_host() {
  return std::make_unique<RealHost>();
}

INSTANTIATE_TEST_SUITE_P(SqliteReal, KvContract, ::testing::Values(&make_real_host));

}  // namespace
}  // namespace hf::state
