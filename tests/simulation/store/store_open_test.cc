// Opening a pool: each way to be refused, and damage to the journal, one at a time.
#include <gtest/gtest.h>

#include "base/log.h"
#include "format/journal_format.h"
#include "format/pool_file.h"
#include "simulated_store.h"
#include "store/journal_file.h"
#include "store/mutants.h"

namespace hf::store_sim {
namespace {

class StoreOpen : public testing::Test {
 protected:
  StoreOpen() : sim_(1), host_(sim_.add_host("a")), disk_(host_.add_disk("/")), process_(host_) {
    set_log_level(LogLevel::kOff);
    config_.journal_dir = config_.data_dir = "/pool";
    config_.journal_bytes = config_.journal_bytes_min = kSmallestJournalBytes;
    config_.drain_delay = 1min;
    sim_.run(create());
  }
  Task<void> create() {
    Status made = co_await process_.world().fs.make_directory("/pool", 0700);
    HF_ASSERT(made.ok());
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

}  // namespace
}  // namespace hf::store_sim
