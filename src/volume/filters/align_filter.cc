#include "volume/filters/align_filter.h"

#include <algorithm>

namespace hf {

AlignFilter::~AlignFilter() {
  HF_ASSERT(ranges_.empty(), "align filter destroyed in use");
}

bool AlignFilter::passes(uint64_t offset, uint64_t length) const {
  return ranges_.empty() && is_aligned(offset | length, kBlockSize) && length <= kMaxBlockIoBytes;
}

Status AlignFilter::check(const char* what, uint64_t offset, uint64_t length) const {
  if (offset <= size() && length <= size() - offset) return Status();
  return make_error(ErrorCode::kInvalidArgument,
                    "{} of {} bytes at {} is outside the device of {} bytes", what, length, offset,
                    size());
}

bool AlignFilter::must_wait(Range& range) {
  bool wait = false;
  bool earlier = true;
  ranges_.for_each([&](Range& other) {
    if (&other == &range) earlier = false;
    if (earlier && other.begin < range.end && range.begin < other.end) wait = true;
  });
  return wait;
}

Task<void> AlignFilter::wait_turn(Range& range) {
  range.begin = round_down(range.begin, kBlockSize);
  range.end = round_up(range.end, kBlockSize);
  ranges_.push_back(range);
  while (must_wait(range)) co_await changed_.wait();
}

void AlignFilter::end(Range& range) {
  range.unlink();
  changed_.notify_all();
}

Task<Status> AlignFilter::read(uint64_t offset, MutableByteSpan out) {
  if (passes(offset, out.size())) return inner_.read(offset, out);
  return read_slow(offset, out);
}

Task<Status> AlignFilter::read_slow(uint64_t offset, MutableByteSpan out) {
  const Status inside = check("a read", offset, out.size());
  HF_CO_TRY(inside);
  if (out.empty()) co_return Status();
  Range range(offset, offset + out.size());
  co_await wait_turn(range);
  Status done = co_await read_pieces(offset, out);
  end(range);
  co_return done;
}

Task<Status> AlignFilter::read_pieces(uint64_t offset, MutableByteSpan out) {
  while (!out.empty()) {
    const uint64_t inside = offset % kBlockSize;
    if (inside != 0 || out.size() < kBlockSize) {
      const uint64_t take = std::min<uint64_t>(out.size(), kBlockSize - inside);
      AlignedBuffer block(kBlockSize);
      Status got = co_await inner_.read(offset - inside, block.span());
      HF_CO_TRY(got);
      std::memcpy(out.data(), block.data() + inside, take);
      offset += take;
      out = out.subspan(take);
      continue;
    }
    const uint64_t take = std::min(round_down(out.size(), kBlockSize), kMaxBlockIoBytes);
    Status got = co_await inner_.read(offset, out.first(take));
    HF_CO_TRY(got);
    offset += take;
    out = out.subspan(take);
  }
  co_return Status();
}

Task<Status> AlignFilter::write(uint64_t offset, ByteSpan data) {
  if (passes(offset, data.size())) return inner_.write(offset, data);
  return write_slow(offset, data);
}

Task<Status> AlignFilter::write_slow(uint64_t offset, ByteSpan data) {
  const Status inside = check("a write", offset, data.size());
  HF_CO_TRY(inside);
  if (data.empty()) co_return Status();
  Range range(offset, offset + data.size());
  co_await wait_turn(range);
  Status done = co_await write_pieces(offset, data);
  end(range);
  co_return done;
}

Task<Status> AlignFilter::write_pieces(uint64_t offset, ByteSpan data) {
  while (!data.empty()) {
    const uint64_t inside = offset % kBlockSize;
    uint64_t take = std::min<uint64_t>(data.size(), kBlockSize - inside);
    if (take < kBlockSize) {
      Status edited = co_await edit_block(offset, data.data(), take);
      HF_CO_TRY(edited);
    } else {
      take = std::min(round_down(data.size(), kBlockSize), kMaxBlockIoBytes);
      Status written = co_await inner_.write(offset, data.first(take));
      HF_CO_TRY(written);
    }
    offset += take;
    data = data.subspan(take);
  }
  co_return Status();
}

Task<Status> AlignFilter::edit_block(uint64_t offset, const std::byte* data, uint64_t length) {
  const uint64_t inside = offset % kBlockSize;
  AlignedBuffer block(kBlockSize);
  Status got = co_await inner_.read(offset - inside, block.span());
  HF_CO_TRY(got);
  if (data != nullptr) {
    std::memcpy(block.data() + inside, data, length);
  } else {
    std::memset(block.data() + inside, 0, length);
  }
  co_return co_await inner_.write(offset - inside, block.span());
}

Task<Status> AlignFilter::write_zeroes(uint64_t offset, uint64_t length, bool deallocate) {
  if (passes(offset, length)) return inner_.write_zeroes(offset, length, deallocate);
  return clear_slow(offset, length, deallocate ? Clear::kZeroDeallocate : Clear::kZero);
}

Task<Status> AlignFilter::discard(uint64_t offset, uint64_t length) {
  if (passes(offset, length)) return inner_.discard(offset, length);
  return clear_slow(offset, length, Clear::kDiscard);
}

Task<Status> AlignFilter::clear_slow(uint64_t offset, uint64_t length, Clear how) {
  const Status inside = check("zeroing", offset, length);
  HF_CO_TRY(inside);
  if (length == 0) co_return Status();
  Range range(offset, offset + length);
  co_await wait_turn(range);
  Status done = co_await clear_pieces(offset, length, how);
  end(range);
  co_return done;
}

Task<Status> AlignFilter::clear_pieces(uint64_t offset, uint64_t length, Clear how) {
  while (length > 0) {
    const uint64_t inside = offset % kBlockSize;
    uint64_t take = std::min(length, kBlockSize - inside);
    if (take < kBlockSize) {
      Status edited = co_await edit_block(offset, nullptr, take);
      HF_CO_TRY(edited);
    } else {
      take = std::min(round_down(length, kBlockSize), kMaxBlockIoBytes);
      Task<Status> clearing =
          how == Clear::kDiscard ? inner_.discard(offset, take)
                                 : inner_.write_zeroes(offset, take, how == Clear::kZeroDeallocate);
      Status cleared = co_await std::move(clearing);
      HF_CO_TRY(cleared);
    }
    offset += take;
    length -= take;
  }
  co_return Status();
}

Task<Result<std::vector<BlockExtent>>> AlignFilter::extents(uint64_t offset, uint64_t length,
                                                            size_t limit) {
  const Status inside = check("block status", offset, length);
  HF_CO_TRY(inside);
  std::vector<BlockExtent> found;
  if (length == 0) co_return found;
  const uint64_t begin = round_down(offset, kBlockSize);
  const uint64_t end = offset + length;
  Result<std::vector<BlockExtent>> inner =
      co_await inner_.extents(begin, round_up(end, kBlockSize) - begin, limit);
  HF_CO_TRY(inner);
  for (BlockExtent extent : *inner) {
    const uint64_t from = std::max(extent.offset, offset);
    const uint64_t to = std::min(extent.offset + extent.length, end);
    if (from >= to) continue;
    extent.offset = from;
    extent.length = to - from;
    found.push_back(extent);
  }
  co_return found;
}

}  // namespace hf
