#include "replicate/coordinator.h"

namespace hf {

Task<Result<std::unique_ptr<Coordinator>>> Coordinator::open(std::shared_ptr<Replica> replica,
                                                             uint64_t epoch) {
  Status promised = co_await replica->promise(epoch);
  HF_CO_TRY(promised);
  co_return std::unique_ptr<Coordinator>(new Coordinator(std::move(replica), epoch));
}

WriteHeader Coordinator::next_header() {
  WriteHeader header;
  header.epoch = epoch_;
  header.commit = commit();
  header.sequence = ++sequence_;
  in_flight_.insert(header.sequence);
  return header;
}

void Coordinator::answered(const WriteHeader& header) {
  in_flight_.erase(header.sequence);
  if (!fenced_) replica_->advance_commit(commit());
}

Error Coordinator::refusal() const {
  if (fenced_) {
    return make_error(ErrorCode::kFenced,
                      "epoch {} of volume {} is over: the volume is attached elsewhere", epoch_,
                      replica_->volume().to_string());
  }
  return make_error(ErrorCode::kClosed, "volume {} is being detached",
                    replica_->volume().to_string());
}

Task<Status> Coordinator::read(uint64_t offset, MutableByteSpan out) {
  if (!may_serve()) co_return refusal();
  Gate::Pass pass(gate_);
  Status done = co_await replica_->read(offset, out);
  co_return done;
}

Task<Status> Coordinator::write(uint64_t offset, ByteSpan data) {
  if (!may_serve()) co_return refusal();
  Gate::Pass pass(gate_);
  const WriteHeader header = next_header();
  Status done = co_await replica_->write(header, offset, data);
  done = seen(std::move(done));
  answered(header);
  co_return done;
}

Task<Status> Coordinator::write_zeroes(uint64_t offset, uint64_t length) {
  if (!may_serve()) co_return refusal();
  Gate::Pass pass(gate_);
  const WriteHeader header = next_header();
  Status done = co_await replica_->write_zeroes(header, offset, length);
  done = seen(std::move(done));
  answered(header);
  co_return done;
}

Task<Status> Coordinator::discard(uint64_t offset, uint64_t length) {
  if (!may_serve()) co_return refusal();
  Gate::Pass pass(gate_);
  const WriteHeader header = next_header();
  Status done = co_await replica_->discard(header, offset, length);
  done = seen(std::move(done));
  answered(header);
  co_return done;
}

Task<Status> Coordinator::flush() {
  if (!may_serve()) co_return refusal();
  co_return replica_->flush();
}

Task<Result<std::vector<DataExtent>>> Coordinator::extents(uint64_t offset, uint64_t length,
                                                           size_t limit) {
  if (!may_serve()) co_return refusal();
  Gate::Pass pass(gate_);
  Result<std::vector<DataExtent>> found = co_await replica_->extents(offset, length, limit);
  co_return found;
}

Task<Result<SnapshotInfo>> Coordinator::snapshot(SnapshotId id) {
  if (!may_serve()) co_return refusal();
  Gate::Pass pass(gate_);
  const WriteHeader header = next_header();
  Result<SnapshotInfo> cut = co_await replica_->snapshot(header, id);
  cut = seen(std::move(cut));
  answered(header);
  co_return cut;
}

Task<Status> Coordinator::resize(uint64_t size_bytes) {
  if (!may_serve()) co_return refusal();
  Gate::Pass pass(gate_);
  const WriteHeader header = next_header();
  Status done = co_await replica_->resize(header, size_bytes);
  done = seen(std::move(done));
  answered(header);
  co_return done;
}

}  // namespace hf
