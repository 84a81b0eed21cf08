// Reads everything a pool holds and says what does not match.
#include <set>

#include "store/dirty_map_file.h"
#include "store/offline_pool.h"
#include "store/pool_names.h"

namespace hf {
namespace {

constexpr uint32_t kBlocksPerRead = 256;

class Verifier {
 public:
  Verifier(FileSystem& fs, const OfflinePool& pool) : fs_(fs), pool_(pool) {}

  void add(const Error& error) {
    ++report_.findings_total;
    if (report_.findings.size() >= kMaxVerifyFindings) return;
    VerifyFinding finding;
    finding.code = error.code();
    finding.what = error.message();
    report_.findings.push_back(std::move(finding));
  }

  // Blocks of one file that do not match and that an unreadable journal may hold anew.
  void add_unjudged(const std::string& file, uint64_t count, uint32_t first) {
    report_.unjudged_blocks += count;
    if (report_.unjudged.size() >= kMaxVerifyFindings) return;
    report_.unjudged.push_back(
        fmt::format("{}: {} blocks from block {} (at {} of the file) on do not match their CRC and "
                    "cannot be judged: the "
                    "journal, which may hold them anew, cannot be read",
                    file, count, first, first * kBlockSize));
  }

  Task<void> replica(const OfflineReplica& replica) {
    ++report_.replicas;
    // Blocks that the ring will write anew: their place in the head's files may be half written.
    std::set<uint64_t> rewritten;
    for (const Record* record : undrained_records(pool_, replica.superblock)) {
      if (record->entry.layer != replica.superblock.head_layer) continue;
      if (!record->changes_content()) continue;
      const uint64_t end = std::min(record->first_block() + record->blocks(),
                                    replica.superblock.size_bytes / kBlockSize);
      for (uint64_t b = record->first_block(); b < end; ++b) rewritten.insert(b);
    }
    const std::vector<DrainSegment> intents = undrained_intents(pool_, replica.superblock);
    for (const DrainSegment& of_segment : intents) {
      const SegmentKey key{of_segment.index, replica.superblock.head_layer};
      if (replica.segments.visible(key.index, key.layer) == key) continue;
      add(make_error(ErrorCode::kCorruption, "{}/{}/{}: missing, but the journal tells of a write to it",
                     replica.directory, kSegmentsName, segment_name(key.index, key.layer)));
    }
    for (const SegmentKey& key : replica.segments.keys()) {
      ++report_.segments;
      Status checked = co_await segment(replica, key, rewritten, intents);
      if (!checked.ok()) add(checked.error());
    }
    for (uint32_t slot = 0; slot < kMapSlots; ++slot) {
      if ((replica.superblock.maps >> slot & 1) == 0) continue;
      Status checked = co_await dirty_map(replica, slot);
      if (!checked.ok()) add(checked.error());
    }
  }

  VerifyReport take() { return std::move(report_); }
  VerifyReport& report() { return report_; }

 private:
  Task<Status> segment(const OfflineReplica& replica, SegmentKey key,
                       const std::set<uint64_t>& rewritten,
                       const std::vector<DrainSegment>& intents) {
    Result<std::unique_ptr<OfflineSegment>> opened =
        co_await open_offline_segment(fs_, replica, key, intents);
    HF_CO_TRY(opened);
    OfflineSegment& segment = **opened;
    for (const uint32_t page : segment.loaded.broken) {
      add(make_error(ErrorCode::kCorruption, "{}: both copies of CRC table page {} are broken",
                     segment.file->path(), page));
    }
    const uint64_t blocks = replica.superblock.segment_bytes / kBlockSize;
    // Only files of the head layer are ever written in place.
    const bool head = key.layer == replica.superblock.head_layer;
    const bool unjudgeable = head && pool_.journal_error.has_value();
    uint64_t unjudged = 0;
    uint32_t first_unjudged = 0;
    AlignedBuffer memory(kBlocksPerRead * kBlockSize);
    for (uint32_t b = 0; b < blocks;) {
      uint32_t stop = b;
      while (stop < blocks && stop - b < kBlocksPerRead && segment.table.get(stop) != 0) ++stop;
      if (stop == b) {
        ++b;
        continue;
      }
      const MutableByteSpan out = memory.span().first((stop - b) * kBlockSize);
      Result<size_t> n = co_await segment.file->read_at(b * kBlockSize, out);
      HF_CO_TRY(n);
      for (uint32_t i = b; i < stop; ++i) {
        ++report_.blocks;
        if (block_crc(out.subspan((i - b) * kBlockSize, kBlockSize)) == segment.table.get(i)) {
          continue;
        }
        if (head && rewritten.contains(key.index * blocks + i)) continue;
        if (unjudgeable) {
          if (unjudged++ == 0) first_unjudged = i;
          continue;
        }
        add(make_error(ErrorCode::kCorruption, "{}: block {} (at {} of the file) does not match its CRC",
                       segment.file->path(), i, i * kBlockSize));
      }
      b = stop;
    }
    if (unjudged > 0) add_unjudged(segment.file->path(), unjudged, first_unjudged);
    co_return Status();
  }

  // Nothing is lost with a page, but all that it stands for will be copied.
  Task<Status> dirty_map(const OfflineReplica& replica, uint32_t slot) {
    OpenOptions options;
    options.direct = true;
    const std::string path = replica.directory + "/" + dirty_map_name(slot);
    Result<std::unique_ptr<File>> file = co_await fs_.open(path, options);
    if (file.code() == ErrorCode::kNotFound) {
      co_return make_error(ErrorCode::kCorruption,
                           "{}: missing, so all of the volume counts as changed in it", path);
    }
    HF_CO_TRY(file);
    Result<uint64_t> pages = map_pages_in(**file);
    HF_CO_TRY(pages);
    for (uint64_t page = 0; page < *pages; page += kMapPagesAtOnce) {
      DirtyMapPlace place;
      place.replica = replica.superblock.replica;
      place.slot = slot;
      place.page = page;
      Result<std::vector<LoadedMapPage>> loaded =
          co_await read_map_pages(**file, place, std::min(kMapPagesAtOnce, *pages - page));
      HF_CO_TRY(loaded);
      for (size_t i = 0; i < loaded->size(); ++i) {
        if (!(*loaded)[i].lost) continue;
        add(make_error(ErrorCode::kCorruption,
                       "{}: both copies of page {} are broken, so all that it stands for counts as changed",
                       path, page + i));
      }
    }
    co_return Status();
  }

  FileSystem& fs_;
  const OfflinePool& pool_;
  VerifyReport report_;
};

}  // namespace

Task<Result<VerifyReport>> verify_pool(World world, PoolConfig config) {
  Result<OfflinePool> pool = co_await load_offline(world.fs, config);
  HF_CO_TRY(pool);
  Verifier verifier(world.fs, *pool);
  verifier.report().batches = pool->scan.batches.size();
  if (pool->journal_error) {
    const Error& why = *pool->journal_error;
    verifier.add(make_error(
        why.code(), "the journal cannot be read, so what was acknowledged last is unknown: {}",
        why.message()));
  }
  for (const Error& error : pool->replica_errors) verifier.add(error);
  for (const OfflineReplica& replica : pool->replicas) co_await verifier.replica(replica);
  co_return verifier.take();
}

}  // namespace hf
