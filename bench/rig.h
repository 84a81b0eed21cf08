// What store_bench measures on: a pool with one filled volume, and the bare floor beside it.
//
//   device:    one preallocated, written file of the host ─ loop ─ [ pool's XFS … | bare span ]
//   (in both: a written file on the pool's XFS, for what XFS itself costs)
//   directory: <dir>/pool/{pool.img, journal} as `holdfast pool add` makes it, and a written file beside it
//
// So in `device` both sides pass the same loop device and differ by our code and XFS alone; in `directory`
// the bare side is the host's file, and loop and XFS count as ours.
#pragma once

#include <memory>
#include <string>

#include "bare.h"
#include "block/nbd/nbd_server.h"
#include "mount/pool_host.h"
#include "store/pool.h"
#include "uring/loop_device.h"
#include "uring/uring_world.h"
#include "volume/volume_device.h"

namespace hf::bench {

struct RigOptions {
  RigOptions() = default;
  std::string dir;
  bool on_device = true;
  uint64_t pool_bytes = 8 * kGiB;
  uint64_t span_bytes = kGiB;    // of the volume that is filled and used, and of the bare side
  uint64_t volume_bytes = 10 * kGiB;
  uint64_t large_write_bytes = kDefaultLargeWriteBytes;  // PoolConfig's
};

class Rig {
 public:
  Rig(UringWorld& real, RigOptions options)
      : real_(real), options_(std::move(options)), files_(real.world(), options_.dir + "/run"),
        server_(real.world(), exports_, nbd::NbdServerOptions()) {}

  Task<Status> set_up();
  Task<Status> tear_down();

  // The floor's place: path, start and span.
  BareJob bare() const;
  // A file beside the volumes on the pool's XFS.
  BareJob bare_xfs() const;
  // The volume's own segment files.
  BareJob bare_segments() const;
  VolumeDevice& device() { return *device_; }
  Pool& pool() { return *pool_; }
  std::string nbd_socket() const { return options_.dir + "/nbd.sock"; }
  // One more volume, never written; and away with it.
  Task<Result<std::shared_ptr<VolumeDevice>>> make_volume(ReplicaId id);
  Task<Status> delete_volume(ReplicaId id, std::shared_ptr<VolumeDevice> device);

 private:
  std::string tag() const { return "holdfast-bench-" + pool_id_.to_string().substr(0, 8); }
  Task<Status> make_storage();
  Task<Status> make_pool();
  std::string xfs_file() const { return storage_.data_dir + "/bench-bare"; }

  UringWorld& real_;
  RigOptions options_;
  mount::PoolHost files_;
  nbd::ExportTable exports_;
  nbd::NbdServer server_;
  PoolId pool_id_;
  mount::PoolStorage storage_;
  loopdev::LoopInfo loop_;
  std::string bare_path_;
  uint64_t bare_start_ = 0;
  std::unique_ptr<Pool> pool_;
  std::shared_ptr<VolumeDevice> device_;
  ReplicaId replica_;
};

}  // namespace hf::bench
