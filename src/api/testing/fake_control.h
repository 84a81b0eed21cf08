// For tests of the adapters: a control plane of names in memory, and a loop that runs what is posted at once, on the
// poster's thread.
#pragma once

#include <map>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "cluster/control.h"
#include "runtime/gate.h"
#include "runtime/loop.h"
#include "volume/spec/reuse.h"

namespace hf::api {

class InlineLoop : public Loop {
 public:
  void post(std::function<void()> fn) override {
    const std::lock_guard<std::recursive_mutex> guard(mutex_);
    Enter enter(*this);
    fn();
    while (run_ready(64)) {
    }
  }

 private:
  std::recursive_mutex mutex_;
};

class FakeControl : public cluster::Control {
 public:
  std::map<std::string, cluster::VolumeInfo> volumes;
  std::optional<Error> next_error;  // of inspect_volume and unmount_volume
  std::vector<cluster::SnapshotInfo> snapshots;
  cluster::CreateVolume last_create;
  VolumeSpec last_sized;

  Task<Result<cluster::VolumeInfo>> create_volume(cluster::CreateVolume request) override {
    HF_ASSERT(spec::is_valid_name(request.name));
    last_create = request;
    if (const auto there = volumes.find(request.name); there != volumes.end()) {
      const auto same = spec::compare_for_reuse(there->second.created_spec, there->second.spec, request.spec);
      HF_CO_TRY(same);
      co_return there->second;
    }
    cluster::VolumeInfo& made = volumes[request.name];
    made.id = VolumeId::from_random(1, ++made_);
    made.created.ns = static_cast<int64_t>(made_);
    made.parent = request.spec.parent;
    made.name = request.name;
    made.spec = made.created_spec = request.spec;
    made.size_bytes = request.spec.size_bytes;
    made.state = cluster::VolumeState::kDetached;
    co_return made;
  }
  Task<Result<cluster::Promotion>> promote_volume(cluster::PromoteVolume request) override {
    co_return make_error(ErrorCode::kFailedPrecondition, "volume {} has all it needs", request.name);
  }
  Task<Result<cluster::ScrubInfo>> scrub_volume(cluster::ScrubVolume request) override {
    const auto there = volumes.find(request.name);
    if (there == volumes.end()) co_return make_error(ErrorCode::kNotFound, "there is no volume {}", request.name);
    cluster::ScrubInfo info;
    info.volume = request.name;
    info.running = !request.only_look;
    co_return info;
  }
  Task<Result<cluster::VolumeInfo>> inspect_volume(std::string name) override {
    if (next_error) co_return *next_error;
    const auto there = find(name);
    if (there == volumes.end()) co_return make_error(ErrorCode::kNotFound, "there is no volume {}", name);
    co_return there->second;
  }
  Task<Result<std::vector<cluster::VolumeInfo>>> list_volumes() override {
    std::vector<cluster::VolumeInfo> all;
    for (const auto& [name, volume] : volumes) all.push_back(volume);
    co_return all;
  }
  Task<Status> delete_volume(cluster::DeleteVolume request) override {
    const auto there = find(request.name);
    const bool gone = there != volumes.end();
    if (gone) volumes.erase(there);
    if (!gone && !request.missing_ok) co_return make_error(ErrorCode::kNotFound, "there is no volume {}", request.name);
    co_return Status();
  }
  Task<Result<cluster::MountInfo>> mount_volume(cluster::MountVolume request) override {
    const auto there = find(request.name);
    if (there == volumes.end()) co_return make_error(ErrorCode::kNotFound, "there is no volume {}", request.name);
    if (!there->second.attachment) there->second.attachment.emplace();
    cluster::MountInfo mount;
    mount.holder = request.holder;
    mount.path = there->second.attachment->mount_path = "/mounts/" + request.name;
    there->second.attachment->mounts.push_back(mount);
    co_return mount;
  }
  Task<Status> unmount_volume(cluster::UnmountVolume request) override {
    if (next_error) co_return *next_error;
    const auto there = find(request.name);
    if (there == volumes.end()) co_return Status();
    if (there->second.attachment) {
      std::erase_if(there->second.attachment->mounts, [&](const auto& mount) { return mount.holder == request.holder; });
      if (there->second.attachment->mounts.empty()) there->second.attachment.reset();
    }
    co_return Status();
  }
  Task<Result<cluster::ClusterStatus>> status() override { co_return cluster::ClusterStatus(); }
  Task<Result<uint64_t>> largest_volume(cluster::CreateVolume request) override {
    last_sized = request.spec;
    co_return uint64_t{5} << 30;
  }
  Task<Result<cluster::VolumeInfo>> resize_volume(std::string name, uint64_t size_bytes) override {
    const auto there = find(name);
    if (there == volumes.end()) co_return make_error(ErrorCode::kNotFound, "there is no volume {}", name);
    there->second.size_bytes = there->second.spec.size_bytes = size_bytes;
    co_return there->second;
  }
  Task<Result<cluster::VolumeInfo>> attach_volume(cluster::AttachVolume request) override {
    const auto there = find(request.name);
    if (there == volumes.end()) co_return make_error(ErrorCode::kNotFound, "there is no volume {}", request.name);
    if (!there->second.attachment) there->second.attachment.emplace().device = "/dev/fake-" + there->first;
    co_return there->second;
  }
  Task<Status> detach_volume(std::string name) override {
    const auto there = find(name);
    if (there != volumes.end()) there->second.attachment.reset();
    co_return Status();
  }
  Task<Result<cluster::SnapshotInfo>> create_snapshot(cluster::CreateSnapshot request) override {
    const auto volume = find(request.volume);
    if (volume == volumes.end()) co_return make_error(ErrorCode::kNotFound, "there is no volume {}", request.volume);
    for (const cluster::SnapshotInfo& snapshot : snapshots) {
      if (snapshot.volume == volume->second.id && snapshot.name == request.name) co_return snapshot;
    }
    cluster::SnapshotInfo& made = snapshots.emplace_back();
    made.id = SnapshotId::from_random(2, ++made_);
    made.created.ns = static_cast<int64_t>(made_);
    made.name = request.name;
    made.labels = request.labels;
    made.volume = volume->second.id;
    made.volume_name = volume->first;
    made.size_bytes = volume->second.size_bytes;
    made.frozen = request.freeze;
    co_return made;
  }
  Task<Result<std::vector<cluster::SnapshotInfo>>> list_snapshots(std::string name) override {
    std::vector<cluster::SnapshotInfo> some = snapshots;
    if (name.empty()) co_return std::move(some);
    const auto volume = find(name);
    if (volume == volumes.end()) co_return make_error(ErrorCode::kNotFound, "there is no volume {}", name);
    const VolumeId id = volume->second.id;
    std::erase_if(some, [&](const cluster::SnapshotInfo& snapshot) { return snapshot.volume != id; });
    co_return std::move(some);
  }
  Task<Status> delete_snapshot(std::string, std::string snapshot) override {
    std::erase_if(snapshots, [&](const cluster::SnapshotInfo& one) { return one.id.to_string() == snapshot; });
    co_return Status();
  }
  Task<Result<std::vector<cluster::PoolInfo>>> list_pools() override {
    if (next_error) co_return *next_error;
    co_return std::vector<cluster::PoolInfo>();
  }

  // Not asked for by the tests.
  Task<Result<cluster::VolumeInfo>> clone_volume(cluster::CloneVolume) override { co_return none(); }
  Task<Result<cluster::VolumeInfo>> update_volume(cluster::UpdateVolume) override { co_return none(); }
  Task<Result<cluster::VolumeInfo>> restore_snapshot(std::string, std::string) override { co_return none(); }
  Task<Result<cluster::PoolInfo>> add_pool(cluster::AddPool) override { co_return none(); }
  Task<Result<cluster::PoolInfo>> inspect_pool(std::string) override { co_return none(); }
  Task<Result<cluster::PoolInfo>> expand_pool(std::string, uint64_t) override { co_return none(); }
  Task<Result<cluster::PoolRemoval>> remove_pool(cluster::RemovePool) override { co_return none(); }
  Task<Result<std::vector<cluster::NodeInfo>>> list_nodes() override { co_return none(); }
  Task<Result<cluster::NodeInfo>> drain_node(std::string, bool) override { co_return none(); }
  Task<Result<cluster::NodeInfo>> check_decommission(std::string, bool) override { co_return none(); }
  Task<Status> forget_node(NodeId) override { co_return none(); }
  Task<Result<cluster::VolumeInfo>> move_volume(cluster::MoveVolume) override { co_return none(); }

 private:
  uint64_t made_ = 0;
  std::map<std::string, cluster::VolumeInfo>::iterator find(const std::string& text) {
    for (auto it = volumes.begin(); it != volumes.end(); ++it) {
      if (it->second.id.to_string() == text) return it;
    }
    return volumes.find(text);
  }
  static Error none() { return Error(ErrorCode::kNotSupported, "not in this fake"); }
};

}  // namespace hf::api
