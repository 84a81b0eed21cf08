// Compares what the members in sync have, a piece after the other, and mends what one has damaged.
#include <algorithm>
#include <cstring>

#include "base/log.h"
#include "replicate/coordinator_core.h"
#include "replicate/mutants.h"
#include "runtime/fault_point.h"

namespace hf {
namespace {

constexpr Duration kLookForEnd = std::chrono::milliseconds(500);  // whether it is to end, while it waits
constexpr size_t kListed = 64;  // ranges that a report names

void list(std::vector<ByteRange>& ranges, uint64_t& bytes, uint64_t offset, uint64_t length) {
  bytes += length;
  if (!ranges.empty() && ranges.back().end() == offset) {
    ranges.back().length += length;
  } else if (ranges.size() < kListed) {
    ByteRange& range = ranges.emplace_back();
    range.offset = offset;
    range.length = length;
  }
}

// In two steps, so that it does not overflow.
Duration time_of(uint64_t bytes, uint64_t bytes_per_second) {
  if (bytes_per_second == 0) return Duration{};
  const uint64_t rest = bytes % bytes_per_second * 1'000'000 / bytes_per_second;
  return std::chrono::seconds(bytes / bytes_per_second) + std::chrono::microseconds(rest);
}

}  // namespace

Task<Result<ScrubReport>> CoordinatorCore::scrub(ScrubOrder order) {
  if (!may_serve()) co_return refusal();
  if (!spec_) {
    co_return make_error(ErrorCode::kNotSupported,
                         "volume {} has one replica: there is nothing to compare it with",
                         config().volume.to_string());
  }
  // Not a call that an end in order waits for.
  Gate::Pass pass(background_);
  if (!pass) co_return refusal();
  if (scrub_.running) {
    co_return make_error(ErrorCode::kInUse, "volume {} is being scrubbed",
                         config().volume.to_string());
  }
  scrub_ = ScrubReport();
  scrub_.running = true;
  scrub_.done_to = round_down(std::min(order.from, size_), kBlockSize);
  Status done = co_await scrub_all(order);
  scrub_.running = false;
  HF_CO_TRY(done);
  co_return scrub_;
}

Task<Status> CoordinatorCore::scrub_all(const ScrubOrder& order) {
  const MonoTime begun = spec_->clock.now();
  while (scrub_.done_to < size_) {
    const uint64_t from = scrub_.done_to, end = std::min(size_, from + kCopyStretch);
    RangeSet data;
    for (uint8_t slot : slots_of(readable())) {
      if ((readable() & slot_bit(slot)) == 0) continue;
      Peer& member = *peer(slot);
      const PortPtr port = member.port;
      Status found = co_await collect_data(port, from, end, &data);
      if (found.code() == ErrorCode::kFenced) fence_self(found.error());
      if (!found.ok() && found.code() != ErrorCode::kInvalidArgument)
        lose(member, port, found.error());
    }
    for (const auto& [offset, length] : chunks_of(data, kCopyChunk)) {
      Status done = co_await scrub_chunk(offset, length);
      HF_CO_TRY(done);
      scrub_.bytes_compared += length;
      scrub_.done_to = offset + length;
      if (order.tell) order.tell(scrub_);
      if (order.cancel.is_cancelled()) co_return Error(ErrorCode::kCancelled, "the scrub was ended");
      const MonoTime next = begun + time_of(scrub_.bytes_compared, order.bytes_per_second);
      while (spec_->clock.now() < next && !order.cancel.is_cancelled()) {
        const MonoTime look = spec_->clock.now() + kLookForEnd;
        done = co_await spec_->clock.sleep_until(std::min(next, look), CancelToken(stop_));
        if (!done.ok()) co_return refusal();
      }
    }
    if (!running() || abandoned_) co_return refusal();
    scrub_.done_to = end;
    if (order.tell) order.tell(scrub_);
    if (order.cancel.is_cancelled()) co_return Error(ErrorCode::kCancelled, "the scrub was ended");
  }
  co_return Status();
}

// Holds its range, as a copy does: nothing is in flight there, so all who are in sync have the
// same.
Task<Status> CoordinatorCore::scrub_chunk(uint64_t offset, uint64_t length) {
  Gate::Pass pass(gate_);
  if (!pass) co_return refusal();
  co_await ranges_.lock(offset, offset + length, RangeLock::Use::kCopy);
  RangeHold hold(ranges_, offset);
  if (offset >= size_) co_return Status();
  length = std::min(length, size_ - offset);
  Copies copies;
  Status read = co_await read_copies(offset, length, &copies);
  HF_CO_TRY(read);
  if (copies.damaged == 0 && copies.alike()) co_return Status();
  // Something is wrong somewhere in it; each block may be right on another member.
  for (uint64_t at = offset; at < offset + length; at += kBlockSize) {
    Status mended = co_await scrub_block(at);
    HF_CO_TRY(mended);
  }
  co_return Status();
}

Task<Status> CoordinatorCore::read_copies(uint64_t offset, uint64_t length, Copies* copies) {
  const uint8_t members = readable();
  if (members != record_.config.in_sync) scrub_.all_members = false;
  for (uint8_t slot : slots_of(members)) {
    if (!running() || abandoned_) co_return refusal();
    if ((readable() & slot_bit(slot)) == 0) continue;
    Peer& member = *peer(slot);
    const PortPtr port = member.port;
    auto buffer = std::make_shared<AlignedBuffer>(length);
    Status done = co_await port->read(offset, buffer->span());
    if (done.ok()) {
      copies->good.push_back(std::move(buffer));
    } else if (done.code() == ErrorCode::kCorruption || done.code() == ErrorCode::kIo) {
      copies->damaged |= member.bit;
    } else if (done.code() == ErrorCode::kFenced) {
      fence_self(done.error());
    } else {
      scrub_.all_members = false;
      lose(member, port, done.error());
    }
  }
  if (!running() || abandoned_) co_return refusal();
  co_return Status();
}

// The caller holds its range. What most of those who can read it have is written to all, in the
// order of the writes.
Task<Status> CoordinatorCore::scrub_block(uint64_t offset) {
  Copies copies;
  Status read = co_await read_copies(offset, kBlockSize, &copies);
  HF_CO_TRY(read);
  if (copies.damaged == 0 && copies.alike()) co_return Status();
  if (copies.good.empty()) {
    if (copies.damaged != 0) list(scrub_.lost, scrub_.lost_bytes, offset, kBlockSize);
    co_return Status();
  }
  const size_t best = copies.majority();
  if (best == copies.good.size()) {
    HF_PROBE("replicate.scrub_undecided");
    list(scrub_.undecided, scrub_.undecided_bytes, offset, kBlockSize);
    co_return Status();
  }
  HF_PROBE("replicate.scrub_mends");
  HF_LOG(kWarn, "replicate", "volume {}: the block at {} differs between members, and is mended",
         config().volume.to_string(), offset);
  const std::shared_ptr<AlignedBuffer> right = copies.good[best];
  OperationPtr op;
  if (all_zero(right->span())) {
    op = std::make_shared<Operation>(Operation::Kind::kZeroes, offset, kBlockSize);
  } else {
    op = std::make_shared<Operation>(Operation::Kind::kWrite, offset, kBlockSize);
    op->data = WriteData::of(right);
  }
  Status done = co_await run(std::move(op));
  HF_CO_TRY(done);
  scrub_.mended_bytes += kBlockSize;
  co_return Status();
}

bool Copies::alike() const {
  for (const auto& each : good) {
    if (std::memcmp(each->data(), good.front()->data(), each->size()) != 0) return false;
  }
  return true;
}

size_t Copies::majority() const {
  for (size_t i = 0; i < good.size(); ++i) {
    size_t same = 0;
    for (const auto& each : good)
      same += std::memcmp(each->data(), good[i]->data(), each->size()) == 0 ? 1 : 0;
    if (2 * same > good.size() || (mutant(ReplicateMutant::kScrubGuesses) && same > 0)) return i;
  }
  return good.size();
}

}  // namespace hf
