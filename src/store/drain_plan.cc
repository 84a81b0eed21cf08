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

void add_oldest_wins(ExtentMap& map, const Record& record) {
  std::vector<std::pair<uint64_t, uint64_t>> free;
  map.visit(record.first_block(), record.blocks(),
            [&](uint64_t first, uint64_t count, const Record* there) {
              if (there == nullptr) free.emplace_back(first, count);
            });
  for (const auto& [first, count] : free) map.insert(record, first, count);
}

}  // namespace

void DrainPlanner::close_step(const Record* barrier, uint32_t layer) {
  if (map_.empty() && barrier == nullptr) return;
  DrainStep step;
  step.layer = layer;
  step.segments = split_by_segment(map_, blocks_per_segment_, end_);
  step.barrier = barrier;
  steps_.push_back(std::move(step));
  map_ = ExtentMap();
}

void DrainPlanner::add(const Record& record) {
  if (record.skip) return;
  if (record.entry.type == EntryType::kSnapshot) {
    if (mutant(StoreMutant::kBarrierIgnored)) {
      close_step(&record, record.entry.layer + 1);
      return;
    }
    close_step(&record, record.entry.layer);
    layer_ = record.entry.layer + 1;
    return;
  }
  if (!record.changes_content() && !record.is_intent()) return;
  HF_ASSERT(map_.empty() || layer_ == record.entry.layer || mutant(StoreMutant::kBarrierIgnored),
            "record of layer {} among those of {}", record.entry.layer, layer_);
  layer_ = record.entry.layer;
  // The newest counts, whether its data comes from the ring or is in the image already.
  if (mutant(StoreMutant::kOldestWins)) {
    add_oldest_wins(map_, record);
  } else {
    map_.insert(record);
  }
}

std::vector<DrainStep> DrainPlanner::finish() {
  close_step(nullptr, layer_);
  return std::move(steps_);
}

std::vector<DrainStep> make_drain_steps(std::span<const Record* const> records,
                                        uint64_t blocks_per_segment, uint64_t end) {
  DrainPlanner planner(blocks_per_segment, end);
  for (const Record* record : records) planner.add(*record);
  return planner.finish();
}

}  // namespace hf
