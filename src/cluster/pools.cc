#include <algorithm>

#include "base/log.h"
#include "base/units.h"
#include "cluster/plane.h"

namespace hf::cluster {
namespace {

// One at a time: pools are few, and two of one path must not race.
const std::string kPoolLock = "/pools";  // no volume name starts with '/'

std::string without_trailing_slashes(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

}  // namespace

Task<Result<PoolInfo>> Plane::add_pool(const AddPool& request) {
  const std::string path = without_trailing_slashes(request.path);
  if (path.empty() || path.front() != '/' || path == "/" || path.size() > 4096) {
    co_return make_error(ErrorCode::kInvalidArgument,
                         "pool add: {:?} is not the absolute path of a directory or block device",
                         path);
  }
  if (request.io_class < 1 || request.io_class > 3) {
    co_return make_error(ErrorCode::kInvalidArgument,
                         "pool add: class {} is none of 1 low, 2 medium, 3 high", request.io_class);
  }
  Result<Section> section = co_await enter(kPoolLock);
  HF_CO_TRY(section);
  Result<std::vector<KeptPool>> pools = co_await catalog_.pools();
  HF_CO_TRY(pools);
  KeptPool pool;
  for (KeptPool& other : pools.value()) {
    if (other->node == options_.node && other->path == path) pool = std::move(other);
  }
  if (pool.revision != 0 && pool->state == LifeState::kDeleting) {
    Status removed = co_await finish_removal(pool);
    HF_CO_TRY(removed);
    pool = KeptPool();
  }
  if (pool.revision != 0 && pool->state == LifeState::kReady) {
    if (pool->size_bytes != 0 && request.size_bytes > pool->size_bytes) {
      co_return make_error(ErrorCode::kAlreadyExists,
                           "{} is a pool of {} already; to grow it: holdfast pool expand {} --size {}", path,
                           format_size(pool->size_bytes), path, format_size(request.size_bytes));
    }
    if (request.io_class > 1 && request.io_class != pool->io_class) {
      co_return make_error(ErrorCode::kAlreadyExists, "{} is a pool already, of class {} and not {}; the class of a pool "
                           "stays", path, pool->io_class, request.io_class);
    }
    co_return co_await inspect_pool(pool->id.to_string());
  }
  if (pool.revision == 0) {
    if (pools->size() >= kMaxPools) {
      co_return make_error(ErrorCode::kLimitExceeded, "there are {} pools, the most there can be",
                           pools->size());
    }
    pool->id = new_id<PoolId>(ports_.random);
    pool->node = options_.node;
    pool->path = path;
    pool->size_bytes = request.size_bytes;
    pool->io_class = request.io_class;
    pool->created = now();
    Batch begin(catalog_);
    begin.put(pool);
    Status begun = co_await catalog_.commit(std::move(begin));
    HF_CO_TRY(begun);
  }
  AddPool exact = request;
  exact.path = path;
  Status made = co_await finish_pool(pool, &exact);
  HF_CO_TRY(made);
  co_return co_await inspect_pool(pool->id.to_string());
}

// Makes (with the request) or finds (without: after a crash, nobody was told) the pool of a record.
// Refused: the record goes, nothing was promised yet.
Task<Status> Plane::finish_pool(KeptPool& pool, const AddPool* request) {
  Result<PoolInfo> made = Error(ErrorCode::kInternal, "");
  if (request != nullptr) {
    made = co_await ports_.host.make_pool(pool->id, *request);
  } else {
    made = co_await ports_.host.open_pool(pool->id, pool->path);
  }
  if (!made.ok()) {
    const bool refused =
        request != nullptr ? is_refusal(made.code()) : made.code() == ErrorCode::kNotFound;
    if (refused) {
      Batch batch(catalog_);
      batch.remove(pool);
      Status dropped = co_await catalog_.commit(std::move(batch));
      if (!dropped.ok()) HF_LOG(kWarn, "cluster", "pool_record_left path={}", pool->path);
    }
    co_return made.error();
  }
  open_pools_.insert(pool->id);
  closed_pools_.erase(pool->id);
  pool->state = LifeState::kReady;
  Batch batch(catalog_);
  batch.put(pool);
  co_return co_await catalog_.commit(std::move(batch));
}

Task<Result<KeptPool>> Plane::find_pool(std::string text) {
  const std::string path = without_trailing_slashes(text);
  const std::optional<PoolId> id = PoolId::parse(text);
  Result<std::vector<KeptPool>> pools = co_await catalog_.pools();
  HF_CO_TRY(pools);
  for (KeptPool& pool : pools.value()) {
    if (pool->path == path || (id && pool->id == *id)) co_return std::move(pool);
  }
  co_return make_error(ErrorCode::kNotFound, "there is no pool {}; holdfast pool list shows them",
                       text);
}

// What the host says of it, and what only the catalog knows. A pool that cannot be asked is shown
// as such.
Task<Result<PoolInfo>> Plane::pool_info(const PoolRecord& record, uint64_t provisioned,
                                        uint32_t replicas) {
  PoolInfo info;
  const auto closed = closed_pools_.find(record.id);
  if (record.node != options_.node) {
    const auto known = neighbours_.find(record.node);
    info.message = "node " + node_name(record.node) + " does not answer";
    if (known != neighbours_.end() && known->second.online) {
      info.message = "node " + known->second.name + " does not have it open";
      for (const PoolInfo& pool : known->second.facts.pools) {
        if (pool.id == record.id) info = pool;
      }
    }
  } else if (record.state != LifeState::kReady) {
    info.message = record.state == LifeState::kDeleting ? "is being removed" : "not made yet";
  } else if (closed != closed_pools_.end()) {
    info.message = closed->second;
  } else {
    Result<PoolInfo> live = co_await ports_.host.pool_info(record.id);
    if (live.ok()) {
      info = std::move(live).value();
    } else {
      if (live.code() == ErrorCode::kCancelled) co_return live.error();
      info.message = live.error().message();
      if (live.code() == ErrorCode::kFailedPool) info.state = PoolState::kFailed;
    }
  }
  info.id = record.id;
  info.node = record.node;
  info.path = record.path;
  info.io_class = record.io_class;
  info.provisioned_bytes = provisioned;
  info.replica_count = replicas;
  co_return std::move(info);
}

Task<Result<std::vector<PoolInfo>>> Plane::pool_infos() {
  Result<std::vector<KeptPool>> pools = co_await catalog_.pools();
  HF_CO_TRY(pools);
  Result<std::map<PoolId, PoolPromise>> promised = co_await catalog_.promises();
  HF_CO_TRY(promised);
  std::vector<PoolInfo> infos;
  for (const KeptPool& pool : pools.value()) {
    const PoolPromise sum = promised.value()[pool->id];
    Result<PoolInfo> info = co_await pool_info(pool.record, sum.bytes, sum.replicas);
    HF_CO_TRY(info);
    infos.push_back(std::move(info).value());
  }
  co_return std::move(infos);
}

Task<Result<std::vector<PoolInfo>>> Plane::list_pools() {
  co_return co_await pool_infos();
}

Task<Result<PoolInfo>> Plane::inspect_pool(std::string text) {
  Result<KeptPool> pool = co_await find_pool(std::move(text));
  HF_CO_TRY(pool);
  Result<std::vector<PoolInfo>> infos = co_await pool_infos();
  HF_CO_TRY(infos);
  for (PoolInfo& info : infos.value()) {
    if (info.id == pool.value()->id) co_return std::move(info);
  }
  co_return make_error(ErrorCode::kNotFound, "pool {} is gone", pool.value()->path);
}

Task<Result<PoolInfo>> Plane::expand_pool(std::string text, uint64_t size_bytes) {
  Result<Section> section = co_await enter(kPoolLock);
  HF_CO_TRY(section);
  Result<KeptPool> pool = co_await find_pool(std::move(text));
  HF_CO_TRY(pool);
  PoolRecord& record = pool->record;
  if (record.node != options_.node || record.state != LifeState::kReady) {
    co_return make_error(ErrorCode::kFailedPrecondition, "pool {} is not a pool of this node ({})",
                         record.path, options_.node_name);
  }
  Result<PoolInfo> grown = co_await ports_.host.expand_pool(record.id, size_bytes);
  HF_CO_TRY(grown);
  if (size_bytes > record.size_bytes) {
    record.size_bytes = size_bytes;
    Batch batch(catalog_);
    batch.put(pool.value());
    Status recorded = co_await catalog_.commit(std::move(batch));
    HF_CO_TRY(recorded);
  }
  co_return co_await inspect_pool(record.id.to_string());
}

Task<Result<std::vector<PoolFacts>>> Plane::pool_facts() {
  Result<std::vector<PoolInfo>> infos = co_await pool_infos();
  HF_CO_TRY(infos);
  Result<std::vector<KeptNode>> nodes = co_await catalog_.nodes();
  HF_CO_TRY(nodes);
  std::vector<PoolFacts> facts;
  for (PoolInfo& info : infos.value()) {
    PoolFacts fact;
    for (const KeptNode& node : nodes.value()) {
      if (node->id != info.node) continue;
      fact.node_name = node->name;
      fact.node_draining = node->draining;
      fact.domain = node->domain;
    }
    fact.node_online = is_online(info.node);
    fact.pool = std::move(info);
    facts.push_back(std::move(fact));
  }
  co_return std::move(facts);
}

}  // namespace hf::cluster
