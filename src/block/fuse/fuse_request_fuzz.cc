// Bytes as the kernel might send them, were it broken or malicious: nothing decoded may point
// outside the message or the disk.
#include <cstdint>

#include "block/fuse/fuse_request.h"
#include "block/fuse/fuse_wire.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hf;
  using namespace hf::fuse;
  constexpr uint64_t kDisk = 1 * kGiB;
  const ByteSpan message{reinterpret_cast<const std::byte*>(data), size};
  Refusal refusal;
  const Result<Request> request = decode_request(message, kDisk, &refusal);
  if (!request.ok() || refusal.sys_errno != 0) return 0;
  const Request& r = *request;
  const auto inside = [&](const void* at, size_t length) {
    const auto* p = static_cast<const uint8_t*>(at);
    return length == 0 || (p >= data && length <= size && p + length <= data + size);
  };
  HF_ASSERT(inside(r.payload.data(), r.payload.size()));
  HF_ASSERT(inside(r.name.data(), r.name.size()));
  switch (r.verb) {
    case Verb::kRead:
      HF_ASSERT(r.length <= kMaxWrite && (r.length == 0 || r.offset + r.length <= kDisk));
      break;
    case Verb::kWrite:
      HF_ASSERT(r.length == r.payload.size() && r.length <= kMaxWrite &&
                r.offset + r.length <= kDisk);
      break;
    case Verb::kFallocate:
      HF_ASSERT(r.offset + r.length <= kDisk && r.offset <= kDisk);
      break;
    case Verb::kLseek:
      HF_ASSERT(r.offset < kDisk);
      break;
    case Verb::kReadDir:
      HF_ASSERT(r.length <= kMaxWrite);
      break;
    default:
      break;
  }
  return 0;
}
