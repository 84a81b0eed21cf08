#include "store/books.h"

#include <algorithm>

#include "runtime/fault_point.h"
#include "store/mutants.h"

namespace hf {
namespace {

// Entries that an idle replica may hold memory for.
constexpr size_t kKeptCapacity = 64;

bool is_write(EntryType type) {
  return type == EntryType::kWrite || type == EntryType::kWriteZeroes ||
         type == EntryType::kIntent ||
         type == EntryType::kMarkDirty;  // of a restore, then it has a sequence
}

}  // namespace

void Books::advance(Stamp commit) {
  commit_ = std::max(commit_, commit);
  prune();
}

// In the order of the journal, which is nearly that of the stamps: what is left behind an entry
// that is above the commit is told apart when asked.
void Books::prune() {
  while (first_ < window_.size() && window_[first_].stamp <= commit_) ++first_;
  if (first_ == window_.size()) {
    if (window_.capacity() > kKeptCapacity) window_ = std::vector<Entry>();
    window_.clear();
    first_ = 0;
  } else if (first_ > kKeptCapacity && first_ > window_.size() / 2) {
    window_.erase(window_.begin(), window_.begin() + static_cast<ptrdiff_t>(first_));
    first_ = 0;
  }
}

void Books::note(const JournalEntry& entry, uint64_t batch) {
  const Stamp stamp{entry.epoch, entry.sequence};
  newest_ = std::max(newest_, stamp);
  commit_ = std::max(commit_, entry.commit);
  if (mutant(StoreMutant::kCommitAtApply)) commit_ = std::max(commit_, stamp);
  if (is_write(entry.type) && entry.sequence != 0 && stamp > commit_) {
    window_.push_back(Entry{stamp, entry.offset, entry.length, batch});
  }
  prune();
  if (entry.absent == 0) return;
  const UnitRange touched = units_touched(entry.offset, entry.length);
  for (uint32_t slot = 0; slot < kMemberSlots; ++slot) {
    if ((entry.absent >> slot & 1) == 0) continue;
    if (entry.type != EntryType::kClearDirty) {
      maps_[slot].set(touched.first, touched.count);
    } else if (entry.length == 0) {
      maps_[slot].clear_all();
    } else {
      maps_[slot].clear(touched.first, touched.count);  // in whole units already
    }
  }
}

bool Books::must_keep(uint64_t through) const {
  for (size_t i = first_; i < window_.size() && window_[i].batch <= through; ++i) {
    if (window_[i].stamp > commit_) return true;
  }
  return false;
}

void Books::take_leaving(uint64_t through) {
  for (size_t i = first_; i < window_.size() && window_[i].batch <= through; ++i) {
    const Entry& entry = window_[i];
    if (entry.stamp <= commit_ || mutant(StoreMutant::kWindowNotKept)) continue;
    HF_PROBE("store.window_goes_coarse");
    const UnitRange touched = units_touched(entry.offset, entry.length);
    maps_[kWindowSlot].set(touched.first, touched.count);
    leaving_newest_ = std::max(leaving_newest_, entry.stamp);
  }
}

void Books::released(uint64_t through) {
  while (first_ < window_.size() && window_[first_].batch <= through) ++first_;
  prune();
}

const UnitChanges* Books::changes(uint32_t slot) const {
  const auto found = maps_.find(slot);
  return found == maps_.end() ? nullptr : &found->second;
}

std::vector<uint32_t> Books::changed() const {
  std::vector<uint32_t> slots;
  for (const auto& [slot, changes] : maps_) slots.push_back(slot);
  return slots;
}

UnitChanges Books::take_changes(uint32_t slot) {
  const auto found = maps_.find(slot);
  if (found == maps_.end()) return {};
  UnitChanges changes = std::move(found->second);
  maps_.erase(found);
  return changes;
}

}  // namespace hf
