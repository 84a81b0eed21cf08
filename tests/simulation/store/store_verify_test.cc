// What the offline tools say of a pool whose journal is damaged, and of one that is not.
#include "format/segment_format.h"
#include "one_pool.h"
#include "store/offline.h"

namespace hf::store_sim {
namespace {

class StoreVerify : public OnePool {
 protected:
  Task<void> verify(VerifyReport* out) {
    Result<VerifyReport> report = co_await verify_pool(process_.world(), config_);
    HF_ASSERT(report.ok(), "{}", report.error().to_string());
    *out = std::move(*report);
  }
  VerifyReport verified() {
    VerifyReport report;
    sim_.run(verify(&report));
    return report;
  }
  // As a drain leaves it that dies between the block and its CRC.
  Task<void> scribble(std::string path) {
    OpenOptions options;
    options.write = options.direct = true;
    Result<std::unique_ptr<File>> file = co_await process_.world().fs.open(path, options);
    HF_ASSERT(file.ok(), "{}", file.error().to_string());
    AlignedBuffer block(kBlockSize);
    fill_block(block.span(), 99, 0);
    Result<size_t> written = co_await (*file)->write_durable_at(0, block.span());
    HF_ASSERT(written.ok());
  }
  std::string segment(uint32_t layer) const {
    return "/pool/volumes/" + replica_.to_string() + "/seg/" + segment_name(0, layer);
  }
  void break_journal() {
    for (const uint64_t slot : {0, 1})
      ASSERT_TRUE(disk_.rot("/pool/journal", slot * kBlockSize + 60));
  }
  class Nowhere : public ExportSink {
   public:
    Task<Status> data(uint64_t, ByteSpan) override { co_return Status(); }
  };
  Task<void> exports(SnapshotId snapshot, Status* status) {
    Nowhere sink;
    Result<uint64_t> size =
        co_await export_replica(process_.world(), config_, replica_, snapshot, sink);
    *status = size.ok() ? Status() : Status(size.error());
  }
  Status exported(SnapshotId snapshot) {
    Status status;
    sim_.run(exports(snapshot, &status));
    return status;
  }
};

// Block 0 is in the image with value 1; value 2 is in the journal; the drain died on the way.
TEST_F(StoreVerify, WhatTheJournalHoldsAnewIsNoDamage) {
  ASSERT_TRUE(write(1).ok());
  ASSERT_TRUE(drained().ok());
  ASSERT_TRUE(write(2).ok());
  kill();
  sim_.run(scribble(segment(1)));
  const VerifyReport report = verified();
  EXPECT_EQ(report.findings_total, 0u);
  EXPECT_EQ(report.unjudged_blocks, 0u);
}

TEST_F(StoreVerify, WithoutTheJournalThatBlockCannotBeJudged) {
  ASSERT_TRUE(write(1).ok());
  ASSERT_TRUE(drained().ok());
  ASSERT_TRUE(write(2).ok());
  kill();
  sim_.run(scribble(segment(1)));
  break_journal();
  const VerifyReport report = verified();
  ASSERT_EQ(report.findings_total, 1u);
  EXPECT_EQ(report.findings[0].code, ErrorCode::kCorruption);
  EXPECT_NE(report.findings[0].what.find("journal cannot be read"), std::string::npos);
  EXPECT_EQ(report.unjudged_blocks, 1u);
  ASSERT_EQ(report.unjudged.size(), 1u);
  EXPECT_NE(report.unjudged[0].find(segment(1)), std::string::npos) << report.unjudged[0];
}

// A file below the head is never written again: damage there is damage, journal or not.
TEST_F(StoreVerify, AnOlderLayerIsJudgedWithoutTheJournal) {
  SnapshotId kept, later;
  ASSERT_TRUE(write(1).ok());
  ASSERT_TRUE(cut(&kept).ok());
  ASSERT_TRUE(write(2).ok());
  ASSERT_TRUE(drained().ok());
  ASSERT_TRUE(cut(&later).ok());
  kill();
  break_journal();
  EXPECT_EQ(verified().findings_total, 1u);
  EXPECT_TRUE(exported(kept).ok());
  EXPECT_EQ(exported(SnapshotId()).code(), ErrorCode::kCorruption);
  EXPECT_EQ(exported(later).code(), ErrorCode::kCorruption);
  sim_.run(scribble(segment(1)));
  const VerifyReport report = verified();
  EXPECT_EQ(report.findings_total, 2u);
  EXPECT_EQ(report.unjudged_blocks, 0u);
}

}  // namespace
}  // namespace hf::store_sim
