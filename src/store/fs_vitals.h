// What the file system in a volume cannot live without, and writes to blocks that it never wrote
// before: its journal, its tables, its trees. A full pool must not refuse these (space.h).
//
//   ext4   journal, bitmaps,      where they are: from the superblock, the group descriptors and
//          inode tables           the copy of the journal's inode in the superblock
//          directories, extent    what they look like: neighbours that a checkpoint writes at once
//          and attribute blocks   are one large write
//   xfs    log                    from the superblock; of other metadata XFS repeats the write until
//                                 it succeeds
//   btrfs  every tree block       each carries its file system's id in its head; where they are
//                                 changes
//
// Read from the volume's own blocks when the pool is full. Whatever else is in them (no file
// system, an encrypted or a damaged one) has no vitals: then only the size of a write tells
// (WriteKind). Nothing here is trusted: the worst that bytes can do is to make a volume's data
// count as vital.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "runtime/task.h"
#include "store/large_write.h"

namespace hf {

class FsVitals {
 public:
  // Does this write, of whole blocks from `first_block` on, touch something vital?
  bool touches(uint64_t first_block, ByteSpan data) const;

  // Reads so many blocks from one on. A view of what is asked for; the reader checks the bounds.
  using Reader = std::function<Task<Status>(uint64_t block, MutableByteSpan out)>;
  // Of a volume of so many blocks. An error is the reader's.
  static Task<Result<FsVitals>> find(const Reader& read, uint64_t blocks);

  // Pure, for tests.
  const std::vector<BlockRange>& ranges() const { return ranges_; }
  static bool looks_like_ext4_metadata(ByteSpan block);
  bool has_trees() const { return tree_id_.has_value(); }

 private:
  using Id = std::array<std::byte, 16>;
  struct Ext4;
  Task<Status> find_ext4(const Reader& read, ByteSpan first);
  void find_xfs(ByteSpan first);
  void find_btrfs(ByteSpan super);
  void add(uint64_t first, uint64_t count);

  uint64_t blocks_ = 0;  // of the volume
  std::vector<BlockRange> ranges_;
  bool is_ext4_ = false;
  std::optional<Id> tree_id_;
};

}  // namespace hf
