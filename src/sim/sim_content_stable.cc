// Of SimContent: what makes content stable, and what power loss leaves.
#include "sim/sim_content.h"

#include <algorithm>

#include "sim/page_ranges.h"

namespace hf::sim {

// A deferred shrink becomes stable before anything that came after it.
void SimContent::commit_cut() {
  if (!cut_deferred_) return;
  cut_deferred_ = false;
  for (const uint64_t page : dirty_pages_) {
    Slot& slot = *find(page);
    if (slot.stable == slot.current) continue;
    if (page * kPageSize >= cut_at_) {
      set_stable(slot, nullptr);
      if (slot.current == nullptr) settle(page, slot);
    } else if (page == cut_at_ / kPageSize) {
      zero_tail_of(slot.stable, false, cut_at_ % kPageSize);
    }
  }
  stable_size_ = std::min(stable_size_, cut_at_);
}

void SimContent::finish_sync(uint64_t began) {
  commit_cut();
  size_t kept = 0;
  for (const uint64_t page : dirty_pages_) {
    Slot& slot = *find(page);
    if (slot.dirty != 0 && slot.first_dirty > began) {
      dirty_pages_[kept++] = page;
      continue;
    }
    slot.listed = false;
    if (slot.dirty != 0) settle(page, slot);
  }
  dirty_pages_.resize(kept);
  stable_size_ = size_;
}

void SimContent::fail_sync(Prng& prng) {
  commit_cut();
  for (const uint64_t page : dirty_pages_) {
    Slot& slot = *find(page);
    slot.listed = false;
    if (slot.dirty == 0) continue;
    const SectorMask made_it = static_cast<SectorMask>(prng.next()) & slot.dirty;
    if (slot.current == nullptr || made_it == slot.dirty) {
      settle(page, slot);
      continue;
    }
    if (made_it != 0) make_stable_sectors(page, slot, made_it);
    slot.dirty = slot.lied = 0;
    slot.first_dirty = 0;
    slot.stale_cache = true;
    stale_pages_.push_back(page);
  }
  dirty_pages_.clear();
  stable_size_ = size_;
}

void SimContent::write_back(uint64_t offset) {
  Slot* slot = find(offset / kPageSize);
  if (slot == nullptr || slot->dirty == 0) return;
  commit_cut();
  settle(offset / kPageSize, *slot);
}

void SimContent::evict(Slot& slot) {
  if (!slot.stale_cache || slot.dirty != 0) return;
  slot.stale_cache = false;
  if (slot.stable == nullptr) --allocated_pages_;
  set_current(slot, slot.stable);
}

void SimContent::drop_cache() {
  size_t kept = 0;
  for (const uint64_t page : stale_pages_) {
    Slot* slot = find(page);
    evict(*slot);
    if (slot->stale_cache) stale_pages_[kept++] = page;
  }
  stale_pages_.resize(kept);
}

void SimContent::crash_slot(uint64_t page, Slot& slot, Prng& prng, const CrashOdds& odds,
                            std::vector<uint64_t>* betrayed) {
  slot.stale_cache = false;
  if (slot.current == nullptr) {  // a hole that was punched
    if (prng.chance(odds.kept_percent, 100)) {
      settle(page, slot);
    } else {
      if (slot.reserved) {
        slot.reserved = false;
        space_.discharge(1);
      } else {
        ++allocated_pages_;
      }
      set_current(slot, slot.stable);
    }
    return;
  }
  SectorMask kept = 0, torn = 0;
  for (unsigned i = 0; i < kSectorsPerPage; ++i) {
    if ((slot.dirty >> i & 1) == 0) continue;
    const uint64_t draw = prng.below(100);
    if (draw < odds.kept_percent) {
      kept |= static_cast<SectorMask>(1u << i);
    } else if (draw < odds.kept_percent + odds.torn_percent) {
      torn |= static_cast<SectorMask>(1u << i);
    }
  }
  const SectorMask lied_to = slot.lied & static_cast<SectorMask>(~kept);
  if (kept == slot.dirty) {
    settle(page, slot);
    return;
  }
  if ((kept | torn) == 0) {
    if (slot.stable == nullptr) --allocated_pages_;
  } else {
    if (slot.stable == nullptr || slot.stable->refs > 1) set_stable(slot, new_page(slot.stable));
    for (unsigned i = 0; i < kSectorsPerPage; ++i) {
      size_t n = 0;
      if ((kept >> i & 1) != 0) n = kSectorSize;
      if ((torn >> i & 1) != 0) n = 8 * prng.between(1, kSectorSize / 8 - 1);
      std::memcpy(slot.stable->bytes + i * kSectorSize, slot.current->bytes + i * kSectorSize, n);
    }
    clear_taint(page, slot, kept);
  }
  set_current(slot, slot.stable);
  for (unsigned i = 0; i < kSectorsPerPage; ++i) {
    if ((lied_to >> i & 1) == 0) continue;
    const uint64_t offset = page * kPageSize + i * kSectorSize;
    taint(offset, kSectorSize, FaultKind::kStaleSector);
    betrayed->push_back(offset);
  }
}

std::vector<uint64_t> SimContent::crash(Prng& prng, const CrashOdds& odds) {
  std::vector<uint64_t> betrayed;
  CrashOdds all_lost;
  all_lost.kept_percent = all_lost.torn_percent = 0;
  const bool cut_undone = cut_deferred_;
  const uint64_t size = cut_undone || prng.chance(1, 2) ? stable_size_ : size_;
  cut_deferred_ = false;
  std::vector<uint64_t> pages = std::move(dirty_pages_);
  dirty_pages_.clear();
  for (const uint64_t page : pages) {
    Slot& slot = *find(page);
    slot.listed = false;
    if (slot.dirty != 0) crash_slot(page, slot, prng, cut_undone ? all_lost : odds, &betrayed);
    slot.dirty = slot.lied = 0;
    slot.first_dirty = 0;
  }
  drop_cache();
  HF_ASSERT(dirty_pages_.empty() && stale_pages_.empty());
  size_ = std::max(size, size_);
  set_size(size, true);
  return betrayed;
}

}  // namespace hf::sim
