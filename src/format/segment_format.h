// A segment file: a raw slice of the image, and behind it the CRC table of its blocks, in two copies.
//
//   [segment_bytes of data][table copy 0: pages][table copy 1: pages]
//
// A table page (4 KiB) holds 1020 block CRCs, a generation, a tag that says which page of which segment
// of which family of clones it is, and its own CRC. A changed page goes to the copy that is older, so a
// torn write leaves the other one whole: power loss never costs the CRCs of blocks that were not being
// written. A file has both copies from birth: a page of zeroes is broken, not empty. An entry of 0 means
// that the block reads as zeroes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/id.h"

namespace hf {

inline constexpr uint32_t kCrcsPerPage = 1020;
inline constexpr uint64_t kMinSegmentBytes = 64 * kKiB;
inline constexpr uint64_t kMaxSegmentBytes = 1 * kGiB;

// The stored form of a block's CRC32C: neither 0 (reads as zeroes) nor kPoisonCrc.
uint32_t block_crc(ByteSpan block);
// Stands for an entry that was lost with its table page: matches no block.
inline constexpr uint32_t kPoisonCrc = 0xffffffff;

// Sizes of a segment file; pure.
struct SegmentGeometry {
  uint64_t segment_bytes = 0;

  uint32_t blocks() const { return static_cast<uint32_t>(segment_bytes / kBlockSize); }
  uint32_t pages() const { return (blocks() + kCrcsPerPage - 1) / kCrcsPerPage; }
  uint64_t copy_bytes() const { return pages() * kBlockSize; }
  uint64_t tables_bytes() const { return 2 * copy_bytes(); }
  uint64_t page_offset(uint32_t page, uint32_t copy) const {
    return segment_bytes + copy * copy_bytes() + page * kBlockSize;
  }
  uint64_t file_bytes() const { return segment_bytes + tables_bytes(); }
};

// The CRC table in memory. `family` is the replica id of the oldest ancestor whose files clones share.
class CrcTable {
 public:
  CrcTable(SegmentGeometry geometry, const ReplicaId& family, uint32_t segment);

  // The first content of a new file: all entries 0. encode_fresh() gives both copies.
  void initialise();
  void encode_fresh(MutableByteSpan both_copies) const;

  // What load() found; pages by number.
  struct Loaded {
    Loaded() = default;
    std::vector<uint32_t> doubtful;  // one copy is broken: torn by a crash, or rotten
    std::vector<uint32_t> broken;    // both are: every entry is poison now
  };
  // From both copies as they lie in the file. In a doubtful page the entries may be older than the data:
  // a stale CRC shows by itself, but an entry of 0 must be checked against the data and
  // poisoned when the block is not zeroes.
  Loaded load(ByteSpan both_copies);

  uint32_t get(uint32_t block) const;
  void set(uint32_t block, uint32_t crc);
  // Is the entry not 0? From a bit per block, which the processor's cache holds where it does not hold the entries.
  bool has(uint32_t block) const { return (has_[block / 64] >> (block % 64) & 1) != 0; }
  // Fetches the entries into the processor's cache; they will be asked for after an I/O.
  void prefetch(uint32_t block, uint32_t count) const;
  static uint32_t page_of(uint32_t block) { return block / kCrcsPerPage; }
  uint32_t first_block_of(uint32_t page) const { return page * kCrcsPerPage; }
  uint32_t end_block_of(uint32_t page) const;

  // Writing a changed page: seal it, write page_bytes() to page_offset(page, target_copy(page)), sync, then
  // commit. Without the commit the same target is used again.
  void seal(uint32_t page);
  ByteSpan page_bytes(uint32_t page) const;
  uint32_t target_copy(uint32_t page) const { return 1 - current_copy_[page]; }
  void commit(uint32_t page) { current_copy_[page] = static_cast<uint8_t>(target_copy(page)); }
  void copy_from(const CrcTable& other);
  uint64_t memory_bytes() const {
    return buffer_.size() + current_copy_.size() + has_.size() * sizeof(uint64_t);
  }

 private:
  static uint64_t offset_of(uint32_t block) {
    return block / kCrcsPerPage * kBlockSize + block % kCrcsPerPage * 4;
  }
  void mark(uint32_t block, bool has);
  uint32_t tag_of(uint32_t page) const;
  bool valid(ByteSpan page_bytes, uint32_t page) const;
  static void seal_bytes(MutableByteSpan page, uint64_t generation, uint32_t tag);

  SegmentGeometry geometry_;
  uint32_t tag_seed_;
  AlignedBuffer buffer_;                // the pages as they are now
  std::vector<uint64_t> has_;           // a bit per block
  std::vector<uint8_t> current_copy_;   // where each page was last written
  std::vector<uint64_t> generation_;    // of the page as last committed or loaded
};

// "00000012.000003": index and layer, decimal, sorted by name in the order of the image.
std::string segment_name(uint32_t index, uint32_t layer);
struct SegmentKey {
  uint32_t index = 0;
  uint32_t layer = 0;
  auto operator<=>(const SegmentKey&) const = default;
};
std::optional<SegmentKey> parse_segment_name(std::string_view name);

}  // namespace hf
