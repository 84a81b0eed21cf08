#include "mount/identity.h"

#include <array>
#include <cstring>

#include "base/crc32c.h"
#include "base/id.h"
#include "base/log.h"

namespace hf::mount {
namespace {

// The superblock (btrfs on-disk format): little-endian, its checksum over everything behind the
// checksum's place.
constexpr size_t kCsumBytes = 32, kUuidBytes = 16;
constexpr size_t kFsid = 0x20, kBytenr = 0x30, kFlags = 0x38, kMagic = 0x40, kNumDevices = 0x88,
                 kIncompat = 0xbc, kCsumType = 0xc4, kMetadataUuid = 0x23b;
constexpr std::string_view kMagicText = "_BHRfS_M";
constexpr uint64_t kHasMetadataUuid = 1ull << 10;
constexpr uint64_t kChangingFsid = 3ull << 35;  // the two flags of a btrfstune under way
constexpr uint16_t kCsumIsCrc32c = 0;
// The first is the one that a mount reads.
constexpr std::array<uint64_t, 3> kCopies = {64 * kKiB, 64 * kMiB, 256 * kGiB};

template <typename T>
T get(ByteSpan block, size_t at) {
  T value;
  std::memcpy(&value, block.data() + at, sizeof value);
  return value;
}

uint32_t checksum(ByteSpan block) {
  return crc32c(block.subspan(kCsumBytes));
}

}  // namespace

Result<bool> stamp_btrfs_superblock(MutableByteSpan block, uint64_t offset, std::string_view uuid) {
  HF_ASSERT(block.size() == kBtrfsSuperBytes, "{}", block.size());
  const std::optional<IdBytes> wanted = id_from_string(uuid);
  HF_ASSERT(wanted.has_value(), "{} is no UUID", uuid);
  if (std::memcmp(block.data() + kMagic, kMagicText.data(), kMagicText.size()) != 0) return false;
  if (get<uint64_t>(block, kBytenr) != offset) return false;
  if (std::memcmp(block.data() + kFsid, wanted->data(), kUuidBytes) == 0) return false;
  if (get<uint16_t>(block, kCsumType) != kCsumIsCrc32c) {
    return make_error(ErrorCode::kNotSupported,
                      "a btrfs with another checksum than crc32c keeps its origin's UUID, and may "
                      "not be attached "
                      "beside it; clone the origin's files with btrfs send instead");
  }
  if (get<uint32_t>(block, 0) != checksum(block)) return false;
  if (get<uint64_t>(block, kNumDevices) != 1) {
    return make_error(ErrorCode::kFailedPrecondition,
                      "the btrfs on it spans {} devices; a clone of one of them is no file system",
                      get<uint64_t>(block, kNumDevices));
  }
  if ((get<uint64_t>(block, kFlags) & kChangingFsid) != 0) {
    return make_error(ErrorCode::kFailedPrecondition,
                      "its origin's UUID was just being changed by btrfstune; finish that on the "
                      "origin, and clone "
                      "it again");
  }
  const uint64_t incompat = get<uint64_t>(block, kIncompat);
  if ((incompat & kHasMetadataUuid) == 0) {
    std::memcpy(block.data() + kMetadataUuid, block.data() + kFsid, kUuidBytes);
    const uint64_t with = incompat | kHasMetadataUuid;
    std::memcpy(block.data() + kIncompat, &with, sizeof with);
  }
  std::memcpy(block.data() + kFsid, wanted->data(), kUuidBytes);
  const uint32_t crc = checksum(block);
  std::memcpy(block.data(), &crc, sizeof crc);
  return true;
}

Task<Status> give_identity(BlockDevice& device, FilesystemSpec spec) {
  if (spec.fs != spec::FsType::kBtrfs) co_return Status();
  AlignedBuffer block(kBtrfsSuperBytes);
  for (size_t i = kCopies.size(); i-- > 0;) {
    const uint64_t offset = kCopies[i];
    if (offset + kBtrfsSuperBytes > device.size()) continue;
    Status read = co_await device.read(offset, block.span());
    HF_CO_TRY(read);
    const Result<bool> changed = stamp_btrfs_superblock(block.span(), offset, spec.uuid);
    HF_CO_TRY(changed);
    if (!*changed) continue;
    Status written = co_await device.write(offset, block.span());
    HF_CO_TRY(written);
    Status flushed = co_await device.flush();
    HF_CO_TRY(flushed);
    if (i == 0) HF_LOG(kInfo, "mount", "btrfs_identity uuid={}", spec.uuid);
  }
  co_return Status();
}

}  // namespace hf::mount
