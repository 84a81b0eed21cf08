#include "store/intents.h"

#include <algorithm>

#include "runtime/fault_point.h"
#include "store/mutants.h"

namespace hf {

std::vector<DrainSegment> newest_intents(std::span<const Record* const> records, uint32_t layer,
                                         uint64_t blocks_per_segment, uint64_t end) {
  ExtentMap map;
  bool any = false;
  for (const Record* record : records) {
    if (record->skip || record->entry.layer != layer) continue;
    if (!record->changes_content() && !record->is_intent()) continue;
    map.insert(*record);
    any = any || record->is_intent();
  }
  if (!any) return {};
  std::vector<DrainSegment> segments = split_by_segment(map, blocks_per_segment, end);
  for (DrainSegment& segment : segments) {
    std::erase_if(segment.runs, [](const DrainRun& run) { return !run.record->is_intent(); });
  }
  std::erase_if(segments, [](const DrainSegment& segment) { return segment.runs.empty(); });
  return segments;
}

bool has_open(const DrainSegment& intents) {
  return std::any_of(intents.runs.begin(), intents.runs.end(),
                     [](const DrainRun& run) { return !run.record->proven; });
}

uint32_t crc_or_zero(ByteSpan block) { return all_zero(block) ? 0 : block_crc(block); }

Task<Status> take_crcs_from_file(File& file, CrcTable& table, uint32_t first, uint32_t count) {
  constexpr uint32_t kMost = 256;
  AlignedBuffer memory(std::min(count, kMost) * kBlockSize);
  for (uint32_t done = 0; done < count;) {
    const uint32_t n = std::min(count - done, kMost);
    const MutableByteSpan out = memory.span().first(uint64_t{n} * kBlockSize);
    Result<size_t> got = co_await file.read_at((first + done) * kBlockSize, out);
    HF_CO_TRY(got);
    if (*got != out.size()) {
      co_return make_error(ErrorCode::kCorruption, "segment file {} ends early", file.path());
    }
    for (uint32_t i = 0; i < n; ++i) {
      table.set(first + done + i, crc_or_zero(out.subspan(uint64_t{i} * kBlockSize, kBlockSize)));
    }
    done += n;
  }
  co_return Status();
}

Task<Status> settle_intents(File& file, CrcTable& table, const DrainSegment& intents,
                            uint64_t blocks_per_segment) {
  const uint64_t start = intents.index * blocks_per_segment;
  for (const DrainRun& run : intents.runs) {
    const bool proven = run.record->proven && !mutant(StoreMutant::kMismatchAccepted);
    if (proven) {
      HF_PROBE("store.intent_proven");
      for (uint32_t b = run.first; b < run.first + run.count; ++b) {
        table.set(b, run.record->block_crc(start + b));
      }
      continue;
    }
    HF_PROBE("store.intent_open");
    Status taken = co_await take_crcs_from_file(file, table, run.first, run.count);
    HF_CO_TRY(taken);
    for (uint32_t b = run.first; b < run.first + run.count; ++b) {
      if (table.get(b) != run.record->block_crc(start + b)) HF_PROBE("store.intent_not_whole");
    }
  }
  co_return Status();
}

}  // namespace hf
