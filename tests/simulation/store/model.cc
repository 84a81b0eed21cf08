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

bool BlockHistory::allows(uint64_t floor, uint64_t value) const {
  return std::any_of(versions_.begin(), versions_.end(), [&](const Version& version) {
    return version.order >= floor && version.value == value;
  });
}

std::set<uint64_t> BlockHistory::possible() const {
  const uint64_t from = floor();
  std::set<uint64_t> out;
  for (const Version& version : versions_) {
    if (version.order >= from) out.insert(version.value);
  }
  return out;
}

void BlockHistory::become(uint64_t order, const std::set<uint64_t>& values) {
  versions_.clear();
  for (const uint64_t value : values) versions_.push_back({order, value, true});
}

std::string BlockHistory::to_string() const {
  std::string out;
  for (const Version& version : versions_) {
    out += fmt::format(" {}@{}{}", version.value, version.order, version.acked ? "+" : "?");
  }
  return out;
}

}  // namespace hf::store_sim
