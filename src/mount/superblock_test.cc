#include "mount/superblock.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "base/crc32c.h"
#include "mount/make_fs.h"
#include "runtime/test_loop.h"
#include "volume/testing/memory_device.h"

namespace hf::mount {
namespace {

constexpr uint64_t kImageBytes = 512 * kMiB;
constexpr spec::FsType kAll[] = {spec::FsType::kExt4, spec::FsType::kXfs, spec::FsType::kBtrfs};

// The superblock that the real mkfs makes.
AlignedBuffer made_by_mkfs(spec::FsType fs) {
  char folder[] = "/tmp/hf-superblock-XXXXXX";
  HF_ASSERT(::mkdtemp(folder) != nullptr);
  const std::string image = std::string(folder) + "/image";
  std::ofstream(image).close();
  std::filesystem::resize_file(image, kImageBytes);
  FilesystemSpec spec;
  spec.fs = fs;
  spec.block_size = 4096;
  spec.uuid = "11111111-2222-4333-8444-555555555555";
  spec.label = "hf-11111111";
  std::string line;
  for (const std::string& word : mkfs_argv(image, spec)) line += word + " ";
  HF_ASSERT(::system(line.c_str()) == 0, "{}", line);  // NOLINT(cert-env33-c)
  AlignedBuffer block(kSuperblockBytes);
  std::ifstream in(image, std::ios::binary);
  in.seekg(static_cast<std::streamoff>(superblock_offset(fs)));
  in.read(reinterpret_cast<char*>(block.data()), static_cast<std::streamsize>(block.size()));
  HF_ASSERT(in.good());
  std::filesystem::remove_all(folder);
  return block;
}

class Ext4 {
 public:
  Ext4() : block_(made_by_mkfs(spec::FsType::kExt4)) {}
  template <typename T>
  void put(size_t at, T value) {
    std::memcpy(block_.data() + 1024 + at, &value, sizeof value);
    const uint32_t crc = ~crc32c(block_.span().subspan(1024, 0x3fc));
    std::memcpy(block_.data() + 1024 + 0x3fc, &crc, sizeof crc);
  }
  bool sound(uint64_t device_bytes = kImageBytes) const {
    return superblock_is_sound(block_.span(), spec::FsType::kExt4, device_bytes);
  }

 private:
  AlignedBuffer block_;
};

TEST(Superblock, OfTheRealMkfsIsSoundAndNoOther) {
  for (const spec::FsType fs : kAll) {
    AlignedBuffer block = made_by_mkfs(fs);
    for (const spec::FsType asked : kAll) {
      EXPECT_EQ(superblock_is_sound(block.span(), asked, kImageBytes), asked == fs)
          << spec::to_string(fs) << " as " << spec::to_string(asked);
    }
    // Whatever is changed is seen: of ext4 the kilobyte of the superblock, of xfs its sector.
    const size_t first = fs == spec::FsType::kExt4 ? 1024 : 0;
    const size_t end = fs == spec::FsType::kExt4 ? 2048 : fs == spec::FsType::kXfs ? 512 : kSuperblockBytes;
    const bool btrfs = fs == spec::FsType::kBtrfs;
    for (size_t at = first; at < end; ++at) {
      if (btrfs && at >= 4 && at < 32) continue;  // a CRC32C has four bytes of the checksum's place
      block.data()[at] ^= std::byte{0x10};
      EXPECT_FALSE(superblock_is_sound(block.span(), fs, kImageBytes)) << spec::to_string(fs) << " byte " << at;
      block.data()[at] ^= std::byte{0x10};
    }
  }
  AlignedBuffer blank = AlignedBuffer::zeroed(kSuperblockBytes);
  for (const spec::FsType fs : kAll) EXPECT_FALSE(superblock_is_sound(blank.span(), fs, kImageBytes));
  EXPECT_FALSE(superblock_is_sound(blank.span(), spec::FsType::kNone, kImageBytes));
}

TEST(Superblock, OfExt4TellsWhatAMountDoesNotDo) {
  Ext4 ext4;
  EXPECT_TRUE(ext4.sound());
  EXPECT_FALSE(ext4.sound(kImageBytes + kMiB)) << "it is to be grown";
  EXPECT_FALSE(ext4.sound(kImageBytes - 4096)) << "its end is missing";
  ext4.put<uint16_t>(0x3a, 3);
  EXPECT_FALSE(ext4.sound()) << "with errors";
  ext4.put<uint16_t>(0x3a, 0);
  EXPECT_FALSE(ext4.sound()) << "not clean, and no journal to replay";
  uint32_t incompat = 0x2c6;
  ext4.put<uint32_t>(0x60, incompat);
  EXPECT_TRUE(ext4.sound()) << "not clean; the mount replays the journal";
  ext4.put<uint32_t>(0x64, 0);
  EXPECT_FALSE(ext4.sound()) << "nothing says that it is what was written";
}

Task<Status> ask(BlockDevice& device, spec::FsType fs, bool* answer) {
  Result<bool> sound = co_await reads_sound(device, fs);
  HF_CO_TRY(sound);
  *answer = sound.value();
  co_return Status();
}

TEST(Superblock, IsReadWhereItLies) {
  TestLoop loop;
  const auto reads = [&loop](BlockDevice& device, spec::FsType fs) {
    bool answer = false;
    EXPECT_TRUE(loop.run(ask(device, fs, &answer)).ok());
    return answer;
  };
  MemoryDevice device(kMiB);
  const AlignedBuffer block = made_by_mkfs(spec::FsType::kBtrfs);
  EXPECT_FALSE(reads(device, spec::FsType::kBtrfs));
  ASSERT_TRUE(loop.run(device.write(64 * kKiB, block.span())).ok());
  EXPECT_TRUE(reads(device, spec::FsType::kBtrfs));
  EXPECT_FALSE(reads(device, spec::FsType::kXfs));
  MemoryDevice small(64 * kKiB);
  EXPECT_FALSE(reads(small, spec::FsType::kBtrfs));
}

}  // namespace
}  // namespace hf::mount
