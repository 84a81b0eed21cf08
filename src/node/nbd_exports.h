// NbdExports: the volumes of this node as exports of the NBD server, by name or id, and the kind
// `nbd-server` of attachments that goes with them. Loop thread only.
//
//   client ─▶ NbdServer ─▶ open() ─▶ Control::attach_volume(nbd-server) ─▶ … ─▶ attach(): the device
//                                       │ refused where the volume is attached in another way
//   last client gone ─▶ close() ─▶ Control::unmount_volume: released, unless it was asked to stay
//
// A connection holds its volume as a mount does: the control plane asks users(), and detach() is
// refused while there are any. Each attachment has an epoch of its own, as those of kernel devices.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "block/nbd/export_source.h"
#include "cluster/ports.h"

namespace hf::node {

class NbdExports final : public nbd::ExportSource {
 public:
  // `socket`: path of the server's Unix socket, for the addresses shown.
  explicit NbdExports(std::string socket) : socket_(std::move(socket)) {}

  // Before the server listens; outlives its connections.
  void use(cluster::Control& control) { control_ = &control; }

  // ---- for cluster::Exporter, of kind kNbdServer
  cluster::ExportInfo attach(VolumeId volume, std::shared_ptr<BlockDevice> device);
  bool has(VolumeId volume) const { return attached_.contains(volume); }
  // kInUse while a client is connected, or is about to be.
  Status detach(VolumeId volume);
  std::vector<std::string> users(VolumeId volume) const;
  // No client is connected any more (asserted).
  void park();

  // ---- for the server
  Task<Result<nbd::ExportFacts>> find(std::string name) override;
  Task<Result<std::vector<nbd::ExportFacts>>> list() override;
  Task<Result<nbd::OpenExport>> open(std::string name, std::string peer) override;
  Task<void> close(nbd::OpenExport opened, std::string peer) override;

 private:
  struct Use {
    uint32_t opening = 0;            // on their way
    std::vector<std::string> peers;  // connected
    bool idle() const { return opening == 0 && peers.empty(); }
  };
  struct Attached {
    std::shared_ptr<BlockDevice> device;
    std::shared_ptr<BlockDevice> bytes;  // the filter that all connections share
  };
  Task<Result<cluster::VolumeInfo>> look_up(std::string name);
  Task<void> release_if_idle(VolumeId volume);

  const std::string socket_;
  cluster::Control* control_ = nullptr;
  std::map<VolumeId, Attached> attached_;
  std::map<VolumeId, Use> uses_;  // without idle ones
};

}  // namespace hf::node
