#include "replicate/replica_service.h"

#include "replicate/mutants.h"
#include "runtime/fault_point.h"

namespace hf {

class ReplicaService::Pass {
 public:
  explicit Pass(ReplicaService& service) : service_(service) { ++service_.inside_; }
  ~Pass() {
    --service_.inside_;
    service_.left_.notify_all();
  }
  Pass(const Pass&) = delete;
  Pass& operator=(const Pass&) = delete;

 private:
  ReplicaService& service_;
};

ReplicaService::ReplicaService(std::shared_ptr<Replica> replica, Clock* clock)
    : replica_(std::move(replica)), clock_(clock) {
  if (clock_ == nullptr || mutant(ReplicateMutant::kRestartForgetsLease)) return;
  lease_epoch_ = replica_->promised_epoch();
  lease_ends_ = clock_->now() + kLeaseGiven;
}

Status ReplicaService::check(Session session) const {
  if (session == open_ && opened_ && session.epoch == replica_->promised_epoch()) return Status();
  if (session.epoch < std::max(open_.epoch, replica_->promised_epoch())) {
    if (mutant(ReplicateMutant::kNoEpochCheck)) return Status();
    return make_error(ErrorCode::kFenced, "replica {}: epoch {} is over, {} is promised",
                      replica_->id().to_string(), session.epoch,
                      std::max(open_.epoch, replica_->promised_epoch()));
  }
  if (mutant(ReplicateMutant::kNoEpochCheck) || mutant(ReplicateMutant::kOldSessionServed)) {
    return Status();
  }
  return make_error(ErrorCode::kConflict, "replica {}: session {}.{} is not open (but {}.{})",
                    replica_->id().to_string(), session.epoch, session.number, open_.epoch,
                    open_.number);
}

Duration ReplicaService::lease_left(uint64_t for_epoch) const {
  if (clock_ == nullptr || lease_epoch_ >= for_epoch) return Duration{};
  return std::max(Duration{}, lease_ends_ - clock_->now());
}

Task<Result<FenceAnswer>> ReplicaService::fence(Session session) {
  FenceAnswer answer;
  answer.promised_before = replica_->promised_epoch();
  const uint64_t newest = std::max(open_.epoch, answer.promised_before);
  if (session.epoch < newest) {
    co_return make_error(ErrorCode::kFenced, "replica {}: epoch {} comes too late, {} is promised",
                         replica_->id().to_string(), session.epoch, newest);
  }
  if (session <= open_) {
    co_return make_error(ErrorCode::kConflict, "replica {}: session {}.{} comes after {}.{}",
                         replica_->id().to_string(), session.epoch, session.number, open_.epoch,
                         open_.number);
  }
  // From here on nothing of an older session gets in, and no lease of an older epoch is renewed.
  open_ = session;
  opened_ = false;
  Status promised = co_await replica_->promise(session.epoch);
  HF_CO_TRY(promised);
  if (inside_ > 0) HF_PROBE("replicate.fence_drains");
  while (inside_ > 0 && !mutant(ReplicateMutant::kOldSessionServed)) co_await left_.wait();
  if (open_ != session) {
    co_return make_error(session.epoch < open_.epoch ? ErrorCode::kFenced : ErrorCode::kConflict,
                         "replica {}: session {}.{} was overtaken by {}.{}",
                         replica_->id().to_string(), session.epoch, session.number, open_.epoch,
                         open_.number);
  }
  opened_ = true;
  answer.commit = replica_->commit();
  answer.size_bytes = replica_->size();
  answer.lease_left = lease_left(session.epoch);
  answer.config = replica_->config();
  co_return answer;
}

Status ReplicaService::heartbeat(Session session, Stamp commit) {
  HF_TRY(check(session));
  HF_TRY(replica_->flush());  // a pool that has failed serves nothing
  if (replica_->commit() < commit) replica_->advance_commit(commit);
  if (clock_ == nullptr) return Status();
  // Coordinators ask only once they have waited for the leases of older epochs.
  lease_ends_ = clock_->now() + kLeaseGiven;
  lease_epoch_ = session.epoch;
  return Status();
}

Status ReplicaService::release(Session session) {
  HF_TRY(check(session));
  opened_ = false;
  if (lease_epoch_ == session.epoch && clock_ != nullptr) lease_ends_ = clock_->now();
  return Status();
}

Task<Status> ReplicaService::write(Session session, WriteHeader header, uint64_t offset,
                                   WriteData data) {
  Status open = check(session);
  HF_CO_TRY(open);
  Pass pass(*this);
  if (mutant(ReplicateMutant::kNoEpochCheck)) header.epoch = replica_->promised_epoch();
  Status done = co_await replica_->write(header, offset, data.bytes());
  co_return done;
}

Task<Status> ReplicaService::write_zeroes(Session session, WriteHeader header, uint64_t offset,
                                          uint64_t length) {
  Status open = check(session);
  HF_CO_TRY(open);
  Pass pass(*this);
  if (mutant(ReplicateMutant::kNoEpochCheck)) header.epoch = replica_->promised_epoch();
  Status done = co_await replica_->write_zeroes(header, offset, length);
  co_return done;
}

Task<Status> ReplicaService::read(Session session, uint64_t offset, MutableByteSpan out) {
  Status open = check(session);
  HF_CO_TRY(open);
  Pass pass(*this);
  Status done = co_await replica_->read(offset, out);
  co_return done;
}

Task<Result<std::vector<DataExtent>>> ReplicaService::extents(Session session, uint64_t offset,
                                                              uint64_t length, size_t limit) {
  Status open = check(session);
  HF_CO_TRY(open);
  Pass pass(*this);
  Result<std::vector<DataExtent>> found = co_await replica_->extents(offset, length, limit);
  co_return found;
}

Task<Result<std::vector<ByteRange>>> ReplicaService::window(Session session, uint64_t from,
                                                            size_t limit) {
  Status open = check(session);
  HF_CO_TRY(open);
  Pass pass(*this);
  Result<std::vector<ByteRange>> found = co_await replica_->window(from, limit);
  co_return found;
}

Task<Result<std::vector<ByteRange>>> ReplicaService::dirty(Session session, uint32_t slot,
                                                           uint64_t from, size_t limit) {
  Status open = check(session);
  HF_CO_TRY(open);
  Pass pass(*this);
  Result<std::vector<ByteRange>> found = co_await replica_->dirty(slot, from, limit);
  co_return found;
}

Task<Status> ReplicaService::mark_dirty(Session session, WriteHeader header, SlotMask slots,
                                        std::vector<ByteRange> ranges) {
  Status open = check(session);
  HF_CO_TRY(open);
  Pass pass(*this);
  Status done = co_await replica_->mark_dirty(header, slots, std::move(ranges));
  co_return done;
}

Task<Status> ReplicaService::clear_dirty(Session session, WriteHeader header, SlotMask slots) {
  Status open = check(session);
  HF_CO_TRY(open);
  Pass pass(*this);
  Status done = co_await replica_->clear_dirty(header, slots);
  co_return done;
}

Task<Status> ReplicaService::settle_window(Session session, WriteHeader header) {
  Status open = check(session);
  HF_CO_TRY(open);
  Pass pass(*this);
  Status done = co_await replica_->settle_window(header);
  co_return done;
}

Task<Status> ReplicaService::set_config(Session session, std::string config) {
  Status open = check(session);
  HF_CO_TRY(open);
  Pass pass(*this);
  Status done = co_await replica_->set_config(std::move(config));
  co_return done;
}

Task<Status> ReplicaService::resize(Session session, WriteHeader header, uint64_t size_bytes) {
  Status open = check(session);
  HF_CO_TRY(open);
  Pass pass(*this);
  Status done = co_await replica_->resize(header, size_bytes);
  co_return done;
}

Task<Result<SnapshotInfo>> ReplicaService::snapshot(Session session, WriteHeader header,
                                                    SnapshotId id) {
  Status open = check(session);
  HF_CO_TRY(open);
  Pass pass(*this);
  Result<SnapshotInfo> cut = co_await replica_->snapshot(header, id);
  co_return cut;
}

Task<Status> ReplicaService::delete_snapshot(Session session, SnapshotId id) {
  Status open = check(session);
  HF_CO_TRY(open);
  Pass pass(*this);
  Status done = co_await replica_->delete_snapshot(id);
  co_return done;
}

}  // namespace hf
