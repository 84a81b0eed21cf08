// What one drain has to do: the records of a prefix of the journal, sorted by replica, by layer, by
// segment, each block once with its newest content. Pure.
//
//   records: w1(b0) w2(b1) SNAP(L1) w3(b0)      one replica, head layer 1
//   steps:   layer 1: segment 0 ← w1(b0) w2(b1);   then the superblock: head layer 2
//            layer 2: segment 0 ← w3(b0)
#pragma once

#include <map>
#include <memory>
#include <span>
#include <vector>

#include "store/extent_map.h"

namespace hf {

// One run of blocks of a segment, from one record.
struct DrainRun {
  uint32_t first = 0;  // block in the segment
  uint32_t count = 0;
  const Record* record = nullptr;
};

struct DrainSegment {
  uint32_t index = 0;
  std::vector<DrainRun> runs;  // ascending, disjoint
};

struct DrainStep {
  uint32_t layer = 0;
  std::vector<DrainSegment> segments;  // ascending
  const Record* barrier = nullptr;     // after the segments: this snapshot closes the layer
};

struct DrainReplica {
  ReplicaImpl* replica = nullptr;
  std::vector<DrainStep> steps;  // by layer
};

// Splits the extents of `map` into segments of `blocks_per_segment`; blocks at or above `end` are left
// out (the replica has been shrunk since).
std::vector<DrainSegment> split_by_segment(const ExtentMap& map, uint64_t blocks_per_segment,
                                           uint64_t end);

// Makes the steps of one replica, record by record in journal order, so that the caller can let others run
// in between.
class DrainPlanner {
 public:
  // `end`: blocks of the replica.
  DrainPlanner(uint64_t blocks_per_segment, uint64_t end)
      : blocks_per_segment_(blocks_per_segment), end_(end) {}
  void add(const Record& record);
  // Once, at the end.
  std::vector<DrainStep> finish();

 private:
  void close_step(const Record* barrier, uint32_t layer);

  uint64_t blocks_per_segment_;
  uint64_t end_;
  uint32_t layer_ = 0;
  ExtentMap map_;
  std::vector<DrainStep> steps_;
};

// The same at once.
std::vector<DrainStep> make_drain_steps(std::span<const Record* const> records,
                                        uint64_t blocks_per_segment, uint64_t end);

}  // namespace hf
