// api::VolumePlaces on this machine: folders, and block devices shown as files, for the CSI driver. Each call looks and
// acts in the pool of blocking calls; none of them touches what is on a volume, but usage(), which asks its file system.
#pragma once

#include <string>
#include <vector>

#include "api/csi/places.h"
#include "runtime/process.h"

namespace hf::node {

class CsiPlaces final : public api::VolumePlaces {
 public:
  explicit CsiPlaces(BlockingPool& pool) : pool_(pool) {}
  Task<Status> make_directory(std::string path) override;
  Task<Status> show_device(std::string device, std::string path) override;
  Task<Result<std::vector<std::string>>> shown_at(std::string device) override;
  Task<Status> clear(std::string path, std::string device) override;
  Task<Result<bool>> is_mounted(std::string path) override;
  Task<Result<api::PlaceUsage>> usage(std::string path) override;

 private:
  BlockingPool& pool_;
};

}  // namespace hf::node
