// Members come and go.
#include "../store/model.h"
#include "cluster.h"
#include "replicate/decide.h"

namespace hf::replicate_sim {

bool SimCluster::is_member(const Node& node) {
  const auto at = state_.entries().find(ConfigStore::key_of(volume_));
  HF_ASSERT(at != state_.entries().end());
  const Result<VolumeConfig> now = decode_config(at->second.value);
  return now.ok() && find_member(*now, node.replica) != nullptr;
}

std::vector<Node*> SimCluster::members() {
  std::vector<Node*> found;
  for (Node* node : holders()) {
    if (is_member(*node)) found.push_back(node);
  }
  return found;
}

std::vector<Node*> SimCluster::spares() {
  std::vector<Node*> found;
  for (Node* node : holders()) {
    if (!is_member(*node)) found.push_back(node);
  }
  return found;
}

Task<Status> SimCluster::add_member(Node& node) {
  Node* server = serving();
  if (server == nullptr) co_return make_error(ErrorCode::kUnavailable, "nobody serves");
  const std::shared_ptr<Attachment> at = server->daemon->attachment;
  Gate::Pass pass(at->users);
  if (!pass || node.changing) co_return make_error(ErrorCode::kConflict, "not now");
  node.changing = true;
  VolumeMember member;
  member.node = node.id;
  member.replica = node.replica;
  judge_.may_be_member(node.replica);
  Status added = co_await at->coordinator->add_member(member);
  if (added.ok()) judge_.is_member(node.replica, true);
  node.changing = false;
  co_return added;
}

Task<Status> SimCluster::remove_member(Node& node) {
  Node* server = serving();
  if (server == nullptr) co_return make_error(ErrorCode::kUnavailable, "nobody serves");
  const std::shared_ptr<Attachment> at = server->daemon->attachment;
  Gate::Pass pass(at->users);
  if (!pass || node.changing) co_return make_error(ErrorCode::kConflict, "not now");
  node.changing = true;
  judge_.may_be_member(node.replica);
  Status removed = co_await at->coordinator->remove_member(node.replica);
  if (removed.ok() && judge_.judging()) {
    judge_.is_member(node.replica, false);
    co_await scribble(node);
  }
  node.changing = false;
  co_return removed;
}

Task<void> SimCluster::scrub() {
  Node* server = serving();
  if (server == nullptr) co_return;
  const std::shared_ptr<Attachment> at = server->daemon->attachment;
  Gate::Pass pass(at->users);
  if (!pass) co_return;
  Result<ScrubReport> report = co_await at->coordinator->scrub(ScrubOrder());
  if (!report.ok()) co_return;
  ++scrubs;
  if (report->mended_bytes + report->undecided_bytes + report->lost_bytes == 0) co_return;
  fail(fmt::format("I5: a scrub mended {} bytes, found {} undecided, {} lost", report->mended_bytes,
                   report->undecided_bytes, report->lost_bytes));
}

// Outside of all order, so that its window does not tell: a tool that does as it likes with what
// nobody needs.
Task<void> SimCluster::scribble(Node& node) {
  if (!node.is_up()) co_return;
  const std::shared_ptr<ReplicaService> service = node.daemon->service;
  AlignedBuffer data(kBlockSize);
  for (uint64_t n = 0; n < 12 && failure().empty(); ++n) {
    const bool here = prng_.chance(1, 2);
    const uint64_t block = here ? lively_[prng_.below(lively_.size())] : prng_.below(shape_.blocks);
    store_sim::fill_block(data.span(), judge_.history().new_value(), block);
    WriteHeader header;
    header.epoch = service->replica().promised_epoch();
    Status done = co_await service->replica().write(header, block * kBlockSize, data.span());
    if (!done.ok()) co_return;
  }
}

}  // namespace hf::replicate_sim
