// The kernel's ublk interface (include/uapi/linux/ublk_cmd.h of 6.12 and later), as far as we speak
// it; Debian 12's copy is of 6.1 and lacks half of it. docs/facts-block.md, section 3, has what
// each call does.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/units.h"

namespace hf::ublk {

// Control commands, 32 bytes, on /dev/ublk-control.
struct ControlCommand {
  uint32_t dev_id = 0;
  uint16_t queue_id = 0xffff;
  uint16_t len = 0;
  uint64_t addr = 0;
  uint64_t data = 0;
  uint16_t dev_path_len = 0;
  uint16_t pad = 0;
  uint32_t reserved = 0;
};
static_assert(sizeof(ControlCommand) == 32);

struct DeviceInfo {
  uint16_t nr_hw_queues = 0;
  uint16_t queue_depth = 0;
  uint16_t state = 0;
  uint16_t pad0 = 0;
  uint32_t max_io_buf_bytes = 0;
  uint32_t dev_id = 0;
  int32_t ublksrv_pid = 0;
  uint32_t pad1 = 0;
  uint64_t flags = 0;
  uint64_t ublksrv_flags = 0;  // ours: which volume
  uint32_t owner_uid = 0;
  uint32_t owner_gid = 0;
  uint64_t reserved[2] = {};
};
static_assert(sizeof(DeviceInfo) == 64);

inline constexpr uint16_t kStateDead = 0, kStateLive = 1, kStateQuiesced = 2;

// The head of struct ublk_params: the kernel takes as much as `len` says.
struct [[gnu::packed]] Params {
  uint32_t len = 0;
  uint32_t types = 0;
  uint32_t attrs = 0;
  uint8_t logical_bs_shift = 12;
  uint8_t physical_bs_shift = 12;
  uint8_t io_opt_shift = 12;
  uint8_t io_min_shift = 12;
  uint32_t max_sectors = 0;
  uint32_t chunk_sectors = 0;
  uint64_t dev_sectors = 0;
  uint64_t virt_boundary_mask = 0;
  uint32_t discard_alignment = 0;
  uint32_t discard_granularity = 0;
  uint32_t max_discard_sectors = 0;
  uint32_t max_write_zeroes_sectors = 0;
  uint16_t max_discard_segments = 1;
  uint16_t reserved0 = 0;
};
static_assert(sizeof(Params) == 60);
inline constexpr uint32_t kParamBasic = 1, kParamDiscard = 2;
inline constexpr uint32_t kAttrVolatileCache = 4, kAttrFua = 8;

inline constexpr uint32_t kGetFeatures = 0x80207513, kGetDevInfo = 0x80207502, kAddDev = 0xc0207504,
                          kStopDev = 0xc0207507, kStartDev = 0xc0207506, kSetParams = 0xc0207508,
                          kDelDevAsync = 0x80207514, kStartRecovery = 0xc0207510,
                          kEndRecovery = 0xc0207511, kUpdateSize = 0xc0207515;

inline constexpr uint64_t kFeatureRecovery = 1 << 3, kFeatureReissue = 1 << 4,
                          kFeatureIoctlEncode = 1 << 6, kFeatureUserCopy = 1 << 7,
                          kFeatureUpdateSize = 1 << 10;
inline constexpr uint64_t kFlagsWanted =
    kFeatureRecovery | kFeatureReissue | kFeatureIoctlEncode | kFeatureUserCopy;

// Data commands, 16 bytes, on /dev/ublkcN.
struct IoCommand {
  uint16_t queue = 0;
  uint16_t tag = 0;
  int32_t result = 0;
  uint64_t addr = 0;
};
static_assert(sizeof(IoCommand) == 16);
inline constexpr uint32_t kFetch = 0xc0107520, kCommitAndFetch = 0xc0107521;

struct IoDescriptor {
  uint32_t op_flags;
  uint32_t nr_sectors;
  uint64_t start_sector;
  uint64_t addr;
};
static_assert(sizeof(IoDescriptor) == 24);
inline constexpr uint32_t kOpMask = 0xff, kOpRead = 0, kOpWrite = 1, kOpFlush = 2, kOpDiscard = 3,
                          kOpWriteZeroes = 5;
inline constexpr uint32_t kFlagFua = 1u << 13, kFlagNoUnmap = 1u << 15;

// Where a request's data lies in /dev/ublkcN (UBLK_F_USER_COPY); queue 0.
inline constexpr uint64_t data_position(uint16_t tag) {
  return 0x80000000u + (uint64_t{tag} << 25);
}

// One queue: with more, a kill at a bad moment of a recovery crashes Linux 6.12. Its memory without
// user data is one descriptor a tag.
inline constexpr uint16_t kQueueDepth = 64;
inline constexpr uint32_t kMaxIoBytes = 1 * kMiB;
inline constexpr uint32_t kSectorBytes = 512;
// In one request; AlignFilter splits it further.
inline constexpr uint32_t kMaxDiscardBytes = 1 * kGiB;

}  // namespace hf::ublk
