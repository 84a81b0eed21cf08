// AlignFilter: a BlockDevice that takes any byte range of any length, in front of one that takes
// whole blocks and at most kMaxBlockIoBytes.
//
//   NBD, FUSE: any offset, any length
//        │  AlignFilter: checks bounds, splits, reads-modifies-writes partial blocks
//        ▼
//   BlockDevice: multiples of kBlockSize
//
// What is aligned and short enough passes straight through, without a copy or a coroutine of its
// own. A partial block is read, changed and written back; while that happens, later operations that
// overlap it wait, so the device's promise (overlapping operations take effect in the order of
// their start) holds at byte granularity too. A partial write that fails leaves each touched block
// old or new.
//
// Errors: kInvalidArgument for a range outside size(); else the inner device's own. A long
// operation that fails in the middle has happened in part, as any write that fails may have. Loop
// thread of the inner device only; the inner device outlives the filter.
#pragma once

#include <cstdint>
#include <vector>

#include "base/intrusive_list.h"
#include "runtime/sync.h"
#include "volume/block_device.h"

namespace hf {

class AlignFilter final : public BlockDevice {
 public:
  explicit AlignFilter(BlockDevice& inner) : inner_(inner) {}
  ~AlignFilter() override;

  uint64_t size() const override { return inner_.size(); }
  Task<Status> read(uint64_t offset, MutableByteSpan out) override;
  Task<Status> write(uint64_t offset, ByteSpan data) override;
  Task<Status> write_zeroes(uint64_t offset, uint64_t length, bool deallocate) override;
  // Partial blocks at the ends are overwritten with zeroes.
  Task<Status> discard(uint64_t offset, uint64_t length) override;
  Task<Status> flush() override { return inner_.flush(); }
  // Clipped to the range asked for, which need not be aligned.
  Task<Result<std::vector<BlockExtent>>> extents(uint64_t offset, uint64_t length,
                                                 size_t limit) override;

 private:
  // An operation of the slow path, from its start to its end, in order of start.
  struct Range : ListHook {
    Range(uint64_t b, uint64_t e) : begin(b), end(e) {}
    uint64_t begin;
    uint64_t end;
  };
  enum class Clear : uint8_t { kZero, kZeroDeallocate, kDiscard };

  bool passes(uint64_t offset, uint64_t length) const;
  Status check(const char* what, uint64_t offset, uint64_t length) const;
  bool must_wait(Range& range);
  Task<void> wait_turn(Range& range);
  void end(Range& range);
  Task<Status> read_slow(uint64_t offset, MutableByteSpan out);
  Task<Status> read_pieces(uint64_t offset, MutableByteSpan out);
  Task<Status> write_slow(uint64_t offset, ByteSpan data);
  Task<Status> write_pieces(uint64_t offset, ByteSpan data);
  Task<Status> clear_slow(uint64_t offset, uint64_t length, Clear how);
  Task<Status> clear_pieces(uint64_t offset, uint64_t length, Clear how);
  // Changes bytes inside one block; null `data` means zeroes.
  Task<Status> edit_block(uint64_t offset, const std::byte* data, uint64_t length);

  BlockDevice& inner_;
  IntrusiveList<Range> ranges_;
  Signal changed_;
};

}  // namespace hf
