// block::ExportManager in the shape of cluster::Exporter.
#pragma once

#include "block/export_manager.h"
#include "cluster/ports.h"

namespace hf::node {

class ExportAdapter : public cluster::Exporter {
 public:
  explicit ExportAdapter(block::ExportManager& manager) : manager_(manager) {}
  std::vector<cluster::ExportKind> offered() const override;
  Task<Result<cluster::ExportInfo>> attach(VolumeId volume, cluster::ExportKind kind,
                                           std::shared_ptr<BlockDevice> device) override;
  Task<Status> detach(VolumeId volume) override { return manager_.detach(volume); }
  Task<Status> resized(VolumeId volume) override { return manager_.resized(volume); }
  Task<Result<std::vector<cluster::ExportInfo>>> orphans() override;
  Task<Status> park() override { return manager_.park(); }

 private:
  block::ExportManager& manager_;
};

}  // namespace hf::node
