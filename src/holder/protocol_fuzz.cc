// Arbitrary bytes as a message to the holder. First byte: 1 gives the message a checksum that fits, so that
// the fuzzer gets behind it; second byte: how much shorter than a message it was received.
#include <algorithm>
#include <cstdint>
#include <cstring>

#include "holder/protocol.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hf;          // NOLINT: a fuzzer's main file
  using namespace hf::holder;  // NOLINT
  if (size < 2) return 0;
  Message m;
  std::memset(&m, 0, sizeof m);
  std::memcpy(&m, data + 2, std::min(size - 2, sizeof m));
  if (data[0] == 1) {
    m.version = kVersion;
    m.crc = message_crc(m);
  }
  for (const uint32_t magic : {kRequestMagic, kReplyMagic}) {
    if (!message_is_valid(m, sizeof m - data[1], magic)) continue;
    HF_ASSERT(data[1] == 0 && m.magic == magic && m.state_size <= kStateMax, "{}", m.state_size);
    const std::string name = message_name(m);
    HF_ASSERT(name.size() <= kNameMax, "{}", name.size());
    if (!name_is_valid(name)) continue;
    const Message again = make_message(magic, m.code, name, {m.state, m.state_size}, m.index);
    HF_ASSERT(message_is_valid(again, sizeof again, magic) && message_name(again) == name);
  }
  return 0;
}
