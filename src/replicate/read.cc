#include "replicate/coordinator_core.h"
#include "replicate/mutants.h"
#include "runtime/fault_point.h"

namespace hf {

uint8_t CoordinatorCore::readable() const {
  return record_.config.in_sync & required_ & reachable();
}

// The others of the in-sync set must not have been fenced by anybody when the data was read: one of
// them alone is enough for a new coordinator. The one that was read from checks the epoch itself.
bool CoordinatorCore::leases_hold(uint8_t target) const {
  const MonoTime now = spec_->clock.now();
  for (const auto& peer : peers_) {
    if (((record_.config.in_sync | required_) & peer->bit & ~target) == 0) continue;
    if (mutant(ReplicateMutant::kRemoteReadWithoutLease) && (local_mask() & target) == 0) continue;
    if (peer->lease_until <= now) return false;
  }
  return true;
}

Task<Status> CoordinatorCore::read(uint64_t offset, MutableByteSpan out) {
  if (!may_serve()) co_return refusal();
  Gate::Pass pass(gate_);
  if (!spec_) {
    Status done = co_await peers_.front()->port->read(offset, out);
    co_return done;
  }
  Status range = check_range(offset, out.size());
  HF_CO_TRY(range);
  if (out.empty()) co_return Status();
  uint8_t from = 0, bad = 0;
  Status done = co_await read_somewhere(offset, out, &from, &bad);
  HF_CO_TRY(done);
  Status settled = co_await wait_settled(offset, out.size(), from);
  HF_CO_TRY(settled);
  if (bad != 0) (void)spawn(background_, repair(offset, out.size()));
  co_return Status();
}

// From the nearest in-sync member that can; waits while none is reachable. `bad` tells who has it
// damaged.
Task<Status> CoordinatorCore::read_somewhere(uint64_t offset, MutableByteSpan out, uint8_t* from,
                                             uint8_t* bad) {
  std::optional<Error> damage;
  while (!fenced_ && !abandoned_) {
    const uint8_t slot = choose_source(readable() & static_cast<uint8_t>(~*bad), local_mask());
    if (slot == kNobody) {
      if (damage && (record_.config.in_sync & ~*bad) == 0) co_return *damage;
      HF_PROBE("replicate.read_waits_for_member");
      co_await changed_.wait();
      continue;
    }
    Peer& source = *peer(slot);
    const PortPtr port = source.port;
    Status done = co_await port->read(offset, out);
    if (done.ok()) {
      *from = source.bit;
      co_return Status();
    }
    if (done.code() == ErrorCode::kCorruption || done.code() == ErrorCode::kIo) {
      HF_PROBE("replicate.read_elsewhere");
      *bad |= source.bit;
      damage = done.error();
    } else if (done.code() == ErrorCode::kFenced) {
      fence_self(done.error());
    } else if (done.code() == ErrorCode::kInvalidArgument) {
      co_return done;
    } else {
      lose(source, port, done.error());
    }
  }
  co_return refusal();
}

Task<Status> CoordinatorCore::wait_settled(uint64_t offset, uint64_t length, uint8_t from) {
  if (ranges_.written_now(offset, offset + length) && !mutant(ReplicateMutant::kInFlightRead)) {
    HF_PROBE("replicate.read_waits_for_write");
    co_await ranges_.wait_written(offset, offset + length);
  }
  while (!fenced_ && !abandoned_ && !leases_hold(from)) {
    HF_PROBE("replicate.read_waits_for_lease");
    co_await changed_.wait();
  }
  if (fenced_ || abandoned_) co_return refusal();
  co_return Status();
}

// Writes what the others have over what one has damaged: an ordinary write of what is there, alone
// in its range.
Task<void> CoordinatorCore::repair(uint64_t offset, uint64_t length) {
  co_await ranges_.lock(offset, offset + length, RangeLock::Use::kWrite);
  RangeHold hold(ranges_, offset);
  if (!running() || offset + length > size_) co_return;
  auto buffer = std::make_shared<AlignedBuffer>(length);
  uint8_t from = 0, bad = 0;
  Status done = co_await read_somewhere(offset, buffer->span(), &from, &bad);
  if (!done.ok() || bad == 0 || !running()) co_return;
  HF_PROBE("replicate.read_repair");
  auto op = std::make_shared<Operation>(Operation::Kind::kWrite, offset, length);
  op->data = WriteData::of(std::move(buffer));
  done = co_await run(std::move(op));
}

Task<Result<std::vector<DataExtent>>> CoordinatorCore::extents(uint64_t offset, uint64_t length,
                                                               size_t limit) {
  if (!may_serve()) co_return refusal();
  Gate::Pass pass(gate_);
  while (!fenced_ && !abandoned_) {
    const uint8_t slot =
        choose_source(spec_ ? readable() : slot_bit(0), spec_ ? local_mask() : slot_bit(0));
    if (slot == kNobody) {
      co_await changed_.wait();
      continue;
    }
    Peer& source = *peer(slot);
    const PortPtr port = source.port;
    Result<std::vector<DataExtent>> found = co_await port->extents(offset, length, limit);
    if (!spec_ || found.code() == ErrorCode::kInvalidArgument) co_return found;
    if (found.ok()) {
      Status settled = co_await wait_settled(offset, length, source.bit);
      HF_CO_TRY(settled);
      co_return found;
    }
    if (found.code() == ErrorCode::kFenced) {
      fence_self(found.error());
    } else {
      lose(source, port, found.error());
    }
  }
  co_return refusal();
}

}  // namespace hf
