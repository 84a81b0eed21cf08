#include "replicate/coordinator_core.h"
#include "replicate/mutants.h"
#include "runtime/fault_point.h"

namespace hf {

Stamp CoordinatorCore::commit() const {
  Stamp stamp;
  stamp.epoch = epoch_;
  stamp.sequence = in_flight_.empty() ? sequence_ : in_flight_.begin()->first - 1;
  if (mutant(ReplicateMutant::kCommitAtIssue)) stamp.sequence = sequence_;
  return stamp;
}

// A member that has not joined learns no commit: its window must stay known. Whoever need not
// answer is absent for the others, also while it gets all writes: if it goes again, they know what
// it may lack.
WriteHeader CoordinatorCore::header_for(const Peer& peer, uint64_t sequence) const {
  const VolumeConfig& config = record_.config;
  WriteHeader header;
  header.epoch = epoch_;
  header.generation = config.generation;
  header.sequence = sequence;
  if ((config.in_sync & peer.bit) != 0) header.commit = commit();
  header.absent = config.member_mask() & static_cast<uint8_t>(~required_);
  return header;
}

Task<Status> CoordinatorCore::write(uint64_t offset, ByteSpan data) {
  auto op = std::make_shared<Operation>(Operation::Kind::kWrite, offset, data.size());
  // Several members take it at different moments: they must not differ because the caller's memory
  // changed meanwhile, and one that hangs must not hold the caller.
  op->data = spec_ ? WriteData::copy_of(data) : WriteData(data);
  co_return co_await submit(std::move(op));
}

Task<Status> CoordinatorCore::zero(uint64_t offset, uint64_t length) {
  auto op = std::make_shared<Operation>(Operation::Kind::kZeroes, offset, length);
  co_return co_await submit(std::move(op));
}

Task<Status> CoordinatorCore::submit(OperationPtr op) {
  if (!may_serve()) co_return refusal();
  Gate::Pass pass(gate_);
  Status range = check_range(op->offset, op->length);
  HF_CO_TRY(range);
  if (op->length == 0) co_return Status();
  if (!spec_) co_return co_await run(std::move(op));  // one replica keeps the order of the calls
  if (!slots_.try_acquire()) co_await slots_.acquire();
  SemaphoreUnits slot(slots_, 1);
  co_await ranges_.lock(op->offset, op->offset + op->length, RangeLock::Use::kWrite);
  RangeHold hold(ranges_, op->offset);
  co_return co_await run(std::move(op));
}

// The caller holds the operation's range.
Task<Status> CoordinatorCore::run(OperationPtr op) {
  while (held_ && !fenced_ && !abandoned_) co_await changed_.wait();
  if (fenced_ || abandoned_) co_return refusal();
  if (op->kind == Operation::Kind::kWrite || op->kind == Operation::Kind::kZeroes) {
    Status range = check_range(op->offset, op->length);  // a resize may have come before
    HF_CO_TRY(range);
  }
  op->sequence = ++sequence_;
  op->round = round_;
  in_flight_.emplace(op->sequence, op);
  if (!spec_) co_return co_await write_alone(std::move(op));
  op->since = spec_->clock.now();
  send_all(op);
  co_await op->done.wait();
  co_return op->result;
}

Task<Status> CoordinatorCore::write_alone(OperationPtr op) {
  Peer& peer = *peers_.front();
  SnapshotInfo cut;
  const WriteHeader header = header_for(peer, op->sequence);
  Status done = co_await call(*op, *peer.port, header, &cut);
  if (done.ok()) op->cut = cut;
  if (!op->ended) finish(op, done);
  if (done.code() == ErrorCode::kFenced) fence_self(done.error());
  if (!fenced_) peer.port->advance_commit(commit());
  co_return op->result;
}

Task<Status> CoordinatorCore::call(const Operation& op, ReplicaPort& port, WriteHeader header,
                                   SnapshotInfo* cut) {
  switch (op.kind) {
    case Operation::Kind::kWrite:
      co_return co_await port.write(header, op.offset, op.data);
    case Operation::Kind::kZeroes:
      co_return co_await port.write_zeroes(header, op.offset, op.length);
    case Operation::Kind::kResize:
      co_return co_await port.resize(header, op.length);
    case Operation::Kind::kSnapshot:
      break;
  }
  Result<SnapshotInfo> info = co_await port.snapshot(header, op.snapshot);
  HF_CO_TRY(info);
  *cut = *info;
  co_return Status();
}

// Everybody gets it before anybody's answer counts: an operation that ended in between would never
// reach the rest.
void CoordinatorCore::send_all(const OperationPtr& op) {
  op->sending = true;
  for (const auto& peer : peers_) {
    if (peer->port != nullptr && peer->receives) send(op, *peer);
  }
  op->sending = false;
  consider(op);
}

void CoordinatorCore::send(const OperationPtr& op, Peer& peer) {
  const bool is_required = (required_ & peer.bit) != 0;
  if (op->kind == Operation::Kind::kSnapshot && !is_required) return;
  peer.unanswered.insert(op->sequence);
  (void)spawn(background_,
              send_task(op, peer, peer.port, header_for(peer, op->sequence), op->round));
}

Task<void> CoordinatorCore::send_task(OperationPtr op, Peer& peer, PortPtr port, WriteHeader header,
                                      uint64_t round) {
  SnapshotInfo cut;
  Status status = co_await call(*op, *port, header, &cut);
  if (status.ok() && op->kind == Operation::Kind::kSnapshot) {
    Stamp at;
    at.epoch = cut.epoch;
    at.sequence = cut.sequence;
    op->cuts_differ = op->cuts_differ || at != header.stamp();
    op->cut = cut;
  }
  answered(op, peer, port, round, status);
}

void CoordinatorCore::answered(const OperationPtr& op, Peer& peer, const PortPtr& port,
                               uint64_t round, const Status& status) {
  if (peer.port != port) return;  // of a session that has ended: it proves nothing any more
  const AnswerKind kind = kind_of(status.code());
  const bool is_required = (required_ & peer.bit) != 0;
  if (kind == AnswerKind::kFenced) {
    fence_self(status.error());
    return;
  }
  if (kind == AnswerKind::kDone || (kind == AnswerKind::kRefused && is_required)) {
    peer.unanswered.erase(peer.unanswered.find(op->sequence));
    if (kind == AnswerKind::kRefused) op->refusal = status.error();
    if (round == op->round) (kind == AnswerKind::kDone ? op->answered : op->refused) |= peer.bit;
    if (peer.waits_unanswered) changed_.notify_all();
    consider(op);
    return;
  }
  lose(peer, port, status.error());
}

void CoordinatorCore::consider(const OperationPtr& op) {
  if (op->ended || op->sending) return;
  Answers answers;
  answers.required = required_;
  answers.answered = op->answered;
  answers.refused = op->refused;
  answers.held = held_;
  if (mutant(ReplicateMutant::kAckBeforeShrink) && (required_ & reachable()) != 0) {
    answers.required = required_ & reachable();
    answers.held = false;
  }
  switch (judge(answers)) {
    case Verdict::kWait:
      return;
    case Verdict::kAcknowledge:
      finish(op, Status());
      return;
    case Verdict::kRefuse:
      finish(op, *op->refusal);
      return;
    case Verdict::kDropRefusers:
      break;
  }
  HF_PROBE("replicate.refuser_dropped");
  const Error why = *op->refusal;
  for (uint8_t slot : slots_of(required_ & op->refused & static_cast<uint8_t>(~op->answered))) {
    Peer& refuser = *peer(slot);
    lose(refuser, refuser.port, why);
  }
}

void CoordinatorCore::finish(const OperationPtr& op, Status result) {
  op->ended = true;
  op->result = std::move(result);
  in_flight_.erase(op->sequence);
  op->done.set();
  changed_.notify_all();
}

Task<Status> CoordinatorCore::flush() {
  if (!may_serve()) co_return refusal();
  if (!spec_) co_return peers_.front()->port->flush();
  co_return Status();  // whatever was acknowledged is durable wherever it must be
}

}  // namespace hf
