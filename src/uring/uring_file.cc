#include "uring/uring_file.h"

#include <fcntl.h>
#include <liburing.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include <cerrno>
#include <cstddef>

namespace hf {
namespace {

// Tries after EINTR, EAGAIN, and short transfers that gained nothing. Each is a fault of the
// moment.
constexpr uint32_t kMaxRetries = 64;

// write_many hands its spans to the kernel as they are.
static_assert(sizeof(ByteSpan) == sizeof(iovec) && alignof(ByteSpan) == alignof(iovec));
const bool kSpanIsIovec = [] {
  const std::byte bytes[3] = {};
  const ByteSpan span(bytes);
  iovec vec{};
  std::memcpy(static_cast<void*>(&vec), static_cast<const void*>(&span), sizeof vec);
  return vec.iov_base == bytes && vec.iov_len == sizeof bytes;
}();

uint64_t wanted_bytes(const IoRequest& request) {
  switch (request.kind) {
    case IoKind::kRead:
      return request.read_into.size();
    case IoKind::kWrite:
    case IoKind::kWriteDurable: {
      uint64_t total = request.write_from.size();
      for (const ByteSpan segment : request.write_many) total += segment.size();
      return total;
    }
    default:
      return 0;
  }
}

// What is left of a vectored write after `moved` bytes, up to the end of the segment that they end
// in.
ByteSpan rest_of_segment(std::span<const ByteSpan> segments, uint64_t moved) {
  for (const ByteSpan segment : segments) {
    if (moved < segment.size()) return segment.subspan(moved);
    moved -= segment.size();
  }
  return {};
}

void fill_write(const IoRequest& request, int fd, io_uring_sqe* sqe) {
  const uint64_t moved = static_cast<uint64_t>(request.result);
  const uint64_t at = request.offset + moved;
  if (!request.write_many.empty() && moved == 0) {
    io_uring_prep_writev(sqe, fd, reinterpret_cast<const iovec*>(request.write_many.data()),
                         static_cast<unsigned>(request.write_many.size()), at);
  } else {
    // A vectored write that was cut short goes on segment by segment.
    const ByteSpan rest = request.write_many.empty() ? request.write_from.subspan(moved)
                                                     : rest_of_segment(request.write_many, moved);
    io_uring_prep_write(sqe, fd, rest.data(), static_cast<unsigned>(rest.size()), at);
  }
  if (request.kind == IoKind::kWriteDurable) sqe->rw_flags = RWF_DSYNC;
}

}  // namespace

UringFile::UringFile(UringLoop& loop, BlockingPool& blocking, std::string path, OwnedFd fd,
                     bool direct, bool block_device)
    : File(std::move(path), direct),
      loop_(loop),
      blocking_(blocking),
      fd_(std::move(fd)),
      block_device_(block_device) {
  HF_ASSERT(kSpanIsIovec, "std::span is not laid out like iovec");
}

UringFile::~UringFile() {
  HF_ASSERT(in_flight_ == 0, "{} destroyed with {} operations in flight", path(), in_flight_);
}

void UringFile::submit(IoRequest& request) {
  request.owner = this;
  request.retries = 0;
  request.result = 0;
  const bool moves_bytes = request.kind == IoKind::kRead || request.kind == IoKind::kWrite ||
                           request.kind == IoKind::kWriteDurable;
  if (moves_bytes && wanted_bytes(request) == 0) {
    loop_.ready(request);
    return;
  }
  ++in_flight_;
  loop_.start_file_op(request);
}

void UringFile::fill(IoRequest& request, io_uring_sqe* sqe) {
  const int fd = static_cast<UringFile*>(request.owner)->fd_.get();
  const uint64_t moved = static_cast<uint64_t>(request.result);
  switch (request.kind) {
    case IoKind::kRead: {
      const MutableByteSpan rest = request.read_into.subspan(moved);
      io_uring_prep_read(sqe, fd, rest.data(), static_cast<unsigned>(rest.size()),
                         request.offset + moved);
      break;
    }
    case IoKind::kWrite:
    case IoKind::kWriteDurable:
      fill_write(request, fd, sqe);
      break;
    case IoKind::kSyncData:
      io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
      break;
    case IoKind::kPunchHole:
      io_uring_prep_fallocate(sqe, fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                              static_cast<off_t>(request.offset),
                              static_cast<off_t>(request.length));
      break;
    case IoKind::kZeroRange:
      io_uring_prep_fallocate(sqe, fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
                              static_cast<off_t>(request.offset),
                              static_cast<off_t>(request.length));
      break;
    case IoKind::kAllocate:
      io_uring_prep_fallocate(sqe, fd, 0, static_cast<off_t>(request.offset),
                              static_cast<off_t>(request.length));
      break;
  }
  // What said "try again" once is given to a kernel worker that may wait.
  if (request.retries > 0) sqe->flags |= IOSQE_ASYNC;
}

bool UringFile::advance(IoRequest& request, int32_t result) {
  UringFile& file = *static_cast<UringFile*>(request.owner);
  bool done = true;
  if (result < 0) {
    // An error of a sync is final (file.h); the others moved nothing when they say "again".
    const bool again = (result == -EINTR || result == -EAGAIN) &&
                       request.kind != IoKind::kSyncData && request.retries < kMaxRetries;
    if (again) {
      ++request.retries;
      done = false;
    } else {
      request.result = result;
    }
  } else if (request.kind == IoKind::kRead || request.kind == IoKind::kWrite ||
             request.kind == IoKind::kWriteDurable) {
    done = file.take_bytes(request, static_cast<uint64_t>(result));
  }
  if (done) --file.in_flight_;
  return done;
}

// Counts `moved` more bytes; true if the request has ended.
bool UringFile::take_bytes(IoRequest& request, uint64_t moved) const {
  const uint64_t before = static_cast<uint64_t>(request.result);
  uint64_t total = before + moved;
  request.result = static_cast<int64_t>(total);
  if (total >= wanted_bytes(request)) return true;
  if (request.kind == IoKind::kRead) {
    if (moved == 0) return true;  // the end of the file
    const Result<uint64_t> end = size();
    if (end.ok() && request.offset + total >= *end) return true;
  }
  if (is_direct()) {
    total = round_down(total, kBlockSize);
    request.result = static_cast<int64_t>(total);
  }
  if (total == before && ++request.retries > kMaxRetries) {
    request.result = -EIO;
    return true;
  }
  return false;
}

Result<uint64_t> UringFile::size() const {
  if (block_device_) {
    uint64_t bytes = 0;
    if (ioctl(fd_.get(), BLKGETSIZE64, &bytes) != 0) {
      return Error::from_errno(errno, "size of " + path());
    }
    return bytes;
  }
  struct stat info {};
  if (fstat(fd_.get(), &info) != 0) return Error::from_errno(errno, "size of " + path());
  return static_cast<uint64_t>(info.st_size);
}

Task<Status> UringFile::set_size(uint64_t size) {
  const int fd = fd_.get();
  std::function<int()> truncate = [fd, size] {
    int result;
    do {
      result = ftruncate(fd, static_cast<off_t>(size));
    } while (result != 0 && errno == EINTR);
    return result == 0 ? 0 : errno;
  };
  const int err = co_await run_blocking<int>(blocking_, std::move(truncate));
  if (err != 0)
    co_return Error::from_errno(err, fmt::format("resize {} to {} bytes", path(), size));
  co_return Status();
}

Status UringFile::try_lock() {
  if (flock(fd_.get(), LOCK_EX | LOCK_NB) == 0) return Status();
  if (errno == EWOULDBLOCK) {
    return make_error(ErrorCode::kLocked, "{} is in use by another process (see: fuser -v {})",
                      path(), path());
  }
  return Error::from_errno(errno, "lock " + path());
}

void UringFile::drop_cache() {
  (void)posix_fadvise(fd_.get(), 0, 0, POSIX_FADV_DONTNEED);
}

}  // namespace hf
