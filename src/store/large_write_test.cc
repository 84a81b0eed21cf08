// Large writes: which way each goes, who waits for whom, and what recovery makes of intents.
#include "store/large_write.h"

#include <gtest/gtest.h>

#include <deque>

#include "base/prng.h"
#include "store/intents.h"

namespace hf {
namespace {

TEST(LargeWrite, GoesStraightOnlyWhenNothingSpeaksAgainstIt) {
  for (uint32_t bits = 0; bits < 32; ++bits) {
    for (const uint64_t large : {uint64_t{0}, uint64_t{64 * kKiB}}) {
      for (const uint64_t length :
           {uint64_t{4096}, 64 * kKiB - 4096, 64 * kKiB, kMaxDirectBytes, kMaxDirectBytes + 4096}) {
        WriteFacts facts;
        facts.length = length;
        facts.large = large;
        facts.files = (bits & 1) != 0;
        facts.one_layer = (bits & 2) != 0;
        facts.overlay_clear = (bits & 4) != 0;
        facts.queue_clear = (bits & 8) != 0;
        facts.room = (bits & 16) != 0;
        const bool fits = large != 0 && length >= large && length <= kMaxDirectBytes;
        EXPECT_EQ(goes_direct(facts), fits && bits == 31) << bits << " " << length << " " << large;
      }
    }
  }
}

DirectWrite range_of(uint64_t first, uint64_t count) {
  DirectWrite write;
  write.first = first;
  write.count = count;
  return write;
}

TEST(LargeWrite, ABlockRangeOverlapsWhatSharesABlock) {
  for (uint64_t a = 0; a < 6; ++a) {
    for (uint64_t n = 1; n < 4; ++n) {
      for (uint64_t b = 0; b < 6; ++b) {
        for (uint64_t m = 1; m < 4; ++m) {
          bool share = false;
          for (uint64_t i = a; i < a + n; ++i) share = share || (i >= b && i < b + m);
          EXPECT_EQ(range_of(a, n).overlaps(b, m), share);
        }
      }
    }
  }
}

// Against the definition, with random beginnings and ends.
TEST(LargeWrite, NeverDeniesThatARangeWasTouched) {
  Prng prng(7);
  for (int round = 0; round < 50; ++round) {
    DirectWrites writes;
    std::deque<DirectWrite> all;
    std::vector<DirectWrite*> in_flight;
    std::vector<DirectWrite> ended;
    for (int step = 0; step < 300; ++step) {
      if (in_flight.empty() || prng.chance(1, 2)) {
        all.push_back(range_of(prng.below(40), prng.between(1, 4)));
        in_flight.push_back(&all.back());
        writes.begin(all.back());
      } else {
        const size_t at = prng.below(in_flight.size());
        writes.end(*in_flight[at]);
        ended.push_back(*in_flight[at]);
        in_flight.erase(in_flight.begin() + static_cast<ptrdiff_t>(at));
      }
      ASSERT_EQ(writes.ended(), ended.size());
      const uint64_t since = ended.size() - prng.below(ended.size() + 1);
      const uint64_t first = prng.below(44), count = prng.between(1, 3);
      bool touched = false;
      for (const DirectWrite* write : in_flight) touched = touched || write->overlaps(first, count);
      EXPECT_EQ(writes.overlaps(first, count), touched);
      for (size_t i = since; i < ended.size(); ++i) touched = touched || ended[i].overlaps(first, count);
      const bool said = writes.touched_since(since, first, count);
      EXPECT_TRUE(said || !touched);
      EXPECT_TRUE(said == touched || ended.size() - since > 64);
    }
    for (DirectWrite* write : in_flight) writes.end(*write);
  }
}

// --- intents: random logs, against the newest per block by definition -------------------------------

TEST(Intents, TheNewestRecordOfTheLayerCounts) {
  Prng prng(3);
  constexpr uint64_t kPerSegment = 8, kBlocks = 40;
  for (int round = 0; round < 400; ++round) {
    std::deque<Record> log;
    std::vector<uint32_t> crcs(kBlocks, 9);
    for (uint64_t i = prng.below(12); i > 0; --i) {
      Record& record = log.emplace_back();
      const uint64_t draw = prng.below(4);
      record.entry.type = draw == 0   ? EntryType::kWrite
                          : draw == 1 ? EntryType::kWriteZeroes
                          : draw == 2 ? EntryType::kSnapshot
                                      : EntryType::kIntent;
      const uint64_t first = prng.below(kBlocks - 1);
      record.entry.offset = first * kBlockSize;
      record.entry.length = prng.between(1, kBlocks - first) * kBlockSize;
      record.entry.layer = static_cast<uint32_t>(prng.between(1, 2));
      record.entry.crcs = std::span(crcs).first(record.blocks());
      record.proven = prng.chance(1, 2);
      record.skip = prng.chance(1, 8);
    }
    const uint64_t end = prng.chance(1, 3) ? prng.between(1, kBlocks) : kBlocks;
    std::vector<const Record*> records;
    std::vector<const Record*> newest(kBlocks, nullptr);
    for (const Record& record : log) {
      records.push_back(&record);
      if (record.skip || record.entry.layer != 2 || record.entry.type == EntryType::kSnapshot) continue;
      for (uint64_t b = record.first_block(); b < record.first_block() + record.blocks(); ++b) {
        newest[b] = &record;
      }
    }
    std::vector<const Record*> found(kBlocks, nullptr);
    for (const DrainSegment& segment : newest_intents(records, 2, kPerSegment, end)) {
      bool open = false;
      EXPECT_FALSE(segment.runs.empty());
      for (const DrainRun& run : segment.runs) {
        open = open || !run.record->proven;
        for (uint32_t b = run.first; b < run.first + run.count; ++b) {
          found[segment.index * kPerSegment + b] = run.record;
        }
      }
      EXPECT_EQ(has_open(segment), open);
    }
    for (uint64_t b = 0; b < kBlocks; ++b) {
      const bool intent = b < end && newest[b] != nullptr && newest[b]->is_intent();
      EXPECT_EQ(found[b], intent ? newest[b] : nullptr) << b;
    }
  }
}

}  // namespace
}  // namespace hf
