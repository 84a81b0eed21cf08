// Members of our own: started, watched, joined, removed. With Debian's etcd.
#include "state/etcd/member.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <fstream>

#include "state/etcd/admin.h"
#include "state/testing/etcd_client.h"
#include "state/testing/etcd_process.h"
#include "state/testing/etcd_tasks.h"
#include "state/testing/free_ports.h"

namespace hf::state {
namespace {

using steps::pause;
using steps::put;
using steps::value_of;

constexpr Duration kPatience = 90s;

EtcdMemberOptions member_options(const std::string& folder, const std::string& name,
                                 const std::vector<int>& ports, size_t index) {
  EtcdMemberOptions options;
  options.dir = folder + "/" + name;
  options.name = name;
  options.address = "127.0.0.1";
  options.client_port = static_cast<uint16_t>(ports[2 * index]);
  options.peer_port = static_cast<uint16_t>(ports[2 * index + 1]);
  options.token = "test-token";
  options.initial = {{name, options.peer_url()}};
  return options;
}

std::string command_text(const EtcdMemberOptions& options) {
  std::string text;
  for (const std::string& word : etcd_member_command(options)) text += word + "\n";
  return text;
}

TEST(EtcdMemberCommand, IsWhatWasAskedForAndNothingUnsafe) {
  EtcdMemberOptions options = member_options("/var/lib/holdfast", "n1", {2379, 2380}, 0);
  ASSERT_TRUE(check_etcd_member(options).ok());
  std::string text = command_text(options);
  EXPECT_NE(text.find("--listen-client-urls=http://127.0.0.1:2379\n"), std::string::npos) << text;
  EXPECT_NE(text.find("--initial-cluster=n1=http://127.0.0.1:2380\n"), std::string::npos) << text;
  EXPECT_EQ(text.find("unsafe"), std::string::npos);
  EXPECT_EQ(text.find("force-new-cluster"), std::string::npos);
  EXPECT_EQ(text.find("cert"), std::string::npos);
  options.client_tls.ca = options.peer_tls.ca = "/c/ca.crt";
  options.client_tls.cert = options.peer_tls.cert = "/c/node.crt";
  options.client_tls.key = options.peer_tls.key = "/c/node.key";
  options.initial = {{"n1", options.peer_url()}};
  ASSERT_TRUE(check_etcd_member(options).ok());
  text = command_text(options);
  EXPECT_NE(text.find("=https://127.0.0.1:2379\n"), std::string::npos) << text;
  EXPECT_NE(text.find("\n--client-cert-auth=true"), std::string::npos) << text;
  EXPECT_NE(text.find("\n--peer-client-cert-auth=true"), std::string::npos) << text;
  EXPECT_EQ(text.find("crl-file"), std::string::npos) << text;
  options.client_tls.revoked = options.peer_tls.revoked = "/c/crl";
  text = command_text(options);
  EXPECT_NE(text.find("\n--client-crl-file=/c/crl"), std::string::npos) << text;
  EXPECT_NE(text.find("\n--peer-crl-file=/c/crl"), std::string::npos) << text;
  options.address = "fd00::1";
  EXPECT_EQ(options.peer_url(), "https://[fd00::1]:2380");
}

TEST(EtcdMemberCommand, RefusesWhatIsMalformed) {
  const EtcdMemberOptions good = member_options("/var/lib/holdfast", "n1", {2379, 2380}, 0);
  std::vector<EtcdMemberOptions> all(9, good);
  all[0].name = "n1\"\nforce-new-cluster: true";
  all[1].dir = "relative";
  all[2].dir = "/a\"b";
  all[3].address = "host.example";
  all[4].initial = {{"n2", "http://127.0.0.1:2380"}};
  all[5].token = "";
  all[6].peer_port = good.client_port;
  all[7].peer_tls.ca = "/c";
  all[8].election_ms = good.heartbeat_ms;
  for (size_t i = 0; i < all.size(); ++i) {
    EXPECT_EQ(check_etcd_member(all[i]).code(), ErrorCode::kInvalidArgument) << i;
  }
}

class EtcdMemberTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string missing = etcd_missing();
    if (!missing.empty()) GTEST_SKIP() << missing;
    char name[] = "/tmp/hf-member-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    folder_ = name;
  }
  void TearDown() override {
    if (folder_.starts_with("/tmp/hf-member-")) {
      EXPECT_EQ(::system(("rm -rf '" + folder_ + "'").c_str()), 0);
    }
  }
  std::string folder_;
  EtcdClient client_;
};

EtcdOptions client_options(const std::vector<EtcdMemberOptions>& members) {
  EtcdOptions options;
  for (const EtcdMemberOptions& member : members) {
    options.endpoints.push_back(member.client_endpoint());
  }
  options.prefix = "holdfast-test/";
  // A machine under load is no fault of the client's.
  options.attempt_timeout = 10s;
  options.call_timeout = 30s;
  return options;
}

Task<void> await_serving(EtcdMember& member, Clock& clock) {
  for (int i = 0; i < 1800 && !member.serves(); ++i) co_await pause(clock, 50ms);
  EXPECT_TRUE(member.serves()) << member.options().name;
}

Task<void> one_member(EtcdClient& client, EtcdMemberOptions options) {
  Clock& clock = client.clock();
  Result<std::unique_ptr<EtcdMember>> member = co_await EtcdMember::start(client.world(), options);
  EXPECT_TRUE(member.ok()) << member.error().to_string();
  if (!member.ok()) co_return;
  co_await await_serving(**member, clock);
  for (const char* path : {"", "/data", "/etcd.log"}) {
    struct stat info {};
    EXPECT_EQ(::stat((options.dir + path).c_str(), &info), 0) << path;
    EXPECT_EQ(info.st_mode & 0077, 0u) << path;
  }
  const std::vector<EtcdMemberOptions> only(1, options);
  Status opened;
  co_await client.open_into(client_options(only), &opened);
  EXPECT_TRUE(opened.ok());
  Revision first = co_await put(client.store(), clock, "k", "1", kPatience);
  EXPECT_GT(first, 0u);
  // Killed: it is started again by itself, with its data.
  const int old = (*member)->pid();
  ::kill(old, SIGKILL);
  Revision second = co_await put(client.store(), clock, "k", "2", kPatience);
  EXPECT_GT(second, first);
  EXPECT_GE((*member)->starts(), 2u);
  EXPECT_NE((*member)->pid(), old);
  const int last = (*member)->pid();
  co_await (*member)->stop();
  EXPECT_NE(::kill(last, 0), 0) << "it is gone when stop() has ended";
  member->reset();
  // And from the same data again.
  Result<std::unique_ptr<EtcdMember>> again = co_await EtcdMember::start(client.world(), options);
  EXPECT_TRUE(again.ok()) << again.error().to_string();
  if (!again.ok()) co_return;
  Revision third = co_await put(client.store(), clock, "other", "3", kPatience);
  EXPECT_GT(third, second);
  std::string value = co_await value_of(client.store(), clock, "k");
  EXPECT_EQ(value, "2");
  co_await (*again)->stop();
}

TEST_F(EtcdMemberTest, StartsAgainByItself) {
  client_.run(one_member(client_, member_options(folder_, "n1", free_ports(2), 0)));
}

Task<void> bad_starts(EtcdClient& client, EtcdMemberOptions good, EtcdMemberOptions same_ports) {
  Result<std::unique_ptr<EtcdMember>> member = co_await EtcdMember::start(client.world(), good);
  EXPECT_TRUE(member.ok());
  Result<std::unique_ptr<EtcdMember>> second =
      co_await EtcdMember::start(client.world(), same_ports);
  EXPECT_EQ(second.code(), ErrorCode::kInUse);
  if (second.ok()) co_await (*second)->stop();
  if (member.ok()) co_await (*member)->stop();
  EtcdMemberOptions elsewhere = same_ports;
  elsewhere.address = "192.0.2.1";  // no machine's
  elsewhere.initial.clear();
  elsewhere.initial.emplace_back(elsewhere.name, elsewhere.peer_url());
  Result<std::unique_ptr<EtcdMember>> third = co_await EtcdMember::start(client.world(), elsewhere);
  EXPECT_EQ(third.code(), ErrorCode::kFailedPrecondition);
  if (!third.ok()) {
    EXPECT_NE(third.error().message().find("cannot assign requested address"), std::string::npos)
        << third.error().message();
  } else {
    co_await (*third)->stop();
  }
  EtcdMemberOptions missing = good;
  missing.program = "/usr/bin/no-such-etcd";
  Result<std::unique_ptr<EtcdMember>> none = co_await EtcdMember::start(client.world(), missing);
  EXPECT_EQ(none.code(), ErrorCode::kMissingFeature);
  if (!none.ok()) {
    EXPECT_NE(none.error().message().find("apt-get install"), std::string::npos);
  }
}

TEST_F(EtcdMemberTest, AStartThatFailsSaysWhy) {
  const std::vector<int> ports = free_ports(2);
  client_.run(bad_starts(client_, member_options(folder_, "n1", ports, 0),
                         member_options(folder_, "n2", ports, 0)));
}

// init on one node, join on two more, by learners; then one is removed for good.
Task<void> grow(EtcdClient& client, std::vector<EtcdMemberOptions> options) {
  Clock& clock = client.clock();
  std::vector<std::unique_ptr<EtcdMember>> members;
  Result<std::unique_ptr<EtcdMember>> first =
      co_await EtcdMember::start(client.world(), options[0]);
  EXPECT_TRUE(first.ok()) << first.error().to_string();
  if (!first.ok()) co_return;
  members.push_back(std::move(*first));
  co_await await_serving(*members[0], clock);
  Status opened;
  co_await client.open_into(client_options(options), &opened);
  EXPECT_TRUE(opened.ok());
  EtcdSession& session = client.store().session();
  Revision before = co_await put(client.store(), clock, "k", "1", kPatience);
  EXPECT_GT(before, 0u);
  std::vector<std::pair<std::string, std::string>> initial = options[0].initial;
  for (size_t i = 1; i < options.size(); ++i) {
    Result<EtcdMemberInfo> added = co_await etcd_add_member(session, options[i].peer_url(), true);
    // The one before must have been connected for five seconds.
    for (int tries = 0; tries < 450 && added.code() == ErrorCode::kFailedPrecondition; ++tries) {
      co_await pause(clock, 200ms);
      added = co_await etcd_add_member(session, options[i].peer_url(), true);
    }
    EXPECT_TRUE(added.ok()) << added.error().to_string();
    if (!added.ok()) break;
    initial.emplace_back(options[i].name, options[i].peer_url());
    options[i].initial = initial;
    options[i].join = true;
    Result<std::unique_ptr<EtcdMember>> member =
        co_await EtcdMember::start(client.world(), options[i]);
    EXPECT_TRUE(member.ok()) << member.error().to_string();
    if (!member.ok()) break;
    members.push_back(std::move(*member));
    Status promoted;
    for (int tries = 0; tries < 1800; ++tries) {
      promoted = co_await etcd_promote_member(session, added->id);
      if (promoted.code() != ErrorCode::kFailedPrecondition) break;
      co_await pause(clock, 50ms);
    }
    EXPECT_TRUE(promoted.ok()) << promoted.error().to_string();
    co_await await_serving(*members.back(), clock);
  }
  Result<std::vector<EtcdMemberInfo>> list = co_await etcd_members(session);
  EXPECT_TRUE(list.ok() && list->size() == 3);
  // The first goes: the other two carry the state.
  co_await members[0]->stop();
  Revision after = co_await put(client.store(), clock, "k", "2", kPatience);
  EXPECT_GT(after, before);
  uint64_t gone = 0;
  for (const EtcdMemberInfo& info : *list) {
    EXPECT_FALSE(info.learner);
    if (info.name == options[0].name) gone = info.id;
  }
  Status removed = co_await etcd_remove_member(session, gone);
  EXPECT_TRUE(removed.ok()) << removed.error().to_string();
  removed = co_await etcd_remove_member(session, gone);
  EXPECT_TRUE(removed.ok()) << "asked again, it is gone";
  list = co_await etcd_members(session);
  EXPECT_TRUE(list.ok() && list->size() == 2);
  Status compacted = co_await etcd_compact(session, after);
  EXPECT_TRUE(compacted.ok()) << compacted.error().to_string();
  for (size_t i = 1; i < members.size(); ++i) co_await members[i]->stop();
}

TEST_F(EtcdMemberTest, OneBecomesThree) {
  const std::vector<int> ports = free_ports(6);
  client_.run(grow(
      client_, {member_options(folder_, "n1", ports, 0), member_options(folder_, "n2", ports, 1),
                member_options(folder_, "n3", ports, 2)}));
}

}  // namespace
}  // namespace hf::state
