#include "store/segment_map.h"

#include <algorithm>

#include "base/assert.h"

namespace hf {
namespace {

// Of the files [first, last) of one segment, those that no layer sees.
void collect_unneeded(std::span<const SegmentKey> files, std::span<const uint32_t> layers,
                      std::vector<SegmentKey>& out) {
  for (size_t i = 0; i < files.size(); ++i) {
    const uint64_t from = files[i].layer;
    const uint64_t to = i + 1 < files.size() ? files[i + 1].layer : uint64_t{1} << 32;
    const bool seen = std::any_of(layers.begin(), layers.end(),
                                  [&](uint32_t layer) { return layer >= from && layer < to; });
    if (!seen) out.push_back(files[i]);
  }
}

}  // namespace

void SegmentMap::assign(std::vector<SegmentKey> keys) {
  keys_ = std::move(keys);
  std::sort(keys_.begin(), keys_.end());
}

void SegmentMap::insert(SegmentKey key) {
  const auto at = std::lower_bound(keys_.begin(), keys_.end(), key);
  if (at != keys_.end() && *at == key) return;
  keys_.insert(at, key);
}

void SegmentMap::erase(SegmentKey key) {
  const auto at = std::lower_bound(keys_.begin(), keys_.end(), key);
  HF_ASSERT(at != keys_.end() && *at == key, "segment {}.{} is not there", key.index, key.layer);
  keys_.erase(at);
}

std::optional<SegmentKey> SegmentMap::visible(uint32_t index, uint32_t layer) const {
  const auto after = std::upper_bound(keys_.begin(), keys_.end(), SegmentKey{index, layer});
  if (after == keys_.begin() || std::prev(after)->index != index) return std::nullopt;
  return *std::prev(after);
}

std::vector<SegmentKey> SegmentMap::visible_all(uint32_t layer) const {
  std::vector<SegmentKey> out;
  for (const SegmentKey& key : keys_) {
    if (key.layer > layer) continue;
    if (!out.empty() && out.back().index == key.index) {
      out.back() = key;
    } else {
      out.push_back(key);
    }
  }
  return out;
}

std::vector<SegmentKey> SegmentMap::unneeded(std::span<const uint32_t> layers) const {
  std::vector<SegmentKey> out;
  for (size_t i = 0; i < keys_.size();) {
    size_t end = i;
    while (end < keys_.size() && keys_[end].index == keys_[i].index) ++end;
    collect_unneeded(std::span(keys_).subspan(i, end - i), layers, out);
    i = end;
  }
  return out;
}

std::vector<SegmentKey> SegmentMap::unneeded_of(uint32_t index,
                                                std::span<const uint32_t> layers) const {
  std::vector<SegmentKey> out;
  const auto begin = std::lower_bound(keys_.begin(), keys_.end(), SegmentKey{index, 0});
  auto end = begin;
  while (end != keys_.end() && end->index == index) ++end;
  collect_unneeded(std::span(begin, end), layers, out);
  return out;
}

}  // namespace hf
