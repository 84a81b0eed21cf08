// Books: what a replica knows for replication and its files do not say yet, in memory: the commit,
// the writes above it that are in the ring, and what the ring says of each map. Pure; the I/O is in
// replica_books.cc.
//
//   record durable ─► note(): commit, window entry, map changes
//   before its batch leaves the ring ─► take_leaving(): those above the commit join the window's
//   map;
//                                       every map's changes go into its file, durably
//   batch has left the ring ─► released()
//
// So the journal is the truth, and a map's file is its state at some moment not before the start of
// the ring. Memory is bounded by the ring: an entry for each record above the commit, runs for each
// record that marks.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "base/stamp.h"
#include "format/dirty_map_format.h"
#include "format/journal_format.h"
#include "store/unit_changes.h"

namespace hf {

class Books {
 public:
  Stamp commit() const { return commit_; }
  Stamp newest() const { return newest_; }
  void advance(Stamp commit);
  // An entry of the replica has become durable in this batch, or was found there by recovery: in
  // their order.
  void note(const JournalEntry& entry, uint64_t batch);
  // The oldest batches, up to this one, are about to leave the ring.
  void take_leaving(uint64_t through);
  // They have left.
  void released(uint64_t through);
  // Nothing of the ring is above the commit, and every map's file is as the ring says.
  bool idle() const { return first_ == window_.size() && maps_.empty(); }

  // Calls visit(offset, length) for every range in the ring that is above the commit.
  template <typename Visit>
  void visit_window(Visit&& visit) const {
    for (size_t i = first_; i < window_.size(); ++i) {
      if (window_[i].stamp > commit_) visit(window_[i].offset, window_[i].length);
    }
  }

  // The changes of a map that its file does not have; null: none.
  const UnitChanges* changes(uint32_t slot) const;
  // Slots that have some.
  std::vector<uint32_t> changed() const;
  // Moves them out to be written; put_back() when that failed.
  UnitChanges take_changes(uint32_t slot);
  void put_back(uint32_t slot, UnitChanges changes) { maps_[slot].put_under(std::move(changes)); }

  // The window's file: the highest stamp that went into it. What an earlier process left there is
  // known only once it has been read.
  void found_window_file() { file_newest_.reset(); }
  bool window_file_known() const { return file_newest_.has_value(); }
  void set_window_file_newest(Stamp newest) { file_newest_ = newest; }
  Stamp leaving_newest() const { return leaving_newest_; }
  // Nothing that went into it is above the commit.
  bool window_file_settled() const {
    return file_newest_ && *file_newest_ <= commit_ && leaving_newest_ <= commit_;
  }
  void drop_window_file() { maps_[kWindowSlot].clear_all(); }
  void window_file_dropped() { file_newest_ = Stamp(); }
  // Has anything above the commit to join it before these batches may leave the ring?
  bool must_keep(uint64_t through) const;

 private:
  struct Entry {
    Stamp stamp;
    uint64_t offset = 0;
    uint64_t length = 0;
    uint64_t batch = 0;
  };
  void prune();

  Stamp commit_;
  Stamp newest_;
  std::vector<Entry> window_;  // in the order of the journal, from first_ on
  size_t first_ = 0;
  std::map<uint32_t, UnitChanges> maps_;  // by slot
  std::optional<Stamp> file_newest_ = Stamp();
  Stamp leaving_newest_;
};

}  // namespace hf
