// Loop devices of the kernel. Every call blocks: run it in the blocking pool, never on a loop
// thread that serves the backing file.
//
// Loop devices are shared by everything on the machine, and any of them may stand on a file system
// whose server is dead (another node's FUSE export, an NFS mount): LOOP_GET_STATUS64 asks that
// server for attributes, the last close of a device writes its page cache back, and both then wait
// in the kernel for ever. So a device is known by the path of its backing file, which sysfs tells
// without asking anybody, and nothing here opens a device whose path is not the one asked for. The
// path is looked at again once the device is open: from then on its number cannot change hands.
//
// Backing paths are canonical (no symbolic links), as the kernel prints them; canonical_path()
// makes one. A file that was unlinked, or whose mount was taken away lazily, has no path any more:
// devices on it are found only by what is said at find_below(), and never attached to again.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "uring/owned_fd.h"

namespace hf::loopdev {

inline constexpr size_t kTagMax = 63;  // bytes

struct LoopInfo {
  int number = -1;
  std::string backing;
  bool unlinked = false;  // the backing file has lost its name, which `backing` tells still
  std::string device() const { return "/dev/loop" + std::to_string(number); }
};

// The path of something that exists, as the kernel prints it. kNotFound. Asks the file system that
// it lies on, so it must not lie on an export.
Result<std::string> canonical_path(const std::string& path);

// A device with direct I/O and blocks of 4096 bytes over `backing`, which stays until detach. The
// tag (lo_file_name) says whose it is, to people and to carries(). kLimitExceeded when the machine
// has none left, kMissingFeature without loop support.
Result<LoopInfo> attach(const std::string& backing, std::string_view tag);

// Those over exactly this file, with its name. Opens nothing.
Result<std::vector<LoopInfo>> find(const std::string& backing);
// Those over files below `directory`, also unlinked ones. Opens nothing.
Result<std::vector<LoopInfo>> find_below(const std::string& directory);
// Whether the device has this tag: asks the backing file's own file system, which must be alive.
Result<bool> carries(const LoopInfo& loop, std::string_view tag);

// Whether its backing file is this very one: the same path may name another in another mount namespace. Asks as carries().
Result<bool> stands_on(const LoopInfo& loop, const std::string& backing);

// Opens the device for this process alone: nobody can mount or claim it until the descriptor is
// closed. kInUse while somebody has (mounted anywhere, part of another device); kNotFound when it
// is gone or stands on another file now. Asks nobody, but the *close* writes back what the page
// cache has for it.
Result<OwnedFd> claim(const LoopInfo& loop);
// Detaches a claimed device, and waits until it is gone: five seconds, then kInUse, and it stays attached.
Status release(const LoopInfo& loop, OwnedFd claimed);
// claim() and release(). Success when it is gone already.
Status detach(const LoopInfo& loop);
// For one whose backing file is dead (its connection aborted): the kernel drops it with its last
// user. Success when it is gone.
Status detach_later(const LoopInfo& loop);

// Takes over the size of the backing file (which must not be served by this process, see
// FuseDriver).
Status refresh_size(const LoopInfo& loop);
// Opens nothing.
Result<uint64_t> size_bytes(int number);

// True while anything has the block device claimed, in any mount namespace.
Result<bool> is_claimed(const std::string& device);

}  // namespace hf::loopdev
