#include "store/books.h"

#include <gtest/gtest.h>

#include "base/prng.h"

namespace hf {
namespace {

// --- changes of a map
// ---------------------------------------------------------------------------------

TEST(UnitChanges, IsWhatAnArrayWouldBe) {
  constexpr uint64_t kUnits = 60;
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    Prng prng(seed);
    UnitChanges changes, earlier;
    std::vector<int> array(kUnits, -1);  // -1: nothing said
    const uint64_t put = prng.below(40);
    for (int step = 0; step < 40; ++step) {
      if (step == static_cast<int>(put)) {  // what was taken out comes back underneath
        earlier = std::move(changes);
        changes = UnitChanges();
      }
      const uint64_t first = prng.below(kUnits),
                     count = prng.between(1, std::min<uint64_t>(9, kUnits - first));
      const uint64_t draw = prng.below(20);
      if (draw == 0) {
        changes.clear_all();
        std::fill(array.begin(), array.end(), 0);
        continue;
      }
      if (draw < 12) {
        changes.set(first, count);
      } else {
        changes.clear(first, count);
      }
      std::fill_n(array.begin() + static_cast<ptrdiff_t>(first), count, draw < 12 ? 1 : 0);
    }
    changes.put_under(std::move(earlier));
    std::vector<int> said;
    changes.visit(0, kUnits, [&](uint64_t first, uint64_t count, std::optional<bool> change) {
      ASSERT_EQ(first, said.size());
      said.insert(said.end(), count, change ? (*change ? 1 : 0) : -1);
    });
    ASSERT_EQ(said, array) << seed;
    const UnitChanges::Run* before = nullptr;
    uint64_t end = 0;
    for (const auto& [first, run] : changes.runs()) {
      ASSERT_GT(run.count, 0u);
      ASSERT_TRUE(before == nullptr || first > end || before->set != run.set) << seed;
      ASSERT_GE(first, end);
      end = first + run.count;
      before = &run;
    }
  }
}

TEST(UnitChanges, UnitsOfRanges) {
  const uint64_t u = kDirtyUnitBytes;
  EXPECT_EQ(units_touched(0, 4096).count, 1u);
  EXPECT_EQ(units_touched(u - 4096, 8192).count, 2u);
  EXPECT_EQ(units_touched(5 * u, 0).count, 0u);
  EXPECT_EQ(units_inside(4096, u, 10 * u).count, 0u);
  EXPECT_EQ(units_inside(4096, 2 * u - 4096, 10 * u).first, 1u);
  EXPECT_EQ(units_inside(4096, 2 * u - 4096, 10 * u).count, 1u);
  EXPECT_EQ(units_inside(9 * u, 4096, 9 * u + 4096).count, 1u);  // the end of the volume
  EXPECT_EQ(units_inside(9 * u, 4096, 10 * u).count, 0u);
}

// --- books
// --------------------------------------------------------------------------------------------

JournalEntry entry_of(uint64_t epoch, uint64_t sequence, uint64_t block, SlotMask absent = 0) {
  JournalEntry entry;
  entry.type = EntryType::kWriteZeroes;
  entry.epoch = epoch;
  entry.sequence = sequence;
  entry.offset = block * kBlockSize;
  entry.length = kBlockSize;
  entry.absent = absent;
  return entry;
}

std::vector<uint64_t> window_of(const Books& books) {
  std::vector<uint64_t> blocks;
  books.visit_window([&](uint64_t offset, uint64_t) { blocks.push_back(offset / kBlockSize); });
  return blocks;
}

TEST(Books, TheWindowIsWhatIsAboveTheCommit) {
  Books books;
  for (uint64_t n = 1; n <= 4; ++n) books.note(entry_of(3, n, 10 * n), n);
  EXPECT_EQ(window_of(books), (std::vector<uint64_t>{10, 20, 30, 40}));
  books.advance({3, 2});
  EXPECT_EQ(window_of(books), (std::vector<uint64_t>{30, 40}));
  books.advance({2, 99});  // never back
  EXPECT_EQ(books.commit(), (Stamp{3, 2}));
  // A commit that comes with a later write, and stamps out of order.
  JournalEntry late = entry_of(3, 9, 90);
  late.commit = {3, 3};
  books.note(late, 5);
  books.note(entry_of(3, 8, 80), 6);
  EXPECT_EQ(window_of(books), (std::vector<uint64_t>{40, 90, 80}));
  books.advance({3, 8});
  EXPECT_EQ(window_of(books), (std::vector<uint64_t>{90}));
  books.advance({4, 0});
  EXPECT_TRUE(books.idle());
  books.note(entry_of(4, 0, 7), 7);  // outside of the order
  EXPECT_TRUE(books.idle());
}

TEST(Books, WhatLeavesTheRingAboveTheCommitGoesIntoTheMap) {
  Books books;
  books.note(entry_of(1, 1, 0), 1);
  books.note(entry_of(1, 2, 16), 2);
  books.note(entry_of(1, 3, 32), 3);
  books.advance({1, 1});
  EXPECT_FALSE(books.must_keep(1));
  EXPECT_TRUE(books.must_keep(2));
  books.take_leaving(2);
  ASSERT_NE(books.changes(kWindowSlot), nullptr);
  EXPECT_EQ(books.changes(kWindowSlot)->runs().size(), 1u);
  EXPECT_EQ(books.changes(kWindowSlot)->runs().begin()->first, 1u);
  EXPECT_EQ(books.leaving_newest(), (Stamp{1, 2}));
  EXPECT_FALSE(books.window_file_settled());
  (void)books.take_changes(kWindowSlot);
  books.released(2);
  EXPECT_EQ(window_of(books), (std::vector<uint64_t>{32}));
  books.advance({1, 2});
  EXPECT_TRUE(books.window_file_settled());
}

TEST(Books, MarksAndClearsCountInTheirOrder) {
  Books books;
  books.note(entry_of(1, 1, 0, 0b101), 1);
  JournalEntry clear = entry_of(1, 0, 0, 0b001);
  clear.type = EntryType::kClearDirty;
  clear.length = 0;
  books.note(clear, 2);
  books.note(entry_of(1, 2, 32, 0b001), 3);
  const UnitChanges* zero = books.changes(0);
  ASSERT_NE(zero, nullptr);
  EXPECT_TRUE(zero->all_cleared());
  ASSERT_EQ(zero->runs().size(), 1u);
  EXPECT_EQ(zero->runs().begin()->first, 2u);
  EXPECT_EQ(books.changes(1), nullptr);
  EXPECT_FALSE(books.changes(2)->all_cleared());
  EXPECT_EQ(books.changed(), (std::vector<uint32_t>{0, 2}));
}

}  // namespace
}  // namespace hf
