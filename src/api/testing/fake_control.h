// For tests of the adapters: a control plane of names in memory, and a loop that runs what is posted at once, on the
// poster's thread.
#pragma once

#include <map>
#include <mutex>
#include <optional>

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

  Task<Result<cluster::VolumeInfo>> create_volume(cluster::CreateVolume request) override {
    HF_ASSERT(spec::is_valid_name(request.name));
    if (const auto there = volumes.find(request.name); there != volumes.end()) {
      const auto same = spec::compare_for_reuse(there->second.created_spec, there->second.spec, request.spec);
      HF_CO_TRY(same);
      co_return there->second;
    }
    cluster::VolumeInfo& made = volumes[request.name];
    made.id = VolumeId::from_random(1, volumes.size());
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
    const auto there = volumes.find(name);
    if (there == volumes.end()) co_return make_error(ErrorCode::kNotFound, "there is no volume {}", name);
    co_return there->second;
  }
  Task<Result<std::vector<cluster::VolumeInfo>>> list_volumes() override {
    std::vector<cluster::VolumeInfo> all;
    for (const auto& [name, volume] : volumes) all.push_back(volume);
    co_return all;
  }
  Task<Status> delete_volume(cluster::DeleteVolume request) override {
    const bool gone = volumes.erase(request.name) == 1;
    if (!gone && !request.missing_ok) co_return make_error(ErrorCode::kNotFound, "there is no volume {}", request.name);
    co_return Status();
  }
  Task<Result<cluster::MountInfo>> mount_volume(cluster::MountVolume request) override {
    const auto there = volumes.find(request.name);
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
    const auto there = volumes.find(request.name);
    if (there == volumes.end()) co_return Status();
    if (there->second.attachment) {
      std::erase_if(there->second.attachment->mounts, [&](const auto& mount) { return mount.holder == request.holder; });
      if (there->second.attachment->mounts.empty()) there->second.attachment.reset();
    }
    co_return Status();
  }
  Task<Result<cluster::ClusterStatus>> status() override { co_return cluster::ClusterStatus(); }

  // Not asked for by the tests.
  Task<Result<cluster::VolumeInfo>> clone_volume(cluster::CloneVolume) override { co_return none(); }
  Task<Result<cluster::VolumeInfo>> resize_volume(std::string, uint64_t) override { co_return none(); }
  Task<Result<cluster::VolumeInfo>> update_volume(cluster::UpdateVolume) override { co_return none(); }
  Task<Result<cluster::VolumeInfo>> attach_volume(cluster::AttachVolume) override { co_return none(); }
  Task<Status> detach_volume(std::string) override { co_return none(); }
  Task<Result<cluster::SnapshotInfo>> create_snapshot(cluster::CreateSnapshot) override { co_return none(); }
  Task<Result<std::vector<cluster::SnapshotInfo>>> list_snapshots(std::string) override { co_return none(); }
  Task<Status> delete_snapshot(std::string, std::string) override { co_return none(); }
  Task<Result<cluster::VolumeInfo>> restore_snapshot(std::string, std::string) override { co_return none(); }
  Task<Result<cluster::PoolInfo>> add_pool(cluster::AddPool) override { co_return none(); }
  Task<Result<std::vector<cluster::PoolInfo>>> list_pools() override { co_return none(); }
  Task<Result<cluster::PoolInfo>> inspect_pool(std::string) override { co_return none(); }
  Task<Result<cluster::PoolInfo>> expand_pool(std::string, uint64_t) override { co_return none(); }
  Task<Result<cluster::PoolRemoval>> remove_pool(cluster::RemovePool) override { co_return none(); }
  Task<Result<std::vector<cluster::NodeInfo>>> list_nodes() override { co_return none(); }
  Task<Result<cluster::NodeInfo>> drain_node(std::string, bool) override { co_return none(); }
  Task<Result<cluster::NodeInfo>> check_decommission(std::string, bool) override { co_return none(); }
  Task<Status> forget_node(NodeId) override { co_return none(); }
  Task<Result<cluster::VolumeInfo>> move_volume(cluster::MoveVolume) override { co_return none(); }

 private:
  static Error none() { return Error(ErrorCode::kNotSupported, "not in this fake"); }
};

}  // namespace hf::api
