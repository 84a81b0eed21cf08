#include "mount/superblock.h"

#include <cstring>
#include <string_view>

#include "base/crc32c.h"
#include "base/units.h"

namespace hf::mount {
namespace {

template <typename T>
T little(ByteSpan block, size_t at) {
  T value;
  std::memcpy(&value, block.data() + at, sizeof value);
  return value;
}

// CRC32C as ext4 keeps it: not inverted at the end.
uint32_t raw_crc32c(ByteSpan data) { return ~crc32c(data); }

bool ext4_is_sound(ByteSpan block, uint64_t device_bytes) {
  constexpr size_t kAt = 1024, kBytes = 1024;
  constexpr size_t kBlocksLow = 0x4, kLogBlockSize = 0x18, kMagic = 0x38, kState = 0x3a, kIncompat = 0x60,
                   kRoCompat = 0x64, kBlocksHigh = 0x150, kCsumType = 0x175, kCsum = 0x3fc;
  constexpr uint16_t kMagicValue = 0xef53, kClean = 1, kErrors = 2;
  constexpr uint32_t kRecover = 0x4, k64Bit = 0x80, kMetadataCsum = 0x400;
  const ByteSpan super = block.subspan(kAt, kBytes);
  if (little<uint16_t>(super, kMagic) != kMagicValue) return false;
  if ((little<uint32_t>(super, kRoCompat) & kMetadataCsum) == 0 || little<uint8_t>(super, kCsumType) != 1) return false;
  if (little<uint32_t>(super, kCsum) != raw_crc32c(super.first(kCsum))) return false;
  const uint16_t state = little<uint16_t>(super, kState);
  const uint32_t incompat = little<uint32_t>(super, kIncompat);
  if ((state & kErrors) != 0) return false;
  if ((state & kClean) == 0 && (incompat & kRecover) == 0) return false;
  const uint32_t log_size = little<uint32_t>(super, kLogBlockSize);
  if (log_size > 6) return false;
  uint64_t blocks = little<uint32_t>(super, kBlocksLow);
  if ((incompat & k64Bit) != 0) blocks |= uint64_t{little<uint32_t>(super, kBlocksHigh)} << 32;
  const uint64_t block_bytes = uint64_t{1024} << log_size;
  if (blocks > device_bytes / block_bytes) return false;
  // mkfs leaves less than a block group's worth unused at the end.
  return device_bytes < blocks * block_bytes + kMiB;
}

// Its numbers are big-endian, but for the checksum.
bool xfs_is_sound(ByteSpan block) {
  constexpr size_t kVersion = 100, kSectorSize = 102, kCrc = 224;
  constexpr std::string_view kMagic = "XFSB";
  if (std::memcmp(block.data(), kMagic.data(), kMagic.size()) != 0) return false;
  const auto big16 = [block](size_t at) {
    return uint32_t{std::to_integer<uint8_t>(block[at])} << 8 | std::to_integer<uint8_t>(block[at + 1]);
  };
  const uint32_t sector = big16(kSectorSize);
  if ((big16(kVersion) & 0xf) != 5 || sector < 512 || sector > block.size()) return false;
  // Over the sector, with zeroes where it stands itself.
  constexpr std::byte kZeroes[sizeof(uint32_t)] = {};
  uint32_t crc = crc32c(block.first(kCrc));
  crc = crc32c_extend(crc, kZeroes);
  crc = crc32c_extend(crc, block.subspan(kCrc + sizeof crc, sector - kCrc - sizeof crc));
  return little<uint32_t>(block, kCrc) == crc;
}

bool btrfs_is_sound(ByteSpan block) {
  constexpr size_t kCsumBytes = 32, kBytenr = 0x30, kMagic = 0x40, kCsumType = 0xc4;
  constexpr std::string_view kMagicText = "_BHRfS_M";
  return std::memcmp(block.data() + kMagic, kMagicText.data(), kMagicText.size()) == 0 &&
         little<uint64_t>(block, kBytenr) == superblock_offset(spec::FsType::kBtrfs) &&
         little<uint16_t>(block, kCsumType) == 0 && little<uint32_t>(block, 0) == crc32c(block.subspan(kCsumBytes));
}

}  // namespace

uint64_t superblock_offset(spec::FsType fs) { return fs == spec::FsType::kBtrfs ? 64 * kKiB : 0; }

bool superblock_is_sound(ByteSpan block, spec::FsType fs, uint64_t device_bytes) {
  HF_ASSERT(block.size() == kSuperblockBytes, "{}", block.size());
  switch (fs) {
    case spec::FsType::kExt4: return ext4_is_sound(block, device_bytes);
    case spec::FsType::kXfs: return xfs_is_sound(block);
    case spec::FsType::kBtrfs: return btrfs_is_sound(block);
    case spec::FsType::kNone: return false;
  }
  HF_UNREACHABLE();
}

Task<Result<bool>> reads_sound(BlockDevice& device, spec::FsType fs) {
  const uint64_t at = superblock_offset(fs);
  if (at + kSuperblockBytes > device.size()) co_return false;
  AlignedBuffer block(kSuperblockBytes);
  Status read = co_await device.read(at, block.span());
  HF_CO_TRY(read);
  co_return superblock_is_sound(block.span(), fs, device.size());
}

}  // namespace hf::mount
