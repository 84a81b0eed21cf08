#include <algorithm>

#include "cluster/mutants.h"
#include "cluster/plane.h"

namespace hf::cluster {

Task<Result<VolumeInfo>> Plane::restore(std::string volume, std::string snapshot) {
  Result<std::string> name = co_await name_of(std::move(volume));
  HF_CO_TRY(name);
  Result<Section> section = co_await enter(name.value());
  HF_CO_TRY(section);
  Result<View> loaded = co_await load_usable(name.value());
  HF_CO_TRY(loaded);
  View view = std::move(loaded).value();
  Result<std::optional<KeptSnapshot>> found = co_await find_snapshot(view.volume.record, snapshot);
  HF_CO_TRY(found);
  if (!found.value()) {
    co_return make_error(ErrorCode::kNotFound, "volume {} has no snapshot {}", name.value(),
                         snapshot);
  }
  if (view.attachment) {
    if (view.attachment->record.pinned) {
      co_return make_error(
          ErrorCode::kInUse,
          "volume {} is attached as {}; a restore changes it under its user: detach it first",
          name.value(), view.attachment->record.device);
    }
    Status released = co_await release_if_unused(view, options_.docker_grace);
    HF_CO_TRY(released);
  }
  view.volume->restoring = found.value()->record.id;
  if (!mutant(ControlMutant::kRestoreNotIntended)) {
    Status intended = co_await put(view.volume);
    HF_CO_TRY(intended);
  }
  Status restored = co_await finish_restore(view);
  HF_CO_TRY(restored);
  co_return co_await info(view);
}

// Nothing is attached, and nothing attaches before this is done (settle comes first). The volume
// keeps its size: where it has grown since the snapshot, its file system grows at the next mount.
Task<Status> Plane::finish_restore(View& view) {
  VolumeRecord& record = view.volume.record;
  Result<std::vector<KeptSnapshot>> all = co_await catalog_.snapshots_of(record.id);
  HF_CO_TRY(all);
  const auto snapshot = std::find_if(all->begin(), all->end(), [&](const KeptSnapshot& kept) {
    return kept->id == record.restoring;
  });
  HF_ASSERT(snapshot != all->end(), "volume {} restores a snapshot that is gone", record.name);
  for (const MemberRecord& member : record.members) {
    Status restored =
        co_await ports_.host.restore_snapshot(member.pool, member.replica, record.restoring);
    Status sized;
    if (restored.ok()) {
      sized = co_await ports_.host.resize_replica(member.pool, member.replica, record.size_bytes);
    }
    if (!sized.ok()) co_return sized.error().with_context("restore volume " + record.name);
    if (!restored.ok()) co_return restored.error().with_context("restore volume " + record.name);
  }
  record.fs = (*snapshot)->fs;
  record.restoring = SnapshotId();
  co_return co_await put(view.volume);
}

}  // namespace hf::cluster
