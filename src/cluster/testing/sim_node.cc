#include "cluster/testing/sim_node.h"

#include <algorithm>

namespace hf::cluster {
namespace {

// The store's own simulation reads and writes blocks; here only whether there are any matters.
class SimDevice : public BlockDevice {
 public:
  SimDevice(SimPorts& ports, PoolId pool, ReplicaId replica, uint64_t size)
      : ports_(ports), pool_(pool), replica_(replica), size_(size) {}
  uint64_t size() const override { return size_; }
  Task<Status> read(uint64_t, MutableByteSpan) override { co_return refused(); }
  Task<Status> write(uint64_t, ByteSpan) override { co_return refused(); }
  Task<Status> write_zeroes(uint64_t, uint64_t, bool) override { co_return refused(); }
  Task<Status> discard(uint64_t, uint64_t) override { return ports_.discard(pool_, replica_); }
  Task<Status> flush() override { co_return Status(); }
  Task<Result<std::vector<BlockExtent>>> extents(uint64_t offset, uint64_t length, size_t) override {
    const SimImage* image = ports_.image_of(pool_, replica_);
    if (image == nullptr) co_return refused();
    BlockExtent all;
    all.offset = offset;
    all.length = length;
    all.allocated = image->has_fs || image->half_made || image->raw > 0 || image->data > 0;
    all.reads_zero = !all.allocated;
    std::vector<BlockExtent> found(1, all);
    co_return found;
  }
  PoolId pool() const { return pool_; }
  ReplicaId replica() const { return replica_; }

 private:
  static Error refused() {
    return Error(ErrorCode::kNotSupported, "the simulated node moves no blocks");
  }
  SimPorts& ports_;
  PoolId pool_;
  ReplicaId replica_;
  uint64_t size_;
};

Error gone(const char* what) {
  return make_error(ErrorCode::kNotFound, "{}: no such thing", what);
}

}  // namespace

SimReplica* SimNode::find(PoolId pool, ReplicaId replica) {
  const auto p = pools.find(pool);
  if (p == pools.end()) return beyond == nullptr ? nullptr : beyond->find(pool, replica);
  const auto r = p->second.replicas.find(replica);
  return r == p->second.replicas.end() ? nullptr : &r->second;
}

SimReplica* SimNode::content(PoolId pool, ReplicaId replica) {
  if (beyond != nullptr) {
    SimReplica* moved = beyond->successor(replica);
    if (moved != nullptr) return moved;
  }
  return find(pool, replica);
}

SimExport* SimNode::export_of(const std::string& device) {
  for (auto& [volume, exported] : exports) {
    if (exported.device == device) return &exported;
  }
  return nullptr;
}

SimReplica* SimNode::behind(const std::string& device) {
  SimExport* exported = export_of(device);
  return exported == nullptr ? nullptr : content(exported->pool, exported->replica);
}

bool SimNode::is_mounted(const std::string& device) const {
  const auto on_it = [&](const auto& entry) { return entry.second == device; };
  return std::any_of(mounts.begin(), mounts.end(), on_it) ||
         std::any_of(containers.begin(), containers.end(), on_it);
}

bool SimNode::is_frozen(const std::string& device, sim::SimTime now) const {
  const auto found = frozen.find(device);
  return found != frozen.end() && now < found->second;
}

void SimNode::reboot() {
  frozen.clear();
  exports.clear();
  mounts.clear();
  containers.clear();
  open_files.clear();
}

void SimPorts::kill() {
  life_.die(sim::Death::kKill);
  if (store_ != nullptr) store_->kill();
}

void SimPorts::count_step() {
  if (++node_.steps == node_.kill_at) kill();
}

Task<Status> SimPorts::before(const char* what) {
  count_step();
  const bool fails_here = node_.fail_at != 0 && node_.steps == node_.fail_at;
  if (life_.is_dead()) co_return sim::dead_error(what);
  const Duration takes =
      faults_.hang > Duration::zero()
          ? faults_.hang
          : Duration(prng_.below(static_cast<uint64_t>(faults_.longest.count())));
  sim::Delay delay(life_, life_.loop().now() + takes.count());
  bool came = co_await delay;
  if (!came || life_.is_dead()) co_return sim::dead_error(what);
  if (fails_here) co_return make_error(ErrorCode::kNoSpace, "{}: refused at this step", what);
  if (faults_.refuse_one_in > 0 && prng_.chance(1, faults_.refuse_one_in)) {
    constexpr ErrorCode kCodes[] = {ErrorCode::kIo, ErrorCode::kNoSpace, ErrorCode::kUnavailable,
                                    ErrorCode::kLimitExceeded, ErrorCode::kFailedPool};
    co_return make_error(kCodes[prng_.below(std::size(kCodes))], "{}: refused by the seed", what);
  }
  co_return Status();
}

Task<Status> SimPorts::after(const char* what) {
  count_step();
  if (life_.is_dead()) co_return sim::dead_error(what);
  sim::Delay delay(life_, life_.loop().now() + static_cast<int64_t>(prng_.below(1'000'000)));
  bool came = co_await delay;
  if (!came || life_.is_dead()) co_return sim::dead_error(what);
  co_return Status();
}

state::StoreFate SimPorts::fate(bool is_write) {
  count_step();
  if (node_.fail_at != 0 && node_.steps == node_.fail_at) {
    return is_write ? state::StoreFate::kLostReply : state::StoreFate::kAway;
  }
  if (store_one_in_ == 0 || !prng_.chance(1, store_one_in_)) return state::StoreFate::kFine;
  if (!is_write) return state::StoreFate::kAway;
  const auto fate = static_cast<state::StoreFate>(1 + prng_.below(4));
  return fate == state::StoreFate::kLate && !store_late_ ? state::StoreFate::kLostReply : fate;
}

SimReplica* SimPorts::served(const std::string& device, const char* what) {
  SimExport* exported = node_.export_of(device);
  if (exported == nullptr || exported->served_by != life_.number()) {
    node_.violated(fmt::format("{}: I/O to {}, which nobody serves", what, device));
    return nullptr;
  }
  for (const auto& [volume, other] : node_.exports) {
    if (other.device == device && is_fenced(volume)) return nullptr;  // an I/O error
  }
  if (exported->refuses) {
    node_.violated(fmt::format("{}: I/O to {}, which has no data", what, device));
    return nullptr;
  }
  return node_.content(exported->pool, exported->replica);
}

// ---- ReplicaHost
// -----------------------------------------------------------------------------------

Result<PoolInfo> SimPorts::shown(PoolId id) {
  const auto found = node_.pools.find(id);
  if (found == node_.pools.end()) return gone("pool");
  if (!found->second.opened_by.contains(life_.number())) {
    return make_error(ErrorCode::kNotFound, "pool {} is not open on this node", found->second.path);
  }
  PoolInfo info;
  info.id = id;
  info.path = found->second.path;
  info.state = PoolState::kOnline;
  info.total_bytes = found->second.total;
  info.replica_count = static_cast<uint32_t>(found->second.replicas.size());
  return info;
}

Task<Result<PoolInfo>> SimPorts::make_pool(PoolId pool, AddPool request) {
  Status come = co_await before("make_pool");
  HF_CO_TRY(come);
  SimPool& made = node_.pools[pool];
  made.path = request.path;
  if (made.total == 0) made.total = request.size_bytes == 0 ? 100 * kGiB : request.size_bytes;
  made.opened_by.insert(life_.number());
  Status back = co_await after("make_pool");
  HF_CO_TRY(back);
  co_return shown(pool);
}

Task<Result<PoolInfo>> SimPorts::open_pool(PoolId pool, std::string) {
  Status come = co_await before("open_pool");
  HF_CO_TRY(come);
  const auto found = node_.pools.find(pool);
  if (found == node_.pools.end()) co_return gone("open_pool");
  if (found->second.broken)
    co_return Error(ErrorCode::kCorruption, "pool.json does not match its checksum");
  found->second.opened_by.insert(life_.number());
  co_return shown(pool);
}

Task<Result<PoolInfo>> SimPorts::pool_info(PoolId pool) {
  if (life_.is_dead()) co_return sim::dead_error("pool_info");
  co_return shown(pool);
}

Task<Result<PoolInfo>> SimPorts::expand_pool(PoolId pool, uint64_t size_bytes) {
  Status come = co_await before("expand_pool");
  HF_CO_TRY(come);
  SimPool& grown = node_.pools[pool];
  grown.total = std::max(grown.total, size_bytes == 0 ? grown.total * 2 : size_bytes);
  co_return shown(pool);
}

Task<Status> SimPorts::close_pool(PoolId pool) {
  Status come = co_await before("close_pool");
  HF_CO_TRY(come);
  const auto found = node_.pools.find(pool);
  if (found == node_.pools.end()) co_return Status();
  for (const auto& [id, replica] : found->second.replicas) {
    if (replica.opened_by == life_.number()) co_return make_error(ErrorCode::kInUse, "close_pool: a volume is open");
  }
  found->second.opened_by.erase(life_.number());
  co_return co_await after("close_pool");
}

Task<Status> SimPorts::create_replica(PoolId pool, ReplicaSpec spec) {
  Status come = co_await before("create_replica");
  HF_CO_TRY(come);
  const Result<PoolInfo> open = shown(pool);
  HF_CO_TRY(open);
  SimReplica& made = node_.pools[pool].replicas[spec.replica];
  if (made.head.size == 0) {
    made.volume = spec.volume;
    made.head.size = spec.size_bytes;
  }
  co_return co_await after("create_replica");
}

Task<Status> SimPorts::delete_replica(PoolId pool, ReplicaId replica) {
  Status come = co_await before("delete_replica");
  HF_CO_TRY(come);
  const Result<PoolInfo> open = shown(pool);
  HF_CO_TRY(open);
  for (const auto& [volume, exported] : node_.exports) {
    const bool shows_it = exported.replica == replica && node_.content(pool, replica) == node_.find(pool, replica);
    if (shows_it && !is_fenced(volume))
      node_.violated("delete_replica under its device " + exported.device);
  }
  if (node_.beyond != nullptr && node_.beyond->is_member(replica))
    node_.violated("delete_replica of a member of a volume that is served");
  node_.pools[pool].replicas.erase(replica);
  co_return co_await after("delete_replica");
}

Task<Status> SimPorts::resize_replica(PoolId pool, ReplicaId replica, uint64_t size_bytes) {
  Status come = co_await before("resize_replica");
  HF_CO_TRY(come);
  const Result<PoolInfo> open = shown(pool);
  HF_CO_TRY(open);
  SimReplica* found = node_.find(pool, replica);
  if (found == nullptr) co_return gone("resize_replica");
  if (size_bytes < found->head.size) node_.violated("resize_replica to less than there is");
  found->head.size = std::max(found->head.size, size_bytes);
  co_return co_await after("resize_replica");
}

Task<Result<ReplicaStats>> SimPorts::replica_stats(PoolId pool, ReplicaId replica) {
  if (life_.is_dead()) co_return sim::dead_error("replica_stats");
  const Result<PoolInfo> open = shown(pool);
  HF_CO_TRY(open);
  SimReplica* found = node_.find(pool, replica);
  if (found == nullptr) co_return gone("replica_stats");
  ReplicaStats stats;
  stats.size_bytes = found->head.size;
  stats.used_bytes = found->head.data * kBlockSize;
  co_return std::move(stats);
}

Task<Result<std::vector<ReplicaId>>> SimPorts::list_replicas(PoolId pool) {
  Status come = co_await before("list_replicas");
  HF_CO_TRY(come);
  std::vector<ReplicaId> ids;
  for (const auto& [id, replica] : node_.pools[pool].replicas) ids.push_back(id);
  co_return std::move(ids);
}

Task<Status> SimPorts::create_snapshot(PoolId pool, ReplicaId replica, SnapshotId snapshot) {
  Status come = co_await before("create_snapshot");
  HF_CO_TRY(come);
  const Result<PoolInfo> open = shown(pool);
  HF_CO_TRY(open);
  SimReplica* found = node_.find(pool, replica);
  if (found == nullptr) co_return gone("create_snapshot");
  SimImage image = found->head;
  image.torn = false;  // a head that was restored has it of its snapshot
  for (const auto& [volume, exported] : node_.exports) {
    if (exported.replica != replica || !node_.is_mounted(exported.device)) continue;
    image.torn = !node_.is_frozen(exported.device, life_.loop().now());
  }
  found->snapshots.try_emplace(snapshot, image);
  co_return co_await after("create_snapshot");
}

Task<Result<std::vector<SnapshotId>>> SimPorts::list_snapshots(PoolId pool, ReplicaId replica) {
  Status come = co_await before("list_snapshots");
  HF_CO_TRY(come);
  const SimReplica* found = node_.find(pool, replica);
  if (found == nullptr) co_return gone("list_snapshots");
  std::vector<SnapshotId> ids;
  for (const auto& [id, image] : found->snapshots) ids.push_back(id);
  co_return ids;
}

Task<Status> SimPorts::delete_snapshot(PoolId pool, ReplicaId replica, SnapshotId snapshot) {
  Status come = co_await before("delete_snapshot");
  HF_CO_TRY(come);
  const Result<PoolInfo> open = shown(pool);
  HF_CO_TRY(open);
  SimReplica* found = node_.find(pool, replica);
  if (found != nullptr) found->snapshots.erase(snapshot);
  co_return co_await after("delete_snapshot");
}

Task<Status> SimPorts::restore_snapshot(PoolId pool, ReplicaId replica, SnapshotId snapshot) {
  Status come = co_await before("restore_snapshot");
  HF_CO_TRY(come);
  SimReplica* found = node_.find(pool, replica);
  if (found == nullptr || !found->snapshots.contains(snapshot)) co_return gone("restore_snapshot");
  for (const auto& [volume, exported] : node_.exports) {
    if (exported.replica == replica && !is_fenced(volume))
      node_.violated("restore_snapshot under its device " + exported.device);
  }
  found->head = found->snapshots[snapshot];
  co_return co_await after("restore_snapshot");
}

Task<Status> SimPorts::clone_replica(PoolId pool, ReplicaId from, SnapshotId snapshot,
                                     ReplicaSpec to) {
  Status come = co_await before("clone_replica");
  HF_CO_TRY(come);
  SimReplica* source = node_.find(pool, from);
  SimReplica* there = node_.find(pool, to.replica);
  if (there == nullptr) {
    if (source == nullptr || !source->snapshots.contains(snapshot)) co_return gone("clone_replica");
    const SimImage image = source->snapshots[snapshot];
    SimReplica& made = node_.pools[pool].replicas[to.replica];
    made.volume = to.volume;
    made.head = image;
  }
  co_return co_await after("clone_replica");
}

Task<Status> SimPorts::scrub_in_pieces(uint64_t size, ScrubWork work, std::function<Status(ScrubFindings&)> look) {
  constexpr uint64_t kPieces = 16;
  ScrubFindings seen;
  const uint64_t piece = std::max<uint64_t>(size / kPieces, kBlockSize);
  for (seen.done_to = work.from; seen.done_to < size;) {
    Status come = co_await before("scrub");
    HF_CO_TRY(come);
    const uint64_t length = std::min(piece, size - seen.done_to);
    if (work.bytes_per_second > 0) {
      sim::Delay delay(life_, life_.loop().now() + static_cast<int64_t>(length * 1'000'000'000 / work.bytes_per_second));
      bool came = co_await delay;
      if (!came || life_.is_dead()) co_return sim::dead_error("scrub");
    }
    const Status looked = look(seen);
    HF_CO_TRY(looked);
    seen.done_to += length;
    seen.compared_bytes += length;
    work.tell(seen);
    if (work.cancel.is_cancelled()) co_return Error(ErrorCode::kCancelled, "ended");
  }
  co_return Status();
}

Task<Status> SimPorts::verify_replica(PoolId pool, ReplicaId replica, ScrubWork work) {
  const SimReplica* there = node_.find(pool, replica);
  if (there == nullptr) co_return gone("verify_replica");
  bool counted = work.from > 0;
  std::function<Status(ScrubFindings&)> look = [this, pool, replica, &counted](ScrubFindings& seen) {
    const SimReplica* now = node_.find(pool, replica);
    if (now == nullptr) return Status(gone("verify_replica"));
    if (!counted) seen.lost_bytes += now->rotten;
    counted = true;
    return Status();
  };
  co_return co_await scrub_in_pieces(there->head.size, std::move(work), std::move(look));
}

Task<Result<std::shared_ptr<BlockDevice>>> SimPorts::open_volume(PoolId pool, ReplicaId replica,
                                                                 uint64_t epoch) {
  Status come = co_await before("open_volume");
  HF_CO_TRY(come);
  const Result<PoolInfo> open = shown(pool);
  HF_CO_TRY(open);
  SimReplica* found = node_.find(pool, replica);
  if (found == nullptr) co_return gone("open_volume");
  if (epoch <= found->promised) {
    node_.violated(fmt::format("open_volume under epoch {} after {}", epoch, found->promised));
  }
  if (found->opened_by == life_.number()) node_.violated("open_volume twice");
  found->promised = std::max(found->promised, epoch);
  found->opened_by = life_.number();
  std::shared_ptr<BlockDevice> device =
      std::make_shared<SimDevice>(*this, pool, replica, found->head.size);
  Status back = co_await after("open_volume");
  HF_CO_TRY(back);
  co_return std::move(device);
}

Task<Status> SimPorts::close_volume(PoolId pool, ReplicaId replica) {
  Status come = co_await before("close_volume");
  HF_CO_TRY(come);
  SimReplica* found = node_.find(pool, replica);
  if (found != nullptr) found->opened_by = 0;
  co_return co_await after("close_volume");
}

std::shared_ptr<BlockDevice> SimPorts::device_of(PoolId pool, ReplicaId replica, uint64_t size) {
  return std::make_shared<SimDevice>(*this, pool, replica, size);
}

SimImage* SimPorts::image_of(PoolId pool, ReplicaId replica) {
  SimReplica* found = node_.content(pool, replica);
  return found == nullptr ? nullptr : &found->head;
}

Task<Status> SimPorts::discard(PoolId pool, ReplicaId replica) {
  Status come = co_await before("discard");
  HF_CO_TRY(come);
  SimImage* image = image_of(pool, replica);
  if (image == nullptr) co_return gone("discard");
  if (image->data > 0 || image->raw > 0) node_.violated("discard of what users have written");
  image->has_fs = image->half_made = false;
  co_return co_await after("discard");
}

// ---- Exporter
// --------------------------------------------------------------------------------------

Task<Result<ExportInfo>> SimPorts::attach(VolumeId volume, ExportKind kind,
                                          std::shared_ptr<BlockDevice> device) {
  Status come = co_await before("attach");
  HF_CO_TRY(come);
  const auto* sim_device = dynamic_cast<const SimDevice*>(device.get());  // null: a LostDevice
  SimExport& exported = node_.exports[volume];
  if (exported.device.empty()) {
    exported.device = fmt::format("/dev/sim{}", node_.next_device++);
    exported.kind = kind;
    if (sim_device == nullptr) node_.violated("a new device for a volume without data");
    if (sim_device != nullptr) exported.pool = sim_device->pool();
    if (sim_device != nullptr) exported.replica = sim_device->replica();
  }
  if (sim_device != nullptr && node_.content(exported.pool, exported.replica) !=
                                   node_.content(sim_device->pool(), sim_device->replica()))
    node_.violated("attach of another replica over " + exported.device);
  exported.refuses = sim_device == nullptr;
  const uint64_t tenure = node_.beyond == nullptr ? 0 : node_.beyond->tenure(volume);
  if (!exported.refuses) exported.tenure = tenure;
  // One of an earlier tenure of this node belongs to nobody any more.
  if (exported.refuses && !is_fenced(volume) && exported.tenure == tenure &&
      node_.content(exported.pool, exported.replica) != nullptr)
    node_.violated("I/O of " + exported.device + " refused, while its data is there");
  const SimImage* image = image_of(exported.pool, exported.replica);
  if (image != nullptr && image->has_fs && image->fs_uuid != volume.to_string())
    node_.violated(exported.device + " is in the kernel under the UUID of another volume");
  exported.served_by = life_.number();
  ExportInfo info;
  info.volume = volume;
  info.kind = exported.kind;
  info.device = exported.device;
  Status back = co_await after("attach");
  HF_CO_TRY(back);
  co_return std::move(info);
}

Task<Status> SimPorts::detach(VolumeId volume) {
  Status come = co_await before("detach");
  HF_CO_TRY(come);
  const auto found = node_.exports.find(volume);
  if (found == node_.exports.end()) co_return Status();
  if (node_.is_mounted(found->second.device) || node_.open_files.contains(found->second.device)) {
    co_return make_error(ErrorCode::kInUse, "{} is in use", found->second.device);
  }
  if (node_.frozen.contains(found->second.device)) node_.violated("detach of a frozen device");
  node_.exports.erase(found);
  co_return co_await after("detach");
}

Task<Status> SimPorts::resized(VolumeId volume) {
  Status come = co_await before("resized");
  HF_CO_TRY(come);
  if (node_.resized_fails) co_return *node_.resized_fails;
  if (!node_.exports.contains(volume)) co_return gone("resized");
  co_return co_await after("resized");
}

Task<Result<std::vector<ExportInfo>>> SimPorts::orphans() {
  Status come = co_await before("orphans");
  HF_CO_TRY(come);
  std::vector<ExportInfo> all;
  for (const auto& [volume, exported] : node_.exports) {
    if (exported.served_by == life_.number()) continue;
    ExportInfo info;
    info.volume = volume;
    info.kind = exported.kind;
    info.device = exported.device;
    all.push_back(std::move(info));
  }
  co_return std::move(all);
}

Task<Status> SimPorts::park() {
  if (life_.is_dead()) co_return sim::dead_error("park");
  for (auto& [volume, exported] : node_.exports) exported.served_by = 0;
  for (auto& [id, pool] : node_.pools) {
    for (auto& [replica_id, replica] : pool.replicas) replica.opened_by = 0;
  }
  co_return Status();
}

// ---- Mounter
// ---------------------------------------------------------------------------------------

Task<Status> SimPorts::identify(std::shared_ptr<BlockDevice> device, FilesystemSpec spec) {
  Status come = co_await before("identify");
  HF_CO_TRY(come);
  const auto& sim_device = static_cast<const SimDevice&>(*device);
  SimImage* image = image_of(sim_device.pool(), sim_device.replica());
  if (image == nullptr) co_return gone("identify");
  for (const auto& [volume, exported] : node_.exports) {
    const bool of_it = node_.content(exported.pool, exported.replica) ==
                       node_.content(sim_device.pool(), sim_device.replica());
    if (of_it && image->has_fs && image->fs_uuid != spec.uuid)
      node_.violated("the UUID of " + exported.device + " changes under the kernel");
  }
  if (image->has_fs) image->fs_uuid = spec.uuid;
  co_return co_await after("identify");
}

Task<Result<bool>> SimPorts::reads_sound(std::shared_ptr<BlockDevice> device, spec::FsType) {
  Status come = co_await before("reads_sound");
  HF_CO_TRY(come);
  const auto& sim_device = static_cast<const SimDevice&>(*device);
  SimImage* image = image_of(sim_device.pool(), sim_device.replica());
  if (image == nullptr) co_return gone("reads_sound");
  for (const auto& [volume, exported] : node_.exports) {
    const bool of_it = exported.pool == sim_device.pool() && exported.replica == sim_device.replica();
    if (of_it && node_.is_mounted(exported.device)) node_.violated(exported.device + " is read beside its mount");
  }
  co_return image->has_fs;
}

Task<Result<std::string>> SimPorts::contents(std::string device) {
  Status come = co_await before("contents");
  HF_CO_TRY(come);
  ++node_.looks;
  SimReplica* replica = served(device, "contents");
  if (replica == nullptr) co_return gone("contents");
  co_return std::string(replica->head.has_fs ? "a file system" : "");
}

Task<Status> SimPorts::prepare(std::string device, FilesystemSpec spec) {
  Status come = co_await before("prepare");
  HF_CO_TRY(come);
  if (node_.is_mounted(device)) node_.violated("prepare of " + device + " while it is mounted");
  SimReplica* replica = served(device, "prepare");
  if (replica == nullptr) co_return gone("prepare");
  if (!spec.may_format) {
    if (replica->head.has_fs) co_return co_await after("prepare");
    node_.violated("a volume that was formatted is blank");
    co_return Error(ErrorCode::kCorruption, device + " lost its file system");
  }
  if (replica->head.data > 0 || replica->head.raw > 0) node_.violated("what users have written is formatted over");
  replica->head.has_fs = false;
  replica->head.half_made = true;
  Status half = co_await after("mkfs");
  HF_CO_TRY(half);
  replica = served(device, "prepare");
  if (replica == nullptr) co_return gone("prepare");
  SimImage& image = replica->head;
  image.half_made = false;
  image.has_fs = true;
  image.fs_size = image.size;
  image.fs_uuid = spec.uuid;
  co_return co_await after("prepare");
}

Task<Status> SimPorts::mount(std::string device, std::string path, FilesystemSpec) {
  Status come = co_await before("mount");
  HF_CO_TRY(come);
  SimReplica* replica = served(device, "mount");
  if (replica == nullptr) co_return gone("mount");
  if (!replica->head.has_fs) node_.violated("mount of " + device + " without a file system");
  const auto found = node_.mounts.find(path);
  if (found != node_.mounts.end() && found->second != device) {
    co_return make_error(ErrorCode::kInUse, "{} is mounted at {}", found->second, path);
  }
  node_.mounts[path] = device;
  co_return co_await after("mount");
}

Task<Status> SimPorts::bind(std::string from, std::string to, bool) {
  Status come = co_await before("bind");
  HF_CO_TRY(come);
  const auto source = node_.mounts.find(from);
  if (source == node_.mounts.end()) {
    node_.violated("bind of " + from + ", where nothing is mounted");
    co_return gone("bind");
  }
  const auto found = node_.mounts.find(to);
  if (found != node_.mounts.end() && found->second != source->second) {
    co_return make_error(ErrorCode::kInUse, "{} is mounted at {}", found->second, to);
  }
  node_.mounts[to] = source->second;
  co_return co_await after("bind");
}

Task<Result<std::string>> SimPorts::place(std::string path) {
  const size_t slash = path.rfind('/');
  const auto link = node_.links.find(path.substr(0, slash));
  co_return link == node_.links.end() ? path : link->second + path.substr(slash);
}

Task<Status> SimPorts::unmount(std::string path) {
  Status come = co_await before("unmount");
  HF_CO_TRY(come);
  const auto found = node_.mounts.find(path);
  if (found == node_.mounts.end()) co_return Status();
  if (node_.open_files.contains(path))
    co_return make_error(ErrorCode::kInUse, "{}: files are open", path);
  const SimExport* exported = node_.export_of(found->second);
  if (exported != nullptr && exported->served_by != life_.number()) {
    node_.violated("unmount of " + path + ", whose device nobody serves");
  }
  if (node_.frozen.contains(found->second)) node_.violated("unmount of what is frozen");
  node_.mounts.erase(found);
  co_return co_await after("unmount");
}

Task<Status> SimPorts::grow(std::string device, std::string path, spec::FsType) {
  Status come = co_await before("grow");
  HF_CO_TRY(come);
  const auto found = node_.mounts.find(path);
  if (found == node_.mounts.end() || found->second != device)
    node_.violated("grow of what is not mounted");
  SimReplica* replica = served(device, "grow");
  if (replica == nullptr) co_return gone("grow");
  if (node_.grow_fails) co_return *node_.grow_fails;
  // To the size of a device that knows no better.
  if (!node_.resized_fails) replica->head.fs_size = replica->head.size;
  co_return co_await after("grow");
}

Task<Result<std::vector<std::string>>> SimPorts::mounts_of(std::string device) {
  Status come = co_await before("mounts_of");
  HF_CO_TRY(come);
  std::vector<std::string> paths;
  for (const auto& [path, on] : node_.mounts) {
    if (on == device) paths.push_back(path);
  }
  co_return std::move(paths);
}

Task<Result<bool>> SimPorts::mounted_elsewhere(std::string device, std::string path) {
  Status come = co_await before("mounted_elsewhere");
  HF_CO_TRY(come);
  const bool in_containers = std::any_of(node_.containers.begin(), node_.containers.end(),
                                         [&](const auto& entry) { return entry.second == device; });
  const bool here = std::any_of(node_.mounts.begin(), node_.mounts.end(), [&](const auto& entry) {
    return entry.second == device && entry.first != path;
  });
  co_return in_containers || here;
}

// The guard of a daemon that is killed is killed with it here: the worse case.
Task<Status> SimPorts::freeze(std::string path, Duration limit) {
  Status come = co_await before("freeze");
  HF_CO_TRY(come);
  const auto found = node_.mounts.find(path);
  if (found == node_.mounts.end()) co_return gone("freeze");
  if (served(found->second, "freeze") == nullptr) co_return gone("freeze");
  if (node_.frozen.contains(found->second)) co_return make_error(ErrorCode::kInUse, "{} is frozen", path);
  node_.frozen[found->second] = life_.loop().now() + limit.count();
  co_return co_await after("freeze");
}

Task<Result<bool>> SimPorts::thaw(std::string path) {
  Status come = co_await before("thaw");
  HF_CO_TRY(come);
  const auto found = node_.mounts.find(path);
  if (found == node_.mounts.end()) co_return false;
  const std::string device = found->second;
  if (served(device, "thaw") == nullptr) co_return gone("thaw");
  const bool held = node_.is_frozen(device, life_.loop().now());
  node_.frozen.erase(device);
  Status back = co_await after("thaw");
  HF_CO_TRY(back);
  co_return held;
}

Task<Result<bool>> SimPorts::in_use(std::string device) {
  Status come = co_await before("in_use");
  HF_CO_TRY(come);
  co_return node_.is_mounted(device);
}

}  // namespace hf::cluster
