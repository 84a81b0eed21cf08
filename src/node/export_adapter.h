// block::ExportManager and the NBD server's exports in the shape of cluster::Exporter.
#pragma once

#include "block/export_manager.h"
#include "cluster/ports.h"
#include "node/nbd_exports.h"

namespace hf::node {

class ExportAdapter : public cluster::Exporter {
 public:
  ExportAdapter(block::ExportManager& manager, NbdExports& nbd) : manager_(manager), nbd_(nbd) {}
  std::vector<cluster::ExportKind> offered() const override;
  Task<Result<cluster::ExportInfo>> attach(VolumeId volume, cluster::ExportKind kind,
                                           std::shared_ptr<BlockDevice> device) override;
  Task<Status> detach(VolumeId volume) override;
  Task<Status> resized(VolumeId volume) override;
  std::vector<std::string> users(VolumeId volume) const override { return nbd_.users(volume); }
  Task<Result<std::vector<cluster::ExportInfo>>> orphans() override;
  Task<Status> park() override;
  std::vector<std::string> problems() const override { return manager_.problems(); }

 private:
  block::ExportManager& manager_;
  NbdExports& nbd_;
};

}  // namespace hf::node
