// Netlink answers of the kernel's nbd driver, malformed: decoded without reading outside.
#include <cstdint>

#include "block/nbd/kernel/netlink.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hf;
  using namespace hf::nbdk;
  const ByteSpan bytes{reinterpret_cast<const std::byte*>(data), size};
  Answer answer;
  if (parse_answer(bytes, 1, &answer)) {
    HF_ASSERT(answer.sys_errno >= 0);
    for (uint16_t type = 0; type < 16; ++type) {
      const auto found = find_attribute(answer.payload, type);
      if (found) HF_ASSERT(found->size() <= answer.payload.size());
    }
  }
  return 0;
}
