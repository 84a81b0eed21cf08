#include "store/drain_plan.h"

#include "store/mutants.h"

namespace hf {

std::vector<DrainSegment> split_by_segment(const ExtentMap& map, uint64_t blocks_per_segment,
                                           uint64_t end) {
  std::vector<DrainSegment> segments;
  for (const auto& [begin, extent] : map.extents()) {
    uint64_t at = begin;
    const uint64_t stop = std::min(begin + extent.count, end);
    while (at < stop) {
      const uint32_t index = static_cast<uint32_t>(at / blocks_per_segment);
      const uint64_t inside = at % blocks_per_segment;
      const uint64_t count = std::min(stop - at, blocks_per_segment - inside);
      if (segments.empty() || segments.back().index != index) {
        segments.emplace_back();
        segments.back().index = index;
      }
      segments.back().runs.push_back(DrainRun{static_cast<uint32_t>(inside),
                                              static_cast<uint32_t>(count), extent.record});
      at += count;
    }
  }
  return segments;
}

namespace {

void close_step(std::vector<DrainStep>& steps, ExtentMap& map, uint32_t layer,
                const Record* barrier, uint64_t blocks_per_segment, uint64_t end) {
  if (map.empty() && barrier == nullptr) return;
  DrainStep step;
  step.layer = layer;
  step.segments = split_by_segment(map, blocks_per_segment, end);
  step.barrier = barrier;
  steps.push_back(std::move(step));
  map = ExtentMap();
}

void add_oldest_wins(ExtentMap& map, const Record& record) {
  std::vector<std::pair<uint64_t, uint64_t>> free;
  map.visit(record.first_block(), record.blocks(),
            [&](uint64_t first, uint64_t count, const Record* there) {
              if (there == nullptr) free.emplace_back(first, count);
            });
  for (const auto& [first, count] : free) map.insert(record, first, count);
}

}  // namespace

std::vector<DrainStep> make_drain_steps(std::span<const Record* const> records,
                                        uint64_t blocks_per_segment, uint64_t end) {
  std::vector<DrainStep> steps;
  ExtentMap map;
  uint32_t layer = 0;
  for (const Record* record : records) {
    if (record->skip) continue;
    if (record->entry.type == EntryType::kSnapshot) {
      if (mutant(StoreMutant::kBarrierIgnored)) {
        close_step(steps, map, record->entry.layer + 1, record, blocks_per_segment, end);
        continue;
      }
      close_step(steps, map, record->entry.layer, record, blocks_per_segment, end);
      layer = record->entry.layer + 1;
      continue;
    }
    if (!record->changes_content()) continue;
    HF_ASSERT(map.empty() || layer == record->entry.layer ||
                  mutant(StoreMutant::kBarrierIgnored),
              "record of layer {} among those of {}", record->entry.layer, layer);
    layer = record->entry.layer;
    if (mutant(StoreMutant::kOldestWins)) {
      add_oldest_wins(map, *record);
    } else {
      map.insert(*record);
    }
  }
  close_step(steps, map, layer, nullptr, blocks_per_segment, end);
  return steps;
}

}  // namespace hf
