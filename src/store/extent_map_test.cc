#include "store/extent_map.h"

#include <gtest/gtest.h>

#include <deque>
#include <vector>

#include "base/prng.h"

namespace hf {
namespace {

Record record(uint64_t first, uint64_t count) {
  Record r;
  r.entry.type = EntryType::kWriteZeroes;
  r.entry.offset = first * kBlockSize;
  r.entry.length = count * kBlockSize;
  return r;
}

// Against one pointer per block.
TEST(ExtentMap, IsTheSameAsAMapOfBlocks) {
  constexpr uint64_t kBlocks = 64;
  for (uint64_t seed = 0; seed < 200; ++seed) {
    Prng prng(seed);
    ExtentMap map;
    std::deque<Record> records;
    std::vector<const Record*> plain(kBlocks, nullptr);
    for (int i = 0; i < 120; ++i) {
      if (prng.chance(1, 4) && !records.empty()) {
        const Record& gone = records[prng.below(records.size())];
        map.erase(gone);
        for (const Record*& p : plain) p = p == &gone ? nullptr : p;
      } else {
        const uint64_t first = prng.below(kBlocks);
        records.push_back(record(first, prng.between(1, kBlocks - first)));
        const Record& r = records.back();
        map.insert(r);
        for (uint64_t b = 0; b < r.blocks(); ++b) plain[first + b] = &r;
      }
      const uint64_t from = prng.below(kBlocks);
      const uint64_t count = prng.between(1, kBlocks - from);
      uint64_t at = from;
      map.visit(from, count, [&](uint64_t first, uint64_t n, const Record* r) {
        ASSERT_EQ(first, at);
        ASSERT_GT(n, 0u);
        for (uint64_t b = first; b < first + n; ++b) ASSERT_EQ(plain[b], r) << seed << " " << b;
        at += n;
      });
      ASSERT_EQ(at, from + count);
    }
  }
}

}  // namespace
}  // namespace hf
