#include <algorithm>

#include "base/log.h"
#include "replicate/coordinator_core.h"
#include "replicate/mutants.h"
#include "runtime/fault_point.h"

namespace hf {
namespace {

constexpr Duration kYield = 2ms;  // between two chunks while there are writes

Error lost_error() {
  return make_error(ErrorCode::kUnavailable, "the member was lost while it was resynced");
}

}  // namespace

// Of writes that go to a member outside of the order of the volume: copies. Its commit does not
// advance, so they lie in its window, and a resync that is cut short is known to the next one.
WriteHeader CoordinatorCore::copy_header() {
  WriteHeader header;
  header.epoch = epoch_;
  header.generation = record_.config.generation;
  header.sequence = ++sequence_;
  return header;
}

// The window of a member, or its dirty map of a slot.
Task<Status> CoordinatorCore::collect(PortPtr port, std::optional<uint8_t> slot, RangeSet* into) {
  uint64_t from = 0;
  while (true) {
    Result<std::vector<ByteRange>> page = std::vector<ByteRange>();
    if (slot) {
      page = co_await port->dirty(*slot, from, kRangesAtATime);
    } else {
      page = co_await port->window(from, kRangesAtATime);
    }
    HF_CO_TRY(page);
    if (page->empty()) co_return Status();
    for (const ByteRange& range : *page) into->add(range.offset, range.length);
    from = page->back().end();
  }
}

// Returns when every operation up to this sequence has ended.
Task<Status> CoordinatorCore::wait_ended(uint64_t through) {
  while (running() && !in_flight_.empty() && in_flight_.begin()->first <= through) {
    co_await changed_.wait();
  }
  if (!running()) co_return refusal();
  co_return Status();
}

Task<void> CoordinatorCore::resync(Peer& peer, PortPtr port, FenceAnswer answer) {
  co_await resync_mutex_.lock();
  MutexGuard guard(resync_mutex_);
  if (!running() || peer.port != port) co_return;
  HF_PROBE("replicate.resync_begins");
  peer.resyncing = true;
  peer.copy_total = peer.copy_done = 0;
  Status done = co_await copy_everything(peer, port, std::move(answer));
  peer.resyncing = false;
  if (done.ok()) {
    peer.trouble.reset();
    co_return;
  }
  if (done.code() == ErrorCode::kFenced) {
    fence_self(done.error());
    co_return;
  }
  HF_PROBE("replicate.resync_cut_short");
  peer.rest_until = spec_->clock.now() + kResyncRest;
  lose(peer, port, done.error());
}

Task<Status> CoordinatorCore::copy_everything(Peer& peer, PortPtr port, FenceAnswer answer) {
  const Result<VolumeConfig> copy = decode_config(answer.config);
  const VolumeMember* member = record_.config.member(peer.info.slot);
  const bool other_lineage = copy.ok() && copy->lineage != record_.config.lineage;
  const bool whole = (member != nullptr && member->whole) || other_lineage;
  // From now on it gets every write. Those before are awaited: the maps then have them.
  peer.receives = true;
  Status done = co_await wait_ended(sequence_);
  HF_CO_TRY(done);
  if (whole) {
    done = co_await copy_whole(peer, port, answer.size_bytes);
  } else {
    done = co_await copy_marked(peer, port, answer.size_bytes);
  }
  HF_CO_TRY(done);
  done = co_await inherit_maps(peer, port);
  HF_CO_TRY(done);
  if (mutant(ReplicateMutant::kJoinBeforeMandatory)) {
    done = co_await join(peer, port);
    HF_CO_TRY(done);
    co_return co_await become_mandatory(peer, port);
  }
  done = co_await become_mandatory(peer, port);
  HF_CO_TRY(done);
  co_return co_await join(peer, port);
}

Task<Status> CoordinatorCore::copy_marked(Peer& peer, PortPtr port, uint64_t its_size) {
  RangeSet set;
  Status done = co_await find_differences(peer, port, &set);
  HF_CO_TRY(done);
  if (its_size != size_) {
    add_size_difference(set, its_size, size_);
    done = co_await port->resize(copy_header(), size_);
    HF_CO_TRY(done);
  }
  set.cut_at(size_);
  peer.copy_total = set.bytes();
  co_return co_await copy_pieces(peer, port, std::move(set), nullptr);
}

// No map tells what it lacks: whatever one of the two has allocated is copied or compared. A
// stretch after the other, since a volume may have more extents than memory should hold; first all
// of them are counted, so that people see how far it is. What is written meanwhile goes to both:
// what lies in neither's extents is alike.
Task<Status> CoordinatorCore::copy_whole(Peer& peer, PortPtr port, uint64_t its_size) {
  HF_PROBE("replicate.whole_copy");
  if (its_size != size_) {
    Status resized = co_await port->resize(copy_header(), size_);
    HF_CO_TRY(resized);
  }
  for (const bool copies : {false, true}) {
    for (uint64_t at = 0; at < size_; at += kCopyStretch) {
      RangeSet ours, its;
      Status done = co_await find_data(peer, port, at, &ours, &its);
      HF_CO_TRY(done);
      if (!mutant(ReplicateMutant::kTargetsDataIgnored)) ours.add_all(its);
      if (!copies) peer.copy_total += ours.bytes();
      if (copies) done = co_await copy_pieces(peer, port, std::move(ours), &its);
      HF_CO_TRY(done);
    }
  }
  peer.copy_total = peer.copy_done;
  co_return Status();
}

// Where a piece overlaps `compare`, it is written only if it differs.
Task<Status> CoordinatorCore::copy_pieces(Peer& peer, PortPtr port, RangeSet set,
                                          const RangeSet* compare) {
  for (const auto& [offset, length] : chunks_of(set, kCopyChunk)) {
    const bool compares = compare != nullptr && compare->overlaps(offset, length);
    Status done = co_await copy_chunk(peer, port, offset, length, compares);
    HF_CO_TRY(done);
    peer.copy_done += length;
    peer.copy_total = std::max(peer.copy_total, peer.copy_done);
    if (in_flight_.empty()) continue;
    done = co_await spec_->clock.sleep_for(kYield, CancelToken(stop_));
    HF_CO_TRY(done);
  }
  co_return Status();
}

Task<Status> CoordinatorCore::collect_data(PortPtr port, uint64_t from, uint64_t end,
                                           RangeSet* into) {
  while (from < end) {
    Result<std::vector<DataExtent>> page = co_await port->extents(from, end - from, kRangesAtATime);
    HF_CO_TRY(page);
    if (page->empty() || page->back().offset + page->back().length <= from) {
      co_return make_error(ErrorCode::kProtocol, "a replica tells nothing of its extents at {}",
                           from);
    }
    for (const DataExtent& extent : *page) {
      if (extent.data) into->add(extent.offset, extent.length);
    }
    from = page->back().offset + page->back().length;
  }
  co_return Status();
}

// Of the stretch that begins at `from`: where a member in sync has data, and where the joiner has.
Task<Status> CoordinatorCore::find_data(Peer& peer, PortPtr port, uint64_t from, RangeSet* ours,
                                        RangeSet* its) {
  const uint64_t end = std::min(size_, from + kCopyStretch);
  Status done = co_await collect_data(port, from, end, its);
  HF_CO_TRY(done);
  while (running() && peer.port == port) {
    const uint8_t slot = choose_source(readable(), local_mask());
    if (slot == kNobody) {
      co_await changed_.wait();
      continue;
    }
    Peer& source = *this->peer(slot);
    const PortPtr at = source.port;
    done = co_await collect_data(at, from, end, ours);
    if (done.ok() || done.code() == ErrorCode::kFenced) co_return done;
    if (done.code() == ErrorCode::kInvalidArgument) co_return done;  // the size has changed
    lose(source, at, done.error());
  }
  co_return lost_error();
}

// What the others know that it lacks, and what it may have that they have not.
Task<Status> CoordinatorCore::find_differences(Peer& peer, PortPtr port, RangeSet* set) {
  if (!mutant(ReplicateMutant::kJoinerWindowIgnored)) {
    Status own = co_await collect(port, std::nullopt, set);
    HF_CO_TRY(own);
  }
  while (running() && peer.port == port) {
    const uint8_t slot = choose_source(readable(), local_mask());
    if (slot == kNobody) {
      co_await changed_.wait();
      continue;
    }
    Peer& source = *this->peer(slot);
    const PortPtr from = source.port;
    Status missed = co_await collect(from, peer.info.slot, set);
    if (missed.ok() || missed.code() == ErrorCode::kFenced) co_return missed;
    lose(source, from, missed.error());
  }
  co_return lost_error();
}

// Like a write it holds its range, so that it never lands on a newer write.
Task<Status> CoordinatorCore::copy_chunk(Peer& peer, PortPtr port, uint64_t offset, uint64_t length,
                                         bool compare) {
  const bool alone = !mutant(ReplicateMutant::kCopyOverWrites);
  std::optional<RangeHold> hold;
  if (alone) {
    co_await ranges_.lock(offset, offset + length, RangeLock::Use::kCopy);
    hold.emplace(ranges_, offset);
  }
  if (!running() || peer.port != port) co_return lost_error();
  if (offset >= size_) co_return Status();
  length = std::min(length, size_ - offset);
  auto buffer = std::make_shared<AlignedBuffer>(length);
  uint8_t from = 0, bad = 0;
  Status done = co_await read_somewhere(offset, buffer->span(), &from, &bad);
  HF_CO_TRY(done);
  const bool zero = all_zero(buffer->span());
  if (compare && !zero) {
    AlignedBuffer there(length);
    done = co_await port->read(offset, there.span());
    if (done.ok() && std::memcmp(there.data(), buffer->data(), length) == 0) co_return Status();
    if (!done.ok() && done.code() != ErrorCode::kCorruption && done.code() != ErrorCode::kIo) {
      co_return done;
    }
  }
  if (peer.port != port) co_return lost_error();
  HF_PROBE("replicate.resync_chunk");
  if (zero) co_return co_await port->write_zeroes(copy_header(), offset, length);
  co_return co_await port->write(copy_header(), offset, WriteData::of(std::move(buffer)));
}

// It will have to know what the others who are away lack: all that any in-sync member knows. One of
// them has to have told it: with nobody's word it does not join.
Task<Status> CoordinatorCore::inherit_maps(Peer& peer, PortPtr port) {
  uint8_t away = record_.config.member_mask() & static_cast<uint8_t>(~(required_ | peer.bit));
  if (mutant(ReplicateMutant::kMapsNotInherited)) away = 0;
  for (uint8_t slot : slots_of(away)) {
    RangeSet set;
    bool told = false;
    for (uint8_t knower : slots_of(readable())) {
      if ((readable() & slot_bit(knower)) == 0) continue;  // lost or removed since
      Peer& source = *this->peer(knower);
      const PortPtr from = source.port;
      Status known = co_await collect(from, slot, &set);
      if (known.code() == ErrorCode::kFenced) co_return known;
      if (!known.ok()) lose(source, from, known.error());
      told = told || known.ok();
    }
    if (!told) {
      HF_PROBE("replicate.nobody_tells_maps");
      co_return make_error(ErrorCode::kUnavailable,
                           "no in-sync member tells what the others who are away lack");
    }
    set.cut_at(size_);
    if (set.empty()) continue;
    HF_PROBE("replicate.maps_inherited");
    bool marked = co_await mark(peer, port, slot_bit(slot), set);
    if (!marked) co_return lost_error();
  }
  co_return peer.port == port ? Status() : Status(lost_error());
}

// Nothing is acknowledged without it from here on; and it has all that was acknowledged before.
Task<Status> CoordinatorCore::become_mandatory(Peer& peer, PortPtr port) {
  // Its slot may be nobody's by now, and would be waited for for ever.
  if (peer.port != port) co_return lost_error();
  HF_PROBE("replicate.joiner_mandatory");
  required_ |= peer.bit;
  const uint64_t before = sequence_;
  peer.waits_unanswered = true;
  while (running() && peer.port == port && !peer.unanswered.empty() &&
         *peer.unanswered.begin() <= before) {
    co_await changed_.wait();
  }
  peer.waits_unanswered = false;
  if (!running()) co_return refusal();
  co_return peer.port == port ? Status() : Status(lost_error());
}

Task<Status> CoordinatorCore::join(Peer& peer, PortPtr port) {
  co_await config_mutex_.lock();
  MutexGuard guard(config_mutex_);
  if (!running() || peer.port != port) co_return lost_error();
  const WriteHeader header = copy_header();
  const SlotMask itself = peer.bit;
  if (mutant(ReplicateMutant::kBitsDroppedEarly)) {
    for (Peer* other : everybody()) {
      if (other->port == nullptr || (required_ & other->bit) == 0) continue;
      const PortPtr at = other->port;
      Status cleared = co_await at->clear_dirty(header, itself);
      (void)cleared;
    }
  }
  bool done = co_await replace_config(with(record_.config, peer.bit));
  if (!done) co_return lost_error();
  HF_PROBE("replicate.joined");
  HF_LOG(kInfo, "replicate", "volume {}: member {} is in sync again", config().volume.to_string(),
         peer.info.slot);
  co_await spread_config(required_);
  // Only now: before, it could still have gone without them. Nothing can be marked for it
  // meanwhile, a shrink waits for the mutex.
  for (Peer* other : everybody()) {
    const PortPtr at = other->port;
    if (at == nullptr || (record_.config.in_sync & other->bit) == 0) continue;
    Status cleared = co_await at->clear_dirty(header, itself);
    if (!cleared.ok() && cleared.code() != ErrorCode::kFenced) lose(*other, at, cleared.error());
    if (cleared.code() == ErrorCode::kFenced) co_return cleared;
  }
  co_return Status();
}

}  // namespace hf
