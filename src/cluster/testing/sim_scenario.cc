#include "cluster/testing/sim_scenario.h"

#include <algorithm>
#include <set>

#include "base/log.h"
#include "cluster/testing/sim_oracle.h"
#include "sim/fault_plan.h"
#include "volume/spec/inline_parser.h"

namespace hf::cluster {
namespace {

enum class Known : uint8_t { kNo, kYes, kUnknown };

struct ModelSnapshot {
  Known there = Known::kNo;
  uint64_t data = 0;
  // What the volume held whenever it was asked for, since it was certainly not there. `sure`: all of
  // those moments are known.
  std::set<uint64_t> asked_at;
  bool sure = true;
};

// What one client knows about one of its volumes.
struct ModelVolume {
  std::string name;
  Known there = Known::kNo;
  uint64_t least_size = 0;
  uint64_t data = 0;       // what its containers have written
  bool data_known = true;  // false after a restore or a clone whose outcome nobody told
  bool maybe_pinned = false;
  Known bound = Known::kNo;  // at a path of its own
  std::string container;     // the running one, by its Docker ID; empty: none
  std::map<std::string, ModelSnapshot> snapshots;

  std::string target() const { return "/t/" + name; }
  // Somebody was told that it is there for them.
  bool used() const { return !container.empty() || bound == Known::kYes; }
};

class Scenario {
 public:
  Scenario(uint64_t seed, bool verbose)
      : plan_(seed), rig_(seed), prng_(seed * 7919 + 1), verbose_(verbose) {
    rig_.faults.refuse_one_in = prng_.chance(1, 3) ? 0 : prng_.between(15, 80);
    rig_.store_faults_one_in = prng_.chance(1, 3) ? 0 : prng_.between(8, 60);
    rig_.store_late = prng_.chance(1, 3);
  }

  void run() { rig_.loop().run(whole()); }
  ScenarioResult result() {
    ScenarioResult result;
    result.failure = wrongs_.text();
    plan_.add_to(&result.probes);
    result.probes["operations acknowledged"] = acknowledged_;
    result.probes["crashes"] = crashes_;
    return result;
  }

 private:
  static constexpr int kClients = 3;
  static constexpr int kVolumesEach = 2;

  Task<void> whole() {
    co_await boot();
    AddPool pool;
    pool.path = "/pool";
    Result<PoolInfo> added = Error(ErrorCode::kInternal, "");
    while (!added.ok()) {
      added = co_await rig_.control().add_pool(pool);
      if (rig_.is_dead()) co_await bury();
    }
    if (prng_.chance(1, 4)) add_stray();
    Gate clients;
    for (int i = 0; i < kClients; ++i) (void)spawn(clients, client(i));
    while (running_ > 0) {
      arm();
      while (running_ > 0 && !rig_.is_dead()) co_await rig_.sleep(std::chrono::milliseconds(20));
      if (rig_.is_dead()) co_await bury();
    }
    co_await clients.close();
    co_await quiesce();
    check_at_rest();
    co_await lose_one();
    co_await take_all_down(rig_, listed_, strays_, wrongs_);
    for (const std::string& what : rig_.node().violations) fail(what);
  }

  // Somebody's data in our pool, of which no record knows.
  void add_stray() {
    SimReplica foreign;
    foreign.volume = VolumeId::from_random(prng_.next(), prng_.next());
    foreign.head.size = 64 * kMiB;
    foreign.head.data = 7;
    SimPool& pool = rig_.node().pools.begin()->second;
    pool.replicas[ReplicaId::from_random(prng_.next(), prng_.next())] = foreign;
    ++strays_;
  }

  // ---- life and death
  void arm() {
    if (rig_.node().kill_at > rig_.node().steps || crashes_ >= max_crashes_) return;
    rig_.node().kill_at = rig_.node().steps + prng_.between(1, 150);
  }
  Task<void> boot() {
    while (true) {
      Status started = co_await rig_.start();
      if (started.ok() && !rig_.is_dead()) break;
      co_await rig_.crash();
    }
    up_ = true;
    back_.notify_all();
  }
  // The daemon was killed: its callers have got their errors, the next one starts.
  Task<void> bury() {
    up_ = false;
    ++crashes_;
    log("killed at step {}", rig_.node().steps);
    while (calls_ > 0) co_await rig_.sleep(std::chrono::milliseconds(1));
    if (prng_.chance(1, 8)) {
      log("and the machine reboots");
      co_await rig_.reboot();
      ++reboots_;
      for (auto& [number, volumes] : model_) {
        for (ModelVolume& v : volumes) {
          v.container.clear();
          v.bound = Known::kNo;
          v.maybe_pinned = false;
        }
      }
    } else {
      co_await rig_.crash();
    }
    co_await rig_.sleep(Duration(static_cast<int64_t>(prng_.below(5'000'000'000))));
    arm();  // also while it starts
    co_await boot();
  }
  Task<void> wait_up() {
    while (!up_ || rig_.is_dead()) {
      if (!up_) {
        co_await back_.wait();
      } else {
        co_await rig_.sleep(std::chrono::milliseconds(5));
      }
    }
    ++calls_;
  }

  // ---- clients
  Task<void> client(int number) {
    ++running_;
    std::vector<ModelVolume>& mine = model_[static_cast<size_t>(number)];
    mine.resize(kVolumesEach);
    for (int i = 0; i < kVolumesEach; ++i) {
      mine[static_cast<size_t>(i)].name = fmt::format("c{}-v{}", number, i);
    }
    const uint64_t operations = prng_.between(8, 25);
    for (uint64_t i = 0; i < operations; ++i) {
      co_await wait_up();
      ModelVolume& volume = mine[prng_.below(mine.size())];
      co_await one_operation(volume);
      --calls_;
      if (prng_.chance(1, 4)) {
        co_await rig_.sleep(Duration(static_cast<int64_t>(prng_.below(40'000'000'000))));
      }
    }
    --running_;
  }

  Task<void> one_operation(ModelVolume& v) {
    switch (prng_.below(18)) {
      case 0:
      case 1:
      case 2:
        return create(v);
      case 3:
        return remove(v);
      case 4:
      case 5:
      case 6:
        return start_container(v);
      case 7:
      case 8:
        return stop_container(v);
      case 9:
        return prng_.chance(1, 4) ? unmount_too_soon(v) : copy_files(v);
      case 10:
        return resize(v);
      case 13:
        return bind(v);
      case 14:
        return unbind(v);
      case 11:
        return snapshot(v);
      case 12:
        return prng_.chance(1, 2) ? restore(v) : drop_snapshot(v);
      case 16:
        return update(v);
      case 17:
        return prng_.chance(1, 3) ? expand_pool(v) : look(v);
      default:
        return prng_.chance(1, 3) ? clone(v) : prng_.chance(1, 2) ? pin(v) : unpin(v);
    }
  }

  template <typename R>
  bool acknowledged(const char* what, const ModelVolume& v, const R& result) {
    log("{} {}: {}", what, v.name, result.ok() ? "ok" : result.error().to_string());
    if (result.ok()) ++acknowledged_;
    return result.ok();
  }

  Task<void> create(ModelVolume& v) {
    CreateVolume request;
    request.name = v.name;
    request.spec = spec::parse_volume_name("name=" + v.name + ",size=64M")->spec;
    request.spec.explicit_keys = spec::KeySet();
    const Known before = v.there;
    if (v.there == Known::kNo) v.there = Known::kUnknown;
    Result<VolumeInfo> made = co_await rig_.control().create_volume(request);
    if (!acknowledged("create", v, made)) co_return;
    if (before == Known::kNo) fresh(v);
    v.there = Known::kYes;
    v.least_size = std::max<uint64_t>(v.least_size, 64 * kMiB);
  }
  // A volume of this name that was not there before.
  void fresh(ModelVolume& v) {
    v.data = 0;
    v.data_known = true;
    v.least_size = 0;
    v.snapshots.clear();
    v.bound = Known::kNo;
    v.maybe_pinned = false;
  }

  Task<void> remove(ModelVolume& v) {
    DeleteVolume request;
    request.name = v.name;
    request.missing_ok = true;
    request.with_snapshots = true;
    const bool used = v.used();
    const Known before = v.there;
    Status gone = co_await rig_.control().delete_volume(request);
    check_untouched(v, gone.code());
    if (acknowledged("delete", v, gone)) {
      if (used) fail(v.name + " was deleted under a running container");
      v.there = Known::kNo;
      fresh(v);
    } else if (!used && before != Known::kNo) {
      v.there = Known::kUnknown;
      v.data_known = false;
      v.least_size = 0;
      for (auto& [name, snapshot] : v.snapshots) snapshot.there = Known::kUnknown;
    }
  }

  Task<void> start_container(ModelVolume& v) {
    if (!v.container.empty()) co_return;
    MountVolume request;
    request.name = v.name;
    const std::string id = fmt::format("id{}", ++containers_started_);
    request.holder = "docker:" + id;
    Result<MountInfo> mounted = co_await rig_.control().mount_volume(request);
    if (!acknowledged("mount", v, mounted)) co_return;
    if (v.there == Known::kNo) fail(v.name + " was mounted, and is not there");
    v.there = Known::kYes;
    bool starts = true;
    if (prng_.chance(1, 3)) starts = co_await before_start();
    if (!starts) co_return;
    SimImage* image = image_at(mounted->path, "mounted", v);
    if (image == nullptr) co_return;
    rig_.node().containers[id] = rig_.node().mounts.at(mounted->path);
    v.container = id;
    if (v.data_known && image->data != v.data) {
      fail(fmt::format("{} has data {}, {} were written", v.name, image->data, v.data));
    }
    if (image->fs_size < v.least_size)
      fail(v.name + ": its file system is smaller than the volume");
    image->data += prng_.between(1, 5);
    v.data = image->data;
    v.data_known = true;
  }

  // Between the answer to Mount and the container's own mount the engine takes its time, and the daemon
  // may die. A reboot would end the container as well: then there is no start.
  Task<bool> before_start() {
    const uint64_t reboots = reboots_;
    --calls_;
    co_await rig_.sleep(Duration(static_cast<int64_t>(prng_.below(8'000'000'000))));
    co_await wait_up();
    co_return reboots == reboots_;
  }

  Task<void> stop_container(ModelVolume& v) {
    if (v.container.empty()) co_return;
    const std::string id = v.container;
    check_running(v);
    rig_.node().containers.erase(id);
    v.container.clear();
    if (prng_.chance(1, 5)) co_return;  // the engine died and never says so
    UnmountVolume request;
    request.name = v.name;
    request.holder = "docker:" + id;
    Status down = co_await rig_.control().unmount_volume(request);
    if (!acknowledged("unmount", v, down) && prng_.chance(1, 2)) {
      log("unmount {}: given up by the engine", v.name);
    }
  }

  // docker cp: Mount and Unmount with the ID of the running container.
  Task<void> copy_files(ModelVolume& v) {
    if (v.container.empty()) co_return;
    MountVolume request;
    request.name = v.name;
    request.holder = "docker:" + v.container;
    Result<MountInfo> mounted = co_await rig_.control().mount_volume(request);
    if (!acknowledged("cp mount", v, mounted)) co_return;
    if (image_at(mounted->path, "copied", v) == nullptr) co_return;
    UnmountVolume back;
    back.name = v.name;
    back.holder = request.holder;
    Status down = co_await rig_.control().unmount_volume(back);
    (void)acknowledged("cp unmount", v, down);
    check_running(v);
  }

  // An engine that lost count after its restart: Unmount while the container runs on.
  Task<void> unmount_too_soon(ModelVolume& v) {
    if (v.container.empty()) co_return;
    UnmountVolume request;
    request.name = v.name;
    request.holder = "docker:" + v.container;
    Status down = co_await rig_.control().unmount_volume(request);
    (void)acknowledged("unmount too soon", v, down);
    check_running(v);
  }

  Task<void> bind(ModelVolume& v) {
    MountVolume request;
    request.name = v.name;
    request.holder = "path:" + v.target();
    request.target_path = v.target();
    if (v.bound == Known::kNo) v.bound = Known::kUnknown;
    Result<MountInfo> mounted = co_await rig_.control().mount_volume(request);
    if (!acknowledged("bind", v, mounted)) co_return;
    if (v.there == Known::kNo) fail(v.name + " was bound, and is not there");
    v.there = Known::kYes;
    v.bound = Known::kYes;
    (void)image_at(v.target(), "bound", v);
  }

  Task<void> unbind(ModelVolume& v) {
    UnmountVolume request;
    request.name = v.name;
    request.target_path = v.target();
    if (v.bound == Known::kYes) v.bound = Known::kUnknown;
    Status down = co_await rig_.control().unmount_volume(request);
    if (!acknowledged("unbind", v, down)) co_return;
    v.bound = Known::kNo;
    if (rig_.node().mounts.contains(v.target())) fail(v.name + " was unbound, and is still there");
  }

  Task<void> resize(ModelVolume& v) {
    const uint64_t size = std::max<uint64_t>(v.least_size, 64 * kMiB) + prng_.between(1, 8) * kMiB;
    Result<VolumeInfo> grown = co_await rig_.control().resize_volume(v.name, size);
    if (!acknowledged("resize", v, grown)) co_return;
    if (v.there == Known::kNo) fail(v.name + " was resized, and is not there");
    v.least_size = size;
  }

  // Labels, sometimes with a size.
  Task<void> update(ModelVolume& v) {
    UpdateVolume request;
    request.name = v.name;
    request.options["labels"] = fmt::format("n={}", prng_.below(100));
    const uint64_t size = std::max<uint64_t>(v.least_size, 64 * kMiB) + prng_.between(1, 4) * kMiB;
    const bool grows = prng_.chance(1, 3);
    if (grows) request.options["size"] = fmt::format("{}M", size / kMiB);
    Result<VolumeInfo> updated = co_await rig_.control().update_volume(request);
    if (!acknowledged("update", v, updated)) co_return;
    if (v.there == Known::kNo) fail(v.name + " was updated, and is not there");
    if (grows) v.least_size = size;
    if (updated->spec.labels.at("n") != request.options["labels"].substr(2))
      fail(v.name + " was updated, and has other labels");
  }
  Task<void> expand_pool(ModelVolume& v) {
    Result<PoolInfo> grown = co_await rig_.control().expand_pool("/pool", 0);
    (void)acknowledged("expand pool for", v, grown);
  }
  Task<void> look(ModelVolume& v) {
    Result<VolumeInfo> shown = co_await rig_.control().inspect_volume(v.name);
    if (!acknowledged("inspect", v, shown)) co_return;
    if (v.there == Known::kNo && !rig_.store_late) fail(v.name + " is shown, and is not there");
    if (shown->size_bytes < v.least_size) fail(v.name + " is shown smaller than acknowledged");
  }

  Task<void> snapshot(ModelVolume& v) {
    CreateSnapshot request;
    request.volume = v.name;
    request.name = fmt::format("s{}", prng_.below(3));
    ModelSnapshot& s = v.snapshots[request.name];
    const Known before = s.there;
    const uint64_t data = v.data;
    const bool known = v.data_known;
    if (before == Known::kNo) {
      s = ModelSnapshot();
      s.there = Known::kUnknown;
    }
    request.freeze = prng_.chance(1, 2);
    s.asked_at.insert(data);
    s.sure = s.sure && known;
    Result<SnapshotInfo> cut = co_await rig_.control().create_snapshot(request);
    if (!acknowledged("snapshot", v, cut)) co_return;
    // Only one that was certainly not there before is certainly of now.
    if (before == Known::kNo && known) {
      s.there = Known::kYes;
      s.data = data;
    }
  }

  Task<void> drop_snapshot(ModelVolume& v) {
    const std::string name = fmt::format("s{}", prng_.below(3));
    ModelSnapshot& s = v.snapshots[name];
    const Known before = s.there;
    if (before == Known::kYes) s.there = Known::kUnknown;
    Status gone = co_await rig_.control().delete_snapshot(v.name, name);
    (void)acknowledged("delete snapshot", v, gone);
    if (gone.ok()) s.there = Known::kNo;
    if (gone.code() == ErrorCode::kNotFound && before == Known::kYes && v.there == Known::kYes) {
      // Asked once and answered "not found": an earlier attempt inside may have done it.
      s.there = Known::kNo;
    }
  }

  Task<void> restore(ModelVolume& v) {
    const std::string name = fmt::format("s{}", prng_.below(3));
    const ModelSnapshot s = v.snapshots[name];
    const bool used = v.used();
    const bool known = v.data_known;
    if (!used) v.data_known = false;
    Result<VolumeInfo> restored = co_await rig_.control().restore_snapshot(v.name, name);
    if (acknowledged("restore", v, restored)) {
      if (used) fail(v.name + " was restored under a running container");
      v.data = s.data;
      v.data_known = s.there == Known::kYes;
    } else if (restored.code() == ErrorCode::kNotFound || restored.code() == ErrorCode::kInUse) {
      v.data_known = v.data_known || known;
    }
  }

  // The other volume of this client becomes a clone of this one.
  Task<void> clone(ModelVolume& v) {
    ModelVolume& other = other_of(v);
    if (other.there != Known::kNo) co_return;
    CloneVolume request;
    request.name = other.name;
    request.parent = v.name;
    uint64_t data = v.data;
    bool known = v.data_known;
    if (prng_.chance(1, 2)) {
      request.snapshot = fmt::format("s{}", prng_.below(3));
      const ModelSnapshot& s = v.snapshots[request.snapshot];
      data = s.data;
      known = s.there == Known::kYes;
    }
    other.there = Known::kUnknown;
    other.data_known = false;
    Result<VolumeInfo> cloned = co_await rig_.control().clone_volume(request);
    if (!acknowledged("clone", v, cloned)) co_return;
    fresh(other);
    other.there = Known::kYes;
    other.least_size = request.snapshot.empty() ? v.least_size : 0;
    other.data = data;
    other.data_known = known;
  }

  Task<void> pin(ModelVolume& v) {
    AttachVolume request;
    request.name = v.name;
    v.maybe_pinned = true;
    Result<VolumeInfo> attached = co_await rig_.control().attach_volume(request);
    if (!acknowledged("attach", v, attached)) co_return;
    const SimExport* exported = rig_.node().export_of(attached->attachment->device);
    if (exported == nullptr) fail(v.name + " is attached, and its device is not there");
    SimReplica* replica = rig_.node().behind(attached->attachment->device);
    if (replica != nullptr && prng_.chance(1, 2)) write_raw(v, replica->head);
  }

  // Past any file system, or away with it.
  void write_raw(ModelVolume& v, SimImage& image) {
    if (image.has_fs || !v.container.empty()) return;
    if (image.half_made) fail(v.name + " is handed out with a half made file system");
    image.raw = prng_.chance(2, 3) ? 1 : 0;
    log("raw data in {}: {}", v.name, image.raw);
  }

  Task<void> unpin(ModelVolume& v) {
    const bool used = v.used();
    Status detached = co_await rig_.control().detach_volume(v.name);
    check_untouched(v, detached.code());
    if (!acknowledged("detach", v, detached)) co_return;
    if (used) fail(v.name + " was detached under a running container");
    v.bound = Known::kNo;
    v.maybe_pinned = false;
  }

  // ---- oracles
  ModelVolume& other_of(ModelVolume& v) {
    for (auto& [number, volumes] : model_) {
      for (size_t i = 0; i < volumes.size(); ++i) {
        if (&volumes[i] == &v) return volumes[(i + 1) % volumes.size()];
      }
    }
    HF_UNREACHABLE("no volume {}", v.name);
  }
  SimImage* image_at(const std::string& path, const char* what, const ModelVolume& v) {
    const auto found = rig_.node().mounts.find(path);
    SimReplica* replica =
        found == rig_.node().mounts.end() ? nullptr : rig_.node().behind(found->second);
    if (replica == nullptr)
      fail(fmt::format("{} {}: nothing is mounted at {}", v.name, what, path));
    return replica == nullptr ? nullptr : &replica->head;
  }
  // What was refused because somebody uses it has changed nothing for that user.
  void check_untouched(const ModelVolume& v, const ErrorCode code) {
    if (code != ErrorCode::kInUse || v.container.empty() || rig_.is_dead()) return;
    check_running(v);
    if (!rig_.node().mounts.contains("/m/" + v.name) && !rig_.faults.refuse_one_in)
      fail(v.name + ": its files are unmounted after a refusal");
  }
  // A running container has its files, whatever the daemon went through.
  void check_running(const ModelVolume& v) {
    SimReplica* replica = rig_.node().behind(rig_.node().containers.at(v.container));
    if (replica == nullptr) {
      fail(v.name + ": the device of a running container is gone");
    } else if (v.data_known && replica->head.data != v.data) {
      fail(fmt::format("{}: a running container sees data {}, {} were written", v.name,
                       replica->head.data, v.data));
    }
  }

  // No more faults; a fresh daemon; time for holders to grow old and for the reconciler to do its
  // work.
  Task<void> quiesce() {
    rig_.node().kill_at = 0;
    rig_.faults.refuse_one_in = 0;
    rig_.store_faults_one_in = 0;
    co_await rig_.crash();
    co_await rig_.sleep(std::chrono::minutes(5));
    co_await boot();
    co_await rig_.sleep(std::chrono::minutes(3));
    listed_ = co_await look_at_rest(rig_, strays_, wrongs_);
    Result<std::vector<SnapshotInfo>> snapshots = co_await rig_.control().list_snapshots("");
    if (!snapshots.ok()) fail("list snapshots: " + snapshots.error().to_string());
    if (snapshots.ok()) listed_snapshots_ = std::move(snapshots).value();
  }

  const VolumeInfo* listed(const std::string& name) const {
    for (const VolumeInfo& info : listed_) {
      if (info.name == name) return &info;
    }
    return nullptr;
  }

  void check_at_rest() {
    for (auto& [number, volumes] : model_) {
      for (ModelVolume& v : volumes) check_volume(v);
    }
    check_node_at_rest(rig_, listed_, strays_, wrongs_);
  }

  void check_volume(ModelVolume& v) {
    const VolumeInfo* info = listed(v.name);
    if (v.there == Known::kYes && info == nullptr) fail(v.name + " was acknowledged and is gone");
    // A request that the state store applied late may bring a deleted volume's record back, as a
    // new one.
    if (v.there == Known::kNo && info != nullptr && !rig_.store_late)
      fail(v.name + " was deleted and is there");
    if (info == nullptr) return;
    if (info->size_bytes < v.least_size)
      fail(v.name + " is smaller than it was acknowledged to be");
    SimReplica* replica = rig_.node().find(info->replicas.at(0).pool, info->replicas.at(0).id);
    if (replica == nullptr) return;  // told already
    if (v.there == Known::kYes && v.data_known && replica->head.data != v.data) {
      fail(fmt::format("{} has data {}, {} were written", v.name, replica->head.data, v.data));
    }
    check_snapshots(v, *info, *replica);
    if (!v.container.empty()) {
      check_running(v);
      if (!info->attachment) return fail(v.name + " has a container and is not attached");
      (void)image_at("/m/" + v.name, "running", v);
    } else if (info->attachment && !v.maybe_pinned && v.bound == Known::kNo) {
      fail(v.name + " is attached, and nobody uses it");
    }
    if (v.bound == Known::kYes) (void)image_at(v.target(), "bound", v);
  }

  // Those that are certain are there, and each that is there is of a moment at which it was asked for.
  void check_snapshots(const ModelVolume& v, const VolumeInfo& info, const SimReplica& replica) {
    std::map<std::string, uint64_t> found;
    for (const SnapshotInfo& snapshot : listed_snapshots_) {
      if (snapshot.volume != info.id) continue;
      const auto image = replica.snapshots.find(snapshot.id);
      if (image == replica.snapshots.end()) {
        fail(fmt::format("snapshot {}@{} is recorded, and not there", v.name, snapshot.name));
      } else {
        found[snapshot.name] = image->second.data;
        if (snapshot.frozen && image->second.torn)
          fail(fmt::format("snapshot {}@{} was not cut of a frozen file system", v.name, snapshot.name));
      }
    }
    if (v.there != Known::kYes) return;
    for (const auto& [name, s] : v.snapshots) {
      const auto there = found.find(name);
      if (there == found.end()) {
        if (s.there == Known::kYes) fail(fmt::format("snapshot {}@{} is gone", v.name, name));
        continue;
      }
      const bool of_then = s.there == Known::kYes ? there->second == s.data
                                                  : s.asked_at.contains(there->second);
      if (!of_then && s.sure) {
        fail(fmt::format("snapshot {}@{} is of another moment: data {}", v.name, name,
                         there->second));
      }
    }
  }

  // A replica vanishes behind the daemon's back: its volume is told as lost, refused, never made anew,
  // and everything else goes on.
  Task<void> lose_one() {
    std::vector<VolumeInfo> any;
    for (const VolumeInfo& info : listed_) {
      if (!info.replicas.empty()) any.push_back(info);
    }
    if (any.empty()) co_return;
    const VolumeInfo victim = any[prng_.below(any.size())];
    SimPool& pool = rig_.node().pools[victim.replicas[0].pool];
    const auto entry = pool.replicas.extract(victim.replicas[0].id);
    const bool comes_back = prng_.chance(1, 2);
    co_await rig_.crash();
    co_await boot();
    Result<VolumeInfo> shown = co_await rig_.control().inspect_volume(victim.name);
    if (!shown.ok() || shown->state != VolumeState::kLost) fail(victim.name + " is not told as lost");
    MountVolume request;
    request.name = victim.name;
    request.holder = "path:/t/" + victim.name;
    request.target_path = "/t/" + victim.name;
    Result<MountInfo> mounted = co_await rig_.control().mount_volume(request);
    if (mounted.code() != ErrorCode::kFailedPrecondition) fail(victim.name + " is lost, and mounts");
    if (pool.replicas.contains(victim.replicas[0].id)) fail(victim.name + " was made anew");
    Result<ClusterStatus> status = co_await rig_.control().status();
    if (!status.ok() || status->healthy) fail("a lost volume, and all is healthy");
    if (!comes_back) co_return;
    SimReplica kept = entry.mapped();
    pool.replicas[victim.replicas[0].id] = kept;
    co_await rig_.sleep(std::chrono::minutes(2));
    shown = co_await rig_.control().inspect_volume(victim.name);
    const VolumeState before = victim.attachment ? VolumeState::kAttached : VolumeState::kDetached;
    if (!shown.ok() || shown->state != before) fail(victim.name + " stays lost");
  }

  void fail(const std::string& what) {
    log("WRONG: {}", what);
    wrongs_.add(what);
  }
  template <typename... A>
  void log(fmt::format_string<A...> format, A&&... args) {
    if (!verbose_) return;
    fmt::print(stderr, "{:>12.6f} {}\n", static_cast<double>(rig_.loop().now()) / 1e9,
               fmt::format(format, std::forward<A>(args)...));
  }

  sim::SimFaultPlan plan_;
  SimRig rig_;
  Prng prng_;
  Wrongs wrongs_;
  const bool verbose_;
  std::map<size_t, std::vector<ModelVolume>> model_;
  std::vector<VolumeInfo> listed_;
  std::vector<SnapshotInfo> listed_snapshots_;
  size_t strays_ = 0;
  bool up_ = false;
  Signal back_;
  int running_ = 0;
  int calls_ = 0;
  uint64_t reboots_ = 0;
  uint64_t crashes_ = 0;
  const uint64_t max_crashes_ = 6;
  uint64_t acknowledged_ = 0;
  uint64_t containers_started_ = 0;
};

}  // namespace

ScenarioResult run_scenario(uint64_t seed, bool verbose) {
  Scenario scenario(seed, verbose);
  scenario.run();
  return scenario.result();
}

}  // namespace hf::cluster
