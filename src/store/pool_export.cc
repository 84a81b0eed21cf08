// Writes a replica's image, or a snapshot's, to a sink: files of the layer, and the ring's records above.
#include <algorithm>

#include "store/offline_pool.h"

namespace hf {
namespace {

// What is to be exported, as of which layer.
struct View {
  uint32_t layer = 0;
  uint64_t size_bytes = 0;
};

Result<View> find_view(const OfflinePool& pool, const OfflineReplica& replica,
                       SnapshotId snapshot) {
  View view;
  view.layer = UINT32_MAX;
  view.size_bytes = replica.superblock.size_bytes;
  if (snapshot.is_nil()) return view;
  for (const SnapshotRow& row : replica.superblock.snapshots) {
    if (row.id == snapshot) return View{row.layer, row.size_bytes};
  }
  for (const Record* record : undrained_records(pool, replica.superblock)) {
    if (record->entry.type == EntryType::kSnapshot && record->entry.snapshot == snapshot) {
      return View{record->entry.layer, record->entry.snapshot_size};
    }
  }
  return make_error(ErrorCode::kNotFound, "replica {} has no snapshot {}",
                    replica.superblock.replica.to_string(), snapshot.to_string());
}

class Exporter {
 public:
  Exporter(FileSystem& fs, const OfflineReplica& replica, ExportSink& sink, View view)
      : fs_(fs), replica_(replica), sink_(sink), view_(view) {}

  void add_intents(std::vector<DrainSegment> intents) { intents_ = std::move(intents); }
  void add_records(const std::vector<const Record*>& records) {
    for (const Record* record : records) {
      if (record->changes_content() && record->entry.layer <= view_.layer) overlay_.insert(*record);
    }
  }

  Task<Status> run() {
    const uint64_t per_segment = replica_.superblock.segment_bytes / kBlockSize;
    const uint64_t blocks = view_.size_bytes / kBlockSize;
    for (uint64_t first = 0; first < blocks; first += per_segment) {
      const uint64_t count = std::min(per_segment, blocks - first);
      Status done = co_await segment(static_cast<uint32_t>(first / per_segment), first, count);
      HF_CO_TRY(done);
    }
    co_return Status();
  }

 private:
  struct Piece {
    uint64_t first = 0;
    uint64_t count = 0;
    const Record* record = nullptr;
  };

  Task<Status> segment(uint32_t index, uint64_t first, uint64_t count) {
    std::unique_ptr<OfflineSegment> opened;
    const uint32_t layer = std::min(view_.layer, replica_.superblock.head_layer);
    const std::optional<SegmentKey> key = replica_.segments.visible(index, layer);
    if (key) {
      Result<std::unique_ptr<OfflineSegment>> got =
          co_await open_offline_segment(fs_, replica_, *key, intents_);
      HF_CO_TRY(got);
      opened = std::move(*got);
    }
    std::vector<Piece> pieces;
    overlay_.visit(first, count, [&](uint64_t at, uint64_t n, const Record* record) {
      pieces.push_back(Piece{at, n, record});
    });
    for (const Piece& piece : pieces) {
      Status done;
      if (piece.record == nullptr) {
        if (opened == nullptr) continue;
        done = co_await from_file(*opened, piece.first - first, piece);
      } else if (piece.record->is_data()) {
        const ByteSpan data(piece.record->block_data(piece.first).data(), piece.count * kBlockSize);
        done = co_await sink_.data(piece.first * kBlockSize, data);
      }
      HF_CO_TRY(done);
    }
    co_return Status();
  }

  Task<Status> from_file(OfflineSegment& segment, uint64_t inside, const Piece& piece) {
    constexpr uint64_t kMost = 256;
    AlignedBuffer memory(kMost * kBlockSize);
    for (uint64_t done = 0; done < piece.count;) {
      const uint32_t b = static_cast<uint32_t>(inside + done);
      uint64_t n = 0;
      while (done + n < piece.count && n < kMost &&
             segment.table.get(static_cast<uint32_t>(b + n)) != 0) {
        ++n;
      }
      if (n == 0) {
        ++done;
        continue;
      }
      const MutableByteSpan out = memory.span().first(n * kBlockSize);
      Result<size_t> got = co_await segment.file->read_at(b * kBlockSize, out);
      HF_CO_TRY(got);
      for (uint64_t i = 0; i < n; ++i) {
        if (block_crc(out.subspan(i * kBlockSize, kBlockSize)) !=
            segment.table.get(static_cast<uint32_t>(b + i))) {
          co_return make_error(ErrorCode::kCorruption,
                               "{}: block {} (at {} of the image) does not match its CRC",
                               segment.file->path(), b + i, (piece.first + done + i) * kBlockSize);
        }
      }
      Status taken = co_await sink_.data((piece.first + done) * kBlockSize, out);
      HF_CO_TRY(taken);
      done += n;
    }
    co_return Status();
  }

  FileSystem& fs_;
  const OfflineReplica& replica_;
  ExportSink& sink_;
  View view_;
  ExtentMap overlay_;
  std::vector<DrainSegment> intents_;
};

}  // namespace

Task<Result<uint64_t>> export_replica(World world, PoolConfig config, ReplicaId replica,
                                      SnapshotId snapshot, ExportSink& sink) {
  Result<OfflinePool> pool = co_await load_offline(world.fs, config);
  HF_CO_TRY(pool);
  const auto found =
      std::find_if(pool->replicas.begin(), pool->replicas.end(),
                   [&](const OfflineReplica& r) { return r.superblock.replica == replica; });
  if (found == pool->replicas.end()) {
    for (const Error& error : pool->replica_errors) {
      if (error.message().find(replica.to_string()) != std::string::npos) co_return error;
    }
    co_return make_error(ErrorCode::kNotFound, "pool {} has no replica {}",
                         pool->identity.pool.to_string(), replica.to_string());
  }
  Result<View> view = find_view(*pool, *found, snapshot);
  // What a snapshot in the superblock holds is in the image, whole; the head may have newer writes,
  // and half written blocks, that only the journal tells.
  if (pool->journal_error && (snapshot.is_nil() || !view.ok())) {
    const Error& why = *pool->journal_error;
    co_return make_error(
        why.code(),
        "replica {}: the journal cannot be read, so {} cannot be told; its older snapshots can be "
        "exported (ID@SNAPSHOT-ID): {}",
        replica.to_string(), snapshot.is_nil() ? "its newest content" : "that snapshot",
        why.message());
  }
  HF_CO_TRY(view);
  Exporter exporter(world.fs, *found, sink, *view);
  exporter.add_records(undrained_records(*pool, found->superblock));
  exporter.add_intents(undrained_intents(*pool, found->superblock));
  Status done = co_await exporter.run();
  HF_CO_TRY(done);
  co_return view->size_bytes;
}

}  // namespace hf
