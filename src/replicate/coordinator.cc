#include "replicate/coordinator.h"

#include "replicate/coordinator_core.h"

namespace hf {

Coordinator::Coordinator(std::unique_ptr<CoordinatorCore> core) : core_(std::move(core)) {}
Coordinator::~Coordinator() = default;

Task<Result<std::unique_ptr<Coordinator>>> Coordinator::open(std::shared_ptr<Replica> replica,
                                                             uint64_t epoch) {
  auto core = std::make_unique<CoordinatorCore>(std::move(replica), epoch);
  Status opened = co_await core->open_alone();
  HF_CO_TRY(opened);
  co_return std::unique_ptr<Coordinator>(new Coordinator(std::move(core)));
}

Task<Result<std::unique_ptr<Coordinator>>> Coordinator::take_over(CoordinatorSpec spec) {
  auto core = std::make_unique<CoordinatorCore>(spec);
  Status taken = co_await core->take_over_unless(spec.give_up);
  if (!taken.ok()) {
    co_await core->abandon();
    co_return taken.error();
  }
  co_return std::unique_ptr<Coordinator>(new Coordinator(std::move(core)));
}

uint64_t Coordinator::size() const {
  return core_->size();
}
uint64_t Coordinator::epoch() const {
  return core_->epoch();
}
bool Coordinator::is_fenced() const {
  return core_->is_fenced();
}
VolumeConfig Coordinator::config() const {
  return core_->config();
}
std::vector<MemberStatus> Coordinator::members() const {
  return core_->members();
}

Task<Status> Coordinator::read(uint64_t offset, MutableByteSpan out) {
  return core_->read(offset, out);
}
Task<Status> Coordinator::write(uint64_t offset, ByteSpan data) {
  return core_->write(offset, data);
}
// The store keeps zeroes as holes either way.
Task<Status> Coordinator::write_zeroes(uint64_t offset, uint64_t length) {
  return core_->zero(offset, length);
}
Task<Status> Coordinator::discard(uint64_t offset, uint64_t length) {
  return core_->zero(offset, length);
}
Task<Status> Coordinator::flush() {
  return core_->flush();
}
Task<Result<std::vector<DataExtent>>> Coordinator::extents(uint64_t offset, uint64_t length,
                                                           size_t limit) {
  return core_->extents(offset, length, limit);
}
Task<Result<SnapshotInfo>> Coordinator::snapshot(SnapshotId id) {
  return core_->snapshot(id);
}
Task<Status> Coordinator::delete_snapshot(SnapshotId id) {
  return core_->delete_snapshot(id);
}
Task<Status> Coordinator::resize(uint64_t size_bytes) {
  return core_->resize(size_bytes);
}
Task<Result<ScrubReport>> Coordinator::scrub(ScrubOrder order) {
  return core_->scrub(std::move(order));
}
ScrubReport Coordinator::scrub_report() const {
  return core_->scrub_report();
}
Task<Status> Coordinator::add_member(VolumeMember member) {
  return core_->add_member(member);
}
Task<Status> Coordinator::remove_member(ReplicaId replica) {
  return core_->remove_member(replica);
}
Task<Status> Coordinator::release() {
  return core_->release();
}
Task<void> Coordinator::close() {
  return core_->close();
}
Task<void> Coordinator::abandon() {
  return core_->abandon();
}

}  // namespace hf
