// ExportManager: the kernel block devices of this node. Chooses the best kind that the kernel
// offers (ublk, then NBD, then FUSE+loop; of these first what survives a restart of the daemon),
// unless told. Has the shape of cluster::Exporter; the composition root adapts one to the other.
//
// Loop thread only. Calls for one volume are served one after the other, for different volumes at
// once.
#pragma once

#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "block/driver.h"
#include "runtime/sync.h"

namespace hf::block {

class ExportManager {
 public:
  // `drivers` in order of preference.
  explicit ExportManager(std::vector<std::unique_ptr<Driver>> drivers);
  ~ExportManager();

  // Once, before any pool is opened: see Driver::start().
  Task<Status> start();
  // Kinds that this kernel offers, best first.
  std::vector<ExportKind> offered() const;
  // All kinds, with the reason where one is not offered; for `holdfast node list` and the log.
  const std::vector<Offer>& offers() const { return offers_; }

  // kNone: keeps the kind of what is there already, else the best. Asked for another kind than the
  // volume's export has: kInUse. kMissingFeature, with the reason, for a kind that is not offered.
  Task<Result<ExportInfo>> attach(VolumeId volume, ExportKind kind,
                                  std::shared_ptr<BlockDevice> device);
  Task<Status> detach(VolumeId volume);
  Task<Status> resized(VolumeId volume);
  Task<Result<std::vector<ExportInfo>>> orphans();
  // Of all drivers: see Driver::problems().
  std::vector<std::string> problems() const;
  // See Driver::park(): must be awaited before the end, once start() was called.
  Task<Status> park();

 private:
  struct Lane {
    Mutex mutex;
    uint32_t users = 0;
  };
  class LaneUse;

  Driver* driver_of(ExportKind kind);
  const Offer* offer_of(ExportKind kind) const;
  Task<Result<Driver*>> choose(VolumeId volume, ExportKind kind);

  std::vector<std::unique_ptr<Driver>> drivers_;
  std::vector<Offer> offers_;
  std::unordered_map<VolumeId, Driver*> served_;
  std::unordered_map<VolumeId, std::unique_ptr<Lane>> lanes_;  // those in use
};

}  // namespace hf::block
