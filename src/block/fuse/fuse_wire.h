// The kernel's FUSE protocol, as far as we speak it: linux/fuse.h, and what Debian 12's copy (7.38)
// lacks.
#pragma once

#include <linux/fuse.h>

#include <cstddef>
#include <cstdint>

#include "base/units.h"

namespace hf::fuse {

// Protocol 7.40 (Linux 6.9): requests that a dead server had read and not answered can be had
// again.
inline constexpr uint64_t kHasResend = uint64_t{1} << 39;
inline constexpr int32_t kNotifyResend = 7;
inline constexpr uint64_t kUniqueResend = uint64_t{1} << 63;
inline constexpr uint32_t kMinorMax = 40;
// Smaller minors have other message sizes; 7.31 is Linux 5.4.
inline constexpr uint32_t kMinorMin = 31;

inline constexpr uint64_t kRootNode = FUSE_ROOT_ID;
inline constexpr uint64_t kDiskNode = 2;
// Constant, so that handles given by a dead server stay valid.
inline constexpr uint64_t kDiskHandle = 2;
inline constexpr uint64_t kDirHandle = 1;
inline constexpr char kDiskName[] = "disk";

inline constexpr uint32_t kMaxWrite = 1 * kMiB;  // also of a read
inline constexpr uint16_t kMaxPages = kMaxWrite / kBlockSize;
inline constexpr uint16_t kMaxBackground =
    256;  // the default 12 would be the queue depth of the device
inline constexpr uint16_t kCongestion = 192;
// How long the kernel may keep names and attributes: for ever. It asks anew where follow_size() makes
// it; whoever looks at a loop device (LOOP_GET_STATUS64: losetup -a) is answered from its cache, also
// while no daemon runs.
inline constexpr uint64_t kAttrSeconds = uint64_t{20} * 365 * 24 * 3600;
// Where the payload of a WRITE begins in its message.
inline constexpr size_t kWritePayloadAt = sizeof(fuse_in_header) + sizeof(fuse_write_in);
static_assert(kWritePayloadAt == 80);
static_assert(sizeof(fuse_init_in) == 64 && sizeof(fuse_init_out) == 64);
static_assert(sizeof(fuse_in_header) == 40 && sizeof(fuse_out_header) == 16);

}  // namespace hf::fuse
