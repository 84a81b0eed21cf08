// The contract over both embedded backs, and what is special to each.
#include "state/kv_store.h"

#include <gtest/gtest.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <fstream>
#include <iterator>

#include "base/prng.h"
#include "sim/sim_clock.h"
#include "sim/sim_loop.h"
#include "state/contract/kv_contract.h"
#include "state/memory_store.h"
#include "state/sqlite_store.h"

namespace hf::state {
namespace {

// Calls run at once on the loop, their ends are posted: the order of a pool with one thread.
class InlinePool : public BlockingPool {
 public:
  explicit InlinePool(Loop& loop) : loop_(loop) {}
  void submit(std::function<void()> fn, std::function<void()> done) override {
    fn();
    loop_.post(std::move(done));
  }

 private:
  Loop& loop_;
};

class SimHost : public KvHost {
 public:
  SimHost()
      : loop_(1), life_(loop_, 1, Prng(2)), model_(Prng(3)), clock_(life_, model_), pool_(loop_) {}
  Clock& clock() override { return clock_; }
  void run(Task<void> task) override { loop_.run(std::move(task)); }

 protected:
  sim::SimLoop loop_;
  sim::Incarnation life_;
  sim::ClockModel model_;
  sim::SimClock clock_;
  InlinePool pool_;
};

class MemoryHost : public SimHost {
 public:
  MemoryHost() : server_(clock_), store_(std::make_unique<MemoryStore>(server_, clock_, nullptr)) {}
  ~MemoryHost() override { loop_.run(end()); }
  KvStore& store() override { return *store_; }
  Task<void> reopen() override {
    co_await store_->close();
    store_ = std::make_unique<MemoryStore>(server_, clock_, nullptr);
  }
  MemoryServer& server() { return server_; }

 private:
  Task<void> end() {
    co_await store_->close();
    co_await server_.close();
  }
  MemoryServer server_;
  std::unique_ptr<MemoryStore> store_;
};

class Folder {
 public:
  Folder() {
    char name[] = "/tmp/hf-state-XXXXXX";
    HF_ASSERT(::mkdtemp(name) != nullptr);
    path_ = name;
  }
  ~Folder() {
    for (const char* end : {"", "-wal", "-shm", "-journal", ".lock"})
      ::unlink((file() + end).c_str());
    ::rmdir(path_.c_str());
  }
  std::string file() const { return path_ + "/state.db"; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

class SqliteHost : public SimHost {
 public:
  SqliteHost() { loop_.run(open()); }
  ~SqliteHost() override { loop_.run(store_->close()); }
  KvStore& store() override { return *store_; }
  Task<void> reopen() override {
    co_await store_->close();
    co_await open();
  }

 private:
  Task<void> open() {
    Result<std::unique_ptr<SqliteStore>> opened =
        co_await SqliteStore::open(pool_, clock_, folder_.file());
    HF_ASSERT(opened.ok(), "{}", opened.error().to_string());
    store_ = std::move(opened).value();
  }
  Folder folder_;
  std::unique_ptr<SqliteStore> store_;
};

std::unique_ptr<KvHost> make_memory_host() {
  return std::make_unique<MemoryHost>();
}
std::unique_ptr<KvHost> make_sqlite_host() {
  return std::make_unique<SqliteHost>();
}

INSTANTIATE_TEST_SUITE_P(Memory, KvContract, ::testing::Values(&make_memory_host));
INSTANTIATE_TEST_SUITE_P(Sqlite, KvContract, ::testing::Values(&make_sqlite_host));

// ---- SQLite's own
// ----------------------------------------------------------------------------------

Result<std::unique_ptr<SqliteDb>> open_file(const Folder& folder,
                                            uint64_t max_bytes = kMaxStateFileBytes) {
  return SqliteDb::open(folder.file(), max_bytes);
}

void put(SqliteDb& db, const std::string& key, const std::string& value) {
  Txn txn;
  txn.put(key, value);
  Result<Applied> done = db.apply(txn);
  ASSERT_TRUE(done.ok()) << done.error().to_string();
}

void run_sql(const Folder& folder, const std::string& sql) {
  sqlite3* db = nullptr;
  ASSERT_EQ(sqlite3_open(folder.file().c_str(), &db), SQLITE_OK);
  char* why = nullptr;
  EXPECT_EQ(sqlite3_exec(db, sql.c_str(), nullptr, nullptr, &why), SQLITE_OK) << why;
  sqlite3_close(db);
}

TEST(SqliteDb, FileIsPrivateAndLocked) {
  Folder folder;
  Result<std::unique_ptr<SqliteDb>> db = open_file(folder);
  ASSERT_TRUE(db.ok()) << db.error().to_string();
  put(**db, "a", "b");
  for (const char* end : {"", "-wal", ".lock"}) {
    struct stat info {};
    ASSERT_EQ(::stat((folder.file() + end).c_str(), &info), 0) << end;
    EXPECT_EQ(info.st_mode & 0777, 0600u) << end;
  }
  Result<std::unique_ptr<SqliteDb>> second = open_file(folder);
  ASSERT_EQ(second.code(), ErrorCode::kLocked);
  EXPECT_NE(second.error().message().find(std::to_string(::getpid())), std::string::npos);
  db.value().reset();
  EXPECT_TRUE(open_file(folder).ok());
}

TEST(SqliteDb, LooseModeIsTightened) {
  Folder folder;
  { ASSERT_TRUE(open_file(folder).ok()); }
  ::chmod(folder.file().c_str(), 0644);
  ASSERT_TRUE(open_file(folder).ok());
  struct stat info {};
  ::stat(folder.file().c_str(), &info);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
}

TEST(SqliteDb, NewerFormatIsRefusedUntouched) {
  Folder folder;
  { ASSERT_TRUE(open_file(folder).ok()); }
  run_sql(folder, "PRAGMA user_version=2");
  Result<std::unique_ptr<SqliteDb>> db = open_file(folder);
  EXPECT_EQ(db.code(), ErrorCode::kNewerFormat);
}

TEST(SqliteDb, ForeignDatabaseIsRefused) {
  Folder folder;
  run_sql(folder, "CREATE TABLE theirs(x)");
  EXPECT_EQ(open_file(folder).code(), ErrorCode::kWrongOwner);
}

TEST(SqliteDb, GarbageIsRefused) {
  Folder folder;
  std::ofstream(folder.file()) << std::string(8192, 'g');
  EXPECT_EQ(open_file(folder).code(), ErrorCode::kCorruption);
}

TEST(SqliteDb, ChangedRowIsFoundAtOpen) {
  Folder folder;
  {
    Result<std::unique_ptr<SqliteDb>> db = open_file(folder);
    ASSERT_TRUE(db.ok());
    put(**db, "volumes/x", "the truth");
  }
  run_sql(folder, "UPDATE kv SET value=CAST('a lie' AS BLOB)");
  Result<std::unique_ptr<SqliteDb>> db = open_file(folder);
  ASSERT_EQ(db.code(), ErrorCode::kCorruption);
  EXPECT_NE(db.error().message().find("volumes/x"), std::string::npos);
}

// Any byte of the file: the store opens with what was there, or refuses; it never tells a lie.
TEST(SqliteDb, FlippedBytesNeverReadAsTruth) {
  Folder folder;
  {
    Result<std::unique_ptr<SqliteDb>> db = open_file(folder);
    ASSERT_TRUE(db.ok());
    for (int i = 0; i < 50; ++i)
      put(**db, fmt::format("k{:02}", i), std::string(100, 'a' + i % 26));
  }
  std::string good;
  {
    std::ifstream in(folder.file(), std::ios::binary);
    good.assign(std::istreambuf_iterator<char>(in), {});
  }
  ASSERT_GT(good.size(), 8192u);
  Prng prng(7);
  int refused = 0, opened = 0;
  for (int round = 0; round < 150; ++round) {
    std::string bad = good;
    bad[prng.below(bad.size())] ^= static_cast<char>(1 << prng.below(8));
    std::ofstream(folder.file(), std::ios::binary | std::ios::trunc) << bad;
    Result<std::unique_ptr<SqliteDb>> db = open_file(folder);
    if (!db.ok()) {
      ++refused;
      continue;
    }
    ++opened;
    RangeRequest all("");
    Result<Page> page = db.value()->range(all);
    if (!page.ok()) continue;
    for (const Entry& entry : page->entries) {
      const int i = std::stoi(entry.key.substr(1));
      ASSERT_EQ(entry.value, std::string(100, 'a' + i % 26)) << "round " << round;
    }
  }
  EXPECT_GT(refused, 10);
  EXPECT_GT(opened, 10);  // bytes that no page uses
}

TEST(SqliteDb, FullIsSaidAndNothingIsHalfDone) {
  Folder folder;
  Result<std::unique_ptr<SqliteDb>> db = open_file(folder, 256 * 1024);
  ASSERT_TRUE(db.ok());
  put(**db, "small", "fits");
  Txn txn;
  txn.put("a", std::string(1000, 'a')).put("z", std::string(400 * 1024, 'z'));
  Result<Applied> refused = db.value()->apply(txn);
  ASSERT_EQ(refused.code(), ErrorCode::kNoSpace);
  EXPECT_FALSE(db.value()->get("a").value().has_value());
  put(**db, "small", "still works");
  EXPECT_EQ(db.value()->revision(), 2u);
}

TEST(SqliteDb, BadPlacesAreNamed) {
  Folder folder;
  Result<std::unique_ptr<SqliteDb>> missing =
      SqliteDb::open(folder.path() + "/no/state.db", 1 << 20);
  EXPECT_EQ(missing.code(), ErrorCode::kNotFound);
  EXPECT_NE(missing.error().message().find("/no/state.db"), std::string::npos);
  EXPECT_EQ(SqliteDb::open("state.db", 1 << 20).code(), ErrorCode::kInvalidArgument);
  ASSERT_EQ(::mkdir(folder.file().c_str(), 0700), 0);
  EXPECT_FALSE(open_file(folder).ok());
  ::rmdir(folder.file().c_str());
}

// A crash leaves the WAL behind; what was answered is there afterwards.
TEST(SqliteDb, WhatWasAnsweredSurvivesAKilledProcess) {
  Folder folder;
  int pipe_fds[2];
  ASSERT_EQ(::pipe(pipe_fds), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    Result<std::unique_ptr<SqliteDb>> db = open_file(folder);
    if (!db.ok()) ::_exit(1);
    for (uint32_t i = 0;; ++i) {
      Txn txn;
      txn.put("count", std::to_string(i));
      if (!db.value()->apply(txn).ok() || ::write(pipe_fds[1], &i, sizeof i) != sizeof i)
        ::_exit(1);
    }
  }
  uint32_t acknowledged = 0;
  while (acknowledged < 30) {
    ASSERT_EQ(::read(pipe_fds[0], &acknowledged, sizeof acknowledged),
              (ssize_t)sizeof acknowledged);
  }
  ::kill(child, SIGKILL);
  int status = 0;
  ::waitpid(child, &status, 0);
  ::close(pipe_fds[1]);
  uint32_t more = 0;
  while (::read(pipe_fds[0], &more, sizeof more) == sizeof more) acknowledged = more;
  ::close(pipe_fds[0]);
  Result<std::unique_ptr<SqliteDb>> db = open_file(folder);
  ASSERT_TRUE(db.ok()) << db.error().to_string();
  Result<std::optional<Entry>> entry = db.value()->get("count");
  ASSERT_TRUE(entry.ok() && entry.value());
  EXPECT_GE(std::stoul(entry.value()->value), acknowledged);
}

std::string read_whole(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return std::string((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
}
void write_whole(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

// A power loss in the middle of a commit: what the log held at the last answer was synced and is there,
// of what came behind it any part, or bytes that were never written. Never half a transaction.
TEST(SqliteDb, WhatWasAnsweredSurvivesAPowerLoss) {
  Folder folder;
  std::string file, log_before, log_after;
  {
    Result<std::unique_ptr<SqliteDb>> db = open_file(folder);
    ASSERT_TRUE(db.ok());
    for (int i = 0; i < 20; ++i) put(**db, "count", std::to_string(i));
    file = read_whole(folder.file());
    log_before = read_whole(folder.file() + "-wal");
    Txn txn;
    txn.put("a", std::string(9000, 'a')).put("count", "20").put("z", std::string(9000, 'z'));
    ASSERT_TRUE(db.value()->apply(txn).ok());
    ASSERT_EQ(read_whole(folder.file()), file);  // all of it is in the log
    log_after = read_whole(folder.file() + "-wal");
  }
  ASSERT_GT(log_after.size(), log_before.size());
  Prng prng(5);
  int with = 0, without = 0;
  const auto next = [&](size_t cut) {  // the last one is the whole log, a round number or not
    return cut == log_after.size() ? cut + 1 : std::min(cut + 512, log_after.size());
  };
  for (size_t cut = log_before.size(); cut <= log_after.size(); cut = next(cut)) {
    for (const bool torn : {false, true}) {
      std::string log = log_after.substr(0, cut);
      for (size_t i = log_before.size(); torn && i < log.size(); i += 512) {
        if (prng.chance(1, 3)) log.replace(i, std::min<size_t>(512, log.size() - i), 512, '\0');
      }
      write_whole(folder.file(), file);
      write_whole(folder.file() + "-wal", log);
      Result<std::unique_ptr<SqliteDb>> db = open_file(folder);
      ASSERT_TRUE(db.ok()) << cut << ": " << db.error().to_string();
      const std::string count = db.value()->get("count").value()->value;
      const bool whole = count == "20";
      EXPECT_TRUE(whole || count == "19") << cut << ": " << count;
      for (const char* key : {"a", "z"}) {
        EXPECT_EQ(db.value()->get(key).value().has_value(), whole) << cut << " " << key;
      }
      EXPECT_EQ(db.value()->revision(), whole ? 21u : 20u);
      (whole ? with : without) += 1;
      put(**db, "goes", "on");
    }
  }
  EXPECT_GT(with, 0);
  EXPECT_GT(without, 10);
}

// The log cannot grow in the middle of a commit: the file is named, nobody is told that it did or did not
// happen, nothing is half done, and what was there stays.
TEST(SqliteDb, ALogThatCannotGrowIsAmbiguous) {
  Folder folder;
  const pid_t child = ::fork();
  if (child == 0) {
    Result<std::unique_ptr<SqliteDb>> db = open_file(folder);
    if (!db.ok()) ::_exit(2);
    put(**db, "small", "fits");
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{200 * 1024, 200 * 1024};
    if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) ::_exit(3);
    Txn txn;
    txn.put("a", std::string(400 * 1024, 'a'));
    Result<Applied> refused = db.value()->apply(txn);
    if (refused.ok() || refused.error().message().find(folder.file()) == std::string::npos)
      ::_exit(4);
    ::_exit(refused.code() == ErrorCode::kAmbiguous ? 0 : 5);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  Result<std::unique_ptr<SqliteDb>> db = open_file(folder);
  ASSERT_TRUE(db.ok()) << db.error().to_string();
  EXPECT_TRUE(db.value()->get("small").value().has_value());
  EXPECT_FALSE(db.value()->get("a").value().has_value());
}

// ---- ambiguity
// -------------------------------------------------------------------------------------

// Every kind of bad luck, by a seed.
class UnluckyFaults : public StoreFaults {
 public:
  explicit UnluckyFaults(uint64_t seed) : prng_(seed) {}
  StoreFate fate(bool) override { return static_cast<StoreFate>(prng_.below(5)); }
  Duration latency() override { return std::chrono::microseconds(prng_.below(3000)); }
  Duration late_by() override { return std::chrono::milliseconds(prng_.below(200)); }

 private:
  Prng prng_;
};

Task<void> count_up(KvStore& store, Clock& clock, std::string name, int* sure, int* unsure) {
  for (int i = 0; i < 12; ++i) {
    Result<std::optional<Entry>> entry = co_await store.get("counter");
    if (!entry.ok()) continue;
    const std::string before = entry.value() ? entry.value()->value : "0";
    const int have = std::stoi(before);
    Txn txn;
    txn.expect("counter", entry.value() ? entry.value()->mod_revision : 0);
    txn.put("counter", fmt::format("{} by {} {}", have + 1, name, i));
    const MonoTime deadline = clock.now() + std::chrono::seconds(2);
    Result<TxnOutcome> outcome = co_await transact_sure(store, clock, txn, deadline);
    if (outcome.ok() && outcome->committed) *sure += 1;
    if (outcome.code() == ErrorCode::kAmbiguous) *unsure += 1;
  }
}

Task<void> ambiguous_counting(MemoryServer& server, Clock& clock, uint64_t seed) {
  UnluckyFaults faults(seed);
  MemoryStore store(server, clock, &faults);
  Gate gate;
  int sure = 0, unsure = 0;
  for (int i = 0; i < 3; ++i) {
    (void)spawn(gate, count_up(store, clock, fmt::format("c{}", i), &sure, &unsure));
  }
  co_await gate.close();
  co_await store.close();
  co_await server.close();
  const std::optional<Entry> entry = server.get("counter");
  const int count = entry ? std::stoi(entry->value) : 0;
  EXPECT_GE(count, sure) << "seed " << seed;
  EXPECT_LE(count, sure + unsure) << "seed " << seed;
}

TEST(TransactSure, CountsExactlyWhatHappened) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    sim::SimLoop loop(seed);
    sim::Incarnation life(loop, 1, Prng(seed));
    sim::ClockModel model{Prng(seed)};
    sim::SimClock clock(life, model);
    MemoryServer server(clock);
    loop.run(ambiguous_counting(server, clock, seed));
  }
}

TEST(PrefixEnd, IsTheLeastKeyBehind) {
  EXPECT_EQ(prefix_end("a/"), "a0");
  EXPECT_EQ(prefix_end("a\xff"), "b");
  EXPECT_EQ(prefix_end("\xff\xff"), "");
  EXPECT_EQ(prefix_end(""), "");
}

}  // namespace
}  // namespace hf::state
