// Takes a pool out of the cluster. What lies in it stays there.
//
// A pool that is open goes only when no volume has a replica in it: the record says so first
// (kDeleting: nothing new is placed there, create_volume.cc), then the pool is closed, then the
// record goes. One that cannot be opened goes at once, by --force: nothing is done to it, and
// volumes that have nothing elsewhere are lost from then on. That they are is no record of its own:
// their pool has none any more (lost.cc).
#include <algorithm>

#include "base/log.h"
#include "cluster/plane.h"
#include "runtime/fault_point.h"

namespace hf::cluster {
namespace {

constexpr size_t kNamesShown = 10;

std::string volumes_of(const std::vector<std::string>& names) {
  return (names.size() == 1 ? "volume " : fmt::format("{} volumes: ", names.size())) +
         listed(names, kNamesShown);
}

}  // namespace

std::string why_removed(const std::string& volume, PoolId pool) {
  return fmt::format(
      "volume {} is lost: its pool {} was removed (holdfast pool remove), and no other has a "
      "replica of it; "
      "delete the volume and restore a copy",
      volume, pool.to_string());
}

// Which volumes have a replica in it, and what else they have.
Task<Result<Plane::PoolTies>> Plane::ties_of_pool(PoolId pool) {
  Result<std::vector<KeptVolume>> volumes = co_await catalog_.volumes();
  HF_CO_TRY(volumes);
  PoolTies ties;
  for (const KeptVolume& volume : volumes.value()) {
    ReplicaId here;
    for (const MemberRecord& member : volume->members) {
      if (member.pool == pool) here = member.replica;
    }
    if (here.is_nil()) continue;
    ties.all.push_back(volume->name);
    if (!volume->replicated || volume->members.size() == 1) {
      ties.only_here.push_back(volume->name);
      continue;
    }
    ties.elsewhere_too.push_back(volume->name);
    if (volume->state != LifeState::kReady) continue;
    Result<std::vector<MemberInfo>> members = co_await ports_.volumes->members(volume->id);
    if (!members.ok()) co_return members.error().with_context("replicas of volume " + volume->name);
    const bool others = std::any_of(
        members->begin(), members->end(),
        [&](const MemberInfo& member) { return member.in_sync && member.replica != here; });
    if (!others) ties.only_in_sync.push_back(volume->name);
  }
  co_return std::move(ties);
}

Task<Result<PoolRemoval>> Plane::remove_pool(const RemovePool& request) {
  Result<Section> section = co_await enter("/pools");
  HF_CO_TRY(section);
  Result<KeptPool> found = co_await find_pool(request.pool);
  if (found.code() == ErrorCode::kNotFound && request.missing_ok) co_return PoolRemoval();
  HF_CO_TRY(found);
  KeptPool& pool = found.value();
  if (pool->node != options_.node) {
    co_return make_error(ErrorCode::kFailedPrecondition,
                         "pool {} is a pool of node {}; holdfast pool remove must be asked there",
                         pool->path, node_name(pool->node));
  }
  PoolRemoval removal;
  Result<PoolInfo> info = co_await inspect_pool(pool->id.to_string());
  HF_CO_TRY(info);
  removal.pool = std::move(info).value();
  Result<PoolTies> ties = co_await ties_of_pool(pool->id);
  HF_CO_TRY(ties);
  const bool begun = pool->state == LifeState::kDeleting;
  const bool open = begun || (pool->state == LifeState::kReady && is_there(removal.pool));
  if (!open) {
    removal.lost = ties->only_here;
    removal.degraded = ties->elsewhere_too;
  }
  if (!begun) {
    Status may = co_await check_removable(request, removal, ties.value(), open);
    HF_CO_TRY(may);
    if (request.only_look) co_return std::move(removal);
  }
  Status removed;
  if (open) {
    removed = co_await remove_open_pool(pool);
  } else {
    removed = co_await remove_dead_pool(pool);
  }
  HF_CO_TRY(removed);
  removal.removed = true;
  co_return std::move(removal);
}

Task<Status> Plane::check_removable(const RemovePool& request, const PoolRemoval& removal,
                                    const PoolTies& ties, bool open) {
  const PoolInfo& pool = removal.pool;
  if (open && !ties.all.empty()) {
    co_return make_error(
        ErrorCode::kInUse,
        "pool {} holds replicas of {}; delete them first (holdfast volume delete){}", pool.path,
        volumes_of(ties.all),
        request.force ? ": --force is for a pool that cannot be opened any more" : "");
  }
  if (open && !request.force) {
    const std::string path = pool.path;
    Result<std::vector<ReplicaId>> strays = co_await ports_.host.list_replicas(pool.id);
    HF_CO_TRY(strays);
    if (strays->empty()) co_return Status();
    co_return make_error(ErrorCode::kNotEmpty,
                         "pool {} holds {} replicas that belong to no volume of this cluster "
                         "(holdfast status); with --force it "
                         "is removed all the same, and they stay in it",
                         path, strays->size());
  }
  if (open) co_return Status();
  if (!request.force) {
    const std::string loses = ties.only_here.empty()
                                  ? std::string()
                                  : ", and with it for good " + volumes_of(ties.only_here);
    co_return make_error(ErrorCode::kFailedPrecondition,
                         "pool {} is not open ({}). Mend that, or, if what was in it is gone for "
                         "ever, give it up{}: "
                         "holdfast pool remove {} --force",
                         pool.path, pool.message, loses, pool.path);
  }
  if (!ties.only_in_sync.empty()) {
    co_return make_error(ErrorCode::kFailedPrecondition,
                         "pool {} holds the only replica that is in sync of {}; their other "
                         "replicas lack the last writes, and "
                         "would be all that is left",
                         pool.path, volumes_of(ties.only_in_sync));
  }
  co_return Status();
}

// Of a pool without volumes.
Task<Status> Plane::remove_open_pool(KeptPool& pool) {
  if (pool->state != LifeState::kDeleting) {
    pool->state = LifeState::kDeleting;
    Batch begin(catalog_);
    begin.put(pool);
    Status begun = co_await catalog_.commit(std::move(begin));
    HF_CO_TRY(begun);
  }
  co_return co_await finish_removal(pool);
}

Task<Status> Plane::finish_removal(KeptPool& pool) {
  const PoolId id = pool->id;
  const std::string path = pool->path;
  // Somebody may have placed a volume before the record said that nobody should.
  Result<PoolTies> ties = co_await ties_of_pool(id);
  HF_CO_TRY(ties);
  if (!ties->all.empty()) {
    HF_PROBE("cluster.pool_kept_after_all");
    pool->state = LifeState::kReady;
    Batch back(catalog_);
    back.put(pool);
    Status kept = co_await catalog_.commit(std::move(back));
    HF_CO_TRY(kept);
    co_return make_error(ErrorCode::kConflict, "pool {} got {} meanwhile", path,
                         volumes_of(ties->all));
  }
  if (!open_pools_.contains(id)) {
    // What an earlier daemon left mounted. Where there is nothing any more, nothing has to be
    // closed.
    Result<PoolInfo> opened = co_await ports_.host.open_pool(id, path);
    if (!opened.ok() && !is_refusal(opened.code())) co_return opened.error();
  }
  Status closed = co_await ports_.host.close_pool(id);
  if (!closed.ok()) co_return closed.error().with_context("pool " + path);
  open_pools_.erase(id);
  closed_pools_.erase(id);
  Batch end(catalog_);
  end.remove(pool);
  Status gone = co_await catalog_.commit(std::move(end));
  HF_CO_TRY(gone);
  HF_LOG(kInfo, "cluster", "pool_removed pool={} path={}", id.to_string(), path);
  co_return Status();
}

// Of a pool that is not open, or out of service: the record is all that there is to be done.
Task<Status> Plane::remove_dead_pool(KeptPool& pool) {
  const PoolId id = pool->id;
  const std::string path = pool->path;
  if (open_pools_.contains(id)) {
    Status closed = co_await ports_.host.close_pool(id);
    if (!closed.ok()) co_return closed.error().with_context("pool " + path);
    open_pools_.erase(id);
    closed_pools_[id] = "out of service, and closed to be removed";
  }
  Batch batch(catalog_);
  batch.remove(pool);
  Status gone = co_await catalog_.commit(std::move(batch));
  HF_CO_TRY(gone);
  HF_LOG(kWarn, "cluster", "pool_given_up pool={} path={}", id.to_string(), path);
  closed_pools_.erase(id);
  // Told from now on; the reconciler tells it where this does not come to its end.
  bool told = co_await look_for_lost();
  if (!told) HF_PROBE("cluster.removed_pool_told_later");
  co_return Status();
}

}  // namespace hf::cluster
