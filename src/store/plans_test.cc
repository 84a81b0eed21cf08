// The store's pure decisions: segment map, ring, drain plan, space.
#include <gtest/gtest.h>

#include <deque>

#include "base/prng.h"
#include "store/drain_plan.h"
#include "store/pace.h"
#include "store/ring.h"
#include "store/segment_map.h"
#include "store/space.h"

namespace hf {
namespace {

// --- segment map: every subset of five layers of one segment, against the definition ----------------

TEST(SegmentMap, SeesTheHighestLayerNotAbove) {
  for (uint32_t present = 0; present < 32; ++present) {
    SegmentMap map;
    for (uint32_t layer = 5; layer >= 1; --layer) {
      if ((present >> (layer - 1) & 1) != 0) map.insert({7, layer});
    }
    map.insert({6, 1});
    map.insert({8, 1});
    for (uint32_t layer = 1; layer <= 5; ++layer) {
      std::optional<SegmentKey> want;
      for (uint32_t l = 1; l <= layer; ++l) {
        if ((present >> (l - 1) & 1) != 0) want = SegmentKey{7, l};
      }
      EXPECT_EQ(map.visible(7, layer), want);
      EXPECT_EQ(map.visible_all(layer).size(), want ? 3u : 2u);
    }
  }
}

TEST(SegmentMap, UnneededIsWhatNoLayerSees) {
  for (uint32_t present = 1; present < 32; ++present) {
    for (uint32_t wanted = 1; wanted < 32; ++wanted) {
      SegmentMap map;
      std::vector<uint32_t> layers;
      for (uint32_t l = 1; l <= 5; ++l) {
        if ((present >> (l - 1) & 1) != 0) map.insert({0, l});
        if ((wanted >> (l - 1) & 1) != 0) layers.push_back(l);
      }
      const std::vector<SegmentKey> unneeded = map.unneeded(layers);
      EXPECT_EQ(unneeded, map.unneeded_of(0, layers));
      for (const SegmentKey& key : map.keys()) {
        const bool seen = std::any_of(layers.begin(), layers.end(),
                                      [&](uint32_t l) { return map.visible(0, l) == key; });
        const bool listed = std::find(unneeded.begin(), unneeded.end(), key) != unneeded.end();
        EXPECT_NE(seen, listed) << present << " " << wanted << " layer " << key.layer;
      }
    }
  }
}

// --- ring: batches never overlap, whatever the sizes ------------------------------------------------

TEST(Ring, NeverGivesWhatIsInUse) {
  for (uint64_t seed = 0; seed < 100; ++seed) {
    Prng prng(seed);
    constexpr uint64_t kBlocks = 40;
    Ring ring(kBlocks * kBlockSize, prng.below(kBlocks + 1) * kBlockSize, 0);
    struct Used {
      uint64_t begin, end, consumed;
    };
    std::deque<Used> used;
    for (int i = 0; i < 500; ++i) {
      const uint64_t need = prng.between(1, 12) * kBlockSize;
      const auto place = ring.find(need, 0);
      if (!place) {
        ASSERT_FALSE(used.empty()) << "an empty ring must have room";
        ring.release(used.front().consumed);
        used.pop_front();
        continue;
      }
      ASSERT_LE(place->position + need, ring.bytes());
      for (const Used& u : used) {
        ASSERT_TRUE(place->position >= u.end || place->position + need <= u.begin) << seed;
      }
      ring.take(*place, need);
      used.push_back({place->position, place->position + need, place->consumed});
    }
  }
}

// --- drain plan -------------------------------------------------------------------------------------

Record write(uint64_t first, uint64_t count, uint32_t layer) {
  Record r;
  r.entry.type = EntryType::kWrite;
  r.entry.offset = first * kBlockSize;
  r.entry.length = count * kBlockSize;
  r.entry.layer = layer;
  return r;
}

Record barrier(uint32_t layer) {
  Record r;
  r.entry.type = EntryType::kSnapshot;
  r.entry.layer = layer;
  return r;
}

TEST(DrainPlan, NewestWinsWithinALayerAndBarriersSeparate) {
  const Record a = write(0, 4, 1), b = write(2, 1, 1), snap = barrier(1), c = write(0, 1, 2);
  const std::vector<const Record*> records = {&a, &b, &snap, &c};
  const std::vector<DrainStep> steps = make_drain_steps(records, 3, 100);
  ASSERT_EQ(steps.size(), 2u);
  EXPECT_EQ(steps[0].layer, 1u);
  EXPECT_EQ(steps[0].barrier, &snap);
  ASSERT_EQ(steps[0].segments.size(), 2u);  // three blocks each
  ASSERT_EQ(steps[0].segments[0].runs.size(), 2u);
  EXPECT_EQ(steps[0].segments[0].runs[0].record, &a);
  EXPECT_EQ(steps[0].segments[0].runs[0].count, 2u);
  EXPECT_EQ(steps[0].segments[0].runs[1].record, &b);
  EXPECT_EQ(steps[0].segments[1].runs[0].first, 0u);
  EXPECT_EQ(steps[1].layer, 2u);
  EXPECT_EQ(steps[1].barrier, nullptr);
  EXPECT_EQ(steps[1].segments[0].runs[0].record, &c);
}

TEST(DrainPlan, LeavesOutWhatLiesBehindTheEndAndWhatIsSkipped) {
  const Record a = write(0, 10, 1);
  Record skipped = write(0, 1, 1);
  skipped.skip = true;
  const std::vector<const Record*> records = {&a, &skipped};
  const std::vector<DrainStep> steps = make_drain_steps(records, 4, 6);
  ASSERT_EQ(steps.size(), 1u);
  ASSERT_EQ(steps[0].segments.size(), 2u);
  EXPECT_EQ(steps[0].segments[1].runs[0].count, 2u);
  EXPECT_EQ(steps[0].segments[0].runs[0].record, &a);
}

TEST(DrainPlan, ABarrierAloneIsAStep) {
  const Record snap = barrier(4);
  const std::vector<const Record*> records = {&snap};
  const std::vector<DrainStep> steps = make_drain_steps(records, 4, 6);
  ASSERT_EQ(steps.size(), 1u);
  EXPECT_EQ(steps[0].barrier, &snap);
  EXPECT_TRUE(steps[0].segments.empty());
}

// --- space ------------------------------------------------------------------------------------------

TEST(Space, KeepsTheReserveAndWhatIsPromised) {
  SpaceState space;
  space.free = 100;
  space.reserve = 40;
  space.pending = 30;
  EXPECT_TRUE(admits(space, 30));
  EXPECT_FALSE(admits(space, 31));
  space.free = 39;
  EXPECT_FALSE(admits(space, 0));
  space.free = 60;
  EXPECT_FALSE(admits(space, 0)) << "pending does not fit any more";
  EXPECT_EQ(default_reserve(1 * kGiB), 1 * kGiB / 20);
  EXPECT_EQ(default_reserve(1 * kTiB), 1 * kGiB);
  EXPECT_GE(worst_case_bytes(4 * kMiB, 3), 4 * kMiB + 3 * kSegmentOverhead);
}

TEST(Space, WhatIsVitalGoesDeepestIntoTheReserve) {
  EXPECT_EQ(reserve_for(WriteKind::kData, 1000), 1000u);
  EXPECT_EQ(reserve_for(WriteKind::kSmall, 1000), 750u);
  EXPECT_EQ(reserve_for(WriteKind::kVital, 1000), 500u);
  EXPECT_EQ(reserve_for(WriteKind::kSmall, 0), 0u);
}

TEST(Space, AnImageHasNoMoreThanTheFileSystemBelow) {
  // A fresh sparse image: what is free below counts.
  const uint64_t total = 10 * kGiB, log = 64 * kMiB, image = total + log;
  EXPECT_EQ(writable_in_image(image, 100 * kMiB, total, 9 * kGiB, 50 * kGiB), 9 * kGiB);
  EXPECT_EQ(writable_in_image(image, 100 * kMiB, total, 9 * kGiB, 3 * kGiB), 3 * kGiB);
  EXPECT_EQ(writable_in_image(image, 100 * kMiB, total, 9 * kGiB, 0), 0u);
  // Blocks that it has and does not use come back, but for those of its own log and tables.
  EXPECT_EQ(writable_in_image(image, image, total, 9 * kGiB, 0), 9 * kGiB - kImageTables);
  EXPECT_EQ(writable_in_image(image, image, total, 9 * kGiB, 1 * kGiB), 9 * kGiB);
  EXPECT_EQ(writable_in_image(image, image, total, total, 0), total - kImageTables);
  EXPECT_EQ(writable_in_image(image, 0, total, 11 * kGiB, 1 * kGiB), 1 * kGiB);  // nonsense from below
}

// --- pace -------------------------------------------------------------------------------------------

TEST(Pace, HoldsNothingBackUntilHalfFullOrBeforeARateIsKnown) {
  EXPECT_EQ(pause_for(1 * kMiB, 128 * kMiB, 256 * kMiB, 1e6), Duration(0));
  EXPECT_EQ(pause_for(1 * kMiB, 255 * kMiB, 256 * kMiB, 0), Duration(0));
}

TEST(Pace, MeetsTheDrainAtThreeQuartersAndNeverPausesLong) {
  const double rate = 100e6;
  const auto written = [&](uint64_t used) {
    const Duration pause = pause_for(100'000, used, 256 * kMiB, rate);
    return 100'000 / std::chrono::duration<double>(pause).count();
  };
  EXPECT_NEAR(written(192 * kMiB), rate, rate / 100);
  EXPECT_NEAR(written(128 * kMiB + kBlockSize), 2 * rate, rate / 50);
  Duration last(0);
  for (uint64_t used = 128 * kMiB; used <= 256 * kMiB; used += kMiB) {
    const Duration pause = pause_for(100'000, used, 256 * kMiB, rate);
    EXPECT_GE(pause, last);
    EXPECT_LE(pause, kMaxPause);
    last = pause;
  }
  EXPECT_EQ(last, kMaxPause);
}

}  // namespace
}  // namespace hf
