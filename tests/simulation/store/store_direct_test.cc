// Large writes that go straight into the image, one situation at a time: which way they take, what a crash
// leaves, what is told as damage, and who waits for whom.
#include "base/crc32c.h"
#include "format/journal_format.h"
#include "format/segment_format.h"
#include "one_pool.h"
#include "runtime/gate.h"
#include "simulated_store.h"
#include "store/mutants.h"

namespace hf::store_sim {
namespace {

constexpr uint64_t kLarge = 16;     // blocks of a large write here
constexpr uint64_t kSegment = 128;  // blocks of a segment

OnePoolOptions direct_options() {
  OnePoolOptions options;
  options.capacity_bytes = 0;
  options.size_bytes = 4 * kSegment * kBlockSize;
  options.segment_bytes = kSegment * kBlockSize;
  options.large_write_bytes = kLarge * kBlockSize;
  return options;
}

class StoreDirect : public OnePool {
 protected:
  StoreDirect() : OnePool(direct_options()) {}
  ~StoreDirect() override { t_store_mutant = StoreMutant::kNone; }
  void lose_power() {
    host_.power_loss();
    come_back();
  }
  void come_back() {
    sim_.run(stop());
    host_.power_on();
    if (!process_.is_alive()) process_.restart();
  }
  uint64_t direct_writes() { return replica()->stats().direct_writes; }

  Task<void> write_task(uint64_t first, uint64_t count, uint64_t value, Status* status) {
    AlignedBuffer data(count * kBlockSize);
    for (uint64_t b = 0; b < count; ++b) {
      fill_block(data.span().subspan(b * kBlockSize, kBlockSize), value, first + b);
    }
    *status = co_await replica()->write(WriteHeader(), first * kBlockSize, data.span());
  }
  Status write(uint64_t first, uint64_t count, uint64_t value) {
    Status status;
    sim_.run(write_task(first, count, value, &status));
    return status;
  }
  Task<void> drain_task() {
    Status drained = co_await pool_->wait_drained();
    EXPECT_TRUE(drained.ok() || !host_.is_up());
  }
  Task<void> failing_drain_task() {
    Status drained = co_await pool_->wait_drained();
    EXPECT_EQ(drained.code(), ErrorCode::kFailedPool);
  }
  void drain() { sim_.run(drain_task()); }
  // In the middle of a drain that waits for space; then the power fails.
  Task<void> write_while_draining_task(uint64_t first, uint64_t value) {
    Gate gate;
    spawn(gate, drain_task());
    Status slept = co_await process_.world().clock.sleep_for(300ms, CancelToken());
    Status status;
    co_await write_task(first, kLarge, value, &status);
    HF_ASSERT(slept.ok() && status.ok());
    host_.power_loss();
    co_await gate.close();
  }
  // The segment's head file is there and named: large writes into it go straight.
  void prepare(uint32_t segment, uint64_t value = 1) {
    ASSERT_TRUE(write(segment * kSegment, kSegment, value).ok());
    drain();
  }
  // Two records wait: the next drain makes a file for segment `fresh` and finds no space in segment 1.
  void make_no_space_in_segment_1(uint32_t fresh) {
    prepare(1);
    ASSERT_TRUE(write(fresh * kSegment + 100, 1, 2).ok());
    ASSERT_TRUE(write(kSegment + 100, 1, 2).ok());
    sim::ScriptedFault fault;
    fault.fault = sim::FaultKind::kNoSpace;
    fault.on = IoKind::kWrite;
    fault.path_part = segment_name(1, 1);
    disk_.script(fault);
  }
  Task<void> read_task(uint64_t block, Result<uint64_t>* value) {
    AlignedBuffer memory(kBlockSize);
    Status got = co_await replica()->read(block * kBlockSize, memory.span());
    if (!got.ok()) {
      *value = got.error();
    } else {
      *value = value_of_block(memory.span(), block).value_or(~uint64_t{0});
    }
  }
  Result<uint64_t> read(uint64_t block) {
    Result<uint64_t> value = uint64_t{0};
    sim_.run(read_task(block, &value));
    return value;
  }
  void expect(uint64_t first, uint64_t count, uint64_t value) {
    for (uint64_t b = first; b < first + count; ++b) {
      const Result<uint64_t> got = read(b);
      ASSERT_TRUE(got.ok()) << b << ": " << got.error().to_string();
      EXPECT_EQ(*got, value) << b;
    }
  }
  std::string segment_path(uint32_t index, uint32_t layer) {
    return "/pool/volumes/" + replica_.to_string() + "/seg/" + segment_name(index, layer);
  }
  struct Call {
    uint64_t first = 0, count = 0, value = 0;
    Status status;
  };
  // All called at once, in this order; before the call `cut_at` a snapshot is cut.
  Task<void> calls_task(std::vector<Call>& calls, size_t cut_at, SnapshotId id, Status* cut) {
    Gate gate;
    for (size_t i = 0; i < calls.size(); ++i) {
      if (i == cut_at) spawn(gate, snapshot_task(id, cut));
      spawn(gate, write_task(calls[i].first, calls[i].count, calls[i].value, &calls[i].status));
    }
    co_await gate.close();
  }
  Task<void> snapshot_task(SnapshotId id, Status* status) {
    Result<SnapshotInfo> cut = co_await replica()->snapshot(WriteHeader(), id);
    *status = cut.ok() ? Status() : Status(cut.error());
  }
  void call(std::vector<Call>& calls) {
    sim_.run(calls_task(calls, calls.size(), SnapshotId(), nullptr));
    for (const Call& one : calls) EXPECT_TRUE(one.status.ok()) << one.status.error().to_string();
  }
  Task<void> read_snapshot_task(SnapshotId id, MutableByteSpan out, Status* status) {
    *status = co_await replica()->read_snapshot(id, 0, out);
  }
  Task<void> hold_task(FileSystem& fs, std::string path, std::unique_ptr<File>* file) {
    OpenOptions options;
    options.write = options.direct = true;
    Result<std::unique_ptr<File>> opened = co_await fs.open(std::move(path), options);
    HF_ASSERT(opened.ok() && (*opened)->try_lock().ok());
    *file = std::move(*opened);
  }
  Task<void> verify_task(uint64_t* findings) {
    Result<VerifyReport> report = co_await verify_pool(process_.world(), config_);
    HF_ASSERT(report.ok());
    *findings = report->findings_total;
  }
  uint64_t findings() {
    uint64_t findings = 0;
    sim_.run(verify_task(&findings));
    return findings;
  }
};

TEST_F(StoreDirect, GoesStraightOnceTheHeadHasAFile) {
  prepare(0);
  EXPECT_EQ(direct_writes(), 0u);
  ASSERT_TRUE(write(0, kLarge, 2).ok());
  EXPECT_EQ(direct_writes(), 1u);
  ASSERT_TRUE(write(20, kLarge - 1, 3).ok());  // too small
  EXPECT_EQ(direct_writes(), 1u);
  ASSERT_TRUE(write(24, kLarge, 4).ok());  // over a record that waits for its drain
  EXPECT_EQ(direct_writes(), 1u);
  EXPECT_EQ(pool_->stats().overlay_bytes, (2 * kLarge - 1) * kBlockSize);
  expect(0, kLarge, 2);
  expect(20, 4, 3);
  expect(24, kLarge, 4);
  drain();
  ASSERT_TRUE(write(24, kLarge, 5).ok());
  EXPECT_EQ(direct_writes(), 2u);
  expect(24, kLarge, 5);
  expect(kLarge, 4, 1);
  expect(100, 4, 1);
}

TEST_F(StoreDirect, IsThereAfterPowerLossBeforeAnyDrain) {
  prepare(0);
  for (uint64_t round = 2; round < 8; ++round) {
    ASSERT_TRUE(write(3, 2 * kLarge, round).ok());
    ASSERT_TRUE(write(3 + kLarge, 1, round + 100).ok());  // the journal has the newest of this block
    EXPECT_EQ(direct_writes(), 1u);
    lose_power();
    ASSERT_TRUE(opened().ok());
    expect(3, kLarge, round);
    expect(3 + kLarge, 1, round + 100);
    expect(3 + kLarge + 1, kLarge - 1, round);
    drain();  // names are durable, the small record is in the image
  }
}

TEST_F(StoreDirect, ZeroesTakeNoSpaceAndReadAsZeroes) {
  prepare(0);
  ASSERT_TRUE(write(0, kLarge, 0).ok());  // a record without payload
  EXPECT_EQ(pool_->stats().overlay_bytes, 0u);
  expect(0, kLarge, 0);
  lose_power();
  ASSERT_TRUE(opened().ok());
  expect(0, kLarge, 0);
}

TEST_F(StoreDirect, AFreshStreamFindsItsFilesMade) {
  config_.drain_delay = 1min;
  uint64_t value = 1;
  for (uint64_t at = 0; at + kLarge <= 4 * kSegment; at += kLarge) {
    ASSERT_TRUE(write(at, kLarge, value++).ok());
  }
  // All but the first, and those that came before a file was ready.
  EXPECT_GT(direct_writes(), 20u);
  lose_power();
  ASSERT_TRUE(opened().ok());
  value = 1;
  for (uint64_t at = 0; at + kLarge <= 4 * kSegment; at += kLarge) expect(at, kLarge, value++);
}

// --- damage -----------------------------------------------------------------------------------------

TEST_F(StoreDirect, DamageToOneThatABatchCallsSettledIsTold) {
  prepare(0);
  for (const bool mutated : {false, true}) {
    ASSERT_TRUE(write(0, kLarge, 2).ok());
    ASSERT_EQ(direct_writes(), 1u);
    ASSERT_TRUE(write(200, 1, 3).ok());  // its header settles the large one
    lose_power();
    ASSERT_TRUE(disk_.rot(segment_path(0, 1), 5 * kBlockSize + 100));
    t_store_mutant = mutated ? StoreMutant::kMismatchAccepted : StoreMutant::kNone;
    EXPECT_EQ(findings(), mutated ? 0u : 1u);
    ASSERT_TRUE(opened().ok());
    EXPECT_EQ(read(5).code(), mutated ? ErrorCode::kOk : ErrorCode::kCorruption);
    expect(0, 5, 2);
    expect(6, kLarge - 6, 2);
    t_store_mutant = StoreMutant::kNone;
    drain();
    ASSERT_TRUE(write(0, kLarge, 2).ok());
    drain();
    lose_power();
    ASSERT_TRUE(opened().ok());
    ASSERT_TRUE(write(200, 1, 4).ok());  // and with it the names
    drain();
  }
}

TEST_F(StoreDirect, WhatWasInFlightIsTakenAsItLiesAndStays) {
  prepare(0);
  ASSERT_TRUE(write(0, kLarge, 2).ok());
  lose_power();  // nothing was journaled behind it: nobody can say that it had ended
  ASSERT_TRUE(disk_.rot(segment_path(0, 1), 5 * kBlockSize + 100));
  EXPECT_EQ(findings(), 0u);
  ASSERT_TRUE(opened().ok());
  EXPECT_EQ(*read(5), ~uint64_t{0});
  expect(0, 5, 2);
  // Again, and the seal of the first recovery does not call it settled.
  lose_power();
  EXPECT_EQ(findings(), 0u);
  ASSERT_TRUE(opened().ok());
  EXPECT_EQ(*read(5), ~uint64_t{0});
  drain();
  lose_power();
  EXPECT_EQ(findings(), 0u);
  ASSERT_TRUE(opened().ok());
  EXPECT_EQ(*read(5), ~uint64_t{0});
}

TEST_F(StoreDirect, AMissingSegmentFileIsDamage) {
  prepare(0);
  ASSERT_TRUE(write(0, kLarge, 2).ok());
  lose_power();
  struct Remove {
    static Task<void> file(FileSystem& fs, std::string path) {
      Status gone = co_await fs.unlink(std::move(path));
      HF_ASSERT(gone.ok());
    }
  };
  sim_.run(Remove::file(process_.world().fs, segment_path(0, 1)));
  EXPECT_EQ(findings(), 1u);
  EXPECT_EQ(opened().code(), ErrorCode::kCorruption);
}

// --- errors -----------------------------------------------------------------------------------------

TEST_F(StoreDirect, WithoutSpaceInTheImageItGoesThroughTheJournal) {
  prepare(0);
  sim::ScriptedFault fault;
  fault.fault = sim::FaultKind::kNoSpace;
  fault.on = IoKind::kWrite;
  fault.path_part = "/seg/";
  disk_.script(fault);
  ASSERT_TRUE(write(0, kLarge, 2).ok());
  EXPECT_TRUE(disk_.scripts_done());
  EXPECT_EQ(pool_->stats().overlay_bytes, kLarge * kBlockSize);
  expect(0, kLarge, 2);
  ASSERT_TRUE(write(200, 1, 3).ok());
  lose_power();
  EXPECT_EQ(findings(), 0u);
  ASSERT_TRUE(opened().ok());
  expect(0, kLarge, 2);
  drain();
  expect(0, kLarge, 2);
}

TEST_F(StoreDirect, AFailedWriteOrSyncIsFinal) {
  for (const IoKind kind : {IoKind::kWrite, IoKind::kSyncData}) {
    prepare(0);
    sim::ScriptedFault fault;
    fault.fault = kind == IoKind::kWrite ? sim::FaultKind::kWriteError : sim::FaultKind::kSyncError;
    fault.on = kind;
    fault.path_part = "/seg/";
    disk_.script(fault);
    EXPECT_FALSE(write(0, kLarge, 2).ok());
    EXPECT_TRUE(disk_.scripts_done());
    EXPECT_TRUE(pool_->stats().failed);
    EXPECT_EQ(write(50, 1, 2).code(), ErrorCode::kFailedPool);
    lose_power();
    ASSERT_TRUE(opened().ok());
    for (uint64_t b = 0; b < kLarge; ++b) EXPECT_TRUE(read(b).ok());
    expect(kLarge, 4, 1);
  }
}

// One copy of the checkpoint is there: to drain a shorter prefix once more would bring older records back.
TEST_F(StoreDirect, ACheckpointThatIsHalfWrittenIsFinal) {
  prepare(0);
  ASSERT_TRUE(write(0, 1, 2).ok());
  ASSERT_TRUE(write(0, 1, 3).ok());
  sim::ScriptedFault fault;
  fault.fault = sim::FaultKind::kNoSpace;
  fault.path_part = "/journal";
  fault.skip = 1;
  disk_.script(fault);
  sim_.run(failing_drain_task());
  EXPECT_TRUE(disk_.scripts_done());
  EXPECT_TRUE(pool_->stats().failed);
  lose_power();
  ASSERT_TRUE(opened().ok());
  expect(0, 1, 3);
}

// --- files and their names --------------------------------------------------------------------------

// A drain makes a file for segment 0 and finds no space in segment 1: it ends before the names are synced,
// and tries again a second later.
TEST_F(StoreDirect, AFileWhoseNameIsNotDurableIsNotWrittenTo) {
  for (const bool mutated : {false, true}) {
    t_store_mutant = mutated ? StoreMutant::kHeadFileNotNamed : StoreMutant::kNone;
    const uint32_t fresh = mutated ? 2 : 0;
    make_no_space_in_segment_1(fresh);
    const uint64_t before = direct_writes();
    sim_.run(write_while_draining_task(fresh * kSegment, 3));
    EXPECT_TRUE(disk_.scripts_done());
    EXPECT_EQ(direct_writes() - before, mutated ? 1u : 0u);
    come_back();
    if (mutated) break;  // if the power failed now the file might go, and what was acknowledged
    ASSERT_TRUE(opened().ok());
    expect(0, kLarge, 3);
    expect(100, 1, 2);
    expect(kSegment + 100, 1, 2);
    drain();
  }
}

// The same, but the second attempt makes no file: the names of the first must be synced all the same.
TEST_F(StoreDirect, TheNamesOfADrainThatFoundNoSpaceAreSynced) {
  for (const uint32_t fresh : {0, 2, 3}) {
    make_no_space_in_segment_1(fresh);
    drain();
    EXPECT_TRUE(disk_.scripts_done());
    lose_power();
    ASSERT_TRUE(opened().ok());
    expect(fresh * kSegment + 100, 1, 2);
    drain();
  }
}

TEST_F(StoreDirect, ATableThatIsNewerThanTheMediumIsKept) {
  sim_.run(stop());
  config_.table_cache_bytes = 1;  // nothing stays that nobody uses
  ASSERT_TRUE(opened().ok());
  for (const uint32_t segment : {0, 1, 2}) prepare(segment);
  for (const bool mutated : {false, true}) {
    t_store_mutant = mutated ? StoreMutant::kDirectEvicted : StoreMutant::kNone;
    const uint64_t before = direct_writes();
    ASSERT_TRUE(write(0, kLarge, mutated ? 3 : 2).ok());
    EXPECT_EQ(direct_writes(), before + 1);
    expect(kSegment, 4, 1);  // what is opened makes the cache let go of others
    expect(2 * kSegment, 4, 1);
    EXPECT_EQ(read(5).code(), mutated ? ErrorCode::kCorruption : ErrorCode::kOk);
    if (!mutated) drain();
  }
}

// --- versions ---------------------------------------------------------------------------------------

TEST_F(StoreDirect, AnOlderJournalIsTakenAndRaised) {
  struct Journal {
    static Task<void> set_version(FileSystem& fs, uint8_t version, bool batches) {
      OpenOptions options;
      options.write = options.direct = true;
      Result<std::unique_ptr<File>> file = co_await fs.open("/pool/journal", options);
      HF_ASSERT(file.ok());
      AlignedBuffer block(kBlockSize);
      const uint64_t blocks = batches ? 32 : 2;
      for (uint64_t at = 0; at < blocks * kBlockSize; at += kBlockSize) {
        Result<size_t> got = co_await (*file)->read_at(at, block.span());
        HF_ASSERT(got.ok());
        uint64_t magic = 0;
        std::memcpy(&magic, block.data(), 8);
        if (magic != kCheckpointMagic && magic != kBatchMagic) continue;
        block.data()[8] = static_cast<std::byte>(version);
        if (magic == kCheckpointMagic) put_crc(block.span(), kBlockSize - 4);
        Result<size_t> put = co_await (*file)->write_durable_at(at, block.span());
        HF_ASSERT(put.ok());
      }
    }
    static void put_crc(MutableByteSpan block, size_t at) {
      const uint32_t crc = crc32c(block.first(at));
      std::memcpy(block.data() + at, &crc, 4);
    }
    static Task<void> version(FileSystem& fs, uint32_t* version) {
      OpenOptions options;
      options.direct = true;
      Result<std::unique_ptr<File>> file = co_await fs.open("/pool/journal", options);
      HF_ASSERT(file.ok());
      AlignedBuffer block(kBlockSize);
      *version = ~0u;
      for (uint64_t at = 0; at < 2 * kBlockSize; at += kBlockSize) {
        Result<size_t> got = co_await (*file)->read_at(at, block.span());
        HF_ASSERT(got.ok());
        const Result<JournalCheckpoint> checkpoint = decode_checkpoint(block.span());
        if (checkpoint.ok()) *version = std::min(*version, checkpoint->version);
      }
    }
  };
  prepare(0);
  sim_.run(stop());
  sim_.run(Journal::set_version(process_.world().fs, 1, false));
  ASSERT_TRUE(opened().ok());
  uint32_t version = 0;
  sim_.run(Journal::version(process_.world().fs, &version));
  EXPECT_EQ(version, kJournalVersion);  // both copies, before anything else is written
  expect(0, kSegment, 1);
  lose_power();
  sim_.run(Journal::set_version(process_.world().fs, 1, false));  // after a crash too
  ASSERT_TRUE(opened().ok());
  sim_.run(Journal::version(process_.world().fs, &version));
  EXPECT_EQ(version, kJournalVersion);
  expect(0, kSegment, 1);
}

// --- who waits for whom -----------------------------------------------------------------------------

TEST_F(StoreDirect, OverlappingCallsTakeEffectInTheirOrder) {
  prepare(0);
  uint64_t direct = 0;
  for (int round = 0; round < 20; ++round) {
    std::vector<Call> calls(7);
    const uint64_t firsts[] = {0, 4, 2, 0, 10, 0, 5};
    const uint64_t counts[] = {kLarge, 1, kLarge, 64, 2, kLarge, 40};
    for (size_t i = 0; i < 7; ++i) {
      calls[i].first = firsts[i];
      calls[i].count = counts[i];
      calls[i].value = 10 + i;
    }
    const uint64_t before = direct_writes();
    call(calls);
    direct += direct_writes() - before;
    for (int look = 0; look < 2; ++look) {
      expect(0, 5, 15);
      expect(5, 40, 16);
      expect(45, 64 - 45, 13);
      if (round % 5 != 4 || look == 1) break;
      lose_power();
      ASSERT_TRUE(opened().ok());
    }
    if (round % 3 != 1) drain();
  }
  EXPECT_GT(direct, 10u);
}

TEST_F(StoreDirect, ASnapshotHasWhatWasCalledBeforeAndNothingAfter) {
  prepare(0);
  const SnapshotId id = new_id<SnapshotId>(process_.world().random);
  std::vector<Call> calls(2);
  calls[0].count = calls[1].count = kLarge;
  calls[0].value = 2;
  calls[1].value = 3;
  Status cut;
  sim_.run(calls_task(calls, 1, id, &cut));
  EXPECT_TRUE(calls[0].status.ok() && cut.ok() && calls[1].status.ok());
  EXPECT_EQ(direct_writes(), 1u);
  lose_power();
  ASSERT_TRUE(opened().ok());
  expect(0, kLarge, 3);
  AlignedBuffer memory(kLarge * kBlockSize);
  Status got;
  sim_.run(read_snapshot_task(id, memory.span(), &got));
  ASSERT_TRUE(got.ok());
  for (uint64_t b = 0; b < kLarge; ++b) {
    EXPECT_EQ(value_of_block(memory.span().subspan(b * kBlockSize, kBlockSize), b), 2u) << b;
  }
}

// A process that was killed may have a write on its way for as long as it holds the file's lock.
TEST_F(StoreDirect, RecoveryWaitsForTheLastWritesOfAKilledProcess) {
  prepare(0);
  ASSERT_TRUE(write(0, kLarge, 2).ok());
  kill();
  sim::SimProcess ghost(host_);
  std::unique_ptr<File> held;
  sim_.run(hold_task(ghost.world().fs, segment_path(0, 1), &held));
  sim_.loop().after(Duration(300ms), [&held] { held.reset(); });
  const sim::SimTime began = sim_.loop().now();
  ASSERT_TRUE(opened().ok());
  EXPECT_GE(sim_.loop().now() - began, 300'000'000);
  expect(0, kLarge, 2);
}

}  // namespace
}  // namespace hf::store_sim
