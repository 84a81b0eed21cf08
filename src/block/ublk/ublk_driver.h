// UblkDriver: a volume as /dev/ublkbN. The fastest way, and the most direct: the kernel hands
// requests to this process by io_uring, without sockets or a second file system.
//
// The kernel keeps the device when its server dies (USER_RECOVERY), and gives what was in flight to
// the next one (REISSUE): requests may so be executed twice; fuse/fuse_session.h says why that is
// right. Which device is which volume's: the kernel keeps 64 bits for us (of the volume's id and
// the run directory, so that another daemon's device of the same volume is not taken for ours), and
// <run_dir>/ublk/<volume id> names the whole; the file is made before the device and goes after it,
// and holds the device's number.
//
// Devices grow online from Linux 6.16 on (UPDATE_SIZE). On older kernels ExportManager prefers
// kernel NBD, because growing a volume in use is promised; asked for by name, ublk is given.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <unordered_map>

#include "block/driver.h"
#include "block/ublk/ublk_control.h"
#include "block/ublk/ublk_queue.h"
#include "runtime/process.h"
#include "runtime/world.h"
#include "volume/filters/align_filter.h"

namespace hf::ublk {

// What the kernel keeps with a volume's device. Pure.
uint64_t device_key(const std::string& directory, VolumeId volume);

inline constexpr uint64_t kInFlightBytes = 64 * kMiB;  // request data of all devices together

class UblkDriver final : public block::Driver {
 public:
  UblkDriver(World& world, UringLoop& loop, std::string run_dir);
  ~UblkDriver() override;

  block::ExportKind kind() const override { return block::ExportKind::kUblk; }
  Task<block::Offer> start() override;
  Task<Result<block::ExportInfo>> attach(VolumeId volume,
                                         std::shared_ptr<BlockDevice> device) override;
  Task<Status> detach(VolumeId volume) override;
  Task<Status> resized(VolumeId volume) override;
  Task<Result<std::vector<block::ExportInfo>>> orphans() override;
  Task<Result<bool>> has_orphan(VolumeId volume) override;
  Task<Status> park() override;
  size_t served() const override { return exports_.size(); }

 private:
  struct Export {
    explicit Export(std::shared_ptr<BlockDevice> d) : device(std::move(d)), filter(*device) {}
    std::shared_ptr<BlockDevice> device;
    AlignFilter filter;
    std::unique_ptr<UblkQueue> queue;
    int number = -1;
    uint64_t kernel_size = 0;  // what the kernel believes
    std::string path() const { return "/dev/ublkb" + std::to_string(number); }
  };
  struct Found {
    VolumeId volume;
    int number = -1;
    uint16_t state = kStateDead;
  };

  template <typename T>
  Task<T> in_pool(std::function<T()> fn);
  block::ExportInfo info_of(VolumeId volume, const Export& e) const;
  std::string note_of(VolumeId volume) const;
  Task<Result<std::vector<VolumeId>>> noted();
  // Devices of ours in this kernel.
  Task<Result<std::vector<Found>>> find();
  // The volume's, by the number in its note: one command, not one a device.
  Task<Result<std::optional<Found>>> find_one(VolumeId volume);
  Task<Status> make(VolumeId volume, Export& e);
  Task<Status> recover(Export& e, Found found);
  Task<Status> open_queue(Export& e);
  // Stops, drops and forgets a device; its queue, if we serve it, is stopped in between.
  Task<Status> take_away(VolumeId volume, int number, UblkQueue* queue);

  World& world_;
  UringLoop& loop_;
  const std::string directory_;
  std::unique_ptr<UblkControl> control_;
  bool can_grow_ = false;
  Semaphore budget_{kInFlightBytes / kBlockSize};
  std::unordered_map<VolumeId, std::unique_ptr<Export>> exports_;
};

}  // namespace hf::ublk
