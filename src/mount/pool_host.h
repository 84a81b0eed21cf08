// PoolHost: the file systems that pools live in. Every source of storage becomes an XFS with reflink:
//
//   directory: <dir>/pool.img (sparse) ─ loop, direct I/O ─ XFS at <run_dir>/pools/<id>; journal beside the image
//   device:    XFS on the device, at <run_dir>/pools/<id>; the journal inside
//
// A directory's journal does not pass the loop device: the acknowledged path is one write to a plain file.
// Loop thread; the work is done in the blocking pool and by helper programs. Idempotent: what a crash left
// half made is finished. One call per pool at a time.
//
// A directory is claimed before anything in it is touched, and held while this object lives: a second loop
// device and file system over an image that another process serves would ruin it, and through a bind mount or
// from another mount namespace nothing else would tell. On a device the kernel itself allows one file system,
// and the journal's lock tells who serves it.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/id.h"
#include "runtime/task.h"
#include "runtime/world.h"
#include "uring/owned_fd.h"

namespace hf::mount {

// Where the store finds a pool.
struct PoolStorage {
  PoolStorage() = default;
  std::string path;  // the directory or device it was made of
  bool on_device = false;
  std::string journal_dir;
  std::string data_dir;
  std::string image;  // of a directory: the sparse file that data_dir lies in
};

inline constexpr uint64_t kMinPoolBytes = 512ull << 20;  // XFS wants 300 MiB; below this nothing fits
inline constexpr uint32_t kDefaultPoolPercent = 90;       // of what is free in the directory

class PoolHost {
 public:
  PoolHost(World world, std::string run_dir) : world_(world), run_dir_(std::move(run_dir)) {}

  // `size_bytes` of a directory's image; 0: kDefaultPoolPercent of what is free. `force` takes a device
  // that carries something. Errors: kInvalidArgument, kNotFound, kReadOnly, kPermissionDenied, kNoSpace,
  // kNotEmpty, kInUse, kLocked (another process has the directory), kLimitExceeded (loop devices),
  // kMissingFeature.
  Task<Result<PoolStorage>> make(PoolId pool, std::string path, uint64_t size_bytes, bool force);
  // Attaches and mounts, or finds it attached and mounted. kNotFound when no pool lies there, kLocked.
  Task<Result<PoolStorage>> open(PoolId pool, std::string path);
  // Directory: the image grows to `size_bytes` (0: as far as the directory allows). Device: takes in its
  // growth. Online. kInvalidArgument for a smaller size.
  Task<Status> expand(PoolId pool, uint64_t size_bytes);
  // Unmounts and detaches. For tools and tests; a daemon that stops leaves it mounted.
  Task<Status> close(PoolId pool);
  // Lets go of a pool that is not served after all: the offline tools may have it. What is mounted stays
  // so; of a device that another process serves it goes.
  Task<void> give_up(PoolId pool, ErrorCode why);

 private:
  Task<Status> claim(PoolId pool, std::string directory);
  Task<Result<PoolStorage>> make_claimed(PoolId pool, std::string path, uint64_t size_bytes, bool force);
  Task<Result<PoolStorage>> open_claimed(PoolId pool, std::string path);
  std::string mount_path(PoolId pool) const { return run_dir_ + "/pools/" + pool.to_string(); }
  Task<Status> make_image(std::string directory, uint64_t size_bytes);
  Task<Status> format_device(std::string device, bool force);
  Task<Result<PoolStorage>> bring_up(PoolId pool, PoolStorage storage);

  World world_;
  std::string run_dir_;
  std::map<PoolId, PoolStorage> open_;
  std::map<PoolId, std::vector<OwnedFd>> claims_;  // the directory and its image, locked
};

}  // namespace hf::mount
