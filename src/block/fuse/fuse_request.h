// One request of the kernel, decoded and checked: every length, node and range is tested here, so
// that what serves it need not. Pure; fuzzed (fuse_request_fuzz.cc).
#pragma once

#include <cstdint>
#include <string_view>

#include "base/bytes.h"
#include "base/error.h"

namespace hf::fuse {

enum class Verb : uint8_t {
  kInit,
  kLookup,
  kGetAttr,
  kSetAttr,
  kOpen,
  kRelease,
  kOpenDir,
  kReadDir,
  kReleaseDir,
  kRead,
  kWrite,
  kFsync,
  kFallocate,
  kLseek,
  kStatFs,
  kDestroy,
  kNoReply,      // FORGET, BATCH_FORGET, INTERRUPT: to be ignored
  kUnsupported,  // answered with ENOSYS, which the kernel remembers for most
};

struct Request {
  Verb verb = Verb::kUnsupported;
  uint32_t opcode = 0;
  uint64_t unique = 0;
  uint64_t node = 0;
  bool resent = false;    // a server before us had read it
  uint64_t offset = 0;    // read, write, fallocate, lseek, readdir
  uint64_t length = 0;    // read, write, fallocate, readdir
  uint32_t mode = 0;      // fallocate; lseek: whence
  uint32_t minor = 0;     // init
  uint64_t flags = 0;     // init
  ByteSpan payload;       // write; points into the message
  std::string_view name;  // lookup; points into the message
};

// An answer to give at once, without looking further.
struct Refusal {
  uint64_t unique = 0;
  int sys_errno = 0;
};

// kProtocol when the message is so broken that it cannot even be answered. A message that can, but
// asks for what is malformed or out of bounds, sets `*refusal` (sys_errno != 0) and its Request
// must not be served. `size` is of the disk, in bytes.
Result<Request> decode_request(ByteSpan message, uint64_t size, Refusal* refusal);

}  // namespace hf::fuse
