// NbdDriver: a volume as /dev/nbdN of the kernel's nbd driver, attached by netlink, served over a
// socketpair by this process. For kernels with nbd and without ublk (Debian 12's own).
//
//   BlockDevice ◀─ nbd::Transmission ◀─ socketpair ◀─ /dev/nbdN ◀─ ext4 …
//
// The kernel does not negotiate when it is attached by netlink: the transmission begins at once, with
// simple replies.
//
// Nothing but the kernel keeps the device: when the daemon dies its end of the pair closes, the
// kernel holds I/O for kDeadTimeoutS, and the next daemon connects a new pair (RECONFIGURE).
// Devices are found again by their backend name. What had been sent to the dead daemon is sent
// again when its timer ends, so a kill is a pause of up to kRequestTimeoutS. The same timer gives
// up a connection whose server is alive but stuck: serve_device() reconnects, and only after every
// operation of the old connection has ended, or a late copy of a repeated write could land on newer
// data. Requests may so be executed twice: fuse/fuse_session.h says why that is right; the block
// layer sits in front here as well.
#pragma once

#include <memory>
#include <string>
#include <unordered_map>

#include "block/driver.h"
#include "block/kernel_io.h"
#include "block/nbd/kernel/netlink.h"
#include "block/nbd/nbd_transmission.h"
#include "runtime/clock.h"
#include "runtime/process.h"
#include "runtime/world.h"

namespace hf::nbdk {

inline constexpr uint64_t kRequestTimeoutS = 4;
inline constexpr uint64_t kDeadTimeoutS = 3600;
inline constexpr uint64_t kInFlightBytes = 64 * kMiB;  // request data of all devices together

class NbdDriver final : public block::Driver {
 public:
  // `run_dir` as for FuseDriver: it tells our devices from another daemon's.
  NbdDriver(World& world, block::KernelIo& io, const std::string& run_dir);
  ~NbdDriver() override;

  block::ExportKind kind() const override { return block::ExportKind::kNbd; }
  Task<block::Offer> start() override;
  Task<Result<block::ExportInfo>> attach(VolumeId volume,
                                         std::shared_ptr<BlockDevice> device) override;
  Task<Status> detach(VolumeId volume) override;
  Task<Status> resized(VolumeId volume) override;
  Task<Result<std::vector<block::ExportInfo>>> orphans() override;
  Task<Status> park() override;
  size_t served() const override { return exports_.size(); }

 private:
  struct Export {
    explicit Export(std::shared_ptr<BlockDevice> d) : device(nbd::byte_granular(std::move(d))) {}
    std::shared_ptr<BlockDevice> device;
    uint32_t index = 0;
    bool wanted = true;  // false from detach or park on: a lost connection stays lost
    bool serving = false;
    Stream* connection = nullptr;
    CancelSource cancel;  // ends a wait between two attempts
    Gate gate;
    std::string path() const { return "/dev/nbd" + std::to_string(index); }
  };

  std::string backend_of(VolumeId volume) const { return scope_ + volume.to_string(); }
  block::ExportInfo info_of(VolumeId volume, const Export& e) const;
  template <typename T>
  Task<T> in_pool(std::function<T()> fn);
  Task<Result<std::vector<NbdControl::Device>>> find(std::string prefix);
  // Hands one end of a new pair to the kernel and starts serving the other.
  Task<Status> connect(VolumeId volume, Export& e, bool fresh);
  Task<void> serve_device(VolumeId volume, Export& e, std::unique_ptr<Stream> stream);
  Task<void> stop_serving(Export& e);
  Task<Status> look_at_device(Export& e);

  World& world_;
  block::KernelIo& io_;
  const std::string scope_;
  nbd::BufferPool buffers_;
  nbd::MemoryBudget memory_{kInFlightBytes};
  std::unordered_map<VolumeId, std::unique_ptr<Export>> exports_;
};

}  // namespace hf::nbdk
