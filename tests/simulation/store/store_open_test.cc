// Opening a pool: each way to be refused, and damage to the journal, one at a time.
#include <gtest/gtest.h>

#include "base/log.h"
#include "format/journal_format.h"
#include "format/pool_file.h"
#include "format/segment_format.h"
#include "format/superblock_format.h"
#include "simulated_store.h"
#include "store/journal_file.h"
#include "store/mutants.h"

namespace hf::store_sim {
namespace {

class StoreOpen : public testing::Test {
 protected:
  explicit StoreOpen(uint64_t seed = 1)
      : sim_(seed), host_(sim_.add_host("a")), disk_(host_.add_disk("/")), process_(host_) {
    set_log_level(LogLevel::kOff);
    config_.journal_dir = config_.data_dir = "/pool";
    config_.journal_bytes = config_.journal_bytes_min = kSmallestJournalBytes;
    config_.drain_delay = 1min;
    sim_.run(create());
  }
  Task<void> create() {
    Status made = co_await process_.world().fs.make_directory("/pool", 0700);
    HF_ASSERT(made.ok());
    Status named = co_await process_.world().fs.sync_dir("/");
    HF_ASSERT(named.ok());
    config_.cluster = new_id<ClusterId>(process_.world().random);
    Result<std::unique_ptr<Pool>> pool = co_await Pool::create(process_.world(), config_);
    HF_ASSERT(pool.ok(), "{}", pool.error().to_string());
    pool_ = std::move(*pool);
  }
  Task<void> stop() {
    Status stopped = co_await pool_->stop();
    (void)stopped;
    pool_.reset();
  }
  Task<void> open(Error* error) {
    Result<std::unique_ptr<Pool>> pool = co_await Pool::open(process_.world(), config_);
    if (pool.ok()) {
      pool_ = std::move(*pool);
    } else {
      *error = pool.error();
    }
  }
  // kInternal stands for "no error".
  Error opened() {
    Error error(ErrorCode::kInternal, "");
    sim_.run(open(&error));
    return error;
  }
  void kill() {
    process_.kill();
    sim_.run(stop());
    process_.restart();
  }
  // Block 0 gets `value`; a batch of its own.
  Task<void> write(uint64_t value, bool* ok) {
    if (replica_ == ReplicaId()) {
      ReplicaSpec spec;
      spec.replica = replica_ = new_id<ReplicaId>(process_.world().random);
      spec.volume = new_id<VolumeId>(process_.world().random);
      spec.size_bytes = 1 * kMiB;
      Result<std::shared_ptr<Replica>> made = co_await pool_->create_replica(spec);
      HF_ASSERT(made.ok());
    }
    AlignedBuffer block(kBlockSize);
    fill_block(block.span(), value, 0);
    WriteHeader header;
    Status written = co_await pool_->find(replica_)->write(header, 0, block.span());
    *ok = written.ok();
  }
  bool write(uint64_t value) {
    bool ok = false;
    sim_.run(write(value, &ok));
    return ok;
  }
  Task<void> read(uint64_t* value) {
    AlignedBuffer block(kBlockSize);
    Status got = co_await pool_->find(replica_)->read(0, block.span());
    HF_ASSERT(got.ok(), "{}", got.error().to_string());
    *value = value_of_block(block.span(), 0).value_or(~uint64_t{0});
  }
  uint64_t read() {
    uint64_t value = 0;
    sim_.run(read(&value));
    return value;
  }
  Task<void> replace(std::string text) {
    Status written = co_await process_.world().fs.write_file_atomic("/pool/pool.json", text, 0600);
    HF_ASSERT(written.ok());
  }
  // Ring offset of the n-th batch, when each but the seal is one block of header and one of payload.
  static uint64_t batch_at(uint64_t n) { return kRingOffset + kBlockSize + n * 2 * kBlockSize; }

  sim::Simulation sim_;
  sim::SimHost& host_;
  sim::SimDisk& disk_;
  sim::SimProcess process_;
  PoolConfig config_;
  std::unique_ptr<Pool> pool_;
  ReplicaId replica_;
};

TEST_F(StoreOpen, ASecondOneIsRefusedWhileTheFirstLives) {
  std::unique_ptr<Pool> first = std::move(pool_);
  const Error error = opened();
  EXPECT_EQ(error.code(), ErrorCode::kLocked) << error.to_string();
  pool_ = std::move(first);
  sim_.run(stop());
  EXPECT_EQ(opened().code(), ErrorCode::kInternal);
  sim_.run(stop());
}

TEST_F(StoreOpen, OtherOwnersNewerFormatsAndNoPoolsAreNamed) {
  sim_.run(stop());
  const ClusterId own = config_.cluster;
  config_.cluster = new_id<ClusterId>(process_.world().random);
  EXPECT_EQ(opened().code(), ErrorCode::kWrongOwner);
  config_.cluster = own;
  PoolFile newer;
  newer.format = kPoolFormat + 1;
  sim_.run(replace(encode_pool_file(newer)));
  EXPECT_EQ(opened().code(), ErrorCode::kNewerFormat);
  sim_.run(replace("{}"));
  EXPECT_EQ(opened().code(), ErrorCode::kCorruption);
  config_.journal_dir = config_.data_dir = "/";
  EXPECT_EQ(opened().code(), ErrorCode::kNotFound);
}

Task<void> create_again(World& world, PoolConfig config, ErrorCode* code) {
  Result<std::unique_ptr<Pool>> pool = co_await Pool::create(world, std::move(config));
  *code = pool.code();
}

TEST_F(StoreOpen, APoolIsNotMadeOverAPool) {
  ErrorCode code = ErrorCode::kOk;
  sim_.run(create_again(process_.world(), config_, &code));
  EXPECT_EQ(code, ErrorCode::kAlreadyExists);
  sim_.run(stop());
}

TEST_F(StoreOpen, AReadOnlyDiskIsNamed) {
  sim_.run(stop());
  disk_.config().read_only = true;
  EXPECT_EQ(opened().code(), ErrorCode::kReadOnly);
}

TEST_F(StoreOpen, AcknowledgedWritesComeBackAfterAKill) {
  ASSERT_TRUE(write(5));
  ASSERT_TRUE(write(6));
  kill();
  ASSERT_EQ(opened().code(), ErrorCode::kInternal);
  EXPECT_EQ(read(), 6u);
  sim_.run(stop());
}

TEST_F(StoreOpen, RotInTheMiddleOfTheJournalIsReportedNotSkipped) {
  for (uint64_t value = 1; value <= 4; ++value) ASSERT_TRUE(write(value));
  kill();
  ASSERT_TRUE(disk_.rot("/pool/journal", batch_at(1) + kBlockSize + 100));
  const Error error = opened();
  EXPECT_EQ(error.code(), ErrorCode::kCorruption);
  EXPECT_NE(error.message().find("batch 3 at"), std::string::npos) << error.message();
}

TEST_F(StoreOpen, RotInAHeaderInTheMiddleIsReportedToo) {
  for (uint64_t value = 1; value <= 4; ++value) ASSERT_TRUE(write(value));
  kill();
  ASSERT_TRUE(disk_.rot("/pool/journal", batch_at(2) + 60));
  EXPECT_EQ(opened().code(), ErrorCode::kCorruption);
}

// The same with the check taken out: the test above would fail.
TEST_F(StoreOpen, WithoutTheGapCheckTheLossWouldPass) {
  for (uint64_t value = 1; value <= 4; ++value) ASSERT_TRUE(write(value));
  kill();
  ASSERT_TRUE(disk_.rot("/pool/journal", batch_at(1) + kBlockSize + 100));
  t_store_mutant = StoreMutant::kGapIgnored;
  const Error error = opened();
  t_store_mutant = StoreMutant::kNone;
  ASSERT_EQ(error.code(), ErrorCode::kInternal);
  EXPECT_EQ(read(), 1u);
  sim_.run(stop());
}

// The documented limit: the last batch before a crash.
TEST_F(StoreOpen, ABrokenLastBatchIsATornTail) {
  for (uint64_t value = 1; value <= 3; ++value) ASSERT_TRUE(write(value));
  kill();
  ASSERT_TRUE(disk_.rot("/pool/journal", batch_at(2) + kBlockSize + 100));
  ASSERT_EQ(opened().code(), ErrorCode::kInternal);
  EXPECT_EQ(read(), 2u);
  // What was judged torn stays so, whatever the medium says next time.
  kill();
  ASSERT_EQ(opened().code(), ErrorCode::kInternal);
  EXPECT_EQ(read(), 2u);
  sim_.run(stop());
}

TEST_F(StoreOpen, OneBrokenCheckpointIsNoMatterTwoAre) {
  ASSERT_TRUE(write(9));
  kill();
  ASSERT_TRUE(disk_.rot("/pool/journal", 100));
  ASSERT_EQ(opened().code(), ErrorCode::kInternal);
  EXPECT_EQ(read(), 9u);
  kill();
  ASSERT_TRUE(disk_.rot("/pool/journal", 60));
  ASSERT_TRUE(disk_.rot("/pool/journal", kBlockSize + 60));
  EXPECT_EQ(opened().code(), ErrorCode::kCorruption);
}

TEST_F(StoreOpen, AJournalWriteErrorIsFinalUntilReopened) {
  ASSERT_TRUE(write(1));
  sim::ScriptedFault fault;
  fault.fault = sim::FaultKind::kSyncError;
  fault.path_part = "journal";
  disk_.script(fault);
  EXPECT_FALSE(write(2));
  EXPECT_FALSE(write(3));
  EXPECT_TRUE(pool_->stats().failed);
  EXPECT_EQ(pool_->find(replica_)->flush().code(), ErrorCode::kFailedPool);
  kill();
  ASSERT_EQ(opened().code(), ErrorCode::kInternal);
  const uint64_t value = read();
  EXPECT_TRUE(value == 1 || value == 2) << value;
  EXPECT_TRUE(write(4));
  EXPECT_EQ(read(), 4u);
  sim_.run(stop());
}

// --- what is visible and not stable -----------------------------------------------------------------
//
// A process that dies leaves things that a read sees and that the medium has not got. Each test makes one
// such thing, lets a recovery find it and something be built on it, and takes the power away. Without the
// settling (the mutant) each shows a loss.

class StoreVisible : public StoreOpen {
 protected:
  explicit StoreVisible(uint64_t seed = 1) : StoreOpen(seed) {
    disk_.faults().crash.kept_percent = disk_.faults().crash.torn_percent = 0;
    disk_.faults().crash.vary_by_file = false;
  }
  Task<void> load(std::string path, uint64_t at, MutableByteSpan out) {
    OpenOptions options;
    options.direct = true;
    Result<std::unique_ptr<File>> file = co_await process_.world().fs.open(path, options);
    HF_ASSERT(file.ok());
    Result<size_t> n = co_await (*file)->read_at(at, out);
    HF_ASSERT(n.ok() && *n == out.size());
  }
  AlignedBuffer bytes_of(const std::string& path, uint64_t at, uint64_t length) {
    AlignedBuffer out(length);
    sim_.run(load(path, at, out.span()));
    return out;
  }
  // The medium has `stable`, a read sees `visible`.
  Task<void> part(std::string path, uint64_t at, ByteSpan stable, ByteSpan visible) {
    OpenOptions options;
    options.write = options.direct = true;
    Result<std::unique_ptr<File>> file = co_await process_.world().fs.open(path, options);
    HF_ASSERT(file.ok());
    Result<size_t> below = co_await (*file)->write_durable_at(at, stable);
    HF_ASSERT(below.ok());
    Result<size_t> above = co_await (*file)->write_at(at, visible);
    HF_ASSERT(above.ok());
  }
  Task<void> part_name(std::string directory, std::string name) {
    FileSystem& fs = process_.world().fs;
    Status away = co_await fs.rename(directory + "/" + name, directory + "/elsewhere");
    HF_ASSERT(away.ok());
    Status synced = co_await fs.sync_dir(directory);
    HF_ASSERT(synced.ok());
    Status back = co_await fs.rename(directory + "/elsewhere", directory + "/" + name);
    HF_ASSERT(back.ok());
  }
  Task<void> promise(uint64_t epoch) {
    Status promised = co_await pool_->find(replica_)->promise(epoch);
    HF_ASSERT(promised.ok());
  }
  void lose_power() {
    host_.power_loss();
    sim_.run(stop());
    host_.power_on();
    process_.restart();
  }
  std::string replica_file() const {
    return "/pool/volumes/" + replica_.to_string() + "/replica";
  }
  Error opened_trusting() {
    t_store_mutant = StoreMutant::kVisibleTrusted;
    const Error error = opened();
    t_store_mutant = StoreMutant::kNone;
    return error;
  }

  // Batch 2 is visible only; what comes behind it is stable.
  void part_batch() {
    ASSERT_TRUE(write(1));
    ASSERT_TRUE(write(2));
    kill();
    const uint64_t at = batch_at(1), length = 2 * kBlockSize;
    const AlignedBuffer whole = bytes_of("/pool/journal", at, length);
    sim_.run(part("/pool/journal", at, AlignedBuffer::zeroed(length).span(), whole.span()));
  }
  void part_superblock() {
    ASSERT_TRUE(write(1));
    const uint64_t length = 2 * kSuperblockStride;
    const AlignedBuffer before = bytes_of(replica_file(), 0, length);
    sim_.run(promise(7));
    kill();
    const AlignedBuffer after = bytes_of(replica_file(), 0, length);
    sim_.run(part(replica_file(), 0, before.span(), after.span()));
  }
};

TEST_F(StoreVisible, ABatchThatRecoveryTookStays) {
  part_batch();
  ASSERT_EQ(opened().code(), ErrorCode::kInternal);
  EXPECT_EQ(read(), 2u);
  lose_power();
  ASSERT_EQ(opened().code(), ErrorCode::kInternal);
  EXPECT_EQ(read(), 2u);
  sim_.run(stop());
}

TEST_F(StoreVisible, TrustingTheVisibleBatchWouldLoseIt) {
  part_batch();
  ASSERT_EQ(opened_trusting().code(), ErrorCode::kInternal);
  EXPECT_EQ(read(), 2u);
  lose_power();
  EXPECT_EQ(opened().code(), ErrorCode::kCorruption);
}

TEST_F(StoreVisible, APromiseThatRecoveryReadStays) {
  part_superblock();
  ASSERT_EQ(opened().code(), ErrorCode::kInternal);
  EXPECT_EQ(pool_->find(replica_)->promised_epoch(), 7u);
  lose_power();
  ASSERT_EQ(opened().code(), ErrorCode::kInternal);
  EXPECT_EQ(pool_->find(replica_)->promised_epoch(), 7u);
  sim_.run(stop());
}

TEST_F(StoreVisible, TrustingTheVisibleSuperblockWouldTakeBackAPromise) {
  part_superblock();
  ASSERT_EQ(opened_trusting().code(), ErrorCode::kInternal);
  EXPECT_EQ(pool_->find(replica_)->promised_epoch(), 7u);
  lose_power();
  ASSERT_EQ(opened().code(), ErrorCode::kInternal);
  EXPECT_EQ(pool_->find(replica_)->promised_epoch(), 0u);
  sim_.run(stop());
}

// Names that are not stable go by chance: each of these is tried with several seeds, and with the
// mutant one of them must show.
constexpr uint64_t kNameSeeds = 24;

class StoreNames : public StoreVisible {
 public:
  explicit StoreNames(uint64_t seed) : StoreVisible(seed) {}
  void TestBody() override {}

  // A replica's directory, visible only; its acknowledged write is then in the journal.
  bool keeps_replica(StoreMutant mutant) {
    HF_ASSERT(write(1));
    kill();
    sim_.run(part_name("/pool/volumes", replica_.to_string()));
    t_store_mutant = mutant;
    const Error error = opened();
    HF_ASSERT(error.code() == ErrorCode::kInternal, "{}", error.message());
    HF_ASSERT(write(3));
    return kept();
  }
  // A segment file's name, visible only; a drain writes in place and frees the journal.
  bool keeps_segment(StoreMutant mutant) {
    HF_ASSERT(write(1));
    sim_.run(drain());
    kill();
    sim_.run(part_name("/pool/volumes/" + replica_.to_string() + "/seg", segment_name(0, 1)));
    t_store_mutant = mutant;
    const Error error = opened();
    HF_ASSERT(error.code() == ErrorCode::kInternal, "{}", error.message());
    HF_ASSERT(write(3));
    sim_.run(drain());
    return kept();
  }

 private:
  Task<void> drain() {
    Status drained = co_await pool_->wait_drained();
    HF_ASSERT(drained.ok());
  }
  bool kept() {
    t_store_mutant = StoreMutant::kNone;
    lose_power();
    if (opened().code() != ErrorCode::kInternal) return false;
    const bool same = read() == 3;
    sim_.run(stop());
    return same;
  }
};

uint64_t losses(bool (StoreNames::*scenario)(StoreMutant), StoreMutant mutant) {
  uint64_t lost = 0;
  for (uint64_t seed = 1; seed <= kNameSeeds; ++seed) {
    StoreNames names(seed);
    if (!(names.*scenario)(mutant)) ++lost;
  }
  return lost;
}

TEST(StoreVisibleNames, AReplicaThatRecoveryServedStays) {
  EXPECT_EQ(losses(&StoreNames::keeps_replica, StoreMutant::kNone), 0u);
  EXPECT_GT(losses(&StoreNames::keeps_replica, StoreMutant::kVisibleTrusted), 0u);
}

TEST(StoreVisibleNames, ASegmentThatADrainWroteInPlaceStays) {
  EXPECT_EQ(losses(&StoreNames::keeps_segment, StoreMutant::kNone), 0u);
  EXPECT_GT(losses(&StoreNames::keeps_segment, StoreMutant::kOldNamesTrusted), 0u);
}

}  // namespace
}  // namespace hf::store_sim
