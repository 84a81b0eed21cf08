// TLS and users of a real etcd.
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <fstream>
#include <iterator>

#include "state/testing/etcd_client.h"
#include "state/testing/etcd_process.h"
#include "state/testing/etcd_tasks.h"

namespace hf::state {
namespace {

using steps::put;
using steps::value_of;

constexpr Duration kPatience = 90s;

class EtcdSecure : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string missing = etcd_missing();
    if (!missing.empty()) GTEST_SKIP() << missing;
    if (::system("openssl version > /dev/null 2>&1") != 0) {
      GTEST_SKIP() << "openssl is not installed: tools/deps.sh test";
    }
  }
};

EtcdOptions options_for(const EtcdTestCluster& etcd) {
  EtcdOptions options;
  options.endpoints = etcd.endpoints();
  options.prefix = "holdfast-test/";
  options.attempt_timeout = 5s;  // passwords are hashed slowly, by intent, machines are loaded
  options.call_timeout = 12s;
  return options;
}

void write_file(const std::string& path, const std::string& text) {
  std::ofstream(path) << text;
}

Task<void> works(EtcdClient& client, std::string key) {
  Revision revision = co_await put(client.store(), client.clock(), key, "v", kPatience);
  EXPECT_GT(revision, 0u);
  Result<std::unique_ptr<Watch>> watch = co_await client.store().watch(key, revision);
  EXPECT_TRUE(watch.ok());
  Result<WatchBatch> batch = co_await watch.value()->next();
  EXPECT_TRUE(batch.ok() && batch->events.size() == 1);
  Result<Lease> lease = co_await client.store().grant_lease(5s);
  EXPECT_TRUE(lease.ok());
  Result<Duration> ttl = co_await client.store().keep_alive(lease->id);
  EXPECT_TRUE(ttl.ok());
}

TEST_F(EtcdSecure, TlsBothWays) {
  EtcdTestOptions test;
  test.tls = true;
  EtcdTestCluster etcd(test);
  EtcdOptions good = options_for(etcd);
  good.ca_file = etcd.file("ca.crt");
  good.cert_file = etcd.file("node.crt");
  good.key_file = etcd.file("node.key");
  EtcdClient client;
  client.open(good);
  client.run(works(client, "tls/1"));
  client.close();

  EtcdOptions bad = good;
  bad.attempt_timeout = 500ms;
  bad.call_timeout = 1s;
  bad.ca_file = etcd.file("other.crt");  // their certificate is not of this authority
  EXPECT_EQ(client.try_open(bad).code(), ErrorCode::kUnavailable);
  bad.ca_file = good.ca_file;
  bad.cert_file = etcd.file("other.crt");  // ours is not of theirs
  bad.key_file = etcd.file("other.key");
  EXPECT_EQ(client.try_open(bad).code(), ErrorCode::kUnavailable);
  bad.cert_file.clear();  // none at all
  bad.key_file.clear();
  EXPECT_EQ(client.try_open(bad).code(), ErrorCode::kUnavailable);
  bad.ca_file.clear();  // not even TLS
  EXPECT_EQ(client.try_open(bad).code(), ErrorCode::kUnavailable);
  bad.ca_file = etcd.file("no such file");
  const Status missing = client.try_open(bad);
  EXPECT_EQ(missing.code(), ErrorCode::kNotFound);
  if (!missing.ok()) {
    EXPECT_NE(missing.error().message().find("no such file"), std::string::npos);
  }
  bad.ca_file = etcd.file("junk");
  write_file(bad.ca_file, "no certificate");
  EXPECT_EQ(client.try_open(bad).code(), ErrorCode::kUnavailable);
}

std::string read_text(const std::string& path) {
  std::ifstream in(path);
  return std::string(std::istreambuf_iterator<char>(in), {});
}

// The second endpoint is learned; then the first dies.
Task<void> learns(EtcdTestCluster& etcd, EtcdClient& client) {
  client.store().session().learn(etcd.endpoints());
  client.store().session().learn(etcd.endpoints());
  EXPECT_EQ(client.store().session().endpoints().size(), 3u) << "known ones are not learned twice";
  etcd.kill_9(0);
  Revision revision = co_await put(client.store(), client.clock(), "learned", "v", kPatience);
  EXPECT_GT(revision, 0u);
}

Task<void> reloads(EtcdClient& client, EtcdOptions files, std::string strange, std::string good) {
  EtcdSession& session = client.store().session();
  write_file(files.cert_file, strange);
  Status read = co_await session.reload();
  EXPECT_TRUE(read.ok());
  Result<std::optional<Entry>> got = co_await client.store().get("learned");
  EXPECT_EQ(got.code(), ErrorCode::kUnavailable) << "a certificate that does not belong to the key";
  write_file(files.cert_file, good);
  read = co_await session.reload();
  EXPECT_TRUE(read.ok());
  Revision revision = co_await put(client.store(), client.clock(), "reloaded", "v", kPatience);
  EXPECT_GT(revision, 0u);
  ::unlink(files.cert_file.c_str());
  read = co_await session.reload();
  EXPECT_EQ(read.code(), ErrorCode::kNotFound);
  got = co_await client.store().get("reloaded");
  EXPECT_TRUE(got.ok() && got->has_value()) << "what was there stays";
}

TEST_F(EtcdSecure, EndpointsAndCertificatesChangeWhileItRuns) {
  EtcdTestOptions test;
  test.tls = true;
  test.members = 3;
  EtcdTestCluster etcd(test);
  EtcdOptions options = options_for(etcd);
  options.endpoints.resize(1);
  options.ca_file = etcd.file("ca.crt");
  options.cert_file = etcd.file("mine.crt");
  options.key_file = etcd.file("node.key");
  const std::string good = read_text(etcd.file("node.crt"));
  write_file(options.cert_file, good);
  EtcdClient client;
  client.open(options);
  client.run(learns(etcd, client));
  client.run(reloads(client, options, read_text(etcd.file("other.crt")), good));
  client.close();
}

Task<void> outlives_its_token(EtcdTestCluster& etcd, EtcdClient& client) {
  EtcdStore& store = client.store();
  Clock& clock = client.clock();
  Revision first = co_await put(store, clock, "t/1", "1", kPatience);
  Result<std::unique_ptr<Watch>> watch = co_await store.watch("t/", first + 1);
  EXPECT_TRUE(watch.ok());
  // Tokens live in the members' memory: after a restart the old one means nothing.
  etcd.kill_9(0);
  etcd.start(0);
  Revision second = co_await put(store, clock, "t/2", "2", kPatience);
  EXPECT_GT(second, first);
  Result<WatchBatch> batch = co_await watch.value()->next();
  EXPECT_TRUE(batch.ok() && !batch->compacted && !batch->events.empty());
  if (batch.ok() && !batch->events.empty()) {
    EXPECT_EQ(batch->events[0].key, "t/2");
  }
  // One that ran out, without a restart (its time to live is 2 s here, renewed by use).
  co_await steps::pause(clock, 4s);
  Result<TxnOutcome> late = co_await store.transact(Txn().put("t/3", "3"));
  EXPECT_TRUE(late.ok()) << "renewed, asked again, and all of it unseen";
}

Task<void> sees_only_its_own(EtcdClient& client) {
  std::string own = co_await value_of(client.store(), client.clock(), "t/1");
  EXPECT_EQ(own, "1");
  RangeRequest everything("");
  Result<Page> page = co_await client.store().range(everything);
  EXPECT_TRUE(page.ok() && page->entries.size() == 3);
}

TEST_F(EtcdSecure, UsersAndTheirTokens) {
  EtcdTestOptions test;
  test.more = {"--auth-token-ttl", "2"};
  EtcdTestCluster etcd(test);
  EtcdOptions options = options_for(etcd);
  EtcdClient client;
  client.open(options);  // authentication is off, no user: fine
  client.close();
  options.user = "holdfast";
  options.password_file = etcd.file("password");
  write_file(options.password_file, "s3cret with spaces\n");
  client.open(options);  // off, with a user: works as well
  client.close();

  std::string setup = etcd.ctl("user add root:r00t");
  setup += etcd.ctl("user grant-role root root");
  setup += etcd.ctl("user add 'holdfast:s3cret with spaces'");
  setup += etcd.ctl("role add holdfast");
  setup += etcd.ctl("role grant-permission holdfast --prefix=true readwrite holdfast-test/");
  setup += etcd.ctl("user grant-role holdfast holdfast");
  setup += etcd.ctl("auth enable");
  ASSERT_NE(setup.find("Authentication Enabled"), std::string::npos) << setup;

  client.open(options);
  client.run(outlives_its_token(etcd, client));
  client.run(sees_only_its_own(client));
  client.close();

  EtcdOptions wrong = options;
  wrong.password_file = etcd.file("wrong");
  write_file(wrong.password_file, "guess\n");
  const Status refused = client.try_open(wrong);
  EXPECT_EQ(refused.code(), ErrorCode::kUnauthenticated);
  if (!refused.ok()) {
    EXPECT_EQ(refused.error().message().find("guess"), std::string::npos);
    EXPECT_NE(refused.error().message().find("the password file"), std::string::npos);
  }
  EtcdOptions nobody = options;
  nobody.user.clear();
  nobody.password_file.clear();
  EXPECT_EQ(client.try_open(nobody).code(), ErrorCode::kUnauthenticated);
  EtcdOptions elsewhere = options;
  elsewhere.prefix = "not-ours/";
  EXPECT_EQ(client.try_open(elsewhere).code(), ErrorCode::kPermissionDenied);
  write_file(wrong.password_file, "\nsecond line\n");
  EXPECT_EQ(client.try_open(wrong).code(), ErrorCode::kInvalidArgument);
}

// Switched on under a client that has a user: it goes on.
Task<void> goes_on_with_auth(EtcdTestCluster& etcd, EtcdClient& client) {
  Revision before = co_await put(client.store(), client.clock(), "a", "1", kPatience);
  EXPECT_GT(before, 0u);
  std::string setup = etcd.ctl("user add root:r00t");
  setup += etcd.ctl("user grant-role root root");
  setup += etcd.ctl("auth enable");
  EXPECT_NE(setup.find("Authentication Enabled"), std::string::npos) << setup;
  Revision after = co_await put(client.store(), client.clock(), "a", "2", kPatience);
  EXPECT_GT(after, before);
}

TEST_F(EtcdSecure, AuthenticationSwitchedOnLater) {
  EtcdTestCluster etcd;
  EtcdOptions options = options_for(etcd);
  options.user = "root";
  options.password_file = etcd.file("password");
  write_file(options.password_file, "r00t");
  EtcdClient client;
  client.open(options);
  client.run(goes_on_with_auth(etcd, client));
}

}  // namespace
}  // namespace hf::state
