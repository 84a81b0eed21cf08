// Bad days of a real etcd: members killed, frozen, a majority away, history compacted, the quota
// used up, data set back, a stranger at the port. After each: no stuck call, no lost or invented
// write.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <map>

#include "base/prng.h"
#include "runtime/gate.h"
#include "state/testing/etcd_client.h"
#include "state/testing/etcd_process.h"
#include "state/testing/etcd_tasks.h"
#include "state/txn_retry.h"

namespace hf::state {
namespace {

using steps::collect;
using steps::pause;
using steps::put;
using steps::try_put;
using steps::value_of;

constexpr Duration kPatience = 90s;  // of a machine under load

EtcdOptions options_for(const EtcdTestCluster& etcd) {
  EtcdOptions options;
  options.endpoints = etcd.endpoints();
  options.prefix = "holdfast-test/";
  options.attempt_timeout = 700ms;
  options.call_timeout = 2s;
  options.probe_every = 300ms;
  return options;
}

EtcdTestOptions members(int count) {
  EtcdTestOptions options;
  options.members = count;
  return options;
}

class EtcdFault : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string missing = etcd_missing();
    if (!missing.empty()) GTEST_SKIP() << missing;
  }
};

// ---- A member is killed or frozen: the others serve, watches go on ------------------------------

enum class Blow { kKill, kFreeze };

void strike(EtcdTestCluster& etcd, int member, Blow blow) {
  if (blow == Blow::kKill) {
    etcd.kill_9(member);
  } else {
    etcd.freeze(member);
  }
}

void heal(EtcdTestCluster& etcd, int member, Blow blow) {
  if (blow == Blow::kKill) {
    etcd.start(member);
  } else {
    etcd.thaw(member);
  }
}

Task<void> goes_on_elsewhere(EtcdTestCluster& etcd, EtcdClient& client, Blow blow) {
  EtcdStore& store = client.store();
  Clock& clock = client.clock();
  Revision first = co_await put(store, clock, "w/0", "before", kPatience);
  Result<std::unique_ptr<Watch>> watch = co_await store.watch("w/", first);
  EXPECT_TRUE(watch.ok());
  Gate gate;
  std::vector<Event> seen;
  bool compacted = false;
  (void)spawn(gate, collect(**watch, 31, &seen, &compacted));
  // The member in use is the first one; it may lead or not: both are struck in turn.
  for (int round = 0; round < 3; ++round) {
    const int member = round;
    strike(etcd, member, blow);
    for (int i = 0; i < 10; ++i) {
      std::string key = fmt::format("w/{}", 1 + round * 10 + i);
      Revision revision = co_await put(store, clock, key, "while one is away", kPatience);
      EXPECT_GT(revision, 0u);
    }
    heal(etcd, member, blow);
    // The others must not go before this one is back.
    int serving = 0;
    for (int i = 0; i < 1800 && serving < 3; ++i) {
      co_await pause(clock, 50ms);
      serving = 0;
      for (const EtcdEndpoint& endpoint : store.session().endpoints()) serving += endpoint.serves;
    }
    EXPECT_EQ(serving, 3) << "round " << round;
  }
  co_await gate.close();
  EXPECT_FALSE(compacted);
  // An ambiguous put that was asked again stands twice in the history, never out of order.
  std::map<std::string, int> keys;
  Revision last = 0;
  for (const Event& event : seen) {
    EXPECT_GT(event.mod_revision, last);
    last = event.mod_revision;
    ++keys[event.key];
  }
  EXPECT_GE(seen.size(), 31u);
}

TEST_F(EtcdFault, AKilledMemberIsPassedOver) {
  EtcdTestCluster etcd(members(3));
  EtcdClient client;
  client.open(options_for(etcd));
  client.run(goes_on_elsewhere(etcd, client, Blow::kKill));
}

TEST_F(EtcdFault, AFrozenMemberIsPassedOver) {
  EtcdTestCluster etcd(members(3));
  EtcdClient client;
  client.open(options_for(etcd));
  client.run(goes_on_elsewhere(etcd, client, Blow::kFreeze));
}

// ---- The majority is away: answers in time, none of them a lie ----------------------------------

Task<void> majority_lost(EtcdTestCluster& etcd, EtcdClient& client) {
  EtcdStore& store = client.store();
  Clock& clock = client.clock();
  Revision first = co_await put(store, clock, "a", "1", kPatience);
  Result<std::unique_ptr<Watch>> watch = co_await store.watch("a", first + 1);
  EXPECT_TRUE(watch.ok());
  const int leader = etcd.leader();
  EXPECT_GE(leader, 0);
  const int other = (leader + 1) % 3;
  etcd.kill_9(leader);
  etcd.freeze(other);
  for (int i = 0; i < 4; ++i) {
    MonoTime began = clock.now();
    ErrorCode code = co_await try_put(store, "lost", "x");
    EXPECT_TRUE(code == ErrorCode::kAmbiguous || code == ErrorCode::kUnavailable)
        << static_cast<int>(code);
    Result<std::optional<Entry>> read = co_await store.get("a");
    EXPECT_EQ(read.code(), ErrorCode::kUnavailable);
    Result<Duration> lease = co_await store.keep_alive(7);
    EXPECT_EQ(lease.code(), ErrorCode::kUnavailable);
    const Duration took = clock.now() - began;
    EXPECT_LT(took, kPatience) << "three calls of at most 2 s";
  }
  // Soon the last member says that it has no leader: then nothing is sent any more.
  std::string why;
  for (int i = 0; i < 900 && why.find("no endpoint") == std::string::npos; ++i) {
    co_await pause(clock, 100ms);
    Result<std::optional<Entry>> read = co_await store.get("a");
    why = read.ok() ? "a read without a majority" : read.error().message();
  }
  EXPECT_NE(why.find("no endpoint"), std::string::npos) << why;
  Result<TxnOutcome> refused = co_await store.transact(Txn().put("never", "sent"));
  EXPECT_EQ(refused.code(), ErrorCode::kUnavailable);
  etcd.start(leader);
  etcd.thaw(other);
  Revision after = co_await put(store, clock, "a", "2", kPatience);
  Result<WatchBatch> batch = co_await watch.value()->next();
  EXPECT_TRUE(batch.ok() && !batch->compacted && !batch->events.empty());
  EXPECT_LE(batch->events.at(0).mod_revision, after);
  std::string never = co_await value_of(store, clock, "never");
  EXPECT_EQ(never, "(absent)");
}

TEST_F(EtcdFault, WithoutAMajorityEveryCallEndsInTime) {
  EtcdTestCluster etcd(members(3));
  EtcdClient client;
  client.open(options_for(etcd));
  client.run(majority_lost(etcd, client));
}

// ---- "Did not happen" and "happened" are true, whatever falls over ------------------------------

struct Ledger {
  std::map<std::string, ErrorCode> outcomes;  // kOk: committed
  std::map<ErrorCode, int> counts;
  bool stop = false;
};

Task<void> write_ledger(KvStore& store, Clock& clock, int writer, Ledger* ledger) {
  for (int i = 0; !ledger->stop; ++i) {
    std::string key = fmt::format("led/{}/{:06}", writer, i);
    Txn txn;
    txn.expect_absent(key).put(key, "mine");
    Result<TxnOutcome> done = co_await store.transact(txn);
    if (done.ok()) {
      EXPECT_TRUE(done->committed) << key << " is written once";
    }
    ledger->outcomes[key] = done.code();
    ++ledger->counts[done.code()];
    if (!done.ok()) co_await pause(clock, 10ms);
  }
}

// Until so many more writes than `before` came to this.
Task<void> await_outcomes(Clock& clock, Ledger& ledger, ErrorCode code, int before, int more) {
  for (int i = 0; i < 9000 && ledger.counts[code] < before + more; ++i) co_await pause(clock, 10ms);
  EXPECT_GE(ledger.counts[code], before + more) << "outcome " << static_cast<int>(code);
}

Task<void> chaos(EtcdTestCluster& etcd, EtcdClient& client) {
  EtcdStore& store = client.store();
  Clock& clock = client.clock();
  Ledger ledger;
  Gate gate;
  for (int i = 0; i < 6; ++i) (void)spawn(gate, write_ledger(store, clock, i, &ledger));
  Prng prng(20260301);
  co_await await_outcomes(clock, ledger, ErrorCode::kOk, 0, 100);
  for (int blow = 0; blow < 5; ++blow) {
    const int one = static_cast<int>(prng.below(3));
    const int two = (one + 1) % 3;
    const Blow kind = prng.below(2) == 0 ? Blow::kKill : Blow::kFreeze;
    const bool both = blow % 2 == 1;
    const int ambiguous = ledger.counts[ErrorCode::kAmbiguous];
    const int unavailable = ledger.counts[ErrorCode::kUnavailable];
    strike(etcd, one, kind);
    if (both) strike(etcd, two, Blow::kFreeze);
    if (both) {  // what is on its way is cut off; then there is nobody to ask
      co_await await_outcomes(clock, ledger, ErrorCode::kAmbiguous, ambiguous, 1);
      co_await await_outcomes(clock, ledger, ErrorCode::kUnavailable, unavailable, 1);
    } else {
      co_await pause(clock, 1200ms);
    }
    heal(etcd, one, kind);
    if (both) heal(etcd, two, Blow::kFreeze);
    const int committed = ledger.counts[ErrorCode::kOk];
    co_await await_outcomes(clock, ledger, ErrorCode::kOk, committed, 30);
  }
  ledger.stop = true;
  co_await gate.close();
  // Whatever is still on its way arrives before a write that is sure.
  Revision settled = co_await put(store, clock, "led.settled", "x", kPatience);
  EXPECT_GT(settled, 0u);
  co_await pause(clock, 1s);
  Result<std::vector<Entry>> all = co_await range_all(store, "led/", 1000000);
  for (int i = 0; i < 90 && all.code() == ErrorCode::kUnavailable; ++i) {
    co_await pause(clock, 1s);
    all = co_await range_all(store, "led/", 1000000);
  }
  EXPECT_TRUE(all.ok());
  if (!all.ok()) co_return;
  std::map<std::string, Revision> there;
  for (const Entry& entry : *all) there[entry.key] = entry.mod_revision;
  std::map<ErrorCode, int>& counts = ledger.counts;
  int happened_after_all = 0;
  for (const auto& [key, code] : ledger.outcomes) {
    const bool present = there.contains(key);
    if (code == ErrorCode::kOk) {
      EXPECT_TRUE(present) << key << " was acknowledged and is not there";
    }
    if (code == ErrorCode::kAmbiguous) {
      happened_after_all += present;
    } else if (code != ErrorCode::kOk) {
      EXPECT_EQ(code, ErrorCode::kUnavailable);
      EXPECT_FALSE(present) << key << " is there although it was said not to have happened";
    }
  }
  fmt::print("committed {}, ambiguous {} (of which happened {}), unavailable {}\n",
             counts[ErrorCode::kOk], counts[ErrorCode::kAmbiguous], happened_after_all,
             counts[ErrorCode::kUnavailable]);
}

TEST_F(EtcdFault, NoWriteIsLostOrInvented) {
  EtcdTestCluster etcd(members(3));
  EtcdClient client;
  EtcdOptions options = options_for(etcd);
  options.call_timeout = 1200ms;
  client.open(options);
  client.run(chaos(etcd, client));
}

// ---- History ------------------------------------------------------------------------------------

// By etcdctl, which asks once and gives up: again while its member looks for a leader. A step that
// was carried out unheard is carried out twice, so no revision may be counted up from here.
std::string ctl_until_done(const EtcdTestCluster& etcd, const std::string& words, int member) {
  std::string said;
  for (int attempt = 0; attempt < 20; ++attempt) {
    said = etcd.ctl("--command-timeout=2s " + words, member);
    if (!said.starts_with("failed: ")) break;
    ::usleep(200000);
  }
  EXPECT_FALSE(said.starts_with("failed: ")) << words << ": " << said;
  return said;
}

Revision revision_of(const EtcdTestCluster& etcd, int member) {
  const std::string said = ctl_until_done(etcd, "get nothing --write-out=fields", member);
  const size_t at = said.find("\"Revision\" : ");
  EXPECT_NE(at, std::string::npos) << said;
  if (at == std::string::npos) return 0;
  return std::strtoull(said.c_str() + at + 13, nullptr, 10);
}

// Of what is in order: the revision up to which a watch has told, which is at least `wanted`; else
// 0.
Task<Revision> watched_to(Watch& watch, Revision wanted) {
  Revision told = 0;
  while (told < wanted) {
    Result<WatchBatch> batch = co_await watch.next();
    if (!batch.ok() || batch->compacted) co_return 0;
    told = batch->revision;
  }
  co_return told;
}

Task<void> compaction(EtcdTestCluster& etcd, EtcdClient& client) {
  // The first client knows the first member only; the world goes on without it.
  EtcdStore& store = client.store();
  Clock& clock = client.clock();
  Revision first = co_await put(store, clock, "c/1", "1", kPatience);
  Result<std::unique_ptr<Watch>> watch = co_await store.watch("c/", first + 1);
  EXPECT_TRUE(watch.ok());
  Revision second = co_await put(store, clock, "c/2", "2", kPatience);
  Revision told = co_await watched_to(**watch, second);
  EXPECT_EQ(told, second);
  // A member that comes back may serve the watch before it has heard of the compaction: then it
  // tells what happened, which is right, too, and the next round is another chance.
  bool compacted = false;
  for (int round = 0; round < 4 && !compacted; ++round) {
    const Revision before = second;
    etcd.kill_9(0);
    ctl_until_done(etcd, "put holdfast-test/c/3 3", 1);
    ctl_until_done(etcd, "put holdfast-test/c/3 4", 1);
    second = revision_of(etcd, 1);
    EXPECT_GE(second, before + 2);
    // A second try of one that was carried out says "has been compacted", which is as good.
    std::string wrote;
    for (int i = 0; i < 20 && wrote.find("compacted") == std::string::npos; ++i) {
      wrote = etcd.ctl(fmt::format("compact {}", second), 1);
    }
    EXPECT_NE(wrote.find("compacted"), std::string::npos) << wrote;
    if (second < before + 2 || wrote.find("compacted") == std::string::npos) co_return;
    etcd.start(0);
    Revision told_to = before;
    while (told_to < second && !compacted) {
      Result<WatchBatch> batch = co_await watch.value()->next();
      EXPECT_TRUE(batch.ok());
      if (!batch.ok()) co_return;
      compacted = batch->compacted;
      EXPECT_EQ(batch->events.empty(), compacted);
      told_to = batch->revision;
    }
  }
  EXPECT_TRUE(compacted);
  Result<WatchBatch> again = co_await watch.value()->next();
  EXPECT_TRUE(again.ok() && again->compacted) << "it is over, and says so";
  // The way back.
  RangeRequest request("c/");
  Result<Page> page = co_await store.range(request);
  for (int i = 0; i < 900 && page.code() == ErrorCode::kUnavailable; ++i) {
    co_await pause(clock, 100ms);
    page = co_await store.range(request);
  }
  EXPECT_TRUE(page.ok() && page->entries.size() == 3);
  if (!page.ok()) co_return;
  Result<std::unique_ptr<Watch>> next = co_await store.watch("c/", page->revision + 1);
  Revision third = co_await put(store, clock, "c/5", "5", kPatience);
  Revision fresh = co_await watched_to(**next, third);
  EXPECT_EQ(fresh, third);
  // From a revision that is gone: at once.
  Result<std::unique_ptr<Watch>> old = co_await store.watch("c/", first);
  Result<WatchBatch> refused = co_await old.value()->next();
  EXPECT_TRUE(refused.ok() && refused->compacted);
}

TEST_F(EtcdFault, AWatchLearnsOfCompaction) {
  EtcdTestCluster etcd(members(3));
  EtcdClient client;
  EtcdOptions options = options_for(etcd);
  options.endpoints.resize(1);
  client.open(options);
  client.run(compaction(etcd, client));
}

Task<void> set_back(EtcdTestCluster& etcd, EtcdClient& client) {
  EtcdStore& store = client.store();
  Clock& clock = client.clock();
  Revision first = co_await put(store, clock, "s/1", "1", kPatience);
  EXPECT_GT(first, 0u);
  etcd.kill_9(0);
  etcd.copy_data(0, "backup");
  etcd.start(0);
  Revision lost = 0;
  for (int i = 0; i < 5; ++i)
    lost = co_await put(store, clock, "s/2", std::to_string(i), kPatience);
  Result<std::unique_ptr<Watch>> watch = co_await store.watch("s/", lost + 1);
  EXPECT_TRUE(watch.ok());
  Revision seen = co_await put(store, clock, "s/3", "3", kPatience);
  Revision told = co_await watched_to(**watch, seen);
  EXPECT_EQ(told, seen);
  etcd.kill_9(0);
  etcd.put_data_back(0, "backup");
  etcd.start(0);
  Result<WatchBatch> batch = co_await watch.value()->next();
  EXPECT_TRUE(batch.ok() && batch->compacted) << "or it would wait for old revisions to come again";
  EXPECT_LT(batch->revision, lost);
}

TEST_F(EtcdFault, AWatchLearnsThatEtcdWasSetBack) {
  EtcdTestCluster etcd(members(1));
  EtcdClient client;
  client.open(options_for(etcd));
  client.run(set_back(etcd, client));
}

// ---- Full ---------------------------------------------------------------------------------------

Task<void> full(EtcdTestCluster& etcd, EtcdClient& client) {
  EtcdStore& store = client.store();
  const std::string value(kMaxValueBytes, 'f');
  Revision last = 0;
  ErrorCode end = ErrorCode::kOk;
  for (int i = 0; i < 200 && end == ErrorCode::kOk; ++i) {
    Result<TxnOutcome> done = co_await store.transact(Txn().put("f/big", value));
    end = done.code();
    if (done.ok()) last = done->revision;
    // A slow disk.
    if (end == ErrorCode::kAmbiguous || end == ErrorCode::kUnavailable) end = ErrorCode::kOk;
  }
  EXPECT_EQ(end, ErrorCode::kNoSpace);
  Result<TxnOutcome> small = co_await store.transact(Txn().put("f/small", "s"));
  EXPECT_EQ(small.code(), ErrorCode::kNoSpace);
  if (!small.ok()) {
    EXPECT_NE(small.error().message().find("defragment"), std::string::npos)
        << small.error().message();
  }
  Result<Lease> lease = co_await store.grant_lease(5s);
  EXPECT_EQ(lease.code(), ErrorCode::kNoSpace);
  std::string absent = co_await value_of(store, client.clock(), "f/small");
  EXPECT_EQ(absent, "(absent)");
  Result<TxnOutcome> removed = co_await store.transact(Txn().remove("f/big"));
  EXPECT_TRUE(removed.ok() && removed->committed) << "removing frees, so it goes on";
  std::string steps = etcd.ctl(fmt::format("compact --physical {}", last + 1));
  steps += etcd.ctl("defrag");
  steps += etcd.ctl("alarm disarm");
  Revision after = co_await put(store, client.clock(), "f/small", "s", kPatience);
  EXPECT_GT(after, last) << steps;
}

TEST_F(EtcdFault, AFullEtcdSaysSoAndRecovers) {
  EtcdTestOptions small = members(1);
  small.more = {"--quota-backend-bytes", "16777216"};
  EtcdTestCluster etcd(small);
  EtcdClient client;
  EtcdOptions options = options_for(etcd);
  options.attempt_timeout = 10s;
  options.call_timeout = 30s;
  client.open(options);
  client.run(full(etcd, client));
}

// ---- Strangers ----------------------------------------------------------------------------------

Task<void> two_etcds(EtcdTestCluster& ours, EtcdClient& client) {
  EtcdStore& store = client.store();
  Revision first = co_await put(store, client.clock(), "k", "ours", kPatience);
  EXPECT_GT(first, 0u);
  ours.kill_9(0);
  std::string why;
  for (int i = 0; i < 900 && why.find("belongs to another etcd cluster") == std::string::npos;
       ++i) {
    co_await pause(client.clock(), 100ms);
    Result<std::optional<Entry>> entry = co_await store.get("k");
    EXPECT_EQ(entry.code(), ErrorCode::kUnavailable);
    if (!entry.ok()) why = entry.error().message();
  }
  EXPECT_NE(why.find("belongs to another etcd cluster"), std::string::npos) << why;
  ErrorCode code = co_await try_put(store, "k", "theirs");
  EXPECT_EQ(code, ErrorCode::kUnavailable);
}

TEST_F(EtcdFault, AnotherEtcdIsNotMistakenForOurs) {
  EtcdTestCluster ours(members(1));
  EtcdTestOptions named = members(1);
  named.more = {"--initial-cluster-token", "another"};
  EtcdTestCluster theirs(named);
  EtcdClient client;
  EtcdOptions options = options_for(ours);
  client.open(options);
  options.expect_etcd = client.store().etcd_id();
  EXPECT_NE(options.expect_etcd, 0u);
  client.close();
  options.endpoints.push_back(theirs.endpoints()[0]);
  client.open(options);
  client.run(two_etcds(ours, client));
  const std::string kept = theirs.ctl("get --prefix holdfast-test/");
  EXPECT_EQ(kept.find("k"), std::string::npos) << kept;
}

// Accepts connections (the kernel does) and never says a word, or says something else.
TEST_F(EtcdFault, APortThatDoesNotAnswerEndsInTime) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  ASSERT_EQ(::bind(fd, reinterpret_cast<sockaddr*>(&address), size), 0);
  ASSERT_EQ(::listen(fd, 16), 0);
  ASSERT_EQ(::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size), 0);
  EtcdOptions options;
  options.endpoints = {fmt::format("127.0.0.1:{}", ntohs(address.sin_port)), "127.0.0.1:1"};
  options.prefix = "holdfast-test/";
  options.call_timeout = 2s;
  EtcdClient client;
  const MonoTime began = client.clock().now();
  const Status opened = client.try_open(options);
  EXPECT_LT(client.clock().now() - began, kPatience);
  EXPECT_EQ(opened.code(), ErrorCode::kUnavailable);
  if (!opened.ok()) {
    EXPECT_NE(opened.error().message().find("127.0.0.1:1: "), std::string::npos)
        << opened.error().message();
  }
  ::close(fd);
}

}  // namespace
}  // namespace hf::state
