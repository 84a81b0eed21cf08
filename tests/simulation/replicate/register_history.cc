#include "register_history.h"

#include <fmt/format.h>

#include <algorithm>

namespace hf::replicate_sim {

void RegisterHistory::write_begins(size_t block, uint64_t value, uint64_t tick) {
  Value& v = blocks_[block].values[value];
  v.write_began = v.last_begin = tick;
  ++writes_;
}

void RegisterHistory::write_ended(size_t block, uint64_t value, uint64_t tick) {
  Value& v = blocks_[block].values[value];
  v.write_ended = tick;
  v.first_end = std::min(v.first_end, tick);
}

void RegisterHistory::read(size_t block, uint64_t value, uint64_t began, uint64_t ended) {
  ++reads_;
  const auto at = blocks_[block].values.find(value);
  if (at == blocks_[block].values.end()) {
    garbage_ = fmt::format("block {} was read as {}, which nobody wrote there", block, value);
    return;
  }
  Value& v = at->second;
  ++v.reads;
  v.first_end = std::min(v.first_end, ended);
  v.last_begin = std::max(v.last_begin, began);
  if (ended < v.write_began) v.too_early = ended;
}

std::string RegisterHistory::check_block(size_t number, const Block& block) const {
  struct Span {
    uint64_t from, to, value;
  };
  std::vector<Span> sure, brief;
  for (const auto& [value, v] : block.values) {
    if (v.too_early != 0)
      return fmt::format("block {}: {} was read before it was written", number, value);
    if (v.first_end == kNever) continue;  // never acknowledged, never read: as if it had not been
    if (v.first_end < v.last_begin) {
      sure.push_back({v.first_end, v.last_begin, value});
    } else {
      brief.push_back({v.last_begin, v.first_end, value});
    }
  }
  const auto earlier = [](const Span& a, const Span& b) { return a.from < b.from; };
  std::sort(sure.begin(), sure.end(), earlier);
  for (size_t i = 0; i + 1 < sure.size(); ++i) {
    if (sure[i].to < sure[i + 1].from) continue;
    return fmt::format("block {}: {} was there from {} to {}, and {} from {} to {}", number,
                       sure[i].value, sure[i].from, sure[i].to, sure[i + 1].value, sure[i + 1].from,
                       sure[i + 1].to);
  }
  for (const Span& b : brief) {
    // They do not overlap, so only the last that began before can hold it.
    auto at = std::upper_bound(sure.begin(), sure.end(), b, earlier);
    if (at == sure.begin()) continue;
    --at;
    if (at->from < b.from && b.to < at->to) {
      return fmt::format("block {}: {} was there from {} to {}, but {} was written from {} to {}",
                         number, at->value, at->from, at->to, b.value, b.from, b.to);
    }
  }
  return "";
}

std::string RegisterHistory::check() const {
  if (!garbage_.empty()) return garbage_;
  for (size_t i = 0; i < blocks_.size(); ++i) {
    std::string wrong = check_block(i, blocks_[i]);
    if (!wrong.empty()) return wrong;
  }
  return "";
}

}  // namespace hf::replicate_sim
