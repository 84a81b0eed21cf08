#include "sim/sim_content.h"

#include <algorithm>

namespace hf::sim {
namespace {

// The sectors that [at, at + length) of a page touches.
SectorMask sectors_of(size_t at, size_t length) {
  const unsigned first = static_cast<unsigned>(at / kSectorSize);
  const unsigned last = static_cast<unsigned>((at + length - 1) / kSectorSize);
  return static_cast<SectorMask>((0xffu >> (7 - last)) & (0xffu << first));
}

// Calls visit(page, offset in page, length, offset in range) for each page that a range touches.
template <typename F>
bool for_each_piece(uint64_t offset, uint64_t length, F&& visit) {
  for (uint64_t done = 0; done < length;) {
    const uint64_t at = (offset + done) % kPageSize;
    const uint64_t n = std::min(length - done, kPageSize - at);
    if (!visit((offset + done) / kPageSize, static_cast<size_t>(at), static_cast<size_t>(n), done)) {
      return false;
    }
    done += n;
  }
  return true;
}

}  // namespace

SimContent::~SimContent() {
  set_charged(true);
  for (auto& [index, chunk] : chunks_) {
    for (Slot& slot : *chunk) {
      if (slot.reserved) space_.discharge(1);
      set_current(slot, nullptr);
      set_stable(slot, nullptr);
    }
  }
}

SimContent::Slot* SimContent::find(uint64_t page) const {
  const uint64_t index = page / kSlotsPerChunk;
  if (index != last_chunk_index_) {
    auto it = chunks_.find(index);
    if (it == chunks_.end()) return nullptr;
    last_chunk_index_ = index;
    last_chunk_ = it->second.get();
  }
  return &(*last_chunk_)[page % kSlotsPerChunk];
}

SimContent::Slot& SimContent::make(uint64_t page) {
  if (Slot* slot = find(page)) return *slot;
  std::unique_ptr<Chunk>& chunk = chunks_[page / kSlotsPerChunk];
  chunk = std::make_unique<Chunk>();
  return (*chunk)[page % kSlotsPerChunk];
}

void SimContent::set_current(Slot& slot, Page* page) {
  if (page != nullptr) space_.hold_current(page);
  space_.drop_current(slot.current);
  slot.current = page;
}

void SimContent::set_stable(Slot& slot, Page* page) {
  if (page != nullptr) space_.hold_stable(page);
  space_.drop_stable(slot.stable);
  slot.stable = page;
}

void SimContent::mark_dirty(uint64_t page, Slot& slot, SectorMask sectors) {
  slot.dirty |= sectors;
  if (slot.first_dirty == 0) slot.first_dirty = generation_;
  if (!slot.listed) {
    slot.listed = true;
    dirty_pages_.push_back(page);
  }
}

void SimContent::settle(uint64_t page, Slot& slot) {
  clear_taint(page, slot, slot.dirty);
  set_stable(slot, slot.current);
  slot.dirty = slot.lied = 0;
  slot.first_dirty = 0;
  slot.stale_cache = false;
}

// Makes the current page one that may be written in place; `also_stable` keeps a clean slot clean.
bool SimContent::own_current(Slot& slot, bool also_stable) {
  Page* old = slot.current;
  const bool clean = old == slot.stable;
  if (old != nullptr) {
    if (old->refs == 1u + (also_stable && clean ? 1u : 0u)) return true;
    if (old->current_refs > 1 && space_.free() == 0) return false;
  } else if (slot.reserved) {
    slot.reserved = false;
    space_.discharge(1);
  } else {
    if (space_.free() == 0) return false;
    ++allocated_pages_;
  }
  Page* page = new_page(old);
  set_current(slot, page);
  if (also_stable && clean) set_stable(slot, page);
  return true;
}

void SimContent::make_stable_sectors(uint64_t page, Slot& slot, SectorMask sectors) {
  if ((slot.dirty & ~sectors) == 0 && !slot.stale_cache) {
    slot.dirty |= sectors;
    settle(page, slot);
    return;
  }
  if (slot.stable == nullptr || slot.stable->refs > 1) set_stable(slot, new_page(slot.stable));
  for (unsigned i = 0; i < kSectorsPerPage; ++i) {
    if ((sectors >> i & 1) == 0) continue;
    std::memcpy(slot.stable->bytes + i * kSectorSize, slot.current->bytes + i * kSectorSize,
                kSectorSize);
  }
  slot.dirty &= static_cast<SectorMask>(~sectors);
  slot.lied &= slot.dirty;
  if (slot.dirty == 0) slot.first_dirty = 0;
  clear_taint(page, slot, sectors);
}

bool SimContent::write_piece(uint64_t page, size_t at, ByteSpan data, Landing landing) {
  Slot& slot = make(page);
  const bool durable = landing == Landing::kDurable;
  const bool clean = slot.current == slot.stable;
  if (!own_current(slot, durable)) return false;
  std::memcpy(slot.current->bytes + at, data.data(), data.size());
  const SectorMask sectors = sectors_of(at, data.size());
  slot.bad &= static_cast<SectorMask>(~sectors);
  switch (landing) {
    case Landing::kCached:
      mark_dirty(page, slot, slot.stale_cache ? kAllSectors : sectors);
      break;
    case Landing::kDurable:
      if (clean) {
        clear_taint(page, slot, sectors);
      } else {
        make_stable_sectors(page, slot, sectors);
      }
      break;
    case Landing::kCacheOnly:
      if (!slot.stale_cache) {
        slot.stale_cache = true;
        stale_pages_.push_back(page);
      }
      break;
  }
  return true;
}

bool SimContent::read(uint64_t offset, MutableByteSpan out, bool direct) {
  HF_ASSERT(offset + out.size() <= size_, "{} + {} > {}", offset, out.size(), size_);
  if (direct && !stale_pages_.empty()) drop_cache();
  return for_each_piece(offset, out.size(), [&](uint64_t page, size_t at, size_t n, uint64_t done) {
    const Slot* slot = find(page);
    if (slot == nullptr || slot->current == nullptr) {
      std::memset(out.data() + done, 0, n);
      return true;
    }
    if ((slot->bad & ~slot->dirty & sectors_of(at, n)) != 0) return false;
    std::memcpy(out.data() + done, slot->current->bytes + at, n);
    return true;
  });
}

bool SimContent::write(uint64_t offset, ByteSpan data, Landing landing) {
  if (landing == Landing::kDurable) commit_cut();
  const bool ok =
      for_each_piece(offset, data.size(), [&](uint64_t page, size_t at, size_t n, uint64_t done) {
        if (!write_piece(page, at, data.subspan(done, n), landing)) return false;
        size_ = std::max(size_, page * kPageSize + at + n);
        return true;
      });
  if (landing == Landing::kDurable) stable_size_ = size_;
  return ok;
}

void SimContent::clear_current(uint64_t page, Slot& slot, bool reserve, bool also_stable) {
  const bool was_allocated = slot.current != nullptr || slot.reserved;
  if (slot.reserved != reserve) {
    reserve ? space_.charge(1) : space_.discharge(1);
    slot.reserved = reserve;
  }
  set_current(slot, nullptr);
  if (was_allocated && !reserve) --allocated_pages_;
  if (!was_allocated && reserve) ++allocated_pages_;
  slot.stale_cache = false;
  slot.bad = 0;
  if (also_stable) set_stable(slot, nullptr);
  if (slot.stable != nullptr) {
    mark_dirty(page, slot, kAllSectors);
  } else {
    slot.dirty = kAllSectors;
    settle(page, slot);
  }
}

bool SimContent::punch(uint64_t offset, uint64_t length) {
  return for_each_piece(offset, length, [&](uint64_t page, size_t at, size_t n, uint64_t) {
    Slot* slot = find(page);
    if (slot == nullptr || (slot->current == nullptr && !slot->reserved)) return true;
    if (n == kPageSize) {
      clear_current(page, *slot, false, false);
    } else if (slot->current != nullptr) {
      static constexpr std::array<std::byte, kPageSize> kZeroes{};
      return write_piece(page, at, ByteSpan(kZeroes).first(n), Landing::kCached);
    }
    return true;
  });
}

bool SimContent::zero(uint64_t offset, uint64_t length) {
  return for_each_piece(offset, length, [&](uint64_t page, size_t at, size_t n, uint64_t) {
    Slot& slot = make(page);
    if (slot.current != nullptr && n != kPageSize) {
      static constexpr std::array<std::byte, kPageSize> kZeroes{};
      return write_piece(page, at, ByteSpan(kZeroes).first(n), Landing::kCached);
    }
    if (slot.current == nullptr && !slot.reserved && space_.free() == 0) return false;
    clear_current(page, slot, true, false);
    return true;
  });
}

bool SimContent::allocate(uint64_t offset, uint64_t length) {
  const bool ok = for_each_piece(offset, length, [&](uint64_t page, size_t, size_t, uint64_t) {
    Slot& slot = make(page);
    if (slot.current != nullptr || slot.reserved) return true;
    if (space_.free() == 0) return false;
    slot.reserved = true;
    space_.charge(1);
    ++allocated_pages_;
    return true;
  });
  if (ok) size_ = std::max(size_, offset + length);
  return ok;
}

void SimContent::zero_tail_of(Page*& page, bool current, size_t from) {
  if (page == nullptr || from == 0) return;
  if (page->refs > 1) {
    Page* copy = new_page(page);
    if (current) {
      space_.hold_current(copy);
      space_.drop_current(page);
    } else {
      space_.hold_stable(copy);
      space_.drop_stable(page);
    }
    page = copy;
  }
  std::memset(page->bytes + from, 0, kPageSize - from);
}

void SimContent::cut_slots(uint64_t size, bool also_stable) {
  const uint64_t first_gone = round_up(size, kPageSize) / kPageSize;
  for (auto it = chunks_.lower_bound(first_gone / kSlotsPerChunk); it != chunks_.end(); ++it) {
    for (uint64_t i = 0; i < kSlotsPerChunk; ++i) {
      const uint64_t page = it->first * kSlotsPerChunk + i;
      Slot& slot = (*it->second)[i];
      if (page < first_gone) continue;
      if (slot.current != nullptr || slot.reserved || (also_stable && slot.stable != nullptr)) {
        clear_current(page, slot, false, also_stable);
      }
    }
  }
  Slot* tail = find(size / kPageSize);
  if (size % kPageSize == 0 || tail == nullptr) return;
  const bool clean = tail->current == tail->stable;
  zero_tail_of(tail->current, true, size % kPageSize);
  if (also_stable && clean) {
    set_stable(*tail, tail->current);
  } else if (also_stable) {
    zero_tail_of(tail->stable, false, size % kPageSize);
  } else if (tail->current != nullptr) {
    mark_dirty(size / kPageSize, *tail, sectors_of(size % kPageSize, kPageSize - size % kPageSize));
  }
}

void SimContent::set_size(uint64_t size, bool at_once) {
  if (at_once) commit_cut();
  if (size < size_) {
    cut_slots(size, at_once);
    if (!at_once) {
      cut_at_ = cut_deferred_ ? std::min(cut_at_, size) : size;
      cut_deferred_ = true;
    }
  }
  size_ = size;
  if (at_once) stable_size_ = size;
}

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

void SimContent::crash_slot(uint64_t page, Slot& slot, Prng& prng, const CrashOdds& odds) {
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
    taint(page * kPageSize + i * kSectorSize, kSectorSize, FaultKind::kStaleSector);
  }
}

void SimContent::crash(Prng& prng, const CrashOdds& odds) {
  const CrashOdds all_lost{0, 0};
  const bool cut_undone = cut_deferred_;
  const uint64_t size = cut_undone || prng.chance(1, 2) ? stable_size_ : size_;
  cut_deferred_ = false;
  std::vector<uint64_t> pages = std::move(dirty_pages_);
  dirty_pages_.clear();
  for (const uint64_t page : pages) {
    Slot& slot = *find(page);
    slot.listed = false;
    if (slot.dirty != 0) crash_slot(page, slot, prng, cut_undone ? all_lost : odds);
    slot.dirty = slot.lied = 0;
    slot.first_dirty = 0;
  }
  drop_cache();
  HF_ASSERT(dirty_pages_.empty() && stale_pages_.empty());
  size_ = std::max(size, size_);
  set_size(size, true);
}

void SimContent::clone_from(const SimContent& from) {
  HF_ASSERT(chunks_.empty());
  for (const auto& [index, chunk] : from.chunks_) {
    for (uint64_t i = 0; i < kSlotsPerChunk; ++i) {
      const Slot& theirs = (*chunk)[i];
      if (theirs.current == nullptr) continue;
      const uint64_t page = index * kSlotsPerChunk + i;
      Slot& slot = make(page);
      set_current(slot, theirs.current);
      slot.bad = theirs.bad & static_cast<SectorMask>(~theirs.dirty);
      ++allocated_pages_;
      mark_dirty(page, slot, kAllSectors);
      if (!theirs.tainted) continue;
      slot.tainted = true;
      taints_[page] = from.taints_.at(page);
    }
  }
  size_ = from.size_;
}

void SimContent::set_charged(bool charged) {
  if (charged == charged_) return;
  charged_ = charged;
  for (auto& [index, chunk] : chunks_) {
    for (Slot& slot : *chunk) {
      if (slot.reserved) charged ? space_.charge(1) : space_.discharge(1);
      if (slot.current == nullptr) continue;
      if (charged) {
        if (slot.current->current_refs++ == 0) space_.charge(1);
      } else {
        if (--slot.current->current_refs == 0) space_.discharge(1);
      }
    }
  }
}

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
