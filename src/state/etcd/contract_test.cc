// The contract of KvStore over a real etcd: one member, and three.
#include "state/contract/kv_contract.h"

#include <gtest/gtest.h>

#include "state/testing/etcd_client.h"
#include "state/testing/etcd_process.h"

namespace hf::state {
namespace {

// One etcd for all tests of the suite; each has a prefix of its own, which the next does not see.
EtcdTestCluster& shared_etcd(int members) {
  static std::unique_ptr<EtcdTestCluster> etcds[4];
  std::unique_ptr<EtcdTestCluster>& etcd = etcds[members];
  if (etcd == nullptr) {
    EtcdTestOptions options;
    options.members = members;
    etcd = std::make_unique<EtcdTestCluster>(options);
  }
  return *etcd;
}

class EtcdHost : public KvHost {
 public:
  explicit EtcdHost(int members) {
    static int number = 0;
    options_.endpoints = shared_etcd(members).endpoints();
    options_.prefix = fmt::format("holdfast-test-{}/", ++number);
    // A machine under load is no fault of the client's.
    options_.attempt_timeout = std::chrono::seconds(10);
    options_.call_timeout = std::chrono::seconds(20);
    client_.open(options_);
  }
  KvStore& store() override { return client_.store(); }
  Clock& clock() override { return client_.clock(); }
  void run(Task<void> task) override { client_.run(std::move(task)); }
  Task<void> reopen() override {
    co_await client_.store().close();
    Status opened;
    co_await client_.open_into(options_, &opened);
    HF_ASSERT(opened.ok(), "{}", opened.error().to_string());
  }

 private:
  EtcdOptions options_;
  EtcdClient client_;
};

std::unique_ptr<KvHost> make_etcd_host() {
  return std::make_unique<EtcdHost>(1);
}
std::unique_ptr<KvHost> make_three_member_host() {
  return std::make_unique<EtcdHost>(3);
}

class SkipWithoutEtcd : public ::testing::Environment {
 public:
  void SetUp() override {
    const std::string missing = etcd_missing();
    if (!missing.empty()) GTEST_SKIP() << missing;
  }
};
const ::testing::Environment* const g_environment =
    ::testing::AddGlobalTestEnvironment(new SkipWithoutEtcd);

INSTANTIATE_TEST_SUITE_P(Etcd, KvContract, ::testing::Values(&make_etcd_host));
INSTANTIATE_TEST_SUITE_P(EtcdOfThree, KvContract, ::testing::Values(&make_three_member_host));

}  // namespace
}  // namespace hf::state
