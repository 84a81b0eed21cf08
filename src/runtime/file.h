// File and FileSystem: storage as the store sees it.
//
// Durability. A write with dsync, or any write followed by a successful sync_data(), is on stable media
// together with the file's size and block map. Names (create, link, rename, unlink, mkdir) are durable
// after sync_dir() of the directory; a file made durable under a name that was not may be lost with it.
// An error of a dsync write or of a sync is final: the kernel may have dropped the dirty pages, a retry
// that succeeds proves nothing (see "fsyncgate"). Callers must treat the file's pool as failed.
//
// Direct files (OpenOptions::direct) take offsets, lengths and memory aligned to kBlockSize (asserted).
// Reads and writes move the whole range or fail; a read stops early only at the end of the file.
// Operations of one file may complete in any order; overlapping writes in flight give either content,
// 512-byte sector by sector.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "runtime/loop.h"
#include "runtime/task.h"

namespace hf {

enum class IoKind : uint8_t {
  kRead,
  kWrite,
  kWriteDurable,  // on stable media when it completes (RWF_DSYNC)
  kSyncData,      // fdatasync
  kPunchHole,     // deallocate; reads as zeroes; file size unchanged
  kZeroRange,     // reads as zeroes; stays allocated where the file system can
  kAllocate,      // reserve blocks (they read as zeroes); grows the file
};

// At most this many segments in one vectored operation (the kernel's IOV_MAX is 1024).
inline constexpr size_t kMaxIoSegments = 256;
// At most this many bytes in one operation.
inline constexpr uint64_t kMaxIoBytes = 64 * kMiB;

class File;

// One operation at the ring's edge: lives in the awaiter (inside the waiting frame) until completed.
// The one place without coroutines, so that an I/O costs no allocation.
struct IoRequest : ReadyItem {
  IoKind kind = IoKind::kRead;
  uint64_t offset = 0;
  uint64_t length = 0;                   // of hole, zero and allocate
  MutableByteSpan read_into;             // kRead
  ByteSpan write_from;                   // kWrite*, single segment
  std::span<const ByteSpan> write_many;  // kWrite*, vectored (then write_from is empty)
  // Set by the implementation before it readies the item: bytes moved, or −errno.
  int64_t result = 0;
  // The implementation's own while in flight: whom it belongs to, and how often it was tried again.
  void* owner = nullptr;
  uint32_t retries = 0;
};

class [[nodiscard]] IoAwaiter {
 public:
  IoAwaiter(File& file, const char* what, IoKind kind, uint64_t offset) : file_(file), what_(what) {
    request_.kind = kind;
    request_.offset = offset;
  }
  IoAwaiter(File& file, const char* what, IoKind kind, uint64_t offset, uint64_t length)
      : IoAwaiter(file, what, kind, offset) {
    request_.length = length;
  }
  IoAwaiter(File& file, const char* what, IoKind kind, uint64_t offset, MutableByteSpan into)
      : IoAwaiter(file, what, kind, offset) {
    request_.read_into = into;
  }
  IoAwaiter(File& file, const char* what, IoKind kind, uint64_t offset, ByteSpan from)
      : IoAwaiter(file, what, kind, offset) {
    request_.write_from = from;
  }
  IoAwaiter(File& file, const char* what, IoKind kind, uint64_t offset,
            std::span<const ByteSpan> from)
      : IoAwaiter(file, what, kind, offset) {
    request_.write_many = from;
  }
  bool await_ready() const { return false; }
  void await_suspend(std::coroutine_handle<> handle);
  // Bytes moved; an error says what was done to which file.
  Result<size_t> await_resume();

 private:
  File& file_;
  const char* what_;
  IoRequest request_;
};

class File {
 public:
  virtual ~File() = default;
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  // The range's bytes; fewer only at the end of the file.
  IoAwaiter read_at(uint64_t offset, MutableByteSpan out);
  // All bytes written when ok. Not durable.
  IoAwaiter write_at(uint64_t offset, ByteSpan data);
  // All bytes on stable media when ok.
  IoAwaiter write_durable_at(uint64_t offset, ByteSpan data);
  // The same for segments one behind the other; `segments` and what they point to stay until done.
  IoAwaiter write_many_at(uint64_t offset, std::span<const ByteSpan> segments);
  IoAwaiter write_many_durable_at(uint64_t offset, std::span<const ByteSpan> segments);
  IoAwaiter sync_data();
  IoAwaiter punch_hole(uint64_t offset, uint64_t length);
  IoAwaiter zero_range(uint64_t offset, uint64_t length);
  IoAwaiter allocate(uint64_t offset, uint64_t length);

  const std::string& path() const { return path_; }
  bool is_direct() const { return direct_; }

  // Size now, in bytes. Cheap (fstat), does not wait for I/O in flight.
  virtual Result<uint64_t> size() const = 0;
  // Truncates or extends with a hole. Durable after sync_data().
  virtual Task<Status> set_size(uint64_t size) = 0;
  // Takes an exclusive advisory lock for as long as this File lives, without waiting: kLocked if another
  // process (or another File of this one) holds it.
  virtual Status try_lock() = 0;
  // Drops clean pages of the page cache for the range (so that a verify reads the medium).
  virtual void drop_cache() {}

  // Starts an operation; completes it by result + Loop::ready. Called by IoAwaiter only.
  virtual void submit(IoRequest& request) = 0;

 protected:
  File(std::string path, bool direct) : path_(std::move(path)), direct_(direct) {}

 private:
  std::string path_;
  bool direct_;
};

struct OpenOptions {
  bool write = false;      // read-write; else read-only
  bool create = false;     // make it if absent (mode)
  bool exclusive = false;  // with create: kAlreadyExists if it is there
  bool truncate = false;
  bool direct = false;     // O_DIRECT
  mode_t mode = 0600;
};

enum class FileType : uint8_t { kRegular, kDirectory, kBlockDevice, kSymlink, kOther };

struct FileInfo {
  FileType type = FileType::kOther;
  uint64_t size = 0;             // bytes; of a block device its capacity
  uint64_t allocated_bytes = 0;  // st_blocks × 512
  uint64_t inode = 0;
  uint32_t link_count = 0;
  uint32_t mode = 0;             // permission bits
  uint32_t owner = 0;            // uid
};

struct DirectoryEntry {
  std::string name;
  FileType type = FileType::kOther;
};

struct SpaceInfo {
  uint64_t total_bytes = 0;
  uint64_t free_bytes = 0;   // for root
  uint64_t total_inodes = 0;
  uint64_t free_inodes = 0;
};

// Paths are absolute. Nothing follows a symlink in the last component. Errors name the path.
class FileSystem {
 public:
  virtual ~FileSystem() = default;
  virtual Task<Result<std::unique_ptr<File>>> open(std::string path, OpenOptions options) = 0;
  virtual Task<Result<FileInfo>> stat(std::string path) = 0;
  // Without "." and "..", sorted by name; at most kMaxDirectoryEntries (else kLimitExceeded).
  virtual Task<Result<std::vector<DirectoryEntry>>> list(std::string path) = 0;
  virtual Task<Status> make_directory(std::string path, mode_t mode) = 0;  // kAlreadyExists
  virtual Task<Status> remove_directory(std::string path) = 0;             // empty ones
  virtual Task<Status> unlink(std::string path) = 0;
  // Replaces `to` atomically.
  virtual Task<Status> rename(std::string from, std::string to) = 0;
  // Hard link; kAlreadyExists if `to` is there.
  virtual Task<Status> link(std::string from, std::string to) = 0;
  // Makes `to` (must not exist) share all blocks of `from`, which nobody writes meanwhile (it is shared piece
  // by piece). Content durable after sync of the new file. kMissingFeature where the file system cannot.
  virtual Task<Status> reflink(std::string from, std::string to) = 0;
  virtual Task<Status> sync_dir(std::string path) = 0;
  virtual Task<Result<SpaceInfo>> space(std::string path) = 0;

  // Whole small files (buffered). read_file refuses more than `limit` bytes with kLimitExceeded.
  // write_file_atomic writes a temporary, syncs, renames over, syncs the directory: durable when ok.
  Task<Result<std::string>> read_file(std::string path, uint64_t limit);
  Task<Status> write_file_atomic(std::string path, std::string content, mode_t mode);
};

inline constexpr size_t kMaxDirectoryEntries = 1u << 20;

}  // namespace hf
