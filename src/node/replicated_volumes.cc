#include "node/replicated_volumes.h"

#include <algorithm>

#include "base/log.h"
#include "replicate/decide.h"
#include "runtime/random.h"
#include "state/txn_retry.h"

namespace hf::node {
namespace {

constexpr Duration kForgetPatience = 10s;

cluster::MemberInfo shown(const VolumeMember& member, bool in_sync) {
  cluster::MemberInfo info;
  info.replica = member.replica;
  info.node = member.node;
  info.pool = member.pool;
  info.in_sync = in_sync;
  return info;
}

std::vector<cluster::MemberInfo> members_of(const VolumeConfig& config) {
  std::vector<cluster::MemberInfo> out;
  for (const VolumeMember& member : config.members) {
    out.push_back(shown(member, (config.in_sync & slot_bit(member.slot)) != 0));
  }
  return out;
}

std::vector<cluster::MemberInfo> members_of(const Coordinator& coordinator) {
  std::vector<cluster::MemberInfo> out;
  for (const MemberStatus& status : coordinator.members()) {
    cluster::MemberInfo& info = out.emplace_back(shown(status.member, status.in_sync));
    info.reachable = status.reachable;
    info.resync_bytes_total = status.resyncing ? status.resync_bytes_total : 0;
    info.resync_bytes_done = status.resyncing ? status.resync_bytes_done : 0;
    info.trouble = status.trouble;
  }
  return out;
}

}  // namespace

ReplicatedVolumes::~ReplicatedVolumes() {
  HF_ASSERT(open_.empty() && services_.empty(), "stop() was not awaited");
}

Task<void> ReplicatedVolumes::stop() {
  // All at once: each may wait for a state store that is away.
  Gate closing;
  std::vector<VolumeId> all;
  for (const auto& [volume, open] : open_) all.push_back(volume);
  for (const VolumeId& volume : all) (void)spawn(closing, close_last(volume));
  co_await closing.close();
  services_.clear();
}

Task<void> ReplicatedVolumes::close_last(VolumeId volume) {
  Status closed = co_await close(volume);
  if (closed.ok()) co_return;
  HF_LOG(kInfo, "node", "not_released volume={} why=\"{}\"", volume.to_string(), closed.error().to_string());
}

std::map<VolumeId, std::shared_ptr<VolumeDevice>> ReplicatedVolumes::devices() const {
  std::map<VolumeId, std::shared_ptr<VolumeDevice>> all;
  for (const auto& [volume, open] : open_) {
    all[volume] = std::shared_ptr<VolumeDevice>(open, open->device.get());
  }
  return all;
}

// One per replica, for all coordinators: what it knows of sessions and leases is in memory.
std::shared_ptr<ReplicaService> ReplicatedVolumes::find(VolumeId volume, ReplicaId replica) {
  std::shared_ptr<Replica> there = replicas_.find_replica(volume, replica);
  const auto known = services_.find(replica);
  if (there == nullptr) {
    if (known != services_.end()) services_.erase(known);
    return nullptr;
  }
  if (known != services_.end() && &known->second->replica() == there.get()) return known->second;
  std::shared_ptr<ReplicaService> service = std::make_shared<ReplicaService>(std::move(there), &world_.clock);
  services_[replica] = service;
  return service;
}

Task<Status> ReplicatedVolumes::configure(VolumeId volume, LineageId lineage,
                                          std::vector<cluster::MemberInfo> members, uint64_t epoch) {
  VolumeConfig config;
  config.volume = volume;
  config.lineage = lineage;
  config.epoch = epoch;
  uint8_t slot = 0;
  for (const cluster::MemberInfo& member : members) {
    VolumeMember& out = config.members.emplace_back();
    out.node = member.node;
    out.pool = member.pool;
    out.replica = member.replica;
    out.slot = slot;
    config.in_sync = static_cast<uint8_t>(config.in_sync | slot_bit(slot));
    ++slot;
  }
  Result<StoredConfig> made = co_await configs_.create(std::move(config));
  if (made.ok() || made.code() == ErrorCode::kAlreadyExists) co_return Status();
  co_return made.error();
}

Task<Status> ReplicatedVolumes::forget(VolumeId volume) {
  HF_ASSERT(!open_.contains(volume), "{} is served", volume.to_string());
  Result<StoredConfig> there = co_await configs_.load(volume);
  if (there.code() == ErrorCode::kNotFound) co_return Status();
  HF_CO_TRY(there);
  state::Txn txn;
  const std::string key = ConfigStore::key_of(volume);
  txn.expect(key, there->revision).remove(key);
  Result<state::TxnOutcome> outcome = co_await state::transact_sure(store_, world_.clock, std::move(txn),
                                                                   world_.clock.now() + kForgetPatience);
  HF_CO_TRY(outcome);
  if (outcome->committed) co_return Status();
  co_return make_error(ErrorCode::kConflict, "the configuration of volume {} has changed meanwhile", volume.to_string());
}

Task<Result<bool>> ReplicatedVolumes::is_released(VolumeId volume) {
  Result<StoredConfig> stored = co_await configs_.load(volume);
  HF_CO_TRY(stored);
  co_return stored->config.phase == VolumePhase::kDetached;
}

Task<Result<std::shared_ptr<BlockDevice>>> ReplicatedVolumes::open(VolumeId volume, NodeId away) {
  const auto there = open_.find(volume);
  if (there != open_.end()) {
    const std::shared_ptr<Open> open = there->second;
    if (!open->device->coordinator().is_fenced()) {
      co_return std::shared_ptr<BlockDevice>(open, open->device.get());
    }
    co_await abandon(volume);
  }
  std::shared_ptr<Open> opened = std::make_shared<Open>(std::make_unique<PeerPorts>(
      peers_, identity_.cluster, volume, identity_.node, *this, address_of_));
  CoordinatorSpec spec(world_.clock, configs_, *opened->ports);
  spec.volume = volume;
  spec.node = identity_.node;
  spec.instance = world_.random.next();
  spec.away = away;
  Result<std::unique_ptr<Coordinator>> taken = co_await Coordinator::take_over(spec);
  if (!taken.ok()) {
    co_await opened->ports->close();
    co_return taken.error();
  }
  opened->device = std::make_unique<VolumeDevice>(std::move(*taken));
  HF_LOG(kInfo, "node", "volume_open volume={} epoch={}", volume.to_string(), opened->device->coordinator().epoch());
  open_[volume] = opened;
  co_return std::shared_ptr<BlockDevice>(opened, opened->device.get());
}

Task<Status> ReplicatedVolumes::close(VolumeId volume) {
  const auto found = open_.find(volume);
  if (found == open_.end()) co_return Status();
  const std::shared_ptr<Open> open = found->second;
  open_.erase(found);
  // Calls that wait for members or for the state store could keep it for ever.
  Status released = co_await open->device->coordinator().release();
  if (released.code() == ErrorCode::kTimeout) co_await open->device->coordinator().abandon();
  co_await open->device->coordinator().close();
  co_await open->ports->close();
  co_return released;
}

Task<void> ReplicatedVolumes::abandon(VolumeId volume) {
  const auto found = open_.find(volume);
  if (found == open_.end()) co_return;
  const std::shared_ptr<Open> open = found->second;
  open_.erase(found);
  open->device->give_up();
  co_await open->device->coordinator().abandon();
  co_await open->ports->close();
}

bool ReplicatedVolumes::is_fenced(VolumeId volume) const {
  const auto found = open_.find(volume);
  return found != open_.end() && found->second->device->coordinator().is_fenced();
}

Result<std::shared_ptr<ReplicatedVolumes::Open>> ReplicatedVolumes::find_open(VolumeId volume) const {
  const auto found = open_.find(volume);
  if (found != open_.end()) return found->second;
  return make_error(ErrorCode::kFailedPrecondition, "volume {} is not served by this node", volume.to_string());
}

Task<Status> ReplicatedVolumes::snapshot(VolumeId volume, SnapshotId snapshot) {
  Result<std::shared_ptr<Open>> open = find_open(volume);
  HF_CO_TRY(open);
  Result<SnapshotInfo> cut = co_await (*open)->device->coordinator().snapshot(snapshot);
  HF_CO_TRY(cut);
  co_return Status();
}

Task<Status> ReplicatedVolumes::resize(VolumeId volume, uint64_t size_bytes) {
  Result<std::shared_ptr<Open>> open = find_open(volume);
  HF_CO_TRY(open);
  co_return co_await (*open)->device->coordinator().resize(size_bytes);
}

Task<Status> ReplicatedVolumes::scrub(VolumeId volume, cluster::ScrubWork work) {
  Result<std::shared_ptr<Open>> open = find_open(volume);
  HF_CO_TRY(open);
  // Kept: it may be closed meanwhile, which ends the scrub.
  const std::shared_ptr<Open> kept = *open;
  ScrubOrder order;
  order.bytes_per_second = work.bytes_per_second;
  order.from = work.from;
  order.cancel = work.cancel;
  order.tell = [tell = work.tell](const ScrubReport& report) {
    cluster::ScrubFindings seen;
    seen.done_to = report.done_to;
    seen.compared_bytes = report.bytes_compared;
    seen.mended_bytes = report.mended_bytes;
    seen.undecided_bytes = report.undecided_bytes;
    seen.lost_bytes = report.lost_bytes;
    seen.all_members = report.all_members;
    tell(seen);
  };
  Result<ScrubReport> done = co_await kept->device->coordinator().scrub(std::move(order));
  HF_CO_TRY(done);
  co_return Status();
}

Task<Result<cluster::PromotionFacts>> ReplicatedVolumes::promote(VolumeId volume, ReplicaId replica,
                                                                 std::vector<ReplicaId> lost, bool only_look) {
  Result<StoredConfig> stored = co_await configs_.load(volume);
  HF_CO_TRY(stored);
  const VolumeConfig before = stored->config;
  for (const VolumeMember& member : before.members) {
    const bool in_sync = (before.in_sync & slot_bit(member.slot)) != 0;
    if (!in_sync || std::find(lost.begin(), lost.end(), member.replica) != lost.end()) continue;
    co_return make_error(ErrorCode::kConflict, "replica {} is in sync since", member.replica.to_string());
  }
  cluster::PromotionFacts facts;
  facts.epoch = before.epoch;
  facts.generation = before.generation;
  if (const VolumeMember* chosen = find_member(before, replica)) facts.left_generation = chosen->left_generation;
  Result<VolumeConfig> next = promoted(before, replica, LineageId::from_random(world_.random.next(), world_.random.next()));
  HF_CO_TRY(next);
  if (only_look) co_return facts;
  if (open_.contains(volume)) co_await abandon(volume);
  Result<ConfigChange> change = co_await configs_.replace(std::move(*stored), *next, CancelToken());
  HF_CO_TRY(change);
  if (!change->done) co_return make_error(ErrorCode::kConflict, "the configuration of volume {} has changed", volume.to_string());
  co_return facts;
}

Task<Status> ReplicatedVolumes::add_member(VolumeId volume, cluster::MemberInfo member) {
  Result<std::shared_ptr<Open>> open = find_open(volume);
  HF_CO_TRY(open);
  VolumeMember added;
  added.node = member.node;
  added.pool = member.pool;
  added.replica = member.replica;
  co_return co_await (*open)->device->coordinator().add_member(added);
}

Task<Status> ReplicatedVolumes::remove_member(VolumeId volume, ReplicaId replica) {
  Result<std::shared_ptr<Open>> open = find_open(volume);
  HF_CO_TRY(open);
  co_return co_await (*open)->device->coordinator().remove_member(replica);
}

Task<Result<std::vector<cluster::MemberInfo>>> ReplicatedVolumes::members(VolumeId volume) {
  const auto found = open_.find(volume);
  if (found != open_.end()) co_return members_of(found->second->device->coordinator());
  Result<StoredConfig> stored = co_await configs_.load(volume);
  HF_CO_TRY(stored);
  co_return members_of(stored->config);
}

Task<Result<std::map<VolumeId, std::vector<cluster::MemberInfo>>>> ReplicatedVolumes::all_members() {
  Result<std::map<VolumeId, VolumeConfig>> configs = co_await configs_.load_all();
  HF_CO_TRY(configs);
  std::map<VolumeId, std::vector<cluster::MemberInfo>> all;
  for (const auto& [volume, config] : configs.value()) {
    const auto open = open_.find(volume);
    all[volume] = open == open_.end() ? members_of(config) : members_of(open->second->device->coordinator());
  }
  co_return all;
}

}  // namespace hf::node
