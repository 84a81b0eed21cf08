#include "block/fuse/fuse_request.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <optional>

#include "block/fuse/fuse_wire.h"

namespace hf::fuse {
namespace {

template <typename T>
std::optional<T> body_as(ByteSpan body) {
  if (body.size() < sizeof(T)) return std::nullopt;
  T value;
  std::memcpy(&value, body.data(), sizeof value);
  return value;
}

bool inside(uint64_t offset, uint64_t length, uint64_t size) {
  return offset <= size && length <= size - offset;
}

// Each of these fills its part of the request and returns the errno to refuse it with, or 0.

int decode_init(ByteSpan body, Request& r) {
  // Before 7.36 the message ended behind `flags`.
  constexpr size_t kOldSize = offsetof(fuse_init_in, flags2);
  if (body.size() < kOldSize) return EPROTO;
  fuse_init_in in{};
  std::memcpy(&in, body.data(), std::min(body.size(), sizeof in));
  if (in.major != FUSE_KERNEL_VERSION || in.minor < kMinorMin) return EPROTO;
  r.verb = Verb::kInit;
  r.minor = in.minor;
  r.flags = in.flags;
  if ((in.flags & FUSE_INIT_EXT) != 0 && body.size() >= kOldSize + sizeof in.flags2) {
    r.flags |= static_cast<uint64_t>(in.flags2) << 32;
  }
  return 0;
}

int decode_lookup(ByteSpan body, Request& r) {
  const auto* text = reinterpret_cast<const char*>(body.data());
  const size_t length = body.empty() ? 0 : strnlen(text, body.size());
  if (length == 0 || length == body.size()) return EINVAL;  // empty, or not ended by a zero
  if (length > NAME_MAX) return ENAMETOOLONG;
  if (r.node != kRootNode) return ENOTDIR;
  r.verb = Verb::kLookup;
  r.name = std::string_view(text, length);
  return 0;
}

int decode_read(ByteSpan body, uint64_t size, Request& r) {
  const auto in = body_as<fuse_read_in>(body);
  if (!in) return EINVAL;
  if (in->size > kMaxWrite) return EINVAL;
  r.offset = in->offset;
  r.length = in->size;
  if (r.opcode == FUSE_READDIR) {
    r.verb = Verb::kReadDir;
    return r.node == kRootNode ? 0 : ENOTDIR;
  }
  if (r.node != kDiskNode) return EISDIR;
  r.verb = Verb::kRead;
  // Behind the end a read is short, as of any file.
  if (r.offset >= size) {
    r.length = 0;
  } else if (r.length > size - r.offset) {
    r.length = size - r.offset;
  }
  return 0;
}

int decode_write(ByteSpan body, uint64_t size, Request& r) {
  const auto in = body_as<fuse_write_in>(body);
  if (!in) return EINVAL;
  if (r.node != kDiskNode) return EISDIR;
  if (in->size > kMaxWrite || body.size() - sizeof *in < in->size) return EINVAL;
  if (!inside(in->offset, in->size, size)) return ENOSPC;  // a disk does not grow by writing
  r.verb = Verb::kWrite;
  r.offset = in->offset;
  r.length = in->size;
  r.payload = body.subspan(sizeof *in, in->size);
  return 0;
}

int decode_fallocate(ByteSpan body, uint64_t size, Request& r) {
  const auto in = body_as<fuse_fallocate_in>(body);
  if (!in) return EINVAL;
  if (r.node != kDiskNode) return EISDIR;
  constexpr uint32_t kPunch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
  const uint32_t without_keep = in->mode & ~uint32_t{FALLOC_FL_KEEP_SIZE};
  if (in->mode != kPunch && without_keep != FALLOC_FL_ZERO_RANGE) return EOPNOTSUPP;
  if (!inside(in->offset, in->length, size)) return ENOSPC;
  r.verb = Verb::kFallocate;
  r.offset = in->offset;
  r.length = in->length;
  r.mode = in->mode;
  return 0;
}

int decode_lseek(ByteSpan body, uint64_t size, Request& r) {
  const auto in = body_as<fuse_lseek_in>(body);
  if (!in) return EINVAL;
  if (r.node != kDiskNode || (in->whence != SEEK_DATA && in->whence != SEEK_HOLE)) return EINVAL;
  if (in->offset >= size) return ENXIO;
  r.verb = Verb::kLseek;
  r.offset = in->offset;
  r.mode = in->whence;
  return 0;
}

int decode_body(ByteSpan body, uint64_t size, Request& r) {
  switch (r.opcode) {
    case FUSE_INIT:
      return decode_init(body, r);
    case FUSE_LOOKUP:
      return decode_lookup(body, r);
    case FUSE_READ:
    case FUSE_READDIR:
      return decode_read(body, size, r);
    case FUSE_WRITE:
      return decode_write(body, size, r);
    case FUSE_FALLOCATE:
      return decode_fallocate(body, size, r);
    case FUSE_LSEEK:
      return decode_lseek(body, size, r);
    case FUSE_GETATTR:
      r.verb = Verb::kGetAttr;
      break;
    case FUSE_SETATTR:
      r.verb = Verb::kSetAttr;
      break;
    case FUSE_OPEN:
      r.verb = Verb::kOpen;
      return r.node == kDiskNode ? 0 : EISDIR;
    case FUSE_RELEASE:
      r.verb = Verb::kRelease;
      break;
    case FUSE_OPENDIR:
      r.verb = Verb::kOpenDir;
      return r.node == kRootNode ? 0 : ENOTDIR;
    case FUSE_RELEASEDIR:
      r.verb = Verb::kReleaseDir;
      break;
    case FUSE_FSYNC:
      r.verb = Verb::kFsync;
      break;
    case FUSE_STATFS:
      r.verb = Verb::kStatFs;
      break;
    case FUSE_DESTROY:
      r.verb = Verb::kDestroy;
      break;
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET:
    case FUSE_INTERRUPT:
      r.verb = Verb::kNoReply;
      break;
    default:
      r.verb = Verb::kUnsupported;
      break;
  }
  return 0;
}

// Whether the verb says something about a node of ours.
bool has_node(Verb verb) {
  return verb == Verb::kGetAttr || verb == Verb::kSetAttr || verb == Verb::kRelease ||
         verb == Verb::kReleaseDir || verb == Verb::kFsync;
}

}  // namespace

Result<Request> decode_request(ByteSpan message, uint64_t size, Refusal* refusal) {
  *refusal = Refusal();
  const auto header = body_as<fuse_in_header>(message);
  if (!header) {
    return make_error(ErrorCode::kProtocol, "a FUSE message of {} bytes has no header",
                      message.size());
  }
  if (header->len != message.size()) {
    return make_error(ErrorCode::kProtocol, "a FUSE message of {} bytes says that it has {}",
                      message.size(), header->len);
  }
  Request request;
  request.opcode = header->opcode;
  request.unique = header->unique;
  request.node = header->nodeid;
  request.resent = (header->unique & kUniqueResend) != 0;
  int error = decode_body(message.subspan(sizeof *header), size, request);
  if (error == 0 && has_node(request.verb) && request.node != kRootNode &&
      request.node != kDiskNode) {
    error = ENOENT;
  }
  if (error != 0) {
    refusal->unique = header->unique;
    refusal->sys_errno = error;
  }
  return request;
}

}  // namespace hf::fuse
