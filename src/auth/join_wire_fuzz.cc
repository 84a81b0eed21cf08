// Arbitrary bytes as messages of joining. First byte: 'a' ask, 'b' answer, head included; 'A', 'B':
// the body alone, under a head that is made to fit.
#include <cstdint>
#include <string>

#include "auth/join_wire.h"
#include "base/assert.h"
#include "base/crc32c.h"

namespace {

using namespace hf;        // NOLINT: a fuzzer's main file
using namespace hf::auth;  // NOLINT

template <typename Message>
void check(const JoinHead& head, ByteSpan body,
           Result<Message> (*decode)(const JoinHead&, ByteSpan),
           std::string (*encode)(const Message&)) {
  const Result<Message> message = decode(head, body);
  if (!message.ok()) {
    HF_ASSERT(message.code() == ErrorCode::kProtocol, "{}", message.error().to_string());
    return;
  }
  const std::string again = encode(*message);
  const ByteSpan bytes = as_bytes(again).subspan(kJoinHeadBytes);
  JoinHead new_head;
  new_head.length = static_cast<uint32_t>(bytes.size());
  new_head.crc = crc32c(bytes);
  const Result<Message> twice = decode(new_head, bytes);
  HF_ASSERT(twice.ok() && encode(*twice) == again);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const ByteSpan rest(reinterpret_cast<const std::byte*>(data) + 1, size - 1);
  const bool ask = data[0] == 'a' || data[0] == 'A', framed = data[0] == 'A' || data[0] == 'B';
  JoinHead head;
  ByteSpan body = rest;
  if (framed) {
    head.length = static_cast<uint32_t>(rest.size());
    head.crc = crc32c(rest);
  } else {
    if (rest.size() < kJoinHeadBytes) return 0;
    const Result<JoinHead> read = decode_join_head(rest.first(kJoinHeadBytes),
                                                   ask ? JoinMessage::kAsk : JoinMessage::kAnswer);
    if (!read.ok()) return 0;
    head = *read;
    body = rest.subspan(kJoinHeadBytes);
  }
  if (ask) {
    check<JoinAsk>(head, body, decode_ask, encode_ask);
  } else {
    check<JoinAnswer>(head, body, decode_answer, encode_answer);
  }
  return 0;
}
