#include "sim/sim_content.h"

#include <algorithm>

#include "sim/page_ranges.h"

namespace hf::sim {
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

}  // namespace hf::sim
