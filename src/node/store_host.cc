#include "node/store_host.h"

#include "base/log.h"
#include "base/units.h"
#include "format/pool_file.h"
#include "node/wait_for_lock.h"
#include "runtime/clock.h"
#include "store/pool_names.h"

namespace hf::node {
namespace {

// Of what is done to a volume of one replica that nobody has attached.
WriteHeader unstamped(const Replica& replica) {
  WriteHeader header;
  header.epoch = replica.promised_epoch();
  return header;
}

// Writes of the past must not land behind ours: see wait_for_lock.h.
constexpr Duration kLockPatience = 15s;

// Of a replica that is checked: read at a time, and asked for data at a time.
constexpr uint64_t kVerifyChunk = 256 * kKiB;
constexpr uint64_t kVerifyStretch = 64 * kMiB;

// What becomes of those who write into a full pool.
std::string what_waits(const PoolStats& stats) {
  const auto seconds = stats.full_for / 1s;
  if (stats.refuses_data) {
    return fmt::format("new data is refused, after {} s without room; {} writes that a file system cannot do without wait",
                       seconds, stats.held_writes);
  }
  if (stats.full_for > 0s) return fmt::format("{} writes of new data wait for room, for {} s now", stats.held_writes, seconds);
  return "new volumes and snapshots are refused, new data will have to wait for room";
}

bool is_full(const PoolStats& stats) { return stats.at_watermark || stats.full_for > 0s; }

}  // namespace

StoreHost::~StoreHost() { HF_ASSERT(pools_.empty(), "stop() was not called"); }

Task<Status> StoreHost::stop() {
  Status first;
  while (!devices_.empty()) {
    const std::shared_ptr<VolumeDevice> device = devices_.begin()->second;
    co_await device->coordinator().close();
    devices_.erase(devices_.begin());
  }
  while (!pools_.empty()) {
    Status stopped = co_await pools_.begin()->second.pool->stop();
    if (!stopped.ok() && first.ok()) first = stopped;
    pools_.erase(pools_.begin());
  }
  co_return first;
}

void StoreHost::release_held() {
  for (auto& [id, open] : pools_) open.pool->release_held();
}

std::vector<StoreHost::PoolView> StoreHost::pools() const {
  std::vector<PoolView> out;
  for (const auto& [id, open] : pools_) {
    PoolView& view = out.emplace_back();
    view.id = id;
    view.path = open.path;
    view.stats = open.pool->stats();
  }
  return out;
}

Result<Pool*> StoreHost::find(PoolId pool) const {
  const auto it = pools_.find(pool);
  if (it == pools_.end()) {
    return make_error(ErrorCode::kNotFound, "pool {} is not open on this node", pool.to_string());
  }
  return it->second.pool.get();
}

Result<std::shared_ptr<Replica>> StoreHost::find(PoolId pool, ReplicaId replica) const {
  Result<Pool*> in = find(pool);
  HF_TRY(in);
  std::shared_ptr<Replica> found = (*in)->find(replica);
  if (found == nullptr) {
    return make_error(ErrorCode::kNotFound, "pool {} has no replica {}", pool.to_string(),
                      replica.to_string());
  }
  return found;
}

std::shared_ptr<Replica> StoreHost::find_replica(VolumeId volume, ReplicaId replica) const {
  if (devices_.contains(replica)) return nullptr;
  for (const auto& [id, open] : pools_) {
    std::shared_ptr<Replica> found = open.pool->find(replica);
    if (found != nullptr && found->volume() == volume) return found;
  }
  return nullptr;
}

cluster::PoolInfo StoreHost::info(PoolId id, const Open& open) const {
  const PoolStats stats = open.pool->stats();
  cluster::PoolInfo out;
  out.id = id;
  out.node = identity_.node;
  out.path = open.path;
  out.on_device = open.on_device;
  out.io_class = open.io_class;
  out.total_bytes = stats.data_total_bytes;
  out.used_bytes = stats.data_total_bytes - std::min(stats.data_total_bytes, stats.data_free_bytes);
  out.replica_count = stats.replicas;
  for (const ReplicaInfo& replica : open.pool->list()) out.provisioned_bytes += replica.size_bytes;
  const bool full = is_full(stats);
  out.state = stats.failed ? cluster::PoolState::kFailed
              : full       ? cluster::PoolState::kFull
                           : cluster::PoolState::kOnline;
  if (stats.failed) {
    out.message = stats.failure;
  } else if (full) {
    const bool below = stats.writable_bytes < stats.data_free_bytes;
    out.message = fmt::format("{}: {} free{}, {} of them kept in reserve; {}", what_waits(stats),
                              format_size(stats.writable_bytes), below ? " in the file system of " + open.path : "",
                              format_size(stats.reserve_bytes),
                              below ? "make room there, or delete volumes or snapshots"
                                    : "delete volumes or snapshots, or grow it (holdfast pool expand)");
  }
  return out;
}

Task<Result<cluster::PoolInfo>> StoreHost::open_store(PoolId pool, const mount::PoolStorage& storage,
                                                      uint32_t io_class, bool make) {
  PoolConfig config;
  config.journal_dir = storage.journal_dir;
  config.data_dir = storage.data_dir;
  config.image = storage.image;
  config.cluster = identity_.cluster;
  config.node = identity_.node;
  config.pool = pool;
  config.journal_bytes = journal_bytes_;
  config.full_patience = full_patience_;
  std::function<Task<Result<std::unique_ptr<Pool>>>()> open_it = [this, config] { return Pool::open(world_, config); };
  Result<std::unique_ptr<Pool>> opened =
      co_await wait_for_lock<std::unique_ptr<Pool>>(world_.clock, kLockPatience, open_it);
  if (make && opened.code() == ErrorCode::kNotFound) {
    opened = co_await Pool::create(world_, config);
  }
  if (!opened.ok()) {
    // A pool that came to nothing leaves no device and no mount: the next one there has another id, and would not know them.
    const bool nothing = opened.code() != ErrorCode::kLocked && (make || opened.code() == ErrorCode::kNotFound);
    Status down;
    if (nothing) down = co_await files_.close(pool);
    if (!down.ok()) HF_LOG(kWarn, "node", "pool_left_mounted path={} why=\"{}\"", storage.path, down.error().to_string());
    co_await files_.give_up(pool, opened.code());
    co_return opened.error();
  }
  Open& open = pools_[pool];
  open.path = storage.path;
  open.on_device = storage.on_device;
  open.io_class = io_class;
  open.pool = std::move(*opened);
  HF_LOG(kInfo, "node", "pool_open pool={} path={} recovered_records={}", pool.to_string(),
         storage.path, open.pool->stats().recovered_records);
  co_return info(pool, open);
}

// Before anything is touched: a second loop device and mount of an image that another daemon serves would ruin it.
// Nothing: none there, or a device, whose file system has to be mounted first.
Task<Result<std::optional<PoolFile>>> StoreHost::whose(std::string path) {
  Result<std::string> text = co_await world_.fs.read_file(path + "/" + kPoolFileName, kMaxPoolFileBytes);
  if (!text.ok()) co_return std::optional<PoolFile>();
  Result<PoolFile> there = decode_pool_file(*text);
  if (!there.ok()) co_return there.error().with_context(path);
  co_return std::optional<PoolFile>(*there);
}

Task<Status> StoreHost::check_ours(PoolId pool, std::string path) {
  Result<std::optional<PoolFile>> found = co_await whose(path);
  HF_CO_TRY(found);
  const std::optional<PoolFile>& there = *found;
  if (!there) co_return Status();
  const bool foreign = there->cluster != identity_.cluster || there->node != identity_.node;
  if (!foreign && there->pool == pool) co_return Status();
  co_return make_error(ErrorCode::kWrongOwner,
                       "{} holds pool {} of {}, not pool {} of this node; put the right disk there, or bring back the "
                       "state_dir that belongs to it",
                       path, there->pool.to_string(), foreign ? "another node" : "this node", pool.to_string());
}

Task<Status> StoreHost::check_not_anothers(PoolId pool, std::string path) {
  Result<std::optional<PoolFile>> found = co_await whose(path);
  HF_CO_TRY(found);
  const std::optional<PoolFile>& there = *found;
  if (!there) co_return Status();
  if (there->cluster != identity_.cluster || there->node != identity_.node) {
    co_return make_error(ErrorCode::kWrongOwner,
                         "{} holds pool {} of another {} ({}); give another place, or remove what is left of that pool",
                         path, there->pool.to_string(), there->cluster != identity_.cluster ? "cluster" : "node",
                         there->cluster != identity_.cluster ? there->cluster.to_string() : there->node.to_string());
  }
  if (there->pool != pool) {
    co_return make_error(ErrorCode::kAlreadyExists,
                         "{} holds pool {} of this node already, which was removed (holdfast pool remove), or which the state "
                         "store has forgotten; restore state.db, or save its data (holdfast pool export) and empty the place",
                         path, there->pool.to_string());
  }
  co_return Status();
}

Task<Result<cluster::PoolInfo>> StoreHost::make_pool(PoolId pool, cluster::AddPool request) {
  co_await opening_.lock();
  MutexGuard guard(opening_);
  if (const auto it = pools_.find(pool); it != pools_.end()) co_return info(pool, it->second);
  Status free = co_await check_not_anothers(pool, request.path);
  HF_CO_TRY(free);
  std::function<Task<Result<mount::PoolStorage>>()> make_it = [this, pool, request] {
    return files_.make(pool, request.path, request.size_bytes, request.force);
  };
  Result<mount::PoolStorage> storage =
      co_await wait_for_lock<mount::PoolStorage>(world_.clock, kLockPatience, make_it);
  HF_CO_TRY(storage);
  co_return co_await open_store(pool, *storage, request.io_class, true);
}

Task<Result<cluster::PoolInfo>> StoreHost::open_pool(PoolId pool, std::string path) {
  co_await opening_.lock();
  MutexGuard guard(opening_);
  if (const auto it = pools_.find(pool); it != pools_.end()) co_return info(pool, it->second);
  Status ours = co_await check_ours(pool, path);
  HF_CO_TRY(ours);
  std::function<Task<Result<mount::PoolStorage>>()> open_it = [this, pool, path] { return files_.open(pool, path); };
  Result<mount::PoolStorage> storage =
      co_await wait_for_lock<mount::PoolStorage>(world_.clock, kLockPatience, open_it);
  HF_CO_TRY(storage);
  co_return co_await open_store(pool, *storage, 1, false);
}

Task<Result<cluster::PoolInfo>> StoreHost::pool_info(PoolId pool) {
  Result<Pool*> there = find(pool);
  HF_CO_TRY(there);
  // Others may have filled or emptied the file system below since anything was written.
  Status seen = co_await (*there)->refresh_space();
  if (!seen.ok()) HF_LOG(kWarn, "node", "pool_space_unknown pool={} {}", pool.to_string(), seen.error().to_string());
  there = find(pool);
  HF_CO_TRY(there);
  co_return info(pool, pools_.at(pool));
}

Task<Result<cluster::PoolInfo>> StoreHost::expand_pool(PoolId pool, uint64_t size_bytes) {
  Result<Pool*> there = find(pool);
  HF_CO_TRY(there);
  Status grown = co_await files_.expand(pool, size_bytes);
  HF_CO_TRY(grown);
  Status seen = co_await (*there)->refresh_space();
  HF_CO_TRY(seen);
  co_return co_await pool_info(pool);
}

Task<Status> StoreHost::close_pool(PoolId pool) {
  co_await opening_.lock();
  MutexGuard guard(opening_);
  if (const auto it = pools_.find(pool); it != pools_.end()) {
    for (const auto& [replica, device] : devices_) {
      if (it->second.pool->find(replica) == nullptr) continue;
      co_return make_error(ErrorCode::kInUse, "a volume of pool {} is attached; detach it first, or restart holdfastd",
                           it->second.path);
    }
    const std::unique_ptr<Pool> leaving = std::move(it->second.pool);
    const std::string path = it->second.path;
    pools_.erase(it);
    Status stopped = co_await leaving->stop();
    if (!stopped.ok()) HF_LOG(kWarn, "node", "pool_not_stopped path={} why=\"{}\"", path, stopped.error().to_string());
  }
  co_return co_await files_.close(pool);
}

ReplicaSpec StoreHost::store_spec(const cluster::ReplicaSpec& spec) {
  ReplicaSpec out;
  out.replica = spec.replica;
  out.volume = spec.volume;
  out.lineage = spec.lineage;
  out.size_bytes = spec.size_bytes;
  return out;
}

Task<Status> StoreHost::create_replica(PoolId pool, cluster::ReplicaSpec spec) {
  Result<Pool*> in = find(pool);
  HF_CO_TRY(in);
  Result<std::shared_ptr<Replica>> made = co_await (*in)->create_replica(store_spec(spec));
  HF_CO_TRY(made);
  co_return Status();
}

Task<Status> StoreHost::delete_replica(PoolId pool, ReplicaId replica) {
  Result<Pool*> in = find(pool);
  HF_CO_TRY(in);
  if (devices_.contains(replica)) {
    co_return make_error(ErrorCode::kInUse, "replica {} serves an attached volume",
                         replica.to_string());
  }
  co_return co_await (*in)->delete_replica(replica);
}

Task<Status> StoreHost::resize_replica(PoolId pool, ReplicaId replica, uint64_t size_bytes) {
  Result<std::shared_ptr<Replica>> found = find(pool, replica);
  HF_CO_TRY(found);
  const auto device = devices_.find(replica);
  if (device != devices_.end()) {
    const std::shared_ptr<VolumeDevice> kept = device->second;
    co_return co_await kept->coordinator().resize(size_bytes);
  }
  co_return co_await (*found)->resize(unstamped(**found), size_bytes);
}

Task<Result<cluster::ReplicaStats>> StoreHost::replica_stats(PoolId pool, ReplicaId replica) {
  Result<std::shared_ptr<Replica>> found = find(pool, replica);
  HF_CO_TRY(found);
  Result<uint64_t> used = co_await (*found)->allocated_bytes();
  HF_CO_TRY(used);
  cluster::ReplicaStats out;
  out.size_bytes = (*found)->size();
  out.used_bytes = *used;
  out.checksum_errors = (*found)->stats().checksum_errors;
  const PoolStats stats = pools_.at(pool).pool->stats();
  if (is_full(stats)) {
    out.waits_for = fmt::format("pool {} is full: {}; holdfast status", pools_.at(pool).path, what_waits(stats));
  }
  co_return out;
}

Task<Result<std::vector<ReplicaId>>> StoreHost::list_replicas(PoolId pool) {
  Result<Pool*> in = find(pool);
  HF_CO_TRY(in);
  std::vector<ReplicaId> ids;
  for (const ReplicaInfo& replica : (*in)->list()) ids.push_back(replica.replica);
  co_return ids;
}

Task<Status> StoreHost::create_snapshot(PoolId pool, ReplicaId replica, SnapshotId snapshot) {
  Result<std::shared_ptr<Replica>> found = find(pool, replica);
  HF_CO_TRY(found);
  const auto device = devices_.find(replica);
  if (device != devices_.end()) {
    const std::shared_ptr<VolumeDevice> kept = device->second;
    Result<SnapshotInfo> cut = co_await kept->coordinator().snapshot(snapshot);
    HF_CO_TRY(cut);
    co_return Status();
  }
  Result<SnapshotInfo> cut = co_await (*found)->snapshot(unstamped(**found), snapshot);
  HF_CO_TRY(cut);
  co_return Status();
}

Task<Result<std::vector<SnapshotId>>> StoreHost::list_snapshots(PoolId pool, ReplicaId replica) {
  const auto found = find(pool, replica);
  HF_CO_TRY(found);
  std::vector<SnapshotId> ids;
  for (const SnapshotInfo& info : (*found)->snapshots()) ids.push_back(info.id);
  co_return ids;
}

Task<Status> StoreHost::delete_snapshot(PoolId pool, ReplicaId replica, SnapshotId snapshot) {
  Result<std::shared_ptr<Replica>> found = find(pool, replica);
  HF_CO_TRY(found);
  co_return co_await (*found)->delete_snapshot(snapshot);
}

Task<Status> StoreHost::restore_snapshot(PoolId pool, ReplicaId replica, SnapshotId snapshot) {
  Result<std::shared_ptr<Replica>> found = find(pool, replica);
  HF_CO_TRY(found);
  if (devices_.contains(replica)) {
    co_return make_error(ErrorCode::kInUse, "replica {} serves an attached volume",
                         replica.to_string());
  }
  co_return co_await (*found)->restore(unstamped(**found), snapshot);
}

Task<Status> StoreHost::clone_replica(PoolId pool, ReplicaId from, SnapshotId snapshot,
                                      cluster::ReplicaSpec to) {
  Result<Pool*> in = find(pool);
  HF_CO_TRY(in);
  Result<std::shared_ptr<Replica>> made =
      co_await (*in)->clone_replica(from, snapshot, store_spec(to));
  HF_CO_TRY(made);
  co_return Status();
}

Task<Status> StoreHost::verify_replica(PoolId pool, ReplicaId replica, cluster::ScrubWork work) {
  cluster::ScrubFindings seen;
  seen.done_to = round_down(work.from, kBlockSize);
  const MonoTime begun = world_.clock.now();
  AlignedBuffer buffer(kVerifyChunk);
  for (;;) {
    // Looked for anew each time: its pool may have been closed.
    Result<std::shared_ptr<Replica>> found = find(pool, replica);
    HF_CO_TRY(found);
    const uint64_t size = (*found)->size();
    if (seen.done_to >= size) co_return Status();
    Result<std::vector<DataExtent>> extents =
        co_await (*found)->extents(seen.done_to, std::min(kVerifyStretch, size - seen.done_to), 1);
    HF_CO_TRY(extents);
    if (extents->empty()) co_return Error(ErrorCode::kInternal, "a replica without extents below its size");
    const DataExtent extent = extents->front();
    uint64_t length = extent.length;
    if (extent.data) {
      length = std::min<uint64_t>(length, kVerifyChunk);
      Status read = co_await (*found)->read(seen.done_to, buffer.span().first(length));
      if (read.code() == ErrorCode::kCorruption || read.code() == ErrorCode::kIo) {
        for (uint64_t at = 0; at < length; at += kBlockSize) {
          Status block = co_await (*found)->read(seen.done_to + at, buffer.span().subspan(at, kBlockSize));
          if (block.code() == ErrorCode::kCorruption || block.code() == ErrorCode::kIo) seen.lost_bytes += kBlockSize;
        }
      } else if (!read.ok() && read.code() != ErrorCode::kInvalidArgument) {  // it may have become smaller
        co_return read;
      }
      seen.compared_bytes += length;
    }
    seen.done_to += length;
    work.tell(seen);
    if (work.cancel.is_cancelled()) co_return Error(ErrorCode::kCancelled, "the scrub was ended");
    if (!extent.data || work.bytes_per_second == 0) continue;
    const auto due = std::chrono::duration<double>(static_cast<double>(seen.compared_bytes) /
                                                   static_cast<double>(work.bytes_per_second));
    Status slept = co_await world_.clock.sleep_until(begun + std::chrono::duration_cast<Duration>(due), work.cancel);
    if (!slept.ok()) co_return Error(ErrorCode::kCancelled, "the scrub was ended");
  }
}

Task<Result<std::shared_ptr<BlockDevice>>> StoreHost::open_volume(PoolId pool, ReplicaId replica,
                                                                  uint64_t epoch) {
  Result<std::shared_ptr<Replica>> found = find(pool, replica);
  HF_CO_TRY(found);
  if (const auto it = devices_.find(replica); it != devices_.end()) {
    if (it->second->coordinator().epoch() == epoch) {
      co_return std::shared_ptr<BlockDevice>(it->second);
    }
    co_return make_error(ErrorCode::kInUse, "replica {} is served under epoch {} already",
                         replica.to_string(), it->second->coordinator().epoch());
  }
  Result<std::unique_ptr<Coordinator>> opened = co_await Coordinator::open(*found, epoch);
  HF_CO_TRY(opened);
  auto device = std::make_shared<VolumeDevice>(std::move(*opened));
  devices_[replica] = device;
  co_return std::shared_ptr<BlockDevice>(std::move(device));
}

Task<Status> StoreHost::close_volume(PoolId, ReplicaId replica) {
  const auto it = devices_.find(replica);
  if (it == devices_.end()) co_return Status();
  const std::shared_ptr<VolumeDevice> device = it->second;
  co_await device->coordinator().close();
  devices_.erase(replica);
  co_return Status();
}

}  // namespace hf::node
