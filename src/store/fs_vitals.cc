#include "store/fs_vitals.h"

#include <algorithm>
#include <cstring>

namespace hf {
namespace {

constexpr uint64_t kMaxDescriptorBytes = 4 * kMiB;  // of ext4's groups: 8 TiB of volume
constexpr size_t kMaxRanges = 200'000;  // three for each of these groups, and a journal

uint64_t little(ByteSpan from, size_t at, size_t bytes) {
  uint64_t value = 0;
  for (size_t i = bytes; i-- > 0;) value = value << 8 | static_cast<uint8_t>(from[at + i]);
  return value;
}

uint64_t big(ByteSpan from, size_t at, size_t bytes) {
  uint64_t value = 0;
  for (size_t i = 0; i < bytes; ++i) value = value << 8 | static_cast<uint8_t>(from[at + i]);
  return value;
}

// btrfs: the superblock's place, and offsets in it and in the head of a tree block.
constexpr uint64_t kBtrfsSuperBlock = 64 * kKiB / kBlockSize;
constexpr size_t kBtrfsMagicAt = 64, kBtrfsIdAt = 32, kBtrfsIncompatAt = 0xbc,
                 kBtrfsMetadataIdAt = 0x23b;
constexpr uint64_t kBtrfsHasMetadataId = 1 << 10;

}  // namespace

bool FsVitals::touches(uint64_t first_block, ByteSpan data) const {
  const uint64_t count = data.size() / kBlockSize;
  for (size_t at = 0; at < data.size() && (tree_id_ || is_ext4_); at += kBlockSize) {
    const ByteSpan block = data.subspan(at, kBlockSize);
    if (is_ext4_ && looks_like_ext4_metadata(block)) return true;
    if (tree_id_ && std::memcmp(block.data() + kBtrfsIdAt, tree_id_->data(), tree_id_->size()) == 0)
      return true;
  }
  // In order, and apart from each other.
  const auto behind =
      std::upper_bound(ranges_.begin(), ranges_.end(), first_block + count - 1,
                       [](uint64_t block, const BlockRange& range) { return block < range.first; });
  return behind != ranges_.begin() && std::prev(behind)->overlaps(first_block, count);
}

void FsVitals::add(uint64_t first, uint64_t count) {
  if (count == 0 || first >= blocks_ || count > blocks_ - first || ranges_.size() >= kMaxRanges)
    return;
  ranges_.push_back(BlockRange{first, count});
}

Task<Result<FsVitals>> FsVitals::find(const Reader& read, uint64_t blocks) {
  FsVitals vitals;
  vitals.blocks_ = blocks;
  if (blocks <= kBtrfsSuperBlock) co_return std::move(vitals);
  AlignedBuffer block(kBlockSize);
  Status got = co_await read(0, block.span());
  HF_CO_TRY(got);
  Status found = co_await vitals.find_ext4(read, block.span());
  HF_CO_TRY(found);
  vitals.find_xfs(block.span());
  got = co_await read(kBtrfsSuperBlock, block.span());
  HF_CO_TRY(got);
  vitals.find_btrfs(block.span());
  std::vector<BlockRange>& ranges = vitals.ranges_;
  std::sort(ranges.begin(), ranges.end(),
            [](const BlockRange& a, const BlockRange& b) { return a.first < b.first; });
  std::vector<BlockRange> merged;
  for (const BlockRange& range : ranges) {
    if (!merged.empty() && range.first <= merged.back().first + merged.back().count) {
      const uint64_t end =
          std::max(merged.back().first + merged.back().count, range.first + range.count);
      merged.back().count = end - merged.back().first;
    } else {
      merged.push_back(range);
    }
  }
  ranges = std::move(merged);
  co_return std::move(vitals);
}

void FsVitals::find_btrfs(ByteSpan super) {
  if (std::memcmp(super.data() + kBtrfsMagicAt, "_BHRfS_M", 8) != 0) return;
  const bool other = (little(super, kBtrfsIncompatAt, 8) & kBtrfsHasMetadataId) != 0;
  Id id;
  std::memcpy(id.data(), super.data() + (other ? kBtrfsMetadataIdAt : kBtrfsIdAt), id.size());
  tree_id_ = id;
}

void FsVitals::find_xfs(ByteSpan first) {
  if (std::memcmp(first.data(), "XFSB", 4) != 0) return;
  const uint64_t block_bytes = big(first, 4, 4), start = big(first, 48, 8);
  const uint64_t group_blocks = big(first, 84, 4), blocks = big(first, 96, 4),
                 group_bits = big(first, 124, 1);
  if (start == 0 || block_bytes == 0 || !is_aligned(block_bytes, kBlockSize) || group_bits >= 32)
    return;
  const uint64_t group = start >> group_bits, inside = start & ((uint64_t{1} << group_bits) - 1);
  const uint64_t scale = block_bytes / kBlockSize;
  if (group > UINT32_MAX || group_blocks > UINT32_MAX) return;
  add((group * group_blocks + inside) * scale, blocks * scale);
}

// --- ext4 ----------------------------------------------------------------------------------------

// Of the superblock, which lies at 1024.
struct FsVitals::Ext4 {
  explicit Ext4(ByteSpan s)
      : magic(little(s, 0x38, 2)),
        log_block(little(s, 0x18, 4)),
        blocks(little(s, 0x4, 4)),
        blocks_per_group(little(s, 0x20, 4)),
        inodes_per_group(little(s, 0x28, 4)),
        inode_bytes(little(s, 0x58, 2)),
        incompat(little(s, 0x60, 4)) {
    if (is_64bit()) blocks |= little(s, 0x150, 4) << 32;
    descriptor_bytes = is_64bit() ? std::max<uint64_t>(32, little(s, 0xfe, 2)) : 32;
  }
  bool is_64bit() const { return (incompat & 0x80) != 0; }
  bool has_meta_groups() const { return (incompat & 0x10) != 0; }
  // Blocks of ours, no smaller ones: sectors have 4 KiB.
  bool is_sound() const {
    return magic == 0xef53 && log_block == 2 && blocks_per_group > 0 && blocks > 0 &&
           inode_bytes > 0 && descriptor_bytes <= 1024;
  }
  uint64_t groups() const { return (blocks + blocks_per_group - 1) / blocks_per_group; }
  uint64_t table_blocks() const {
    return (inodes_per_group * inode_bytes + kBlockSize - 1) / kBlockSize;
  }

  uint64_t magic, log_block, blocks, blocks_per_group, inodes_per_group, inode_bytes, incompat;
  uint64_t descriptor_bytes = 32;
};

// By what begins or ends them, each with a magic number or a fixed entry. Directories end so since
// ext4 checks its metadata (metadata_csum, the default of mkfs).
bool FsVitals::looks_like_ext4_metadata(ByteSpan block) {
  constexpr uint64_t kExtentMagic = 0xf30a, kExtentsPerBlock = 340, kAttributeMagic = 0xea020000;
  constexpr size_t kTailAt = kBlockSize - 12;
  constexpr uint64_t kTailEntry = 0xde00'000c;  // length 12, no name, of the kind of tails
  const uint64_t word = little(block, 0, 4), entry = little(block, 4, 4);
  if (little(block, 0, 2) == kExtentMagic && little(block, 4, 2) == kExtentsPerBlock) return true;
  if (word == kAttributeMagic) return true;
  if (little(block, kTailAt, 4) == 0 && little(block, kTailAt + 4, 4) == kTailEntry) return true;
  // The index of a large directory: an entry of the whole block without a name, or "." and "..".
  if (word == 0 && entry == kBlockSize) return true;
  return word != 0 && little(block, 4, 2) == 12 && little(block, 6, 1) == 1 &&
         little(block, 8, 4) == '.';
}

Task<Status> FsVitals::find_ext4(const Reader& read, ByteSpan first) {
  const ByteSpan super = first.subspan(1024, 1024);
  const Ext4 fs(super);
  if (!fs.is_sound()) co_return Status();
  is_ext4_ = true;
  const uint64_t bytes = std::min(fs.groups() * fs.descriptor_bytes, kMaxDescriptorBytes);
  if (!fs.has_meta_groups() && bytes / kBlockSize + 2 < blocks_) {
    AlignedBuffer table((bytes + kBlockSize - 1) / kBlockSize * kBlockSize);
    Status got = co_await read(1, table.span());
    HF_CO_TRY(got);
    for (uint64_t at = 0; at + fs.descriptor_bytes <= bytes; at += fs.descriptor_bytes) {
      const auto place = [&](size_t low, size_t high) {
        const uint64_t block = little(table.span(), at + low, 4);
        return fs.descriptor_bytes < 64 ? block : block | little(table.span(), at + high, 4) << 32;
      };
      add(place(0, 0x20), 1);  // which blocks are taken
      add(place(4, 0x24), 1);  // which inodes are
      add(place(8, 0x28), fs.table_blocks());
    }
  }
  // The journal's inode: a tree of extents, mostly of one level.
  constexpr size_t kNodeAt = 0x10c, kNodeBytes = 60;
  if (little(super, 0xfd, 1) != 1) co_return Status();  // no copy of it
  std::vector<uint64_t> leaves;
  const auto take = [this, &leaves](ByteSpan node) {
    if (little(node, 0, 2) != 0xf30a) return;
    const uint64_t depth = little(node, 6, 2);
    const uint64_t entries = std::min<uint64_t>(little(node, 2, 2), (node.size() - 12) / 12);
    for (uint64_t i = 0; i < entries; ++i) {
      const size_t at = 12 + i * 12;
      if (depth == 0) {
        const uint64_t length = little(node, at + 4, 2);  // above 32768: not initialised
        add(little(node, at + 6, 2) << 32 | little(node, at + 8, 4),
            length > 32768 ? length - 32768 : length);
      } else if (depth == 1) {
        leaves.push_back(little(node, at + 8, 2) << 32 | little(node, at + 4, 4));
      }
    }
  };
  take(super.subspan(kNodeAt, kNodeBytes));
  AlignedBuffer leaf(kBlockSize);
  const std::vector<uint64_t> places = std::move(leaves);
  for (const uint64_t place : places) {
    if (place >= blocks_) continue;
    Status got = co_await read(place, leaf.span());
    HF_CO_TRY(got);
    leaves.clear();
    take(leaf.span());  // no deeper than this
  }
  co_return Status();
}

}  // namespace hf
