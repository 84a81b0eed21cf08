// The operations one by one, over a simulated node without faults. Crashes at every step:
// cluster_sim_test.cc.
#include "cluster/control_plane.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cluster/testing/sim_rig.h"
#include "volume/spec/inline_parser.h"

namespace hf::cluster {
namespace {

using ::testing::HasSubstr;

CreateVolume wanted(const std::string& inline_spec) {
  Result<spec::ParsedName> parsed = spec::parse_volume_name(inline_spec);
  HF_ASSERT(parsed.ok(), "{}", parsed.error().to_string());
  CreateVolume request;
  request.name = parsed->spec.name;
  request.spec = parsed->spec;
  return request;
}

MountVolume mounting(const std::string& name, const std::string& holder,
                     const std::string& target = "") {
  MountVolume request;
  request.name = name;
  request.holder = holder;
  request.target_path = target;
  return request;
}

UnmountVolume unmounting(const std::string& name, const std::string& holder) {
  UnmountVolume request;
  request.name = name;
  request.holder = holder;
  return request;
}

DeleteVolume deleting(const std::string& name) {
  DeleteVolume request;
  request.name = name;
  return request;
}

class ControlPlaneTest : public ::testing::Test {
 protected:
  ControlPlaneTest() : rig_(42) {}
  ~ControlPlaneTest() override {
    for (const std::string& what : rig_.node().violations) ADD_FAILURE() << what;
  }
  Task<void> up() {
    Status started = co_await rig_.start();
    EXPECT_TRUE(started.ok());
    AddPool pool;
    pool.path = "/pool";
    Result<PoolInfo> added = co_await rig_.control().add_pool(pool);
    EXPECT_TRUE(added.ok()) << (added.ok() ? "" : added.error().to_string());
  }
  Task<void> restart() {
    co_await rig_.crash();
    Status started = co_await rig_.start();
    EXPECT_TRUE(started.ok());
  }
  Task<VolumeInfo> make(std::string inline_spec) {
    CreateVolume request = wanted(inline_spec);
    Result<VolumeInfo> made = co_await control().create_volume(request);
    EXPECT_TRUE(made.ok()) << (made.ok() ? "" : made.error().to_string());
    co_return made.ok() ? made.value() : VolumeInfo();
  }
  Task<std::string> mount(std::string name, std::string holder, std::string target = "") {
    MountVolume request = mounting(name, holder, target);
    Result<MountInfo> mounted = co_await control().mount_volume(request);
    EXPECT_TRUE(mounted.ok()) << (mounted.ok() ? "" : mounted.error().to_string());
    co_return mounted.ok() ? mounted->path : "";
  }
  Task<Status> unmount(std::string name, std::string holder) {
    UnmountVolume request = unmounting(name, holder);
    co_return co_await control().unmount_volume(request);
  }
  SimImage* image_at(const std::string& path) {
    const auto found = node().mounts.find(path);
    SimReplica* replica = found == node().mounts.end() ? nullptr : node().behind(found->second);
    return replica == nullptr ? nullptr : &replica->head;
  }
  ControlPlane& control() { return rig_.control(); }
  SimNode& node() { return rig_.node(); }
  void run(Task<void> task) { rig_.loop().run(std::move(task)); }
  SimRig rig_;
  std::map<ReplicaId, SimReplica>::node_type lost_;

  Task<void> create_and_delete() {
    Status started = co_await rig_.start();
    EXPECT_TRUE(started.ok());
    CreateVolume request = wanted("name=pg,size=2G,allow_grow=true");
    Result<VolumeInfo> no_pool = co_await control().create_volume(request);
    EXPECT_EQ(no_pool.code(), ErrorCode::kFailedPrecondition);
    EXPECT_THAT(no_pool.error().message(), HasSubstr("holdfast pool add"));
    co_await rig_.stop();
    co_await up();
    VolumeInfo made = co_await make("name=pg,size=2G,allow_grow=true");
    EXPECT_EQ(made.state, VolumeState::kDetached);
    EXPECT_EQ(made.size_bytes, 2 * kGiB);
    EXPECT_EQ(made.replicas.size(), 1u);
    EXPECT_EQ(made.replicas.at(0).state, ReplicaState::kOnline);
    VolumeInfo again = co_await make("name=pg,size=2G");
    EXPECT_EQ(again.id, made.id);
    CreateVolume other = wanted("name=pg,size=2G,fs=xfs");
    Result<VolumeInfo> refused = co_await control().create_volume(other);
    EXPECT_EQ(refused.code(), ErrorCode::kSpecMismatch);
    EXPECT_THAT(refused.error().message(), HasSubstr("fs"));
    VolumeInfo grown = co_await make("name=pg,size=3G");
    EXPECT_EQ(grown.size_bytes, 3 * kGiB);
    Result<VolumeInfo> by_id = co_await control().inspect_volume(made.id.to_string());
    EXPECT_TRUE(by_id.ok() && by_id->name == "pg");
    Result<VolumeInfo> by_spec = co_await control().inspect_volume("size=3G,name=pg");
    EXPECT_TRUE(by_spec.ok() && by_spec->id == made.id);
    CreateVolume repl = wanted("name=two,repl=2");
    Result<VolumeInfo> not_yet = co_await control().create_volume(repl);
    EXPECT_EQ(not_yet.code(), ErrorCode::kNotSupported);
    DeleteVolume gone = deleting("pg");
    Status deleted = co_await control().delete_volume(gone);
    EXPECT_TRUE(deleted.ok());
    deleted = co_await control().delete_volume(gone);
    EXPECT_EQ(deleted.code(), ErrorCode::kNotFound);
    gone.missing_ok = true;
    deleted = co_await control().delete_volume(gone);
    EXPECT_TRUE(deleted.ok());
    EXPECT_TRUE(node().pools.begin()->second.replicas.empty());
    Result<std::vector<VolumeInfo>> none = co_await control().list_volumes();
    EXPECT_TRUE(none.ok() && none->empty());
  }

  Task<void> docker_counts() {
    co_await up();
    VolumeInfo made = co_await make("name=pg,size=2G");
    std::string path = co_await mount("pg", "docker:a");
    EXPECT_EQ(path, "/m/pg");
    node().containers["a"] = node().mounts.at(path);
    // docker cp: the same ID once more, and back.
    std::string again = co_await mount("pg", "docker:a");
    EXPECT_EQ(again, path);
    Status down = co_await unmount("pg", "docker:a");
    EXPECT_TRUE(down.ok());
    EXPECT_TRUE(node().mounts.contains(path));
    // A second container, and the first ends.
    again = co_await mount("pg", "docker:b");
    node().containers["b"] = node().mounts.at(path);
    node().containers.erase("a");
    down = co_await unmount("pg", "docker:a");
    down = co_await unmount("pg", "docker:a");
    EXPECT_TRUE(down.ok()) << "twice is once";
    EXPECT_TRUE(node().mounts.contains(path));
    DeleteVolume gone = deleting("pg");
    Status busy = co_await control().delete_volume(gone);
    EXPECT_EQ(busy.code(), ErrorCode::kInUse);
    // Over-counted by the client: the kernel knows better.
    down = co_await unmount("pg", "docker:b");
    EXPECT_TRUE(down.ok());
    EXPECT_TRUE(node().mounts.contains(path)) << "container b still has it";
    EXPECT_EQ(node().exports.size(), 1u);
    Result<VolumeInfo> lingering = co_await control().inspect_volume("pg");
    EXPECT_EQ(lingering->state, VolumeState::kAttached);
    EXPECT_FALSE(lingering->message.empty());
    node().containers.erase("b");
    co_await rig_.sleep(std::chrono::seconds(130));
    EXPECT_TRUE(node().exports.empty()) << "the reconciler took it away";
    EXPECT_TRUE(node().mounts.empty());
    Status deleted = co_await control().delete_volume(gone);
    EXPECT_TRUE(deleted.ok());
  }

  Task<void> stale_docker_holder() {
    co_await up();
    VolumeInfo made = co_await make("name=pg,size=2G");
    std::string path = co_await mount("pg", "docker:dead");
    // Just mounted: its container may be starting.
    DeleteVolume gone = deleting("pg");
    Status young = co_await control().delete_volume(gone);
    EXPECT_EQ(young.code(), ErrorCode::kInUse);
    EXPECT_THAT(young.error().message(), HasSubstr("docker:dead"));
    co_await rig_.sleep(std::chrono::seconds(31));
    node().containers["dead"] = node().mounts.at(path);
    Status used = co_await control().delete_volume(gone);
    EXPECT_EQ(used.code(), ErrorCode::kInUse);
    EXPECT_TRUE(node().mounts.contains(path)) << "mounted back";
    node().containers.erase("dead");  // the engine died and never said so
    Status deleted = co_await control().delete_volume(gone);
    EXPECT_TRUE(deleted.ok());
    // Nobody asks: a container that runs is left alone, one that ended unseen is found.
    made = co_await make("name=pg,size=2G");
    path = co_await mount("pg", "docker:away");
    node().containers["away"] = node().mounts.at(path);
    co_await rig_.sleep(std::chrono::minutes(10));
    EXPECT_TRUE(node().mounts.contains(path));
    path = co_await mount("pg", "docker:young");
    node().containers.erase("away");
    co_await rig_.sleep(std::chrono::seconds(100));
    EXPECT_TRUE(node().mounts.contains(path)) << "a container may be starting";
    co_await rig_.sleep(std::chrono::seconds(100));
    EXPECT_TRUE(node().exports.empty()) << "the reconciler took it away";
    EXPECT_TRUE(node().mounts.empty());
    deleted = co_await control().delete_volume(gone);
    EXPECT_TRUE(deleted.ok());
    // The same at the start of the daemon.
    made = co_await make("name=pg,size=2G");
    path = co_await mount("pg", "docker:dead");
    co_await restart();
    EXPECT_TRUE(node().mounts.contains(path)) << "too young to be called stale";
    co_await rig_.sleep(std::chrono::minutes(3));
    co_await restart();
    EXPECT_TRUE(node().exports.empty());
    EXPECT_TRUE(node().mounts.empty());
  }

  Task<void> paths_and_pins() {
    co_await up();
    VolumeInfo made = co_await make("name=v,size=1G");
    MountVolume read_only = mounting("v", "path:/x");
    read_only.read_only = true;
    Result<MountInfo> refused = co_await control().mount_volume(read_only);
    EXPECT_EQ(refused.code(), ErrorCode::kInvalidArgument);
    std::string at = co_await mount("v", "path:/mnt/x", "/mnt/x");
    EXPECT_EQ(at, "/mnt/x");
    at = co_await mount("v", "path:/mnt/x", "/mnt/x");
    Result<VolumeInfo> seen = co_await control().inspect_volume("v");
    EXPECT_EQ(seen->attachment->mounts.size(), 1u) << "asked twice, mounted once";
    // A place that is somebody else's is refused, and stays as it was.
    node().mounts["/mnt/nas"] = "nas:/export";
    MountVolume taken = mounting("v", "path:/mnt/nas", "/mnt/nas");
    refused = co_await control().mount_volume(taken);
    EXPECT_EQ(refused.code(), ErrorCode::kInUse);
    EXPECT_TRUE(node().mounts.contains("/mnt/nas")) << "unmounted what is not ours";
    seen = co_await control().inspect_volume("v");
    EXPECT_EQ(seen->attachment->mounts.size(), 1u);
    node().mounts.erase("/mnt/nas");
    at = co_await mount("v", "csi:stage", "/mnt/y");
    AttachVolume pin;
    pin.name = "v";
    Result<VolumeInfo> pinned = co_await control().attach_volume(pin);
    EXPECT_TRUE(pinned.ok());
    UnmountVolume by_path;
    by_path.name = "v";
    by_path.target_path = "/mnt/x";
    Status down = co_await control().unmount_volume(by_path);
    EXPECT_TRUE(down.ok());
    EXPECT_FALSE(node().mounts.contains("/mnt/x"));
    Status busy = co_await control().detach_volume("v");
    EXPECT_EQ(busy.code(), ErrorCode::kInUse);
    EXPECT_THAT(busy.error().message(), HasSubstr("/mnt/y"));
    node().open_files["/mnt/y"] = "a shell";
    down = co_await unmount("v", "csi:stage");
    EXPECT_EQ(down.code(), ErrorCode::kInUse);
    node().open_files.clear();
    // Unmounted by hand while the daemon was away: the holder is gone.
    co_await rig_.crash();
    node().mounts.erase("/mnt/y");
    Status started = co_await rig_.start();
    EXPECT_TRUE(started.ok());
    seen = co_await control().inspect_volume("v");
    EXPECT_TRUE(seen->attachment.has_value());
    EXPECT_TRUE(seen->attachment->mounts.empty());
    DeleteVolume gone = deleting("v");
    busy = co_await control().delete_volume(gone);
    EXPECT_EQ(busy.code(), ErrorCode::kInUse) << "pinned by attach";
    Status detached = co_await control().detach_volume("v");
    EXPECT_TRUE(detached.ok());
    Status deleted = co_await control().delete_volume(gone);
    EXPECT_TRUE(deleted.ok());
  }

  Task<void> pools_again() {
    co_await up();
    AddPool request;
    request.path = "/p2";
    request.size_bytes = 10 * kGiB;
    request.io_class = 2;
    Result<PoolInfo> made = co_await control().add_pool(request);
    EXPECT_TRUE(made.ok());
    Result<PoolInfo> again = co_await control().add_pool(request);
    EXPECT_TRUE(again.ok() && again->id == made->id);
    request.io_class = 3;
    again = co_await control().add_pool(request);
    EXPECT_EQ(again.code(), ErrorCode::kAlreadyExists) << "said to be of a class that it does not have";
    request.io_class = 1;  // not asked for
    request.size_bytes = 20 * kGiB;
    again = co_await control().add_pool(request);
    EXPECT_EQ(again.code(), ErrorCode::kAlreadyExists) << "said to have space that it does not have";
    EXPECT_THAT(again.error().message(), HasSubstr("holdfast pool expand /p2"));
    Result<PoolInfo> grown = co_await control().expand_pool("/p2", 20 * kGiB);
    EXPECT_TRUE(grown.ok());
    again = co_await control().add_pool(request);
    EXPECT_TRUE(again.ok());
  }

  // However a place is written, it is one place, by the name that the kernel has for it.
  Task<void> names_of_places() {
    co_await up();
    VolumeInfo made = co_await make("name=v,size=1G");
    node().links["/link"] = "/mnt/real";
    for (const auto& [written, place] : std::vector<std::pair<std::string, std::string>>{
             {"/mnt/x/", "/mnt/x"}, {"//mnt/./x", "/mnt/x"}, {"/mnt/x/.", "/mnt/x"}, {"/link/x/", "/mnt/real/x"}}) {
      for (int times = 0; times < 2; ++times) {
        std::string at = co_await mount("v", "path:" + written, written);
        EXPECT_EQ(at, place);
      }
      EXPECT_TRUE(node().mounts.contains(place));
      Result<VolumeInfo> seen = co_await control().inspect_volume("v");
      EXPECT_EQ(seen->attachment->mounts.size(), 1u) << written;
      Status busy = co_await control().detach_volume("v");
      EXPECT_THAT(busy.error().message(), HasSubstr("mounted at " + place + ";"));
      co_await restart();
      UnmountVolume request = unmounting("v", "path:" + written);
      request.target_path = written;
      Status down = co_await control().unmount_volume(request);
      EXPECT_TRUE(down.ok());
      EXPECT_TRUE(node().mounts.empty()) << written << " was said to be unmounted";
    }
    for (const char* written : {"", "mnt", "/mnt/../etc", "/m", "/m/v", "/link/.."}) {
      MountVolume request = mounting("v", "path:", written);
      request.read_only = true;
      Result<MountInfo> refused = co_await control().mount_volume(request);
      EXPECT_EQ(refused.code(), ErrorCode::kInvalidArgument) << written;
    }
    EXPECT_TRUE(node().mounts.empty());
  }

  Task<void> restart_and_reboot() {
    co_await up();
    VolumeInfo made = co_await make("name=v,size=1G");
    std::string path = co_await mount("v", "docker:a");
    node().containers["a"] = node().mounts.at(path);
    image_at(path)->data = 7;
    const uint64_t before = node().pools.begin()->second.replicas.begin()->second.promised;
    co_await restart();
    SimReplica& replica = node().pools.begin()->second.replicas.begin()->second;
    EXPECT_GT(replica.promised, before) << "a new epoch for every incarnation";
    EXPECT_EQ(node().exports.begin()->second.served_by, node().living);
    EXPECT_TRUE(node().mounts.contains(path));
    // The primary mount was lost meanwhile: put back.
    co_await rig_.crash();
    node().mounts.clear();
    Status started = co_await rig_.start();
    EXPECT_TRUE(started.ok());
    EXPECT_TRUE(node().mounts.contains(path));
    co_await rig_.stop();
    started = co_await rig_.start();
    EXPECT_TRUE(node().mounts.contains(path)) << "a clean stop keeps the mounts as well";
    co_await rig_.reboot();
    started = co_await rig_.start();
    EXPECT_TRUE(node().exports.empty());
    Result<VolumeInfo> seen = co_await control().inspect_volume("v");
    EXPECT_EQ(seen->state, VolumeState::kDetached);
    path = co_await mount("v", "docker:b");
    EXPECT_EQ(image_at(path)->data, 7u);
  }

  Task<void> resizing() {
    co_await up();
    VolumeInfo made = co_await make("name=v,size=1G");
    std::string path = co_await mount("v", "docker:a");
    Result<VolumeInfo> grown = co_await control().resize_volume("v", 2 * kGiB);
    EXPECT_TRUE(grown.ok() && grown->size_bytes == 2 * kGiB && grown->spec.size_bytes == 2 * kGiB);
    EXPECT_EQ(image_at(path)->fs_size, 2 * kGiB);
    Result<VolumeInfo> shrunk = co_await control().resize_volume("v", kGiB);
    EXPECT_EQ(shrunk.code(), ErrorCode::kInvalidArgument);
    Status down = co_await unmount("v", "docker:a");
    EXPECT_TRUE(down.ok());
    grown = co_await control().resize_volume("v", 3 * kGiB);
    EXPECT_TRUE(grown.ok());
    path = co_await mount("v", "docker:a");
    EXPECT_EQ(image_at(path)->fs_size, 3 * kGiB) << "grown at the mount";
    Result<VolumeInfo> too_big = co_await control().resize_volume("v", 900 * kGiB);
    EXPECT_EQ(too_big.code(), ErrorCode::kNoSpace);
    EXPECT_THAT(too_big.error().message(), HasSubstr("/pool"));
  }

  // What keeps a device or a file system from growing keeps nobody from unmounting it.
  Task<void> cannot_follow() {
    co_await up();
    VolumeInfo made = co_await make("name=v,size=1G");
    for (const bool device : {true, false}) {
      const uint64_t wanted = device ? 2 * kGiB : 3 * kGiB;
      std::string path = co_await mount("v", "docker:a");
      if (device) {
        node().resized_fails.emplace(ErrorCode::kMissingFeature, "not before Linux 6.16");
      } else {
        node().grow_fails.emplace(ErrorCode::kIo, "xfs_growfs: it was shut down");
      }
      for (int asked = 0; asked < 2; ++asked) {
        Result<VolumeInfo> told = co_await control().resize_volume("v", wanted);
        EXPECT_FALSE(told.ok());
        EXPECT_THAT(told.error().message(), HasSubstr("again: "));
        EXPECT_THAT(told.error().message(), HasSubstr(device ? "Linux 6.16" : "shut down"));
        EXPECT_THAT(told.error().message(), HasSubstr("has " + std::to_string(wanted / kGiB) + " GiB now"));
      }
      Result<VolumeInfo> seen = co_await control().inspect_volume("v");
      EXPECT_EQ(seen->size_bytes, wanted);
      EXPECT_THAT(seen->message, HasSubstr("at the next mount"));
      co_await mount("v", "docker:b");  // of what is there
      co_await restart();
      Status down = co_await unmount("v", "docker:b");
      EXPECT_TRUE(down.ok()) << (down.ok() ? "" : down.error().to_string());
      down = co_await unmount("v", "docker:a");
      EXPECT_TRUE(down.ok()) << (down.ok() ? "" : down.error().to_string());
      EXPECT_TRUE(node().exports.empty());
      node().resized_fails.reset();
      node().grow_fails.reset();
      path = co_await mount("v", "docker:a");
      EXPECT_EQ(image_at(path)->fs_size, wanted) << "grown at the next mount";
      // Grown where it is, once nothing stands in the way any more.
      node().grow_fails.emplace(ErrorCode::kIo, "busy");
      Result<VolumeInfo> told = co_await control().resize_volume("v", wanted + kMiB);
      EXPECT_EQ(told.code(), ErrorCode::kIo);
      node().grow_fails.reset();
      told = co_await control().resize_volume("v", wanted + kMiB);
      EXPECT_TRUE(told.ok());
      EXPECT_EQ(image_at(path)->fs_size, wanted + kMiB);
      down = co_await unmount("v", "docker:a");
      EXPECT_TRUE(down.ok());
    }
  }

  Task<void> snapshots() {
    co_await up();
    VolumeInfo made = co_await make("name=v,size=1G");
    std::string path = co_await mount("v", "docker:a");
    image_at(path)->data = 5;
    CreateSnapshot request;
    request.volume = "v";
    request.name = "before";
    Result<SnapshotInfo> cut = co_await control().create_snapshot(request);
    EXPECT_TRUE(cut.ok());
    image_at(path)->data = 9;
    Result<SnapshotInfo> again = co_await control().create_snapshot(request);
    EXPECT_TRUE(again.ok() && again->id == cut->id);
    request.name.clear();
    Result<SnapshotInfo> unnamed = co_await control().create_snapshot(request);
    EXPECT_TRUE(unnamed.ok() && unnamed->name.starts_with("snap-"));
    Result<std::vector<SnapshotInfo>> all = co_await control().list_snapshots("v");
    EXPECT_TRUE(all.ok() && all->size() == 2 && all->at(0).name == "before");
    Result<VolumeInfo> busy = co_await control().restore_snapshot("v", "before");
    EXPECT_EQ(busy.code(), ErrorCode::kInUse);

    CloneVolume clone;
    clone.name = "c";
    clone.parent = "v";
    clone.snapshot = "before";
    Result<VolumeInfo> cloned = co_await control().clone_volume(clone);
    EXPECT_TRUE(cloned.ok() && cloned->parent == "v@before");
    std::string clone_path = co_await mount("c", "docker:c");
    EXPECT_EQ(image_at(clone_path)->data, 5u);
    EXPECT_EQ(image_at(clone_path)->fs_uuid, cloned->id.to_string()) << "stamped with its own UUID";
    clone.name = "c2";
    clone.snapshot.clear();
    cloned = co_await control().clone_volume(clone);
    EXPECT_TRUE(cloned.ok());
    all = co_await control().list_snapshots("");
    EXPECT_TRUE(all.ok() && all->size() == 2) << "the internal one is gone";
    std::string c2_path = co_await mount("c2", "docker:c2");
    EXPECT_EQ(image_at(c2_path)->data, 9u);
    VolumeInfo inline_clone = co_await make("name=c3,parent=v@before,size=2G");
    EXPECT_EQ(inline_clone.size_bytes, 2 * kGiB);

    Status down = co_await unmount("v", "docker:a");
    Result<VolumeInfo> restored = co_await control().restore_snapshot("v", "before");
    EXPECT_TRUE(restored.ok());
    path = co_await mount("v", "docker:a");
    EXPECT_EQ(image_at(path)->data, 5u);
    down = co_await unmount("v", "docker:a");
    DeleteVolume gone = deleting("v");
    Status refused = co_await control().delete_volume(gone);
    EXPECT_EQ(refused.code(), ErrorCode::kInUse);
    Status one = co_await control().delete_snapshot("v", "before");
    EXPECT_TRUE(one.ok());
    one = co_await control().delete_snapshot("v", "before");
    EXPECT_EQ(one.code(), ErrorCode::kNotFound);
    gone.with_snapshots = true;
    Status deleted = co_await control().delete_volume(gone);
    EXPECT_TRUE(deleted.ok());
    all = co_await control().list_snapshots("");
    EXPECT_TRUE(all.ok() && all->empty());
  }

  Task<void> blank_snapshot() {
    co_await up();
    VolumeInfo made = co_await make("name=v,size=1G");
    CreateSnapshot request;
    request.volume = "v";
    request.name = "blank";
    Result<SnapshotInfo> cut = co_await control().create_snapshot(request);
    std::string path = co_await mount("v", "docker:a");
    image_at(path)->data = 3;
    Status down = co_await unmount("v", "docker:a");
    Result<VolumeInfo> restored = co_await control().restore_snapshot("v", "blank");
    EXPECT_TRUE(restored.ok());
    path = co_await mount("v", "docker:a");
    EXPECT_EQ(image_at(path)->data, 0u) << "made anew, as it was then";
  }

  // A look costs helper programs; nobody but us has had a device that is attached for its first mount.
  Task<void> first_looks() {
    co_await up();
    VolumeInfo made = co_await make("name=v,size=1G");
    std::string path = co_await mount("v", "docker:a");
    EXPECT_EQ(node().looks, 0u);
    made = co_await make("name=w,size=1G");
    AttachVolume pin;
    pin.name = "w";
    Result<VolumeInfo> pinned = co_await control().attach_volume(pin);
    EXPECT_TRUE(pinned.ok());
    path = co_await mount("w", "docker:b");
    EXPECT_GT(node().looks, 0u) << "what is written through the kernel may be on its way";
  }

  Task<void> updating() {
    co_await up();
    VolumeInfo made = co_await make("name=v,size=1G");
    UpdateVolume request;
    request.name = "v";
    request.options = {{"sticky", "true"}, {"labels", "app=db"}, {"size", "2G"}};
    Result<VolumeInfo> changed = co_await control().update_volume(request);
    EXPECT_TRUE(changed.ok() && changed->spec.sticky && changed->size_bytes == 2 * kGiB);
    DeleteVolume gone = deleting("v");
    Status refused = co_await control().delete_volume(gone);
    EXPECT_EQ(refused.code(), ErrorCode::kFailedPrecondition);
    EXPECT_THAT(refused.error().message(), HasSubstr("sticky=false"));
    request.options = {{"fs", "xfs"}};
    changed = co_await control().update_volume(request);
    EXPECT_EQ(changed.code(), ErrorCode::kNotSupported);
    request.options = {{"colour", "red"}};
    changed = co_await control().update_volume(request);
    EXPECT_EQ(changed.code(), ErrorCode::kInvalidSpec);
    request.options = {{"sticky", "maybe"}};
    changed = co_await control().update_volume(request);
    EXPECT_EQ(changed.code(), ErrorCode::kInvalidSpec);
    request.options = {{"sticky", "false"}};
    changed = co_await control().update_volume(request);
    EXPECT_TRUE(changed.ok());
    Status deleted = co_await control().delete_volume(gone);
    EXPECT_TRUE(deleted.ok());
  }

  Task<void> findings() {
    co_await up();
    VolumeInfo made = co_await make("name=v,size=1G");
    std::string path = co_await mount("v", "docker:a");
    co_await rig_.crash();
    SimPool& pool = node().pools.begin()->second;
    const VolumeId unknown = VolumeId::from_random(1, 2);
    const ReplicaId stray = ReplicaId::from_random(3, 4);
    pool.replicas[stray].volume = unknown;
    SimExport& orphan = node().exports[unknown];
    orphan.device = "/dev/sim99";
    orphan.replica = stray;
    const VolumeId used = VolumeId::from_random(5, 6);
    node().exports[used].device = "/dev/sim100";
    node().open_files["/dev/sim100"] = "dd";
    Status started = co_await rig_.start();
    EXPECT_TRUE(started.ok());
    EXPECT_FALSE(node().exports.contains(unknown)) << "nobody used it";
    EXPECT_TRUE(node().exports.contains(used)) << "somebody uses it";
    EXPECT_TRUE(pool.replicas.contains(stray)) << "data is never deleted silently";
    Result<ClusterStatus> status = co_await control().status();
    EXPECT_FALSE(status->healthy);
    EXPECT_EQ(status->problems.size(), 2u);
    EXPECT_THAT(status->problems.at(0), HasSubstr("/dev/sim100"));
    EXPECT_THAT(status->problems.at(1), HasSubstr(stray.to_string()));
    // A pool that cannot be opened: told, and mended when it can be.
    co_await rig_.crash();
    pool.replicas.erase(stray);
    node().exports.erase(used);
    node().open_files.clear();
    pool.broken = true;
    started = co_await rig_.start();
    EXPECT_TRUE(started.ok()) << "the node starts";
    status = co_await control().status();
    EXPECT_GE(status->problems.size(), 1u);
    EXPECT_THAT(status->problems.at(0), HasSubstr("pool.json"));
    Result<VolumeInfo> seen = co_await control().inspect_volume("v");
    EXPECT_EQ(seen->state, VolumeState::kError);
    DeleteVolume gone = deleting("v");
    Status unreachable = co_await control().delete_volume(gone);
    EXPECT_FALSE(unreachable.ok()) << "its replica cannot be deleted now";
    EXPECT_EQ(pool.replicas.size(), 1u);
    pool.broken = false;
    co_await rig_.sleep(std::chrono::seconds(10));
    status = co_await control().status();
    EXPECT_TRUE(status->healthy) << status->problems.at(0);
    EXPECT_EQ(node().exports.begin()->second.served_by, node().living);
  }

  // The replica of `name` vanishes while no daemon runs.
  Task<void> restart_without(std::string name) {
    Result<VolumeInfo> info = co_await control().inspect_volume(name);
    co_await rig_.crash();
    lost_ = node().pools.begin()->second.replicas.extract(info->replicas.at(0).id);
    Status started = co_await rig_.start();
    EXPECT_TRUE(started.ok());
    info = co_await control().inspect_volume(name);
    EXPECT_EQ(info->state, VolumeState::kLost);
  }

  Task<void> lost_while_mounted() {
    co_await up();
    VolumeInfo made = co_await make("name=v,size=1G");
    std::string path = co_await mount("v", "docker:a");
    std::string second = co_await mount("v", "docker:b");
    const std::string device = node().mounts.at(path);
    node().containers["a"] = device;
    node().containers["b"] = device;
    co_await rig_.sleep(std::chrono::minutes(3));
    co_await restart_without("v");
    SimExport& exported = node().exports.at(made.id);
    EXPECT_NE(exported.served_by, node().living) << "its users wait: the pool may be put back";
    node().containers.erase("a");
    Status down = co_await unmount("v", "docker:a");
    EXPECT_TRUE(down.ok());
    down = co_await unmount("v", "docker:b");
    EXPECT_TRUE(down.ok());
    EXPECT_NE(exported.served_by, node().living) << "a container still waits";
    Status busy = co_await control().detach_volume("v");
    EXPECT_EQ(busy.code(), ErrorCode::kInUse) << "given up, but a container has it mounted";
    EXPECT_TRUE(exported.refuses) << "it can end now";
    node().containers.clear();
    Status detached = co_await control().detach_volume("v");
    EXPECT_TRUE(detached.ok()) << detached.error().to_string();
    EXPECT_TRUE(node().exports.empty() && node().mounts.empty());
    // The data was not touched: put back, it is there.
    node().pools.begin()->second.replicas.insert(std::move(lost_));
    co_await rig_.sleep(std::chrono::minutes(2));
    path = co_await mount("v", "docker:c");
    EXPECT_NE(image_at(path), nullptr);
  }

  Task<void> lost_and_deleted() {
    co_await up();
    VolumeInfo made = co_await make("name=v,size=1G");
    std::string path = co_await mount("v", "docker:a");
    co_await rig_.sleep(std::chrono::minutes(1));
    co_await restart_without("v");
    // What Docker asks when the container ends: the answer is what was done.
    Status down = co_await unmount("v", "docker:a");
    EXPECT_TRUE(down.ok()) << down.error().to_string();
    EXPECT_TRUE(node().exports.empty() && node().mounts.empty());
    DeleteVolume gone = deleting("v");
    Status deleted = co_await control().delete_volume(gone);
    EXPECT_TRUE(deleted.ok()) << deleted.error().to_string();
    Result<ClusterStatus> status = co_await control().status();
    EXPECT_TRUE(status->healthy);
  }

  // A pool that is not open is another matter: nothing is given up, and nothing is said to be done.
  Task<void> closed_while_mounted() {
    co_await up();
    VolumeInfo made = co_await make("name=v,size=1G");
    std::string path = co_await mount("v", "docker:a");
    co_await rig_.sleep(std::chrono::minutes(1));
    co_await rig_.crash();
    node().pools.begin()->second.broken = true;
    Status started = co_await rig_.start();
    EXPECT_TRUE(started.ok());
    Status down = co_await unmount("v", "docker:a");
    EXPECT_EQ(down.code(), ErrorCode::kFailedPrecondition);
    EXPECT_THAT(down.error().message(), HasSubstr("not open"));
    EXPECT_TRUE(node().mounts.contains(path));
    node().pools.begin()->second.broken = false;
    co_await rig_.sleep(std::chrono::minutes(2));
    down = co_await unmount("v", "docker:a");
    EXPECT_TRUE(down.ok());
    EXPECT_TRUE(node().exports.empty());
  }

  Task<void> create_in(Result<VolumeInfo>* out, MonoTime* ended) {
    CreateVolume request = wanted("name=slow,size=1G");
    *out = co_await control().create_volume(request);
    *ended = rig_.clock().now();
  }

  Task<void> time_limit() {
    co_await up();
    PortFaults slow;
    slow.hang = std::chrono::seconds(150);
    rig_.ports().set_faults(slow);
    const MonoTime begun = rig_.clock().now();
    Result<VolumeInfo> first = Error(ErrorCode::kInternal, "");
    MonoTime ended;
    co_await create_in(&first, &ended);
    EXPECT_EQ(first.code(), ErrorCode::kTimeout);
    EXPECT_LT((ended - begun).count(), Duration(std::chrono::seconds(100)).count());
    Result<VolumeInfo> second = Error(ErrorCode::kInternal, "");
    co_await create_in(&second, &ended);
    EXPECT_TRUE(second.ok()) << "asked again, it waits for the rest of the first";
    EXPECT_EQ(node().pools.begin()->second.replicas.size(), 1u);
    rig_.ports().set_faults(PortFaults());
  }

  // What an idle cluster costs does not grow with a request per volume.
  Task<void> idle_volumes() {
    co_await up();
    constexpr int kVolumes = 200;
    for (int i = 0; i < kVolumes; ++i) {
      VolumeInfo made = co_await make(fmt::format("name=v{},size=16M", i));
      EXPECT_EQ(made.state, VolumeState::kDetached);
    }
    uint64_t before = node().steps;
    co_await control().reconcile();
    EXPECT_LT(node().steps - before, 20u);
    before = node().steps;
    Result<std::vector<VolumeInfo>> all = co_await control().list_volumes();
    EXPECT_TRUE(all.ok() && all->size() == kVolumes);
    EXPECT_LT(node().steps - before, 20u);
  }

  Task<void> damaged_record() {
    co_await up();
    VolumeInfo made = co_await make("name=v,size=1G");
    const std::string key = "holdfast/v1/volumes/" + made.id.to_string();
    const std::string good = rig_.server().get(key)->value;
    std::string bad = good;
    bad[bad.size() / 2] ^= 1;
    rig_.server().tamper(key, bad);
    Result<VolumeInfo> seen = co_await control().inspect_volume("v");
    EXPECT_EQ(seen.code(), ErrorCode::kCorruption);
    EXPECT_THAT(seen.error().message(), HasSubstr(made.id.to_string()));
    rig_.server().tamper(key, good);
    seen = co_await control().inspect_volume("v");
    EXPECT_TRUE(seen.ok());
  }
};

TEST_F(ControlPlaneTest, CreatesFindsAndDeletes) {
  run(create_and_delete());
}
TEST_F(ControlPlaneTest, CountsMountsPerDockerId) {
  run(docker_counts());
}
TEST_F(ControlPlaneTest, AStaleHolderNeverKeepsAVolume) {
  run(stale_docker_holder());
}
TEST_F(ControlPlaneTest, MountsAtPathsAndPins) {
  run(paths_and_pins());
}
TEST_F(ControlPlaneTest, APoolThatIsThereIsNotMadeAnother) {
  run(pools_again());
}
TEST_F(ControlPlaneTest, NamesAPlaceAsTheKernelDoes) {
  run(names_of_places());
}
TEST_F(ControlPlaneTest, TakesOverAfterARestartAndForgetsAfterAReboot) {
  run(restart_and_reboot());
}
TEST_F(ControlPlaneTest, GrowsOnlineAndAtTheNextMount) {
  run(resizing());
}
TEST_F(ControlPlaneTest, AResizeThatCannotBeFollowedStandsInNobodysWay) {
  run(cannot_follow());
}
TEST_F(ControlPlaneTest, SnapshotsClonesAndRestores) {
  run(snapshots());
}
TEST_F(ControlPlaneTest, RestoresTheStateBeforeTheFirstMount) {
  run(blank_snapshot());
}
TEST_F(ControlPlaneTest, LooksAtADeviceOnlyWhenSomebodyElseHadIt) {
  run(first_looks());
}
TEST_F(ControlPlaneTest, UpdatesWhatMayChange) {
  run(updating());
}
TEST_F(ControlPlaneTest, TellsWhatItFinds) {
  run(findings());
}
TEST_F(ControlPlaneTest, LetsGoOfALostVolume) {
  run(lost_while_mounted());
}
TEST_F(ControlPlaneTest, DeletesALostVolumeThatWasMounted) {
  run(lost_and_deleted());
}
TEST_F(ControlPlaneTest, KeepsWhatIsMountedFromAClosedPool) {
  run(closed_while_mounted());
}
TEST_F(ControlPlaneTest, AnswersInTime) {
  run(time_limit());
}
TEST_F(ControlPlaneTest, IdleVolumesCostNoRequests) {
  run(idle_volumes());
}
TEST_F(ControlPlaneTest, NamesADamagedRecord) {
  run(damaged_record());
}

}  // namespace
}  // namespace hf::cluster
