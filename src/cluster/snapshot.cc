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
    const bool as_asked = snapshot.frozen || !request.freeze;
    if (snapshot.labels == request.labels && as_asked) {
      co_return info_of(snapshot, view->volume.record);
    }
    co_return make_error(ErrorCode::kAlreadyExists, "volume {} has a snapshot {} already, {}",
                         name.value(), wanted,
                         as_asked ? "with other labels" : "cut without freezing its file system");
  }
  if (is_elsewhere(view.value()) && ports_.peers != nullptr) {
    CreateSnapshot there_request = request;
    there_request.name = wanted;
    const std::string where = "node " + node_name(view->attachment->record.node);
    Status cut_there = co_await ports_.peers->node(view->attachment->record.node).cut(there_request);
    if (!cut_there.ok()) co_return cut_there.error().with_context(where);
    Result<std::optional<KeptSnapshot>> made = co_await find_snapshot(view->volume.record, wanted);
    HF_CO_TRY(made);
    if (made.value()) co_return info_of(made.value()->record, view->volume.record);
    co_return make_error(ErrorCode::kConflict, "snapshot {} of volume {} is gone again", wanted, name.value());
  }
  Result<KeptSnapshot> cut =
      co_await cut_snapshot(view.value(), wanted, request.labels, request.freeze);
  HF_CO_TRY(cut);
  co_return info_of(cut->record, view->volume.record);
}

// Records it, cuts it in every replica, says that it is there. An empty name: internal. One that
// was begun and not finished is of another moment: it is removed, never finished.
Task<Result<KeptSnapshot>> Plane::cut_snapshot(View& view, std::string name,
                                               const std::map<std::string, std::string>& labels,
                                               bool freeze) {
  const VolumeRecord& volume = view.volume.record;
  if (is_elsewhere(view)) {
    co_return make_error(ErrorCode::kFailedPrecondition,
                         "volume {} is attached on node {}: make a snapshot first and name it", volume.name,
                         node_name(view.attachment->record.node));
  }
  Status settled = co_await settle_snapshots(view);
  HF_CO_TRY(settled);
  bool mounted = false;
  if (freeze) {
    Result<bool> freezable = co_await is_freezable(view);
    HF_CO_TRY(freezable);
    mounted = freezable.value();
  }
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
  Status cut;
  if (mounted && !mutant(ControlMutant::kNotFrozen)) {
    cut = co_await cut_frozen(view, snapshot);
  } else {
    cut = co_await cut_replicas(view, snapshot);
  }
  if (!cut.ok()) {
    if (is_refusal(cut.code())) {
      HF_PROBE("cluster.snapshot_undone");
      Status undone = co_await drop_snapshot(volume, snapshot);
      if (!undone.ok()) HF_LOG(kWarn, "cluster", "snapshot_not_undone volume={}", volume.name);
    }
    co_return cut.error().with_context("snapshot of volume " + volume.name);
  }
  snapshot->state = LifeState::kReady;
  snapshot->frozen = freeze;
  Batch done(catalog_);
  done.put(snapshot);
  Status recorded = co_await catalog_.commit(std::move(done));
  HF_CO_TRY(recorded);
  co_return std::move(snapshot);
}

Task<Status> Plane::cut_replicas(const View& view, const KeptSnapshot& snapshot) {
  const SnapshotId id = snapshot.record.id;
  if (view.volume.record.replicated) {
    VolumeStep step = [this, id](VolumeId volume) { return ports_.volumes->snapshot(volume, id); };
    co_return co_await through_device(view, std::move(step));
  }
  for (const MemberRecord& member : view.volume.record.members) {
    Status cut = co_await ports_.host.create_snapshot(member.pool, member.replica, id);
    HF_CO_TRY(cut);
  }
  co_return Status();
}

// True: its file system is mounted here and can be frozen. False: nobody has the device, and there is nothing to freeze.
Task<Result<bool>> Plane::is_freezable(View& view) {
  if (!view.attachment) co_return false;
  Status served = co_await serve(view, ExportKind::kNone);
  HF_CO_TRY(served);
  const std::string device = view.attachment->record.device;
  const std::string path = primary_path(view.volume.record);
  Result<std::vector<std::string>> mounts = co_await ports_.mounter.mounts_of(device);
  HF_CO_TRY(mounts);
  if (std::find(mounts->begin(), mounts->end(), path) != mounts->end()) co_return true;
  co_return make_error(ErrorCode::kFailedPrecondition,
                       "volume {} is attached as {} and not mounted here: its users cannot be made to wait. "
                       "Have them write back, and cut it without freezing",
                       view.volume->name, device);
}

// Writers wait between freeze and thaw and nowhere else: all that is recorded is recorded before and after. The intent
// is there first: what a daemon leaves that is killed, and its guard with it, the next one thaws.
Task<Status> Plane::cut_frozen(View& view, KeptSnapshot& snapshot) {
  view.attachment->record.freezing = true;
  if (!mutant(ControlMutant::kFreezeNotIntended)) {
    Status intended = co_await put(*view.attachment);
    HF_CO_TRY(intended);
  }
  const std::string path = primary_path(view.volume.record);
  Status frozen = co_await ports_.mounter.freeze(path, kFreezeLimit);
  if (frozen.code() == ErrorCode::kInUse) {  // by somebody else, who will thaw it
    view.attachment->record.freezing = false;
    Status recorded = co_await put(*view.attachment);
    HF_CO_TRY(recorded);
    co_return frozen;
  }
  Status cut = frozen;
  if (frozen.ok()) cut = co_await cut_replicas(view, snapshot);
  Result<bool> held = co_await ports_.mounter.thaw(path);
  HF_CO_TRY(held);
  view.attachment->record.freezing = false;
  Status recorded = co_await put(*view.attachment);
  HF_CO_TRY(cut);
  HF_CO_TRY(recorded);
  if (held.value()) co_return Status();
  HF_PROBE("cluster.let_go_before_the_cut");
  co_return make_error(ErrorCode::kLimitExceeded,
                       "its file system was let go after {} s, before the snapshot was cut: the pool is slow, or "
                       "somebody thawed it; try again, or cut it without freezing",
                       std::chrono::duration_cast<std::chrono::seconds>(kFreezeLimit).count());
}

// What an earlier daemon, or an earlier attempt, may have left frozen. Thawing writes: the device is served first.
Task<Status> Plane::thaw(View& view) {
  HF_PROBE("cluster.left_frozen");
  Status served = co_await serve(view, ExportKind::kNone);
  HF_CO_TRY(served);
  Result<bool> thawed = co_await ports_.mounter.thaw(primary_path(view.volume.record));
  HF_CO_TRY(thawed);
  view.attachment->record.freezing = false;
  co_return co_await put(*view.attachment);
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
  const SnapshotId id = snapshot->id;
  MemberStep step = [this, id](MemberRecord member) { return remove_cut(member, id); };
  Status removed = co_await on_members(volume, std::move(step));
  if (!removed.ok()) {
    co_return removed.error().with_context("delete snapshot " + snapshot->name + " of volume " + volume.name);
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
      Status finished = co_await cut_replicas(view, snapshot);
      HF_CO_TRY(finished);
      snapshot->state = LifeState::kReady;
      Batch done(catalog_);
      done.put(snapshot);
      Status recorded = co_await catalog_.commit(std::move(done));
      HF_CO_TRY(recorded);
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
  info.frozen = snapshot.frozen;
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
