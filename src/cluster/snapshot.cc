#include <fmt/chrono.h>

#include <algorithm>

#include "base/log.h"
#include "cluster/mutants.h"
#include "cluster/plane.h"
#include "runtime/fault_point.h"

namespace hf::cluster {
namespace {

// "snap-20261122-195316-042-9f3c": sorts by time, and two of one instant differ.
std::string name_from_time(WallTime at, uint64_t random) {
  const std::time_t seconds = static_cast<std::time_t>(at.ns / 1'000'000'000);
  return fmt::format("snap-{:%Y%m%d-%H%M%S}-{:03}-{:04x}", fmt::gmtime(seconds),
                     at.ns / 1'000'000 % 1000, random & 0xffff);
}

}  // namespace

Task<Result<SnapshotInfo>> Plane::create_snapshot(const CreateSnapshot& request) {
  Result<std::string> name = co_await name_of(request.volume);
  HF_CO_TRY(name);
  std::string wanted = request.name;
  if (wanted.empty()) wanted = name_from_time(now(), ports_.random.next());
  if (!spec::is_valid_name(wanted) || wanted.find('/') != std::string::npos) {
    co_return make_error(
        ErrorCode::kInvalidArgument,
        "{:?} is no snapshot name: 1 to {} of 0-9 A-Z a-z . _ -, starting with a letter or digit",
        wanted.substr(0, 64), spec::kMaxNameBytes);
  }
  Result<Section> section = co_await enter(name.value());
  HF_CO_TRY(section);
  Result<View> view = co_await load_usable(name.value());
  HF_CO_TRY(view);
  Result<std::optional<KeptSnapshot>> there = co_await find_snapshot(view->volume.record, wanted);
  HF_CO_TRY(there);
  if (there.value()) {
    const SnapshotRecord& snapshot = there.value()->record;
    if (snapshot.labels == request.labels) co_return info_of(snapshot, view->volume.record);
    co_return make_error(ErrorCode::kAlreadyExists,
                         "volume {} has a snapshot {} already, with other labels", name.value(),
                         wanted);
  }
  Result<KeptSnapshot> cut = co_await cut_snapshot(view.value(), wanted, request.labels);
  HF_CO_TRY(cut);
  co_return info_of(cut->record, view->volume.record);
}

// Records it, cuts it in every replica, says that it is there. An empty name: internal. One that
// was begun and not finished is of another moment: it is removed, never finished.
Task<Result<KeptSnapshot>> Plane::cut_snapshot(View& view, std::string name,
                                               const std::map<std::string, std::string>& labels) {
  const VolumeRecord& volume = view.volume.record;
  Status settled = co_await settle_snapshots(view);
  HF_CO_TRY(settled);
  Result<std::vector<KeptSnapshot>> others = co_await catalog_.snapshots_of(volume.id);
  HF_CO_TRY(others);
  if (others->size() >= kMaxSnapshotsPerVolume) {
    co_return make_error(ErrorCode::kLimitExceeded,
                         "volume {} has {} snapshots, the most there can be", volume.name,
                         others->size());
  }
  KeptSnapshot snapshot;
  snapshot->id = new_id<SnapshotId>(ports_.random);
  snapshot->name = name;
  snapshot->volume = volume.id;
  snapshot->size_bytes = volume.size_bytes;
  snapshot->created = now();
  snapshot->labels = labels;
  snapshot->fs = volume.fs;
  // An mkfs that nobody recorded would have stamped the volume's own.
  if (snapshot->fs.uuid.empty()) snapshot->fs.uuid = volume.id.to_string();
  // With the volume's record as it is: a request that the state store applies late must not leave a
  // snapshot behind of a volume that is gone by then.
  Batch begin(catalog_);
  begin.put(snapshot).require(view.volume);
  if (!name.empty()) {
    begin.take_name(Catalog::snapshot_name_key(volume.id, name), snapshot->id.to_string());
  }
  Status begun = co_await catalog_.commit(std::move(begin));
  HF_CO_TRY(begun);
  Status made = co_await make_snapshot(volume, snapshot);
  HF_CO_TRY(made);
  co_return std::move(snapshot);
}

// Cuts a recorded snapshot in every replica and says so. Refused by a port: undone.
Task<Status> Plane::make_snapshot(const VolumeRecord& volume, KeptSnapshot& snapshot) {
  for (const MemberRecord& member : volume.members) {
    Status cut = co_await ports_.host.create_snapshot(member.pool, member.replica, snapshot->id);
    if (cut.ok()) continue;
    if (is_refusal(cut.code())) {
      HF_PROBE("cluster.snapshot_undone");
      Status undone = co_await drop_snapshot(volume, snapshot);
      if (!undone.ok()) HF_LOG(kWarn, "cluster", "snapshot_not_undone volume={}", volume.name);
    }
    co_return cut.error().with_context("snapshot of volume " + volume.name);
  }
  snapshot->state = LifeState::kReady;
  Batch done(catalog_);
  done.put(snapshot);
  co_return co_await catalog_.commit(std::move(done));
}

Task<Status> Plane::drop_snapshot(const VolumeRecord& volume, KeptSnapshot& snapshot) {
  const Status reachable = check_pools_open(volume);
  HF_CO_TRY(reachable);
  if (snapshot->state != LifeState::kDeleting) {
    snapshot->state = LifeState::kDeleting;
    Batch intent(catalog_);
    intent.put(snapshot);
    Status intended = co_await catalog_.commit(std::move(intent));
    HF_CO_TRY(intended);
  }
  for (const MemberRecord& member : volume.members) {
    Status removed =
        co_await ports_.host.delete_snapshot(member.pool, member.replica, snapshot->id);
    if (!removed.ok() && removed.code() != ErrorCode::kNotFound) {
      co_return removed.error().with_context("delete snapshot " + snapshot->name + " of volume " +
                                             volume.name);
    }
  }
  const std::string key = Catalog::snapshot_name_key(volume.id, snapshot->name);
  std::optional<KeptName> name;
  if (!snapshot->name.empty()) {
    Result<std::optional<KeptName>> found = co_await catalog_.name(key);
    HF_CO_TRY(found);
    name = std::move(found).value();
  }
  Batch batch(catalog_);
  batch.remove(snapshot);
  if (name && name->record.id == snapshot->id.to_string()) batch.free_name(*name, key);
  co_return co_await catalog_.commit(std::move(batch));
}

// By name or id; a ready one only.
Task<Result<std::optional<KeptSnapshot>>> Plane::find_snapshot(const VolumeRecord& volume,
                                                               std::string text) {
  std::optional<KeptSnapshot> found;
  Result<std::vector<KeptSnapshot>> all = co_await catalog_.snapshots_of(volume.id);
  HF_CO_TRY(all);
  for (KeptSnapshot& snapshot : all.value()) {
    if (snapshot->state != LifeState::kReady || snapshot->name.empty()) continue;
    if (snapshot->name == text || snapshot->id.to_string() == text) found = std::move(snapshot);
  }
  co_return std::move(found);
}

Task<Result<bool>> Plane::is_clone_source(SnapshotId snapshot) {
  Result<std::vector<KeptVolume>> volumes = co_await catalog_.volumes();
  HF_CO_TRY(volumes);
  co_return std::any_of(volumes->begin(), volumes->end(), [&](const KeptVolume& volume) {
    return volume->source && volume->source->snapshot == snapshot;
  });
}

Task<Status> Plane::settle_snapshots(View& view) {
  Result<std::vector<KeptSnapshot>> all = co_await catalog_.snapshots_of(view.volume->id);
  HF_CO_TRY(all);
  for (KeptSnapshot& snapshot : all.value()) {
    if (snapshot->state == LifeState::kReady) {
      if (!snapshot->name.empty()) continue;
      Result<bool> needed = co_await is_clone_source(snapshot->id);
      HF_CO_TRY(needed);
      if (needed.value()) continue;
    }
    if (mutant(ControlMutant::kBegunSnapshotFinished) && snapshot->state == LifeState::kCreating) {
      Status finished = co_await make_snapshot(view.volume.record, snapshot);
      HF_CO_TRY(finished);
      continue;
    }
    HF_PROBE("cluster.snapshot_settled");
    Status dropped = co_await drop_snapshot(view.volume.record, snapshot);
    HF_CO_TRY(dropped);
  }
  co_return Status();
}

SnapshotInfo Plane::info_of(const SnapshotRecord& snapshot, const VolumeRecord& volume) const {
  SnapshotInfo info;
  info.id = snapshot.id;
  info.name = snapshot.name;
  info.volume = snapshot.volume;
  info.volume_name = volume.name;
  info.size_bytes = snapshot.size_bytes;
  info.created = snapshot.created;
  info.labels = snapshot.labels;
  return info;
}

Task<Result<std::vector<SnapshotInfo>>> Plane::list_snapshots(std::string text) {
  std::map<VolumeId, VolumeRecord> volumes;
  Result<std::vector<KeptSnapshot>> all = std::vector<KeptSnapshot>();
  if (text.empty()) {
    Result<std::vector<KeptVolume>> kept = co_await catalog_.volumes();
    HF_CO_TRY(kept);
    for (KeptVolume& volume : kept.value()) volumes[volume->id] = std::move(volume.record);
    all = co_await catalog_.snapshots();
  } else {
    Result<std::string> name = co_await name_of(std::move(text));
    HF_CO_TRY(name);
    Result<std::optional<View>> view = co_await load(name.value());
    HF_CO_TRY(view);
    if (!view.value()) co_return not_found(name.value());
    const VolumeId id = view.value()->volume->id;
    volumes[id] = view.value()->volume.record;
    all = co_await catalog_.snapshots_of(id);
  }
  HF_CO_TRY(all);
  std::vector<SnapshotInfo> infos;
  for (const KeptSnapshot& snapshot : all.value()) {
    const auto volume = volumes.find(snapshot->volume);
    if (snapshot->state != LifeState::kReady || snapshot->name.empty() || volume == volumes.end())
      continue;
    infos.push_back(info_of(snapshot.record, volume->second));
  }
  std::sort(infos.begin(), infos.end(), [](const SnapshotInfo& a, const SnapshotInfo& b) {
    return a.created != b.created ? a.created < b.created : a.id < b.id;
  });
  co_return std::move(infos);
}

Task<Status> Plane::delete_snapshot(std::string volume, std::string snapshot) {
  Result<std::string> name = co_await name_of(std::move(volume));
  HF_CO_TRY(name);
  Result<Section> section = co_await enter(name.value());
  HF_CO_TRY(section);
  Result<View> view = co_await load_settled(name.value());
  HF_CO_TRY(view);
  Status settled = co_await settle_snapshots(view.value());
  HF_CO_TRY(settled);
  Result<std::optional<KeptSnapshot>> found = co_await find_snapshot(view->volume.record, snapshot);
  HF_CO_TRY(found);
  if (!found.value()) {
    co_return make_error(ErrorCode::kNotFound, "volume {} has no snapshot {}", name.value(),
                         snapshot);
  }
  co_return co_await drop_snapshot(view->volume.record, *found.value());
}

}  // namespace hf::cluster
