#include "runtime/file.h"

#include <algorithm>

namespace hf {

namespace {

bool aligned_span(const void* data, size_t size) {
  return is_aligned(reinterpret_cast<uintptr_t>(data), kBlockSize) && is_aligned(size, kBlockSize);
}

void check_direct(const File& file, const IoRequest& request) {
  if (!file.is_direct()) return;
  switch (request.kind) {
    case IoKind::kRead:
      HF_ASSERT(aligned_span(request.read_into.data(), request.read_into.size()), "{}", file.path());
      break;
    case IoKind::kWrite:
    case IoKind::kWriteDurable:
      HF_ASSERT(aligned_span(request.write_from.data(), request.write_from.size()), "{}",
                file.path());
      for (const ByteSpan segment : request.write_many) {
        HF_ASSERT(aligned_span(segment.data(), segment.size()), "{}", file.path());
      }
      break;
    default: return;
  }
  HF_ASSERT(is_aligned(request.offset, kBlockSize), "{} at {}", file.path(), request.offset);
}

}  // namespace

void IoAwaiter::await_suspend(std::coroutine_handle<> handle) {
  request_.handle = handle;
  check_direct(file_, request_);
  file_.submit(request_);
}

Result<size_t> IoAwaiter::await_resume() {
  if (request_.result >= 0) return static_cast<size_t>(request_.result);
  return Error::from_errno(
      static_cast<int>(-request_.result),
      fmt::format("{} {} at {}", what_, file_.path(), request_.offset));
}

IoAwaiter File::read_at(uint64_t offset, MutableByteSpan out) {
  HF_ASSERT(out.size() <= kMaxIoBytes, "{}", out.size());
  return IoAwaiter(*this, "read", IoKind::kRead, offset, out);
}

IoAwaiter File::write_at(uint64_t offset, ByteSpan data) {
  HF_ASSERT(data.size() <= kMaxIoBytes, "{}", data.size());
  return IoAwaiter(*this, "write", IoKind::kWrite, offset, data);
}

IoAwaiter File::write_durable_at(uint64_t offset, ByteSpan data) {
  HF_ASSERT(data.size() <= kMaxIoBytes, "{}", data.size());
  return IoAwaiter(*this, "durable write", IoKind::kWriteDurable, offset, data);
}

IoAwaiter File::write_many_at(uint64_t offset, std::span<const ByteSpan> segments) {
  HF_ASSERT(segments.size() <= kMaxIoSegments, "{}", segments.size());
  return IoAwaiter(*this, "write", IoKind::kWrite, offset, segments);
}

IoAwaiter File::write_many_durable_at(uint64_t offset, std::span<const ByteSpan> segments) {
  HF_ASSERT(segments.size() <= kMaxIoSegments, "{}", segments.size());
  return IoAwaiter(*this, "durable write", IoKind::kWriteDurable, offset, segments);
}

IoAwaiter File::sync_data() { return IoAwaiter(*this, "sync", IoKind::kSyncData, 0); }

IoAwaiter File::punch_hole(uint64_t offset, uint64_t length) {
  return IoAwaiter(*this, "punch hole in", IoKind::kPunchHole, offset, length);
}

IoAwaiter File::zero_range(uint64_t offset, uint64_t length) {
  return IoAwaiter(*this, "zero range of", IoKind::kZeroRange, offset, length);
}

IoAwaiter File::allocate(uint64_t offset, uint64_t length) {
  return IoAwaiter(*this, "allocate in", IoKind::kAllocate, offset, length);
}

Task<Result<std::string>> FileSystem::read_file(std::string path, uint64_t limit) {
  Result<std::unique_ptr<File>> file = co_await open(path, OpenOptions());
  HF_CO_TRY(file);
  const Result<uint64_t> size = (*file)->size();
  HF_CO_TRY(size);
  if (*size > limit) {
    co_return make_error(ErrorCode::kLimitExceeded, "{} has {} bytes, more than the {} it may have",
                         path, *size, limit);
  }
  // A file of /proc has a size of zero and content all the same.
  constexpr uint64_t kAtLeast = 4096;
  std::string content(std::min(std::max(*size, kAtLeast), limit), '\0');
  MutableByteSpan into{reinterpret_cast<std::byte*>(content.data()), content.size()};
  Result<size_t> n = co_await (*file)->read_at(0, into);
  HF_CO_TRY(n);
  content.resize(*n);
  co_return content;
}

Task<Status> FileSystem::write_file_atomic(std::string path, std::string content, mode_t mode) {
  const std::string temporary = path + ".tmp";
  OpenOptions options;
  options.write = options.create = options.truncate = true;
  options.mode = mode;
  Result<std::unique_ptr<File>> file = co_await open(temporary, options);
  HF_CO_TRY(file);
  Result<size_t> written = co_await (*file)->write_at(0, as_bytes(content));
  HF_CO_TRY(written);
  Result<size_t> synced = co_await (*file)->sync_data();
  HF_CO_TRY(synced);
  Status renamed = co_await rename(temporary, path);
  HF_CO_TRY(renamed);
  const size_t slash = path.rfind('/');
  // Named before the await: gcc 12 frees a temporary of a conditional expression twice in one.
  std::string directory = slash == 0 ? std::string("/") : path.substr(0, slash);
  co_return co_await sync_dir(std::move(directory));
}

}  // namespace hf
