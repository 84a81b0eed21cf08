#include "block/fuse/fuse_session.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/log.h"
#include "block/fuse/fuse_wire.h"

namespace hf::fuse {
namespace {

// Requests read in one go before others on the loop get their turn.
constexpr int kBurst = 32;

fuse_attr attributes(uint64_t node, uint64_t size) {
  fuse_attr attr{};
  attr.ino = node;
  if (node == kRootNode) {
    attr.mode = S_IFDIR | 0700;
    attr.nlink = 2;
  } else {
    attr.mode = S_IFREG | 0600;
    attr.nlink = 1;
    attr.size = size;
    attr.blocks = size / 512;
  }
  attr.blksize = kBlockSize;
  return attr;
}

}  // namespace

uint64_t choose_flags(uint64_t offered) {
  constexpr uint64_t kWanted = FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_ASYNC_DIO |
                               FUSE_PARALLEL_DIROPS | FUSE_ABORT_ERROR | FUSE_MAX_PAGES |
                               FUSE_INIT_EXT | kHasResend;
  return offered & kWanted;
}

bool Negotiated::can_resend() const {
  return initialised && (flags & kHasResend) != 0;
}

Session::Session(block::KernelIo& io, Buffers& buffers, int fd, std::string name,
                 BlockDevice& device)
    : io_(io), buffers_(buffers), fd_(fd), name_(std::move(name)), device_(device) {}

Session::~Session() = default;

Status Session::adopt(const Negotiated& agreed) {
  HF_ASSERT(!watch_, "adopt() comes before start()");
  agreed_ = agreed;
  if (agreed_.initialised) initialised_.set();
  if (!agreed_.can_resend()) return Status();
  fuse_out_header notify{};
  notify.len = sizeof notify;
  notify.error = kNotifyResend;
  if (::write(fd_, &notify, sizeof notify) != static_cast<ssize_t>(sizeof notify)) {
    return Error::from_errno(
        errno, "ask the kernel to send the requests of FUSE export " + name_ + " again");
  }
  return Status();
}

void Session::start() {
  watch_ = io_.watch(fd_);
  HF_ASSERT(spawn(gate_, serve()));
}

Task<Status> Session::wait_initialised() {
  co_await initialised_.wait();
  if (!agreed_.initialised) {
    co_return make_error(ErrorCode::kClosed, "the kernel ended FUSE export {} before it began",
                         name_);
  }
  co_return Status();
}

Task<void> Session::stop() {
  stopping_ = true;
  if (watch_) watch_->close();
  co_await gate_.close();
}

Task<void> Session::serve() {
  int burst = 0;
  while (!stopping_ && !ended_) {
    // A read needs room for the largest message; most give it back at once.
    Slot slot = co_await buffers_.take(share_, kMaxWrite);
    if (stopping_) break;
    if (read_one(std::move(slot))) {
      if (++burst < kBurst) continue;
      burst = 0;
      co_await yield();
      continue;
    }
    if (ended_) break;
    burst = 0;
    Status ready = co_await watch_->readable();
    if (!ready.ok()) break;
  }
  initialised_.set();
}

// False when nothing is to be read for now, or the connection has ended.
bool Session::read_one(Slot slot) {
  std::byte* message = slot.before_payload(kWritePayloadAt);
  // The kernel wants room for max_write and a page of headers.
  const ssize_t n = ::read(fd_, message, kWritePayloadAt + kMaxWrite);
  if (n < 0) {
    if (errno == EAGAIN) return false;
    // ENOENT: the request was taken back while it was copied. EINTR: a signal.
    if (errno == ENOENT || errno == EINTR) return true;
    ended_ = true;
    if (errno != ENODEV && errno != ECONNABORTED) {
      HF_LOG(kError, "block", "fuse_read_failed export={} error=\"{}\"", name_, strerror(errno));
    }
    return false;
  }
  ++counters_.requests;
  Refusal refusal;
  const Result<Request> request =
      decode_request({message, static_cast<size_t>(n)}, device_.size(), &refusal);
  if (!request.ok()) {
    ++counters_.refused;
    HF_LOG(kError, "block", "fuse_message_malformed export={} error=\"{}\"", name_,
           request.error().message());
    return true;
  }
  if (request->resent) ++counters_.resent;
  if (refusal.sys_errno != 0) {
    ++counters_.refused;
    reply_error(refusal.unique, refusal.sys_errno);
    return true;
  }
  dispatch(*request, std::move(slot));
  return true;
}

void Session::dispatch(const Request& request, Slot slot) {
  bool accepted = true;
  switch (request.verb) {
    case Verb::kRead:
      accepted = spawn(gate_, run_read(request));
      break;
    case Verb::kWrite: {
      Request moved = request;
      Slot small =
          request.length <= Buffers::kSmallBytes ? buffers_.try_take(share_, request.length) : Slot();
      if (small.valid()) {
        std::memcpy(small.payload(), request.payload.data(), request.payload.size());
        moved.payload = {small.payload(), request.payload.size()};
        slot = std::move(small);
      }
      accepted = spawn(gate_, run_write(moved, std::move(slot)));
      break;
    }
    case Verb::kFsync:
    case Verb::kFallocate:
      accepted = spawn(gate_, run_simple(request));
      break;
    case Verb::kLseek:
      accepted = spawn(gate_, run_lseek(request));
      break;
    default:
      answer_now(request);
      break;
  }
  // Only stop() closes the gate, and it stops the reading first.
  HF_ASSERT(accepted, "a FUSE request came after stop()");
}

void Session::answer_now(const Request& request) {
  switch (request.verb) {
    case Verb::kInit:
      return answer_init(request);
    case Verb::kLookup:
      return answer_lookup(request);
    case Verb::kReadDir:
      return answer_readdir(request);
    case Verb::kGetAttr: {
      fuse_attr_out out{};
      out.attr_valid = kAttrSeconds;
      out.attr = attributes(request.node, device_.size());
      return reply(request.unique, &out, sizeof out);
    }
    case Verb::kOpen: {
      fuse_open_out out{};
      out.fh = kDiskHandle;
      // Without the second flag the kernel takes the inode's lock for each write: queue depth 1. The third: no close of
      // the file waits for us. A program that the loop starts closes what it has inherited before the loop goes on
      // (vfork), and where a pool thread had the file open just then, both would wait for ever.
      out.open_flags = FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES | FOPEN_NOFLUSH;
      return reply(request.unique, &out, sizeof out);
    }
    case Verb::kOpenDir: {
      fuse_open_out out{};
      out.fh = kDirHandle;
      return reply(request.unique, &out, sizeof out);
    }
    case Verb::kStatFs: {
      fuse_statfs_out out{};
      out.st.bsize = out.st.frsize = kBlockSize;
      out.st.blocks = device_.size() / kBlockSize;
      out.st.files = 2;
      out.st.namelen = NAME_MAX;
      return reply(request.unique, &out, sizeof out);
    }
    case Verb::kSetAttr:
      return reply_error(request.unique, EPERM);  // neither size nor times are settable
    case Verb::kRelease:
    case Verb::kReleaseDir:
    case Verb::kDestroy:
      return reply(request.unique, nullptr, 0);
    case Verb::kNoReply:
      return;
    default:
      return reply_error(request.unique, ENOSYS);
  }
}

void Session::answer_init(const Request& request) {
  agreed_.minor = std::min(request.minor, kMinorMax);
  agreed_.flags = choose_flags(request.flags);
  agreed_.max_write = kMaxWrite;
  agreed_.initialised = true;
  fuse_init_out out{};
  out.major = FUSE_KERNEL_VERSION;
  out.minor = agreed_.minor;
  out.flags = static_cast<uint32_t>(agreed_.flags);
  out.flags2 = static_cast<uint32_t>(agreed_.flags >> 32);
  out.max_background = kMaxBackground;
  out.congestion_threshold = kCongestion;
  out.max_write = kMaxWrite;
  out.max_pages = kMaxPages;
  out.time_gran = 1;
  reply(request.unique, &out, sizeof out);
  initialised_.set();
}

void Session::answer_lookup(const Request& request) {
  if (request.name != kDiskName) return reply_error(request.unique, ENOENT);
  fuse_entry_out out{};
  out.nodeid = kDiskNode;
  out.generation = 1;
  out.entry_valid = out.attr_valid = kAttrSeconds;
  out.attr = attributes(kDiskNode, device_.size());
  reply(request.unique, &out, sizeof out);
}

void Session::answer_readdir(const Request& request) {
  struct Name {
    const char* text;
    uint64_t node;
    uint32_t type;
  };
  static constexpr Name kNames[] = {{".", kRootNode, S_IFDIR >> 12},
                                    {"..", kRootNode, S_IFDIR >> 12},
                                    {kDiskName, kDiskNode, S_IFREG >> 12}};
  std::byte out[128] = {};
  size_t used = 0;
  for (uint64_t i = request.offset; i < std::size(kNames); ++i) {
    fuse_dirent entry{};
    entry.ino = kNames[i].node;
    entry.off = i + 1;
    entry.namelen = static_cast<uint32_t>(strlen(kNames[i].text));
    entry.type = kNames[i].type;
    const size_t size = FUSE_DIRENT_SIZE(&entry);
    if (used + size > std::min<uint64_t>(request.length, sizeof out)) break;
    std::memcpy(out + used, &entry, FUSE_NAME_OFFSET);
    std::memcpy(out + used + FUSE_NAME_OFFSET, kNames[i].text, entry.namelen);
    used += size;
  }
  reply(request.unique, out, used);
}

Task<void> Session::run_read(Request request) {
  Slot slot = co_await buffers_.take(read_share_, std::max<uint64_t>(request.length, 1));
  const MutableByteSpan data{slot.payload(), request.length};
  Status done = co_await device_.read(request.offset, data);
  if (!done.ok()) {
    reply_error(request.unique, done.error().info().sys_errno);
    co_return;
  }
  fuse_out_header header{};
  header.len = static_cast<uint32_t>(sizeof header + request.length);
  header.unique = request.unique;
  std::byte* message = slot.before_payload(sizeof header);
  std::memcpy(message, &header, sizeof header);
  send(message, header.len, request.unique);
}

// The payload lies in `slot`, which must stay until the answer.
Task<void> Session::run_write(Request request, [[maybe_unused]] Slot slot) {
  Status done = co_await device_.write(request.offset, request.payload);
  // The pool closes: it stays with the kernel, which sends it again to who serves next.
  if (done.code() == ErrorCode::kClosed) co_return;
  if (!done.ok()) {
    reply_error(request.unique, done.error().info().sys_errno);
    co_return;
  }
  fuse_write_out out{};
  out.size = static_cast<uint32_t>(request.length);
  reply(request.unique, &out, sizeof out);
}

Task<void> Session::run_simple(Request request) {
  Status done;
  if (request.verb == Verb::kFsync) {
    done = co_await device_.flush();
  } else if ((request.mode & FALLOC_FL_PUNCH_HOLE) != 0) {
    done = co_await device_.discard(request.offset, request.length);
  } else {
    done = co_await device_.write_zeroes(request.offset, request.length, false);
  }
  if (done.code() == ErrorCode::kClosed) co_return;  // like a write
  if (done.ok()) {
    reply(request.unique, nullptr, 0);
  } else {
    reply_error(request.unique, done.error().info().sys_errno);
  }
}

Task<void> Session::run_lseek(Request request) {
  constexpr size_t kExtentsAtOnce = 64;
  uint64_t at = request.offset;
  while (at < device_.size()) {
    Result<std::vector<BlockExtent>> found =
        co_await device_.extents(at, device_.size() - at, kExtentsAtOnce);
    if (!found.ok()) {
      reply_error(request.unique, found.error().info().sys_errno);
      co_return;
    }
    for (const BlockExtent& extent : *found) {
      const bool hole = !extent.allocated && extent.reads_zero;
      if (hole == (request.mode == SEEK_HOLE)) {
        fuse_lseek_out out{};
        out.offset = extent.offset;
        reply(request.unique, &out, sizeof out);
        co_return;
      }
      at = extent.offset + extent.length;
    }
    if (found->empty()) break;
  }
  // Every file ends in a hole of no length.
  if (request.mode == SEEK_HOLE) {
    fuse_lseek_out out{};
    out.offset = device_.size();
    reply(request.unique, &out, sizeof out);
  } else {
    reply_error(request.unique, ENXIO);
  }
}

void Session::reply(uint64_t unique, const void* body, size_t size) {
  std::byte message[sizeof(fuse_out_header) + 256];
  HF_ASSERT(size <= 256, "{}", size);
  fuse_out_header header{};
  header.len = static_cast<uint32_t>(sizeof header + size);
  header.unique = unique;
  std::memcpy(message, &header, sizeof header);
  if (size > 0) std::memcpy(message + sizeof header, body, size);
  send(message, header.len, unique);
}

void Session::reply_error(uint64_t unique, int sys_errno) {
  fuse_out_header header{};
  header.len = sizeof header;
  header.error = -sys_errno;
  header.unique = unique;
  send(&header, sizeof header, unique);
}

void Session::send(const void* message, size_t size, uint64_t unique) {
  if (::write(fd_, message, size) == static_cast<ssize_t>(size)) return;
  // ENOENT: the request is gone, taken back or sent again to a server after us. ENODEV: unmounted.
  if (errno == ENOENT || errno == ENODEV || errno == ECONNABORTED) return;
  HF_LOG(kError, "block", "fuse_reply_failed export={} unique={:#x} error=\"{}\"", name_, unique,
         strerror(errno));
}

}  // namespace hf::fuse
