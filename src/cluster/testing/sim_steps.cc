#include "cluster/testing/sim_steps.h"

#include "cluster/testing/sim_oracle.h"
#include "volume/spec/inline_parser.h"

namespace hf::cluster {
namespace {

constexpr uint64_t kSize = 64 * kMiB;
constexpr uint64_t kOldData = 3;  // of the snapshot
constexpr uint64_t kData = 5;
constexpr uint64_t kMoreData = 6;   // once a snapshot has been disturbed
constexpr uint64_t kLastData = 7;   // before it is asked for again
constexpr uint64_t kOtherData = 9;  // of a volume that nothing is done to

class StepRun {
 public:
  explicit StepRun(const StepCase& c) : plan_(1), rig_(77), case_(c) {}

  StepResult run() {
    rig_.loop().run(whole());
    for (const std::string& what : rig_.node().violations) wrongs_.add(what);
    StepResult result;
    result.failure = wrongs_.text();
    result.steps = steps_;
    plan_.add_to(&result.probes);
    return result;
  }

 private:
  StepVerb verb() const { return case_.verb; }
  bool is(StepVerb a, StepVerb b = StepVerb::kCount, StepVerb c = StepVerb::kCount) const {
    return verb() == a || verb() == b || verb() == c;
  }
  void expect(bool holds, const std::string& what) {
    if (!holds) wrongs_.add(what);
  }
  void expect_ok(const Status& status, const char* what) {
    if (!status.ok()) wrongs_.add(std::string(what) + ": " + status.error().to_string());
  }

  Task<void> whole() {
    Status started = co_await rig_.start();
    expect_ok(started, "start");
    co_await prepare();
    const uint64_t before = rig_.node().steps;
    if (case_.step > 0 && case_.fault == StepFault::kFail) {
      rig_.node().fail_at = before + case_.step;
    } else if (case_.step > 0) {
      rig_.node().kill_at = before + case_.step;
    }
    Status first = co_await ask();
    steps_ = rig_.node().steps - before;
    rig_.node().fail_at = 0;
    if (rig_.is_dead()) {
      co_await come_back();
    } else {
      rig_.node().kill_at = 0;
      if (case_.step == 0) expect_ok(first, "undisturbed");
      write_on(kMoreData);
    }
    if (case_.rest_first && is(StepVerb::kDeleteLost, StepVerb::kGiveUpPool)) {
      co_await rig_.sleep(std::chrono::minutes(2));
      if (rig_.is_dead()) co_await come_back();
    } else if (case_.rest_first) {
      co_await rest();
      write_on(kLastData);
    }
    // Whatever the restore has come to, what is there can be used.
    if (case_.rest_first && verb() == StepVerb::kRestoreBeforeFirstMount) co_await use("v");
    Status again = co_await ask();
    for (int tries = 0; rig_.is_dead() && tries < 3; ++tries) {  // the second kill came only now
      co_await come_back();
      again = co_await ask();
    }
    rig_.node().kill_at = 0;
    if (!(verb() == StepVerb::kDeleteSnapshot && again.code() == ErrorCode::kNotFound)) {
      expect_ok(again, "asked again");
    }
    if (is(StepVerb::kMountFirst, StepVerb::kMountAgain)) run_container("/m/v");
    if (verb() == StepVerb::kGiveUpPool) co_await check_given_up();
    std::vector<VolumeInfo> volumes = co_await rest();
    co_await check(volumes);
    co_await take_all_down(rig_, volumes, 0, wrongs_);
  }

  // Of the daemon; with a second kill on its way up, and the third start undisturbed.
  Task<void> come_back() {
    const bool first = !came_back_;
    came_back_ = true;
    rig_.node().kill_at = 0;
    if (first && case_.fault == StepFault::kReboot) {
      co_await rig_.reboot();
      rebooted_ = true;
    } else {
      co_await rig_.crash();
    }
    if (first && case_.second_kill > 0) {
      rig_.node().kill_at = rig_.node().steps + case_.second_kill;
    }
    // What waited for the daemon is written as soon as it serves, before it settles anything.
    if (first) write_on(kMoreData);
    co_await boot();
  }
  Task<void> boot() {
    while (true) {
      Status up = co_await rig_.start();
      if (up.ok() && !rig_.is_dead()) co_return;
      co_await rig_.crash();
    }
  }
  Task<std::vector<VolumeInfo>> rest() {
    if (is_lost() && verb() != StepVerb::kDeleteLost) find_again();
    for (int i = 0; i < 8; ++i) {
      co_await rig_.sleep(std::chrono::seconds(30));
      if (rig_.is_dead()) co_await come_back();
    }
    rig_.node().kill_at = 0;
    std::vector<VolumeInfo> volumes;
    if (verb() == StepVerb::kAddPool && rig_.node().pools.empty()) co_return std::move(volumes);
    volumes = co_await look_at_rest(rig_, 0, wrongs_);
    check_node_at_rest(rig_, volumes, 0, wrongs_);
    co_return std::move(volumes);
  }

  // ---- what was there before
  Task<void> make(std::string name, uint64_t data, std::string more = "") {
    CreateVolume request;
    request.name = name;
    request.spec = spec::parse_volume_name("name=" + name + ",size=64M" + more)->spec;
    request.spec.explicit_keys = spec::KeySet();
    Result<VolumeInfo> made = co_await rig_.control().create_volume(request);
    expect(made.ok(), "prepare: create");
    if (data > 0) co_await write(name, data);
  }
  Task<Result<MountInfo>> mount(std::string name, std::string holder) {
    MountVolume request;
    request.name = name;
    request.holder = holder;
    co_return co_await rig_.control().mount_volume(request);
  }
  Task<Status> unmount(std::string name, std::string holder) {
    UnmountVolume request;
    request.name = name;
    request.holder = holder;
    co_return co_await rig_.control().unmount_volume(request);
  }
  Task<void> use(std::string name) {
    Result<MountInfo> mounted = co_await mount(name, "docker:user");
    expect(mounted.ok(), name + " cannot be mounted");
    Status down = co_await unmount(name, "docker:user");
    expect_ok(down, "unmount");
  }
  Task<void> write(std::string name, uint64_t data) {
    Result<MountInfo> mounted = co_await mount(name, "docker:writer");
    expect(mounted.ok(), "prepare: mount");
    if (mounted.ok()) rig_.node().behind(rig_.node().mounts.at(mounted->path))->head.data = data;
    Status down = co_await unmount(name, "docker:writer");
    expect_ok(down, "prepare: unmount");
  }
  // The container goes on writing: a snapshot is of the moment of one call, never of a moment between two.
  void write_on(uint64_t data) {
    if (verb() != StepVerb::kSnapshotMounted || case_.step == 0 || rebooted_) return;
    SimReplica* replica = rig_.node().behind(rig_.node().containers.at("run"));
    if (replica == nullptr) return;
    replica->head.data = last_data_ = data;
  }
  Task<void> cut() {
    CreateSnapshot request;
    request.volume = "v";
    request.name = "s";
    Result<SnapshotInfo> made = co_await rig_.control().create_snapshot(request);
    expect(made.ok(), "prepare: snapshot");
  }
  void run_container(const std::string& path) {
    const auto found = rig_.node().mounts.find(path);
    expect(found != rig_.node().mounts.end(), "nothing is mounted at " + path);
    if (found != rig_.node().mounts.end()) rig_.node().containers["run"] = found->second;
  }
  Task<Status> bind() {
    MountVolume request;
    request.name = "v";
    request.holder = "path:/t/v";
    request.target_path = "/t/v";
    Result<MountInfo> mounted = co_await rig_.control().mount_volume(request);
    HF_CO_TRY(mounted);
    co_return Status();
  }
  Task<Status> attach() {
    AttachVolume request;
    request.name = "v";
    Result<VolumeInfo> attached = co_await rig_.control().attach_volume(request);
    HF_CO_TRY(attached);
    co_return Status();
  }

  bool has_snapshot() const {
    return is(StepVerb::kDeleteWithSnapshots, StepVerb::kCloneOfSnapshot,
              StepVerb::kCloneOfBlankSnapshot) ||
           is(StepVerb::kDeleteSnapshot, StepVerb::kRestore, StepVerb::kRestoreBeforeFirstMount);
  }
  bool has_container() const {
    return is(StepVerb::kResizeMounted, StepVerb::kSnapshotMounted, StepVerb::kStart) ||
           is(StepVerb::kSnapshotFrozen);
  }
  bool is_lost() const {
    return is(StepVerb::kDetachLost, StepVerb::kUnmountLost, StepVerb::kDeleteLost);
  }
  bool begins_with_v() const {
    return !is(StepVerb::kCreate, StepVerb::kAddPool);
  }
  bool blank_snapshot() const {
    return is(StepVerb::kRestoreBeforeFirstMount, StepVerb::kCloneOfBlankSnapshot);
  }
  bool blank() const { return verb() == StepVerb::kMountFirst; }

  Task<void> lose_mounted() {
    Result<MountInfo> mounted = co_await mount("v", "docker:gone");
    expect(mounted.ok(), "prepare: holder");
    co_await rig_.sleep(std::chrono::seconds(50));
    Result<VolumeInfo> v = co_await rig_.control().inspect_volume("v");
    expect(v.ok(), "prepare: inspect");
    co_await rig_.crash();
    if (v.ok())
      lost_ = rig_.node().pools.at(v->replicas.at(0).pool).replicas.extract(v->replicas.at(0).id);
    Status up = co_await rig_.start();
    expect_ok(up, "prepare: start without the replica");
    v = co_await rig_.control().inspect_volume("v");
    expect(v.ok() && v->state == VolumeState::kLost, "prepare: v is not lost");
  }
  // The right pool is there again.
  void find_again() {
    if (!lost_.empty()) rig_.node().pools.begin()->second.replicas.insert(std::move(lost_));
  }

  Task<PoolId> add_second_pool() {
    AddPool pool;
    pool.path = "/pool2";
    pool.io_class = 3;
    Result<PoolInfo> added = co_await rig_.control().add_pool(pool);
    expect(added.ok(), "prepare: second pool");
    co_return added.ok() ? added->id : PoolId();
  }
  // Its disk is gone while its volume is mounted.
  Task<void> lose_pool() {
    const PoolId pool = co_await add_second_pool();
    co_await make("g", 0, ",io_priority=high");
    Result<MountInfo> mounted = co_await mount("g", "docker:gone");
    expect(mounted.ok(), "prepare: holder");
    co_await rig_.sleep(std::chrono::seconds(50));
    co_await rig_.crash();
    expect(rig_.node().pools.at(pool).replicas.size() == 1, "prepare: g is in the other pool");
    rig_.node().pools.erase(pool);
    Status up = co_await rig_.start();
    expect_ok(up, "prepare: start without the pool");
  }
  // What had nothing elsewhere says so, and can be deleted.
  Task<void> check_given_up() {
    co_await rig_.sleep(std::chrono::minutes(2));
    Result<VolumeInfo> g = co_await rig_.control().inspect_volume("g");
    expect(g.ok() && g->state == VolumeState::kLost, "g is not lost");
    if (g.ok()) {
      expect(g->message.find("was removed") != std::string::npos, "g does not say why: " + g->message);
      expect(g->replicas.at(0).state == ReplicaState::kLost, "its replica is not lost");
    }
    DeleteVolume request;
    request.name = "g";
    Status gone = co_await rig_.control().delete_volume(request);
    expect_ok(gone, "delete what was lost");
  }

  Task<void> prepare() {
    if (verb() == StepVerb::kAddPool) co_return;
    AddPool pool;
    pool.path = "/pool";
    Result<PoolInfo> added = co_await rig_.control().add_pool(pool);
    expect(added.ok(), "prepare: pool");
    co_await make("other", kOtherData);
    if (!begins_with_v()) co_return;
    co_await make("v", 0);
    if (blank_snapshot()) co_await cut();
    if (!blank()) co_await write("v", kOldData);
    if (has_snapshot() && !blank_snapshot()) co_await cut();
    if (!blank()) co_await write("v", kData);
    if (has_container()) {
      Result<MountInfo> mounted = co_await mount("v", "docker:run");
      expect(mounted.ok(), "prepare: container");
      run_container("/m/v");
    }
    if (is(StepVerb::kDeleteWithStaleHolder, StepVerb::kUnmountLast,
           StepVerb::kUnmountKeepAttached)) {
      Result<MountInfo> mounted = co_await mount("v", "docker:gone");
      expect(mounted.ok(), "prepare: holder");
      co_await rig_.sleep(std::chrono::seconds(50));
    }
    if (is_lost()) co_await lose_mounted();
    if (verb() == StepVerb::kRemovePool) co_await add_second_pool();
    if (verb() == StepVerb::kGiveUpPool) co_await lose_pool();
    if (verb() == StepVerb::kUnbind) {
      Status bound = co_await bind();
      expect_ok(bound, "prepare: bind");
    }
    if (verb() == StepVerb::kDetach) {
      Status attached = co_await attach();
      expect_ok(attached, "prepare: attach");
    }
  }

  // ---- the operation
  Task<Status> ask() {
    switch (verb()) {
      case StepVerb::kCreate:
      case StepVerb::kCreateFromParent:
        return ask_create();
      case StepVerb::kDelete:
      case StepVerb::kDeleteWithSnapshots:
      case StepVerb::kDeleteWithStaleHolder:
        return ask_delete();
      case StepVerb::kClone:
      case StepVerb::kCloneOfSnapshot:
      case StepVerb::kCloneOfBlankSnapshot:
        return ask_clone();
      case StepVerb::kResizeDetached:
      case StepVerb::kResizeMounted:
        return ask_resize();
      case StepVerb::kSnapshot:
      case StepVerb::kSnapshotMounted:
      case StepVerb::kSnapshotFrozen:
        return ask_snapshot();
      case StepVerb::kDeleteSnapshot:
        return rig_.control().delete_snapshot("v", "s");
      case StepVerb::kRestore:
      case StepVerb::kRestoreBeforeFirstMount:
        return ask_restore();
      case StepVerb::kAttach:
        return attach();
      case StepVerb::kDetach:
        return rig_.control().detach_volume("v");
      case StepVerb::kMountFirst:
      case StepVerb::kMountAgain:
        return ask_mount();
      case StepVerb::kBind:
        return bind();
      case StepVerb::kUnmountLast:
      case StepVerb::kUnmountKeepAttached:
      case StepVerb::kUnbind:
        return ask_unmount();
      case StepVerb::kUpdateLabels:
      case StepVerb::kUpdateSize:
        return ask_update();
      case StepVerb::kAddPool:
        return ask_add_pool();
      case StepVerb::kExpandPool:
        return ask_expand_pool();
      case StepVerb::kRemovePool:
      case StepVerb::kGiveUpPool:
        return ask_remove_pool();
      case StepVerb::kStart:
        return ask_start();
      case StepVerb::kDetachLost:
        return rig_.control().detach_volume("v");
      case StepVerb::kUnmountLost:
        return ask_unmount();
      case StepVerb::kDeleteLost:
        return ask_delete();
      case StepVerb::kCount:
        break;
    }
    HF_UNREACHABLE("verb {}", static_cast<int>(verb()));
  }
  template <typename R>
  static Status status_of(const R& result) {
    return result.ok() ? Status() : Status(result.error());
  }
  Task<Status> ask_create() {
    CreateVolume request;
    request.name = target();
    const std::string more = verb() == StepVerb::kCreateFromParent ? ",parent=v" : ",size=64M";
    request.spec = spec::parse_volume_name("name=" + request.name + more)->spec;
    Result<VolumeInfo> made = co_await rig_.control().create_volume(request);
    co_return status_of(made);
  }
  Task<Status> ask_delete() {
    DeleteVolume request;
    request.name = "v";
    request.missing_ok = true;
    request.with_snapshots = verb() == StepVerb::kDeleteWithSnapshots;
    co_return co_await rig_.control().delete_volume(request);
  }
  Task<Status> ask_clone() {
    CloneVolume request;
    request.name = target();
    request.parent = "v";
    if (verb() != StepVerb::kClone) request.snapshot = "s";
    Result<VolumeInfo> made = co_await rig_.control().clone_volume(request);
    co_return status_of(made);
  }
  Task<Status> ask_resize() {
    Result<VolumeInfo> grown = co_await rig_.control().resize_volume("v", 2 * kSize);
    co_return status_of(grown);
  }
  Task<Status> ask_snapshot() {
    CreateSnapshot request;
    request.volume = "v";
    request.name = "s";
    request.freeze = verb() == StepVerb::kSnapshotFrozen;
    Result<SnapshotInfo> made = co_await rig_.control().create_snapshot(request);
    co_return status_of(made);
  }
  Task<Status> ask_restore() {
    Result<VolumeInfo> restored = co_await rig_.control().restore_snapshot("v", "s");
    co_return status_of(restored);
  }
  Task<Status> ask_mount() {
    Result<MountInfo> mounted = co_await mount("v", "docker:run");
    co_return status_of(mounted);
  }
  Task<Status> ask_unmount() {
    UnmountVolume request;
    request.name = "v";
    if (verb() == StepVerb::kUnbind) {
      request.target_path = "/t/v";
    } else {
      request.holder = "docker:gone";
    }
    request.detach_when_last = verb() != StepVerb::kUnmountKeepAttached;
    co_return co_await rig_.control().unmount_volume(request);
  }
  Task<Status> ask_update() {
    UpdateVolume request;
    request.name = "v";
    request.options["labels"] = "tier=gold";
    if (verb() == StepVerb::kUpdateSize) request.options["size"] = "128M";
    Result<VolumeInfo> updated = co_await rig_.control().update_volume(request);
    co_return status_of(updated);
  }
  Task<Status> ask_add_pool() {
    AddPool request;
    request.path = "/pool";
    Result<PoolInfo> added = co_await rig_.control().add_pool(request);
    co_return status_of(added);
  }
  Task<Status> ask_expand_pool() {
    Result<PoolInfo> grown = co_await rig_.control().expand_pool("/pool", 200 * kGiB);
    co_return status_of(grown);
  }
  Task<Status> ask_remove_pool() {
    RemovePool request;
    request.pool = "/pool2";
    request.force = verb() == StepVerb::kGiveUpPool;
    request.missing_ok = true;
    Result<PoolRemoval> removed = co_await rig_.control().remove_pool(request);
    co_return status_of(removed);
  }
  Task<Status> ask_start() {
    co_await rig_.crash();
    co_return co_await rig_.start();
  }

  // ---- what must be there afterwards
  std::string target() const { return verb() == StepVerb::kCreate ? "v" : "w"; }
  const VolumeInfo* find(const std::vector<VolumeInfo>& volumes, const std::string& name) {
    for (const VolumeInfo& info : volumes) {
      if (info.name == name) return &info;
    }
    return nullptr;
  }
  uint64_t data_of(const VolumeInfo& info) {
    const SimReplica* replica = rig_.node().find(info.replicas.at(0).pool, info.replicas.at(0).id);
    return replica == nullptr ? UINT64_MAX : replica->head.data;
  }

  Task<void> check(const std::vector<VolumeInfo>& volumes) {
    Result<std::vector<PoolInfo>> pools = co_await rig_.control().list_pools();
    // What was in the one that is removed stays, and nobody has it open.
    const size_t there = verb() == StepVerb::kRemovePool ? 2 : 1;
    expect(pools.ok() && pools->size() == 1 && rig_.node().pools.size() == there, "not one pool");
    for (const auto& [id, pool] : rig_.node().pools) {
      if (pool.path == "/pool2") expect(!pool.opened_by.contains(rig_.node().living), "a removed pool is open");
    }
    if (verb() == StepVerb::kAddPool) co_return;
    const VolumeInfo* other = find(volumes, "other");
    expect(other != nullptr && data_of(*other) == kOtherData, "another volume has changed");
    if (verb() == StepVerb::kExpandPool && pools.ok() && !pools->empty()) {
      expect(pools->front().total_bytes == 200 * kGiB, "the pool has not grown");
    }
    const bool deleted =
        is(StepVerb::kDelete, StepVerb::kDeleteWithSnapshots, StepVerb::kDeleteWithStaleHolder) ||
        verb() == StepVerb::kDeleteLost;
    const bool cloned =
        is(StepVerb::kClone, StepVerb::kCloneOfSnapshot, StepVerb::kCreateFromParent) ||
        is(StepVerb::kCloneOfBlankSnapshot);
    const size_t expected = (deleted ? 1 : 2) + (cloned ? 1 : 0);
    expect(volumes.size() == expected,
           fmt::format("{} volumes instead of {}", volumes.size(), expected));
    const VolumeInfo* v = find(volumes, "v");
    expect((v == nullptr) == deleted, deleted ? "v is not deleted" : "v is not there");
    if (v != nullptr) check_v(*v);
    const VolumeInfo* w = find(volumes, "w");
    if (!cloned) co_return;
    expect(w != nullptr, "w is not there");
    if (w == nullptr) co_return;
    co_await use("w");
    uint64_t data = verb() == StepVerb::kCloneOfSnapshot ? kOldData : kData;
    if (verb() == StepVerb::kCloneOfBlankSnapshot) data = 0;
    expect(data_of(*w) == data, fmt::format("w has data {}", data_of(*w)));
  }
  void check_v(const VolumeInfo& v) {
    uint64_t data = kData;
    if (blank() || is(StepVerb::kCreate, StepVerb::kRestoreBeforeFirstMount)) data = 0;
    if (verb() == StepVerb::kRestore) data = kOldData;
    if (verb() == StepVerb::kSnapshotMounted) {
      data = last_data_;
      const SimReplica* replica = rig_.node().find(v.replicas.at(0).pool, v.replicas.at(0).id);
      for (const auto& [id, image] : replica->snapshots)
        expect(image.data == kData || image.data == last_data_, fmt::format("s has data {}", image.data));
    }
    expect(data_of(v) == data, fmt::format("v has data {}, not {}", data_of(v), data));
    const bool grown =
        is(StepVerb::kResizeDetached, StepVerb::kResizeMounted, StepVerb::kUpdateSize);
    expect(v.size_bytes == (grown ? 2 * kSize : kSize), "v has the wrong size");
    const bool cut = is(StepVerb::kSnapshot, StepVerb::kSnapshotMounted, StepVerb::kSnapshotFrozen);
    if (verb() == StepVerb::kSnapshotFrozen) {
      const SimReplica* replica = rig_.node().find(v.replicas.at(0).pool, v.replicas.at(0).id);
      for (const auto& [id, image] : replica->snapshots) expect(!image.torn, "s was cut unfrozen");
    }
    const bool kept = has_snapshot() && verb() != StepVerb::kDeleteSnapshot;
    expect(v.snapshot_count == (cut || kept ? 1 : 0), "v has the wrong snapshots");
    if (is(StepVerb::kUpdateLabels, StepVerb::kUpdateSize)) {
      expect(v.spec.labels.contains("tier"), "v has not its label");
    }
    const bool mounted = is(StepVerb::kMountFirst, StepVerb::kMountAgain, StepVerb::kBind);
    const bool pinned = is(StepVerb::kAttach);
    // A reboot ends attachments; what the operation asks for again is there again.
    const bool attached = mounted || pinned || (has_container() && !rebooted_);
    const bool either = verb() == StepVerb::kUnmountKeepAttached;
    expect(either || v.attachment.has_value() == attached,
           attached ? "v is not attached" : "v is attached");
    if (verb() == StepVerb::kBind) expect(rig_.node().mounts.contains("/t/v"), "v is not bound");
    if (mounted && verb() != StepVerb::kBind) {
      expect(rig_.node().mounts.contains("/m/v"), "v is not mounted");
    }
    if (has_container() && !rebooted_) {
      expect(rig_.node().behind(rig_.node().containers.at("run")) != nullptr,
             "the container's device is gone");
      if (verb() == StepVerb::kResizeMounted) {
        SimReplica* replica = rig_.node().behind(rig_.node().containers.at("run"));
        expect(replica != nullptr && replica->head.fs_size == 2 * kSize, "its files did not grow");
      }
    }
  }

  sim::SimFaultPlan plan_;
  SimRig rig_;
  const StepCase case_;
  Wrongs wrongs_;
  uint64_t steps_ = 0;
  uint64_t last_data_ = kData;
  bool came_back_ = false;
  std::map<ReplicaId, SimReplica>::node_type lost_;
  bool rebooted_ = false;
};

}  // namespace

const char* step_verb_name(StepVerb verb) {
  constexpr const char* kNames[] = {"Create",
                                    "CreateFromParent",
                                    "Delete",
                                    "DeleteWithSnapshots",
                                    "DeleteWithStaleHolder",
                                    "Clone",
                                    "CloneOfSnapshot",
                                    "CloneOfBlankSnapshot",
                                    "ResizeDetached",
                                    "ResizeMounted",
                                    "Snapshot",
                                    "SnapshotMounted",
                                    "SnapshotFrozen",
                                    "DeleteSnapshot",
                                    "Restore",
                                    "RestoreBeforeFirstMount",
                                    "Attach",
                                    "Detach",
                                    "MountFirst",
                                    "MountAgain",
                                    "Bind",
                                    "UnmountLast",
                                    "UnmountKeepAttached",
                                    "Unbind",
                                    "UpdateLabels",
                                    "UpdateSize",
                                    "AddPool",
                                    "ExpandPool",
                                    "RemovePool",
                                    "GiveUpPool",
                                    "Start",
                                    "DetachLost",
                                    "UnmountLost",
                                    "DeleteLost"};
  static_assert(std::size(kNames) == static_cast<size_t>(StepVerb::kCount));
  return kNames[static_cast<size_t>(verb)];
}

StepResult run_step_case(const StepCase& c) {
  StepRun run(c);
  return run.run();
}

}  // namespace hf::cluster
