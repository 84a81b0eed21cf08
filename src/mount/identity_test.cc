#include "mount/identity.h"

#include <gtest/gtest.h>

#include <cstring>

#include "base/crc32c.h"
#include "base/id.h"
#include "runtime/test_loop.h"
#include "volume/testing/memory_device.h"

namespace hf::mount {
namespace {

constexpr char kOrigin[] = "11111111-2222-4333-8444-555555555555";
constexpr char kClone[] = "99999999-aaaa-4bbb-8ccc-dddddddddddd";
constexpr char kSecond[] = "77777777-aaaa-4bbb-8ccc-dddddddddddd";

class Superblock {
 public:
  explicit Superblock(uint64_t offset) : bytes_(AlignedBuffer::zeroed(kBtrfsSuperBytes)) {
    put(0x20, id_from_string(kOrigin)->data(), 16);
    put(0x30, &offset, 8);
    put(0x40, "_BHRfS_M", 8);
    const uint64_t generation = 77, log_root = 0x4000, devices = 1;
    put(0x48, &generation, 8);
    put(0x60, &log_root, 8);
    put(0x88, &devices, 8);
    seal();
  }
  void put(size_t at, const void* from, size_t size) {
    std::memcpy(bytes_.data() + at, from, size);
  }
  void seal() {
    const uint32_t crc = crc32c(bytes_.span().subspan(32));
    put(0, &crc, 4);
  }
  bool sound() const {
    uint32_t crc;
    std::memcpy(&crc, bytes_.data(), 4);
    return crc == crc32c(bytes_.span().subspan(32));
  }
  std::string uuid(size_t at) const {
    IdBytes id;
    std::memcpy(id.data(), bytes_.data() + at, 16);
    return id_to_string(id);
  }
  uint64_t number(size_t at) const {
    uint64_t value;
    std::memcpy(&value, bytes_.data() + at, 8);
    return value;
  }
  AlignedBuffer& bytes() { return bytes_; }

 private:
  AlignedBuffer bytes_;
};

TEST(BtrfsIdentity, ChangesTheUuidAndNothingElse) {
  Superblock block(64 * kKiB);
  EXPECT_TRUE(*stamp_btrfs_superblock(block.bytes().span(), 64 * kKiB, kClone));
  EXPECT_TRUE(block.sound());
  EXPECT_EQ(block.uuid(0x20), kClone);
  EXPECT_EQ(block.uuid(0x23b), kOrigin);
  EXPECT_EQ(block.number(0xbc), 1u << 10);
  EXPECT_EQ(block.number(0x48), 77u);
  EXPECT_EQ(block.number(0x60), 0x4000u);
  // Once is enough; a clone of the clone keeps what its tree blocks carry.
  EXPECT_FALSE(*stamp_btrfs_superblock(block.bytes().span(), 64 * kKiB, kClone));
  EXPECT_TRUE(*stamp_btrfs_superblock(block.bytes().span(), 64 * kKiB, kSecond));
  EXPECT_EQ(block.uuid(0x20), kSecond);
  EXPECT_EQ(block.uuid(0x23b), kOrigin);
}

TEST(BtrfsIdentity, LeavesAloneWhatIsNoSoundSuperblock) {
  AlignedBuffer zeroes = AlignedBuffer::zeroed(kBtrfsSuperBytes);
  EXPECT_FALSE(*stamp_btrfs_superblock(zeroes.span(), 64 * kKiB, kClone));
  Superblock elsewhere(64 * kMiB);
  EXPECT_FALSE(*stamp_btrfs_superblock(elsewhere.bytes().span(), 64 * kKiB, kClone));
  Superblock damaged(64 * kKiB);
  damaged.put(0x70, "x", 1);
  EXPECT_FALSE(*stamp_btrfs_superblock(damaged.bytes().span(), 64 * kKiB, kClone));
}

TEST(BtrfsIdentity, RefusesWhatItCannotChange) {
  const uint64_t two = 2, changing = 1ull << 36;
  Superblock many(64 * kKiB);
  many.put(0x88, &two, 8);
  many.seal();
  EXPECT_EQ(stamp_btrfs_superblock(many.bytes().span(), 64 * kKiB, kClone).code(),
            ErrorCode::kFailedPrecondition);
  Superblock under_way(64 * kKiB);
  under_way.put(0x38, &changing, 8);
  under_way.seal();
  EXPECT_EQ(stamp_btrfs_superblock(under_way.bytes().span(), 64 * kKiB, kClone).code(),
            ErrorCode::kFailedPrecondition);
  const uint16_t blake2 = 3;
  Superblock other(64 * kKiB);
  other.put(0xc4, &blake2, 2);
  EXPECT_EQ(stamp_btrfs_superblock(other.bytes().span(), 64 * kKiB, kClone).code(),
            ErrorCode::kNotSupported);
}

TEST(BtrfsIdentity, ChangesEveryCopyAndOnlyThoseOfBtrfs) {
  TestLoop loop;
  MemoryDevice device(65 * kMiB);
  Superblock first(64 * kKiB), second(64 * kMiB);
  FilesystemSpec spec;
  spec.fs = spec::FsType::kBtrfs;
  spec.uuid = kClone;
  ASSERT_TRUE(loop.run(device.write(64 * kKiB, first.bytes().span())).ok());
  ASSERT_TRUE(loop.run(device.write(64 * kMiB, second.bytes().span())).ok());
  const uint64_t writes = device.writes;
  ASSERT_TRUE(loop.run(give_identity(device, spec)).ok());
  ASSERT_TRUE(loop.run(give_identity(device, spec)).ok());
  EXPECT_EQ(device.writes, writes + 2);
  ASSERT_TRUE(loop.run(device.read(64 * kKiB, first.bytes().span())).ok());
  ASSERT_TRUE(loop.run(device.read(64 * kMiB, second.bytes().span())).ok());
  EXPECT_EQ(first.uuid(0x20), kClone);
  EXPECT_EQ(second.uuid(0x20), kClone);
  EXPECT_TRUE(first.sound() && second.sound());
  spec.fs = spec::FsType::kXfs;
  spec.uuid = kSecond;
  ASSERT_TRUE(loop.run(give_identity(device, spec)).ok());
  EXPECT_EQ(device.writes, writes + 2);
}

}  // namespace
}  // namespace hf::mount
