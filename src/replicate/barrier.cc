#include "replicate/coordinator_core.h"
#include "runtime/fault_point.h"

namespace hf {
namespace {

constexpr uint64_t kWholeVolume = ~uint64_t{0};

}  // namespace

// Alone between the writes: what was called before has ended, what is called later waits.
Task<Result<SnapshotInfo>> CoordinatorCore::snapshot(SnapshotId id) {
  if (!may_serve()) co_return refusal();
  Gate::Pass pass(gate_);
  co_await ranges_.lock(0, kWholeVolume, RangeLock::Use::kCopy);
  RangeHold hold(ranges_, 0);
  auto op = std::make_shared<Operation>(Operation::Kind::kSnapshot, 0, 0);
  op->snapshot = id;
  Status done = co_await run(op);
  HF_CO_TRY(done);
  if (op->cuts_differ && spec_) {
    HF_PROBE("replicate.snapshot_of_another_moment");
    Status gone = co_await remove_everywhere(id);
    HF_CO_TRY(gone);
    co_return make_error(ErrorCode::kConflict,
                         "volume {}: a snapshot {} of another moment was there on some members",
                         config().volume.to_string(), id.to_string());
  }
  co_return *op->cut;
}

Task<Status> CoordinatorCore::remove_everywhere(SnapshotId id) {
  for (Peer* peer : everybody()) {
    const PortPtr port = peer->port;
    if ((required_ & peer->bit) == 0 || port == nullptr) continue;
    Status gone = co_await port->delete_snapshot(id);
    if (gone.code() == ErrorCode::kFenced && spec_) fence_self(gone.error());
    HF_CO_TRY(gone);
  }
  co_return Status();
}

Task<Status> CoordinatorCore::delete_snapshot(SnapshotId id) {
  if (!may_serve()) co_return refusal();
  Gate::Pass pass(gate_);
  co_return co_await remove_everywhere(id);
}

Task<Status> CoordinatorCore::resize(uint64_t size_bytes) {
  if (!may_serve()) co_return refusal();
  Gate::Pass pass(gate_);
  co_await ranges_.lock(0, kWholeVolume, RangeLock::Use::kWrite);
  RangeHold hold(ranges_, 0);
  auto op = std::make_shared<Operation>(Operation::Kind::kResize, 0, size_bytes);
  Status done = co_await run(op);
  HF_CO_TRY(done);
  size_ = size_bytes;
  co_return Status();
}

}  // namespace hf
