// The books of replication in the simulation: the clients play a coordinator whose other members
// come and go, and the oracle holds the window and the dirty maps against what was called.
#include <algorithm>

#include "simulated_store.h"

namespace hf::store_sim {
namespace {}  // namespace

WriteHeader SimulatedStore::unstamped_header(ModelReplica& replica) {
  WriteHeader header;
  header.epoch = replica.asked;
  return header;
}

// Of a snapshot: no block of its own.
WriteHeader SimulatedStore::header_for(ModelReplica& replica) {
  WriteHeader header = unstamped_header(replica);
  header.sequence = ++replica.sequence;
  return header;
}

WriteHeader SimulatedStore::header_for(ModelReplica& replica, uint64_t order, uint64_t first,
                                       uint64_t count) {
  WriteHeader header = header_for(replica);
  ModelBooks& books = replica.books;
  // Now and then others lag, or nobody tells.
  if (prng_.chance(1, 2)) header.commit = books.told = std::max(books.told, books.answered());
  header.absent = books.absent;
  ModelBooks::Write write;
  write.order = order;
  write.stamp = header.stamp();
  write.first = first;
  write.count = count;
  write.absent = header.absent;
  books.begin(write);
  return header;
}

void SimulatedStore::ended(ModelReplica& replica, uint64_t order, const WriteHeader& header,
                           const Status& status) {
  ModelBooks& books = replica.books;
  if (!status.ok() && (!alive() || pool_->stats().failed)) return;  // until after the crash
  if (status.ok()) {
    books.happened(order);
    books.settled = std::max(books.settled, std::min(header.commit, books.told));
  }
  books.ended(order);
  if (!prng_.chance(1, 3)) return;
  books.told = std::max(books.told, books.answered());
  pool_->find(replica.id)->advance_commit(books.told);
}

Task<void> SimulatedStore::books_operation(Prng& prng, ReplicaPtr replica) {
  const uint64_t draw = prng.below(100);
  if (draw < 20) {
    replica->books.absent |= static_cast<SlotMask>(1u << prng.below(3));
  } else if (draw < 40) {
    co_await clear(prng, replica);
  } else if (draw < 50) {
    co_await clear_range(prng, replica);
  } else if (draw < 60) {
    co_await mark(prng, replica);
  } else if (draw < 75) {
    co_await settle(replica);
  } else {
    co_await check_books(replica, prng.between(1, 40));
  }
}

bool SimulatedStore::books_error(const Error& error, const WriteHeader& header,
                                 const ModelReplica& replica, const char* what) {
  if (error.code() == ErrorCode::kFenced && header.epoch < replica.asked) return true;
  return excuse(error, what);
}

Task<void> SimulatedStore::settle(ReplicaPtr replica) {
  WriteHeader header = unstamped_header(*replica);
  ModelBooks& books = replica->books;
  header.commit = books.told = std::max(books.told, books.answered());
  const std::shared_ptr<Replica> target = pool_->find(replica->id);
  Status done = co_await target->settle_window(header);
  if (done.ok()) {
    books.settled = std::max(books.settled, header.commit);
  } else {
    books_error(done.error(), header, *replica, "settle");
  }
}

Task<void> SimulatedStore::mark(Prng& prng, ReplicaPtr replica) {
  const WriteHeader header = unstamped_header(*replica);
  const uint64_t order = model_.next_order++;
  const SlotMask slots = static_cast<SlotMask>(prng.below(8));
  std::vector<ByteRange> ranges;
  std::vector<Range> blocks;
  for (uint64_t i = prng.between(1, 5); i > 0; --i) {
    const Range range = pick_range(prng, *replica);
    blocks.push_back(range);
    ranges.push_back(ByteRange{range.first * kBlockSize, range.count * kBlockSize});
  }
  const auto tell = [&](bool durable) {
    for (const Range& range : blocks) {
      const uint64_t unit = range.first / kBlocksPerUnit;
      replica->books.mark(order, slots, unit,
                          (range.first + range.count - 1) / kBlocksPerUnit - unit + 1, durable);
    }
  };
  tell(false);
  const std::shared_ptr<Replica> target = pool_->find(replica->id);
  Status done = co_await target->mark_dirty(header, slots, std::move(ranges));
  if (done.ok()) {
    tell(true);
  } else {
    books_error(done.error(), header, *replica, "mark");
  }
}

// A member is back and has everything: first it gets the writes again, then its map goes.
Task<void> SimulatedStore::clear(Prng& prng, ReplicaPtr replica) {
  const WriteHeader header = unstamped_header(*replica);
  const SlotMask slots = prng.chance(1, 6) ? 7 : static_cast<SlotMask>(1u << prng.below(3));
  ModelBooks& books = replica->books;
  books.absent = static_cast<SlotMask>(books.absent & ~slots);
  const uint64_t order = model_.next_order++;
  const std::set<uint64_t> in_flight = books.in_flight();
  const uint64_t units = replica->blocks.size() / kBlocksPerUnit + 64;  // also behind the end
  for (uint32_t slot = 0; slot < 3; ++slot) {
    if ((slots >> slot & 1) != 0) books.clear_begins(order, slot, 0, units);
  }
  const std::shared_ptr<Replica> target = pool_->find(replica->id);
  Status done = co_await target->clear_dirty(header, slots);
  if (!done.ok()) {
    books_error(done.error(), header, *replica, "clear");
    co_return;
  }
  HF_PROBE("sim.map_cleared");
  for (uint32_t slot = 0; slot < 3; ++slot) {
    if ((slots >> slot & 1) != 0) books.clear_ended(order, slot, 0, units, in_flight);
  }
}

Task<void> SimulatedStore::clear_range(Prng& prng, ReplicaPtr replica) {
  const WriteHeader header = unstamped_header(*replica);
  const Range range = pick_range(prng, *replica);
  const uint32_t slot = static_cast<uint32_t>(prng.below(3));
  const uint64_t first = (range.first + kBlocksPerUnit - 1) / kBlocksPerUnit;
  const uint64_t behind = range.first + range.count;
  const uint64_t end = behind >= replica->blocks.size()
                           ? (behind + kBlocksPerUnit - 1) / kBlocksPerUnit
                           : behind / kBlocksPerUnit;
  const uint64_t units = end > first ? end - first : 0;
  const uint64_t order = model_.next_order++;
  const std::set<uint64_t> in_flight = replica->books.in_flight();
  replica->books.clear_begins(order, slot, first, units);
  const std::shared_ptr<Replica> target = pool_->find(replica->id);
  const ByteRange bytes{range.first * kBlockSize, range.count * kBlockSize};
  Status done = co_await target->clear_dirty_range(header, slot, bytes);
  if (done.ok()) {
    replica->books.clear_ended(order, slot, first, units, in_flight);
  } else {
    books_error(done.error(), header, *replica, "clear a range");
  }
}

// --- what must hold
// -----------------------------------------------------------------------------------

Task<void> SimulatedStore::check_books(ReplicaPtr replica, size_t at_once) {
  const std::shared_ptr<Replica> target = pool_->find(replica->id);
  co_await check_window(replica, target, at_once);
  for (uint32_t slot = 0; slot < 3 && alive() && !over(); ++slot) {
    co_await check_dirty(replica, target, slot, at_once);
  }
}

Task<void> SimulatedStore::check_window(ReplicaPtr replica, std::shared_ptr<Replica> target,
                                        size_t at_once) {
  const std::set<uint64_t> before = replica->books.must_be_in_window();
  const bool settled = replica->books.all_settled() && replica->books.in_flight().empty();
  const uint64_t size = target->size();
  std::set<uint64_t> found;
  uint64_t last_end = 0;
  for (uint64_t from = 0;;) {
    Result<std::vector<ByteRange>> ranges = co_await target->window(from, at_once);
    if (!ranges.ok()) {
      excuse(ranges.error(), "window");
      co_return;
    }
    if (ranges->empty()) break;
    if (ranges->size() > at_once) fail("the window came in more ranges than asked for");
    for (const ByteRange& range : *ranges) {
      if (range.length == 0 || range.offset < last_end || range.offset < from ||
          range.end() > size) {
        fail(fmt::format("window: range {}+{} behind {}", range.offset, range.length, last_end));
        co_return;
      }
      last_end = range.end();
      for (uint64_t b = range.offset / kBlockSize; b < range.end() / kBlockSize; ++b)
        found.insert(b);
    }
    from = last_end;
  }
  if (!alive()) co_return;
  if (target->commit() > replica->books.told) {
    fail(fmt::format("{} has committed {}.{}, told was {}.{}", replica->id.to_string(),
                     target->commit().epoch, target->commit().sequence, replica->books.told.epoch,
                     replica->books.told.sequence));
    co_return;
  }
  const std::set<uint64_t> now =
      replica->books.must_be_in_window();  // less, if it was told meanwhile
  for (const uint64_t block : before) {
    if (!now.contains(block) || found.contains(block) || block >= size / kBlockSize) continue;
    fail(fmt::format("the window of {} lacks block {}", replica->id.to_string(), block));
    co_return;
  }
  if (!before.empty()) HF_PROBE("sim.window_checked");
  // Then and now: what was written meanwhile may have been found in it and be settled since.
  if (trouble_ == Trouble::kDamage || trouble_ == Trouble::kErrors || !settled ||
      !replica->books.all_settled())
    co_return;
  HF_PROBE("sim.window_settled");
  if (!found.empty() && replica->books.in_flight().empty()) {
    fail(fmt::format("the window of {} was settled and holds block {}", replica->id.to_string(),
                     *found.begin()));
  }
}

Task<void> SimulatedStore::check_dirty(ReplicaPtr replica, std::shared_ptr<Replica> target,
                                       uint32_t slot, size_t at_once) {
  const std::set<uint64_t> before = replica->books.must(slot);
  std::set<uint64_t> may_before;
  for (uint64_t unit = 0; unit < 256; ++unit) {
    if (replica->books.may(slot, unit)) may_before.insert(unit);
  }
  const uint64_t size = target->size();
  std::set<uint64_t> found;
  for (uint64_t from = 0;;) {
    Result<std::vector<ByteRange>> ranges = co_await target->dirty(slot, from, at_once);
    if (!ranges.ok()) {
      excuse(ranges.error(), "dirty");
      co_return;
    }
    if (ranges->empty()) break;
    for (const ByteRange& range : *ranges) {
      if (range.length == 0 || range.offset < from || !is_aligned(range.offset, kDirtyUnitBytes) ||
          range.end() > size) {
        fail(fmt::format("dirty: range {}+{} behind {}", range.offset, range.length, from));
        co_return;
      }
      from = range.end();
      const uint64_t last = (range.end() - 1) / kDirtyUnitBytes;
      for (uint64_t u = range.offset / kDirtyUnitBytes; u <= last; ++u) found.insert(u);
    }
  }
  if (!alive()) co_return;
  const std::set<uint64_t>& now =
      replica->books.must(slot);  // less, if a clear was called meanwhile
  for (const uint64_t unit : before) {
    if (!now.contains(unit) || found.contains(unit) || unit * kDirtyUnitBytes >= size) continue;
    fail(
        fmt::format("the map of slot {} of {} lacks unit {}", slot, replica->id.to_string(), unit));
    co_return;
  }
  if (!before.empty()) HF_PROBE("sim.map_checked");
  if (trouble_ == Trouble::kDamage || trouble_ == Trouble::kErrors) co_return;
  for (const uint64_t unit : found) {
    if (may_before.contains(unit) || replica->books.may(slot, unit)) continue;
    fail(fmt::format("the map of slot {} of {} has unit {}, which nobody marked", slot,
                     replica->id.to_string(), unit));
    co_return;
  }
}

}  // namespace hf::store_sim
