#include "store/journal_writer.h"

#include <cstring>

#include "runtime/fault_point.h"
#include "store/mutants.h"
#include "store/replica_impl.h"

namespace hf {
namespace {

// Kept free behind every ordinary batch, so that recovery can seal the ring of a pool that crashed when
// it was full (several times over).
constexpr uint64_t kSealReserve = 16 * kBlockSize;

constexpr int kTurnsForCompany = 4;

}  // namespace

void JournalWriter::finish(IntrusiveList<Append>& list, const Status& status) {
  while (!list.empty()) {
    Append& append = list.pop_front();
    queued_bytes_ -= append.payload.size();
    append.status = status;
    append.done.set();
  }
}

JournalWriter::JournalWriter(File& file, BatchSink& sink, Clock& clock, Position position)
    : file_(file),
      sink_(sink),
      clock_(clock),
      position_(position),
      ring_(position.ring_bytes, position.head, position.used) {}

void JournalWriter::enqueue(Append& append) {
  if (failure_) {
    append.status = *failure_;
    append.done.set();
    return;
  }
  HF_ASSERT(!stopping_, "append after stop");
  queue_.push_back(append);
  queued_bytes_ += append.payload.size();
  changed_.notify_all();
}

void JournalWriter::stop() {
  stopping_ = true;
  changed_.notify_all();
}

void JournalWriter::fail(const Error& error) {
  if (!failure_) failure_ = error;
  finish(queue_, *failure_);
  changed_.notify_all();
}

void JournalWriter::release(uint64_t consumed) {
  ring_.release(consumed);
  changed_.notify_all();
}

JournalWriter::Plan JournalWriter::plan_batch() {
  Plan plan;
  uint64_t entry_bytes = 0;
  bool full = false;
  queue_.for_each([&](Append& append) {
    if (full) return;
    const uint64_t bytes =
        entry_bytes + entry_encoded_bytes(append.entry.type, append.entry.length);
    const uint64_t payload = plan.payload_bytes + append.payload.size();
    if (plan.entries > 0 &&
        (plan.entries == kMaxBatchEntries || payload > kMaxBatchPayload ||
         batch_header_bytes(bytes) > kMaxBatchHeader || HF_FAULT_POINT("store.small_batch"))) {
      full = true;
      return;
    }
    entry_bytes = bytes;
    plan.payload_bytes = payload;
    ++plan.entries;
  });
  plan.header_bytes = batch_header_bytes(entry_bytes);
  HF_ASSERT(plan.header_bytes <= kMaxBatchHeader && plan.payload_bytes <= kMaxBatchPayload);
  return plan;
}

std::unique_ptr<Batch> JournalWriter::build(const Plan& plan, const Ring::Place& place,
                                            IntrusiveList<Append>& taken) {
  auto batch = std::make_unique<Batch>();
  batch->sequence = position_.next_sequence;
  batch->era = position_.era;
  batch->position = place.position;
  batch->end = place.position + plan.header_bytes + plan.payload_bytes;
  batch->consumed = place.consumed;
  batch->payload_bytes = plan.payload_bytes;
  batch->memory = AlignedBuffer(plan.header_bytes + plan.payload_bytes);
  batch->records.resize(plan.entries);
  BatchHeader header;
  header.pool = position_.pool;
  header.era = batch->era;
  header.sequence = batch->sequence;
  header.position = batch->position;
  header.header_bytes = static_cast<uint32_t>(plan.header_bytes);
  header.payload_bytes = static_cast<uint32_t>(plan.payload_bytes);
  header.previous_link = position_.link;
  header.settled_below = batch->settled_below = sink_.settled_below();
  header.entries.reserve(plan.entries);
  std::vector<uint32_t> crcs;
  crcs.reserve(kMaxBatchPayload / kBlockSize);  // never grows: entries view it
  std::byte* const payload = batch->memory.data() + plan.header_bytes;
  uint64_t at = 0;
  for (Record& record : batch->records) {
    Append& append = queue_.pop_front();
    taken.push_back(append);
    record.replica = append.replica;
    append.batch_sequence = batch->sequence;
    if (append.entry.type == EntryType::kIntent) ++batch->in_flight;
    if (append.entry.type == EntryType::kWrite) {
      const size_t first_crc = crcs.size();
      std::memcpy(payload + at, append.payload.data(), append.payload.size());
      // The CRC is that of our copy: the caller's memory may be a guest's that changes under us.
      for (uint64_t b = 0; b < append.payload.size(); b += kBlockSize) {
        crcs.push_back(block_crc({payload + at + b, kBlockSize}));
      }
      append.entry.payload_block = static_cast<uint32_t>(at / kBlockSize);
      append.entry.crcs = std::span(crcs).subspan(first_crc);
      record.payload = payload + at;
      at += append.payload.size();
    }
    header.entries.push_back(append.entry);
  }
  encode_batch_header(header, batch->memory.span().first(plan.header_bytes));
  for (size_t i = 0; i < plan.entries; ++i) batch->records[i].entry = header.entries[i];
  batch->link = header.link;
  return batch;
}

// The pause is that of what waits now; what comes meanwhile goes with it.
Task<void> JournalWriter::keep_pace() {
  const Plan plan = plan_batch();
  const Duration pause = sink_.pause(plan.header_bytes + plan.payload_bytes);
  if (pause <= Duration(0)) co_return;
  HF_PROBE("store.paced");
  Status slept = co_await clock_.sleep_for(pause, CancelToken());
  (void)slept;  // nobody cancels it
}

Task<bool> JournalWriter::wait_for_room(const Plan& plan, Ring::Place* place) {
  const uint64_t need = plan.header_bytes + plan.payload_bytes;
  while (!failure_) {
    const std::optional<Ring::Place> found = ring_.find(need, kSealReserve);
    if (found && sink_.room_in_overlay(plan.payload_bytes)) {
      *place = *found;
      co_return true;
    }
    HF_PROBE("store.journal_full");
    sink_.room_wanted();
    co_await changed_.wait();
  }
  co_return false;
}

Task<Status> JournalWriter::write(Batch& batch) {
  if (batch.position == 0 && batch.sequence > 1) HF_PROBE("store.ring_wrapped");
  Result<size_t> written =
      co_await file_.write_durable_at(kRingOffset + batch.position, batch.memory.span());
  if (!written.ok()) co_return written.error();
  co_return Status();
}

Task<Result<bool>> JournalWriter::write_seal(uint64_t new_era) {
  const std::optional<Ring::Place> place = ring_.find(kBlockSize, 0);
  if (!place) co_return false;
  Batch batch;
  batch.memory = AlignedBuffer(kBlockSize);
  BatchHeader header;
  header.pool = position_.pool;
  header.era = new_era;
  header.sequence = position_.next_sequence;
  header.position = place->position;
  header.header_bytes = kBlockSize;
  header.previous_link = position_.link;
  header.seal = true;
  header.settled_below = sink_.settled_below();
  encode_batch_header(header, batch.memory.span());
  batch.position = place->position;
  Status written = co_await write(batch);
  HF_CO_TRY(written);
  ring_.take(*place, kBlockSize);
  position_.era = new_era;
  position_.link = header.link;
  ++position_.next_sequence;
  auto durable = std::make_unique<Batch>();
  durable->sequence = header.sequence;
  durable->era = new_era;
  durable->position = place->position;
  durable->end = place->position + kBlockSize;
  durable->consumed = place->consumed;
  durable->link = header.link;
  sink_.batch_durable(std::move(durable));
  co_return true;
}

Task<void> JournalWriter::run() {
  for (;;) {
    while (queue_.empty() && !stopping_ && !failure_) co_await changed_.wait();
    if (queue_.empty() || failure_) break;
    if (sink_.pause(kBlockSize) > Duration(0)) {
      co_await keep_pace();
      if (failure_) break;
    }
    Plan plan = plan_batch();
    Ring::Place place;
    const uint64_t wanted = plan.header_bytes + plan.payload_bytes;
    bool room = co_await wait_for_room(plan, &place);
    if (!room) break;
    IntrusiveList<Append> taken;
    std::unique_ptr<Batch> batch = build(plan, place, taken);
    ring_.take(place, wanted);
    if (mutant(StoreMutant::kAckBeforeDurable)) finish(taken, Status());
    Status written = co_await write(*batch);
    if (!written.ok()) {
      sink_.journal_failed(written.error());  // calls fail()
      HF_ASSERT(failure_.has_value());
      finish(taken, *failure_);
      break;
    }
    position_.link = batch->link;
    ++position_.next_sequence;
    const bool company = batch->records.size() > 1;
    sink_.batch_durable(std::move(batch));
    finish(taken, Status());
    // Those just answered often come back at once: in a few turns of the loop they are in the next
    // batch, instead of taking turns with the other half in small ones.
    for (int turn = 0; company && turn < kTurnsForCompany; ++turn) co_await yield();
  }
  if (failure_) finish(queue_, *failure_);
}

}  // namespace hf
