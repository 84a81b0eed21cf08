#include "node/nbd_exports.h"

#include <algorithm>

#include "base/log.h"

namespace hf::node {
namespace {

constexpr char kHolder[] = "nbd-server";  // of nobody's mount: unmount then only looks who is left

nbd::ExportFacts facts_of(const cluster::VolumeInfo& volume) {
  nbd::ExportFacts facts;
  facts.name = volume.name;
  facts.description = "volume " + volume.id.to_string();
  facts.size = volume.size_bytes;
  return facts;
}

bool is_usable(const cluster::VolumeInfo& volume) {
  return volume.state != cluster::VolumeState::kCreating &&
         volume.state != cluster::VolumeState::kDeleting;
}

Error no_such_volume(const std::string& name) {
  return make_error(ErrorCode::kNotFound, "there is no volume {}", nbd::printable(name));
}

}  // namespace

// ---- attachments

cluster::ExportInfo NbdExports::attach(VolumeId volume, std::shared_ptr<BlockDevice> device) {
  Attached& attached = attached_[volume];
  if (attached.device != device) {
    const auto use = uses_.find(volume);
    HF_ASSERT(attached.device == nullptr || use == uses_.end() || use->second.peers.empty(),
              "volume {} changed under its clients", volume.to_string());
    attached.bytes = nbd::byte_granular(device);
    attached.device = std::move(device);
  }
  cluster::ExportInfo info;
  info.volume = volume;
  info.kind = cluster::ExportKind::kNbdServer;
  info.device = fmt::format("nbd+unix:///{}?socket={}", volume.to_string(), socket_);
  return info;
}

Status NbdExports::detach(VolumeId volume) {
  const auto use = uses_.find(volume);
  if (use != uses_.end()) {
    return make_error(ErrorCode::kInUse, "volume {} is used by {} NBD clients", volume.to_string(),
                      use->second.peers.size() + use->second.opening);
  }
  attached_.erase(volume);
  return Status();
}

std::vector<std::string> NbdExports::users(VolumeId volume) const {
  std::vector<std::string> out;
  const auto use = uses_.find(volume);
  if (use == uses_.end()) return out;
  for (const std::string& peer : use->second.peers) out.push_back("nbd:" + peer);
  return out;
}

void NbdExports::park() {
  HF_ASSERT(uses_.empty(), "the NBD server is stopped first");
  attached_.clear();
}

// ---- clients

Task<Result<cluster::VolumeInfo>> NbdExports::look_up(std::string name) {
  HF_ASSERT(control_ != nullptr);
  if (!name.empty()) {
    Result<cluster::VolumeInfo> found = co_await control_->inspect_volume(name);
    // What is no name at all is the name of no volume.
    if (found.code() == ErrorCode::kInvalidArgument) co_return no_such_volume(name);
    HF_CO_TRY(found);
    if (!is_usable(*found)) co_return no_such_volume(name);
    co_return std::move(*found);
  }
  Result<std::vector<cluster::VolumeInfo>> all = co_await control_->list_volumes();
  HF_CO_TRY(all);
  if (all->size() != 1 || !is_usable(all->front())) {
    co_return make_error(ErrorCode::kNotFound, "no default export: there are {} volumes",
                         all->size());
  }
  co_return std::move(all->front());
}

Task<Result<nbd::ExportFacts>> NbdExports::find(std::string name) {
  Result<cluster::VolumeInfo> volume = co_await look_up(std::move(name));
  HF_CO_TRY(volume);
  co_return facts_of(*volume);
}

Task<Result<std::vector<nbd::ExportFacts>>> NbdExports::list() {
  Result<std::vector<cluster::VolumeInfo>> all = co_await control_->list_volumes();
  HF_CO_TRY(all);
  std::vector<nbd::ExportFacts> out;
  for (const cluster::VolumeInfo& volume : *all) {
    if (is_usable(volume)) out.push_back(facts_of(volume));
  }
  co_return std::move(out);
}

Task<Result<nbd::OpenExport>> NbdExports::open(std::string name, std::string peer) {
  Result<cluster::VolumeInfo> volume = co_await look_up(std::move(name));
  HF_CO_TRY(volume);
  const VolumeId id = volume->id;
  ++uses_[id].opening;
  cluster::AttachVolume request;
  request.name = id.to_string();
  request.kind = cluster::ExportKind::kNbdServer;
  request.stays = false;
  Result<cluster::VolumeInfo> attached = co_await control_->attach_volume(std::move(request));
  Use& use = uses_.at(id);
  --use.opening;
  const auto there = attached_.find(id);
  if (attached.ok() && there != attached_.end()) {
    use.peers.push_back(std::move(peer));
    nbd::OpenExport opened;
    opened.facts = facts_of(*attached);
    opened.device = there->second.bytes;
    opened.key = id.to_string();
    if (!attached->replicas.empty()) opened.domain = attached->replicas.front().pool.to_string();
    co_return std::move(opened);
  }
  co_await release_if_idle(id);
  HF_CO_TRY(attached);
  co_return make_error(ErrorCode::kUnavailable, "volume {} was detached meanwhile", volume->name);
}

Task<void> NbdExports::close(nbd::OpenExport opened, std::string peer) {
  const std::optional<VolumeId> id = VolumeId::parse(opened.key);
  HF_ASSERT(id.has_value());
  opened.device.reset();
  std::vector<std::string>& peers = uses_.at(*id).peers;
  const auto at = std::find(peers.begin(), peers.end(), peer);
  HF_ASSERT(at != peers.end());
  peers.erase(at);
  co_await release_if_idle(*id);
}

Task<void> NbdExports::release_if_idle(VolumeId volume) {
  const auto use = uses_.find(volume);
  if (use == uses_.end() || !use->second.idle()) co_return;
  uses_.erase(use);
  if (!attached_.contains(volume)) co_return;
  cluster::UnmountVolume request;
  request.name = volume.to_string();
  request.holder = kHolder;
  Status released = co_await control_->unmount_volume(std::move(request));
  // The reconciler releases it later.
  if (!released.ok()) {
    HF_LOG(kWarn, "node", "nbd_release volume={} why=\"{}\"", volume.to_string(),
           released.error().to_string());
  }
}

}  // namespace hf::node
