#include "model.h"

#include <algorithm>

namespace hf::store_sim {
namespace {

constexpr size_t kWords = kBlockSize / 8;

uint64_t word(uint64_t value, uint64_t number, size_t i) {
  const uint64_t z = (value * 0x9e3779b97f4a7c15 + number) ^ (i * 0xbf58476d1ce4e5b9);
  return z ^ (z >> 31);
}

}  // namespace

void fill_block(MutableByteSpan block, uint64_t value, uint64_t number) {
  if (value == 0) {
    std::memset(block.data(), 0, kBlockSize);
    return;
  }
  std::memcpy(block.data(), &value, 8);
  for (size_t i = 1; i < kWords; ++i) {
    const uint64_t w = word(value, number, i);
    std::memcpy(block.data() + i * 8, &w, 8);
  }
}

std::optional<uint64_t> value_of_block(ByteSpan block, uint64_t number) {
  uint64_t value = 0;
  std::memcpy(&value, block.data(), 8);
  if (value == 0) return all_zero(block) ? std::optional<uint64_t>(0) : std::nullopt;
  for (size_t i = 1; i < kWords; ++i) {
    uint64_t w = 0;
    std::memcpy(&w, block.data() + i * 8, 8);
    if (w != word(value, number, i)) return std::nullopt;
  }
  return value;
}

uint64_t Mixtures::word_of(uint64_t value, uint64_t number, size_t i) const {
  if (value >= kFirst) return words_[value - kFirst][i];
  if (value == 0 || i == 0) return value;
  return word(value, number, i);
}

std::optional<uint64_t> Mixtures::value_of(ByteSpan block, uint64_t number) const {
  if (const auto plain = value_of_block(block, number)) return plain;
  for (size_t n = 0; n < words_.size(); ++n) {
    if (std::memcmp(words_[n].data(), block.data(), kBlockSize) == 0) return kFirst + n;
  }
  return std::nullopt;
}

uint64_t Mixtures::add(ByteSpan block) {
  words_.emplace_back(kWords);
  std::memcpy(words_.back().data(), block.data(), kBlockSize);
  return kFirst + words_.size() - 1;
}

bool Mixtures::made_of(ByteSpan block, uint64_t number, const std::set<uint64_t>& values) const {
  for (size_t i = 0; i < kWords; ++i) {
    uint64_t w = 0;
    std::memcpy(&w, block.data() + i * 8, 8);
    const bool known = std::any_of(values.begin(), values.end(),
                                   [&](uint64_t value) { return word_of(value, number, i) == w; });
    if (!known) return false;
  }
  return true;
}

void BlockHistory::acknowledge(uint64_t order) {
  for (Version& version : versions_) {
    if (version.order == order) version.acked = true;
  }
}

uint64_t BlockHistory::floor() const {
  uint64_t floor = 0;
  for (const Version& version : versions_) {
    if (version.acked) floor = std::max(floor, version.order);
  }
  return floor;
}

Possible BlockHistory::since(uint64_t from) const {
  Possible out;
  out.torn = torn_source_;
  for (const Version& version : versions_) {
    if (version.order < from) continue;
    out.values.insert(version.value);
    out.large = out.large || version.large;
    out.torn = out.torn || (version.large && !version.acked);
  }
  return out;
}

uint64_t BlockHistory::order_of(uint64_t value) const {
  for (const Version& version : versions_) {
    if (version.value == value) return version.order;
  }
  return 0;
}

void BlockHistory::become(uint64_t order, const Possible& possible) {
  versions_.clear();
  for (const uint64_t value : possible.values) {
    versions_.push_back({order, value, true, possible.large});
  }
  torn_source_ = possible.torn;
}

std::string BlockHistory::to_string() const {
  std::string out;
  for (const Version& version : versions_) {
    out += fmt::format(" {}@{}{}{}", version.value, version.order, version.acked ? "+" : "?",
                       version.large ? "L" : "");
  }
  return out;
}

// --- books
// --------------------------------------------------------------------------------------------

void ModelBooks::begin(const Write& write) {
  newest = std::max(newest, write.stamp);
  in_flight_.insert(write.order);
  const uint64_t first = write.first / kBlocksPerUnit;
  const uint64_t units = (write.first + write.count - 1) / kBlocksPerUnit - first + 1;
  mark(write.order, write.absent, first, units, false);
  writes_[write.order] = write;
}

void ModelBooks::happened(uint64_t order) {
  const auto found = writes_.find(order);
  if (found == writes_.end() || found->second.happened) return;
  found->second.happened = true;
  const Write& write = found->second;
  const uint64_t first = write.first / kBlocksPerUnit;
  const uint64_t units = (write.first + write.count - 1) / kBlocksPerUnit - first + 1;
  mark(order, write.absent, first, units, true);
}

// Any subset of the blocks of a write in flight may have happened.
void ModelBooks::seen(uint64_t order, uint64_t block) {
  const auto found = writes_.find(order);
  if (found == writes_.end() || found->second.happened) return;
  if (!found->second.seen.insert(block).second) return;
  mark(order, found->second.absent, block / kBlocksPerUnit, 1, true);
}

void ModelBooks::ended(uint64_t order) {
  in_flight_.erase(order);
}

Stamp ModelBooks::answered() const {
  if (in_flight_.empty()) return newest;
  Stamp lowest = newest;
  for (const uint64_t order : in_flight_) {
    const Stamp stamp = writes_.at(order).stamp;
    lowest = std::min(lowest, Stamp{stamp.epoch, stamp.sequence - 1});
  }
  return lowest;
}

void ModelBooks::mark(uint64_t order, SlotMask slots, uint64_t first_unit, uint64_t units,
                      bool durable) {
  for (uint32_t slot = 0; slot < kMemberSlots; ++slot) {
    if ((slots >> slot & 1) == 0) continue;
    for (uint64_t unit = first_unit; unit < first_unit + units; ++unit) {
      slots_[slot].may[unit].insert(order);
      const auto cleared = slots_[slot].cleared.find(unit);
      const bool forgotten = cleared != slots_[slot].cleared.end() && cleared->second > order;
      if (durable && !forgotten) slots_[slot].must.insert(unit);
    }
  }
}

void ModelBooks::clear_begins(uint64_t order, uint32_t slot, uint64_t first_unit, uint64_t units) {
  for (uint64_t unit = first_unit; unit < first_unit + units; ++unit) {
    slots_[slot].must.erase(unit);
    slots_[slot].cleared[unit] = order;
  }
}

void ModelBooks::clear_ended(uint64_t order, uint32_t slot, uint64_t first_unit, uint64_t units,
                             const std::set<uint64_t>& in_flight_then) {
  for (uint64_t unit = first_unit; unit < first_unit + units; ++unit) {
    const auto found = slots_[slot].may.find(unit);
    if (found == slots_[slot].may.end()) continue;
    // A large write that found no space goes through the journal again, and marks again.
    std::erase_if(found->second,
                  [&](uint64_t of) { return of < order && !in_flight_then.contains(of); });
    if (found->second.empty()) slots_[slot].may.erase(found);
  }
}

std::set<uint64_t> ModelBooks::must_be_in_window() const {
  std::set<uint64_t> blocks;
  for (const auto& [order, write] : writes_) {
    if (write.stamp <= told) continue;
    blocks.insert(write.seen.begin(), write.seen.end());
    if (!write.happened) continue;
    for (uint64_t b = write.first; b < write.first + write.count; ++b) blocks.insert(b);
  }
  return blocks;
}

}  // namespace hf::store_sim
