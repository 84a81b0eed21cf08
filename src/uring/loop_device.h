// Loop devices of the kernel. Every call blocks: run it in the blocking pool, never on a loop
// thread that serves the backing file.
//
// Loop devices are shared by everything on the machine: numbers come from loop-control, each of
// ours carries a tag (lo_file_name), and only what carries our tag is touched.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace hf::loopdev {

inline constexpr size_t kTagMax = 63;  // bytes

struct LoopInfo {
  int number = -1;
  std::string tag;
  std::string device() const { return "/dev/loop" + std::to_string(number); }
};

// A device with direct I/O and blocks of 4096 bytes over `backing_path`, which stays until detach.
// The tag is ours alone. kLimitExceeded when the machine has none left, kMissingFeature without
// loop support.
Result<LoopInfo> attach(const std::string& backing_path, std::string_view tag);

// All whose tag begins with `prefix`.
Result<std::vector<LoopInfo>> find(std::string_view prefix);

// Success when it is gone already. kInUse while somebody has claimed it (mounted anywhere, part of
// another device); kWrongOwner if the device of that number carries another tag.
Status detach(int number, std::string_view tag);
// For one whose backing file is dead: the kernel drops it with its last user. Success when it is
// gone.
Status detach_later(int number, std::string_view tag);

// Takes over the size of the backing file (which must not be served by this process, see
// FuseDriver).
Status refresh_size(int number, std::string_view tag);
Result<uint64_t> size_bytes(int number);

// True while anything has the block device claimed, in any mount namespace.
Result<bool> is_claimed(const std::string& device);

}  // namespace hf::loopdev
