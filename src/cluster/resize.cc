#include <algorithm>

#include "base/log.h"
#include "base/units.h"
#include "cluster/mutants.h"
#include "cluster/plane.h"
#include "runtime/fault_point.h"

namespace hf::cluster {

Task<Result<VolumeInfo>> Plane::resize(std::string text, uint64_t size_bytes) {
  Result<std::string> name = co_await name_of(std::move(text));
  HF_CO_TRY(name);
  Result<Section> section = co_await enter(name.value());
  HF_CO_TRY(section);
  Result<View> view = co_await load_usable(name.value());
  HF_CO_TRY(view);
  const bool asked_again = round_up(size_bytes, kBlockSize) == view->volume->size_bytes;
  Status grown = co_await grow_to(view.value(), size_bytes);
  HF_CO_TRY(grown);
  if (asked_again && is_here(view.value()) && view->volume->fs.bytes < view->volume->size_bytes) {
    Status served = co_await serve(view.value(), ExportKind::kNone);
    HF_CO_TRY(served);
    Status follows = co_await follow_size(view.value(), view->volume->size_bytes);
    HF_CO_TRY(follows);
    Status recorded = co_await put(view->volume);
    HF_CO_TRY(recorded);
  }
  co_return co_await info(view.value());
}

Task<Status> Plane::grow_to(View& view, uint64_t size_bytes) {
  VolumeRecord& record = view.volume.record;
  if (size_bytes > spec::kMaxVolumeBytes) {
    co_return make_error(ErrorCode::kInvalidArgument, "{} is above the largest volume, {}",
                         format_size(size_bytes), format_size(spec::kMaxVolumeBytes));
  }
  size_bytes = round_up(size_bytes, kBlockSize);
  if (size_bytes == record.size_bytes) co_return Status();
  if (size_bytes < record.size_bytes) {
    co_return make_error(ErrorCode::kInvalidArgument,
                         "volume {} has {}: it cannot shrink to {}; make a smaller one and copy",
                         record.name, format_size(record.size_bytes), format_size(size_bytes));
  }
  Result<std::vector<PoolInfo>> pools = co_await pool_infos();
  HF_CO_TRY(pools);
  for (const MemberRecord& member : record.members) {
    for (const PoolInfo& pool : pools.value()) {
      if (pool.id != member.pool) continue;
      const Status room = check_room(pool, size_bytes - record.size_bytes, options_.limits);
      if (!room.ok()) co_return room.error().with_context("resize volume " + record.name);
    }
  }
  record.resizing_to_bytes = size_bytes;
  if (mutant(ControlMutant::kResizeRecordedFirst)) {
    record.size_bytes = record.spec.size_bytes = size_bytes;
    record.resizing_to_bytes = 0;
  }
  Status intended = co_await put(view.volume);
  HF_CO_TRY(intended);
  record.resizing_to_bytes = size_bytes;
  if (is_elsewhere(view)) co_return co_await resize_there(view);
  Status behind;
  Status done = co_await finish_resize(view, &behind);
  HF_CO_TRY(done);
  co_return behind;
}

// By the node that has it.
Task<Status> Plane::resize_there(View& view) {
  const NodeId other = view.attachment->record.node;
  const std::string name = view.volume->name;
  if (ports_.peers == nullptr) {
    co_return make_error(ErrorCode::kFailedPrecondition, "volume {} is attached on node {}", name, node_name(other));
  }
  Status done = co_await ports_.peers->node(other).settle(view.volume->id);
  if (!done.ok()) co_return done.error().with_context("resize volume " + name + ": node " + node_name(other));
  Result<std::optional<View>> again = co_await load(name);
  HF_CO_TRY(again);
  if (!again.value()) co_return not_found(name);
  view = std::move(*again.value());
  co_return Status();
}

// Replica, device, file system, record: each step can be repeated. Once the replicas have grown the volume has its new
// size, and its device and file system follow as they can. What keeps those from it (a kernel that lacks it, a file
// system that was shut down) stands in `behind` and in the way of nothing else: least of all of an unmount.
Task<Status> Plane::finish_resize(View& view, Status* behind) {
  VolumeRecord& record = view.volume.record;
  const std::string what = "resize volume " + record.name;
  Status replicas = co_await grow_replicas(view);
  if (!replicas.ok()) co_return replicas.error().with_context(what);
  if (view.attachment) {
    Status served = co_await serve(view, ExportKind::kNone);
    HF_CO_TRY(served);
    *behind = co_await follow_size(view, record.resizing_to_bytes);
    if (!behind->ok() && !is_refusal(behind->code())) co_return behind->error().with_context(what);
  }
  // A file system that is not mounted now grows at its next mount (fs.bytes tells).
  record.size_bytes = record.resizing_to_bytes;
  record.spec.size_bytes = record.resizing_to_bytes;
  record.resizing_to_bytes = 0;
  co_return co_await put(view.volume);
}

// By who serves it; of a volume of one replica, that one, and the intent is withdrawn where it refuses.
Task<Status> Plane::grow_replicas(View& view) {
  VolumeRecord& record = view.volume.record;
  if (record.replicated) {
    if (view.attachment) {
      Status served = co_await serve(view, ExportKind::kNone);
      HF_CO_TRY(served);
    }
    const uint64_t size_bytes = record.resizing_to_bytes;
    VolumeStep step = [this, size_bytes](VolumeId volume) { return ports_.volumes->resize(volume, size_bytes); };
    co_return co_await through_device(view, std::move(step));
  }
  for (const MemberRecord& member : record.members) {
    Status grown =
        co_await ports_.host.resize_replica(member.pool, member.replica, record.resizing_to_bytes);
    if (grown.ok()) continue;
    // An earlier attempt may have grown it before it was cut short: then there is nothing to undo.
    Result<ReplicaStats> stats = co_await ports_.host.replica_stats(member.pool, member.replica);
    const bool untouched = stats.ok() && stats->size_bytes <= record.size_bytes;
    if (is_refusal(grown.code()) && untouched) {
      HF_PROBE("cluster.resize_undone");
      record.resizing_to_bytes = 0;
      Status undone = co_await put(view.volume);
      HF_CO_TRY(undone);
    }
    co_return grown;
  }
  co_return Status();
}

// The kernel's device, and then the file system where it is mounted, take the replica's size. Only changes the view.
Task<Status> Plane::follow_size(View& view, uint64_t size_bytes) {
  VolumeRecord& record = view.volume.record;
  const std::string device = view.attachment->record.device;
  const std::string path = primary_path(record);
  const std::string has = fmt::format("volume {} has {} now", record.name, format_size(size_bytes));
  Status told = co_await ports_.exporter.resized(record.id);
  if (!told.ok()) co_return told.error().with_context(has + ", and its device takes that when it is attached again");
  Result<std::vector<std::string>> mounts = co_await ports_.mounter.mounts_of(device);
  HF_CO_TRY(mounts);
  if (std::find(mounts->begin(), mounts->end(), path) == mounts->end()) co_return Status();
  Status grown = co_await ports_.mounter.grow(device, path, record.spec.fs);
  if (grown.ok()) record.fs.bytes = size_bytes;
  if (grown.ok() || !is_refusal(grown.code())) co_return grown;
  HF_PROBE("cluster.fs_grows_later");
  HF_LOG(kWarn, "cluster", "fs_grows_at_next_mount volume={} why=\"{}\"", record.name, grown.error().message());
  // What this kernel or daemon cannot do is no fault of the volume: its message says when it will have grown.
  if (grown.code() == ErrorCode::kMissingFeature) co_return Status();
  co_return grown.error().with_context(has + ", and its file system grows when it is mounted again");
}

}  // namespace hf::cluster
