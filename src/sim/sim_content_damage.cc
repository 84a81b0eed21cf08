// Of SimContent: damage, and the record of it.
#include "sim/sim_content.h"

#include <algorithm>

#include "sim/page_ranges.h"

namespace hf::sim {

Page* SimContent::medium_page(uint64_t offset) const {
  const Slot* slot = find(offset / kPageSize);
  return slot == nullptr ? nullptr : slot->stable;
}

void SimContent::set_unreadable(uint64_t offset) {
  Slot* slot = find(offset / kPageSize);
  if (slot == nullptr || slot->current == nullptr) return;
  slot->bad |= sectors_of(offset % kPageSize, 1);
  taint(offset, kSectorSize, FaultKind::kLatentSector);
}

void SimContent::mark_lied(uint64_t offset, uint64_t length) {
  for_each_piece(offset, length, [&](uint64_t page, size_t at, size_t n, uint64_t) {
    Slot* slot = find(page);
    if (slot != nullptr) slot->lied |= slot->dirty & sectors_of(at, n);
    return true;
  });
}

void SimContent::mark_all_lied() {
  for (const uint64_t page : dirty_pages_) {
    Slot& slot = *find(page);
    slot.lied = slot.dirty;
  }
}

void SimContent::taint(uint64_t offset, uint64_t length, FaultKind kind) {
  for_each_piece(offset, length, [&](uint64_t page, size_t at, size_t n, uint64_t) {
    make(page).tainted = true;
    taints_[page][static_cast<size_t>(kind)] |= sectors_of(at, n);
    return true;
  });
}

FaultMask SimContent::taints(uint64_t offset, uint64_t length) const {
  FaultMask mask = 0;
  if (taints_.empty()) return mask;
  const uint64_t first = offset / kPageSize;
  for (auto it = taints_.lower_bound(first); it != taints_.end(); ++it) {
    const uint64_t start = it->first * kPageSize;
    if (start >= offset + length) break;
    const uint64_t from = std::max(offset, start) - start;
    const uint64_t to = std::min(offset + length, start + kPageSize) - start;
    for (size_t kind = 0; kind < kFaultKinds; ++kind) {
      if ((it->second[kind] & sectors_of(from, to - from)) != 0) mask |= 1u << kind;
    }
  }
  return mask;
}

void SimContent::clear_taint(uint64_t page, Slot& slot, SectorMask sectors) {
  if (!slot.tainted) return;
  auto it = taints_.find(page);
  bool any = false;
  for (SectorMask& mask : it->second) {
    mask &= static_cast<SectorMask>(~sectors);
    any |= mask != 0;
  }
  if (any) return;
  taints_.erase(it);
  slot.tainted = false;
}

bool SimContent::nth_page(uint64_t n, uint64_t* offset) const {
  for (const auto& [index, chunk] : chunks_) {
    for (uint64_t i = 0; i < kSlotsPerChunk; ++i) {
      if ((*chunk)[i].stable == nullptr || n-- != 0) continue;
      *offset = (index * kSlotsPerChunk + i) * kPageSize;
      return true;
    }
  }
  return false;
}

void SimContent::places_of(const Page* page, std::vector<uint64_t>* offsets) const {
  for (const auto& [index, chunk] : chunks_) {
    for (uint64_t i = 0; i < kSlotsPerChunk; ++i) {
      const Slot& slot = (*chunk)[i];
      if (slot.stable == page || slot.current == page) {
        offsets->push_back((index * kSlotsPerChunk + i) * kPageSize);
      }
    }
  }
}

}  // namespace hf::sim
