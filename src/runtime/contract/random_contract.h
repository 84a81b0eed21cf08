// The contract of Random (runtime/random.h). See world_factory.h.
#pragma once

#include <array>
#include <set>
#include <vector>

#include "base/id.h"
#include "runtime/contract/world_factory.h"
#include "runtime/random.h"

namespace hf::contract {

class RandomContract : public WorldTest {};

TEST_P(RandomContract, NumbersDoNotRepeatAndEveryBitIsFair) {
  constexpr int kDraws = 10'000;
  std::set<uint64_t> seen;
  std::array<int, 64> ones{};
  for (int i = 0; i < kDraws; ++i) {
    const uint64_t value = world().random.next();
    seen.insert(value);
    for (int bit = 0; bit < 64; ++bit) ones[static_cast<size_t>(bit)] += (value >> bit) & 1;
  }
  EXPECT_EQ(seen.size(), static_cast<size_t>(kDraws));
  // Ten standard deviations.
  for (const int count : ones) EXPECT_NEAR(count, kDraws / 2, 500);
}

TEST_P(RandomContract, FillWritesTheWholeSpanAndNothingElse) {
  for (const size_t size :
       {size_t{0}, size_t{1}, size_t{7}, size_t{8}, size_t{9}, size_t{4096}, size_t{100'003}}) {
    std::vector<std::byte> bytes(size + 2, std::byte{0xa5});
    world().random.fill(MutableByteSpan(bytes).subspan(1, size));
    EXPECT_EQ(bytes.front(), std::byte{0xa5});
    EXPECT_EQ(bytes.back(), std::byte{0xa5});
    if (size < 4096) continue;
    // The middle and the last piece of it are random, too.
    std::set<std::byte> kinds(bytes.end() - 1025, bytes.end() - 1);
    EXPECT_GT(kinds.size(), 100u) << size;
  }
}

TEST_P(RandomContract, IdsAreDistinct) {
  std::set<std::string> seen;
  for (int i = 0; i < 1000; ++i) seen.insert(new_id<VolumeId>(world().random).to_string());
  EXPECT_EQ(seen.size(), 1000u);
}

}  // namespace hf::contract
