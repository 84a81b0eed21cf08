// Arbitrary text as a join token; first byte 'r': the bytes behind a head and checksum that are
// made to fit.
#include <cstdint>
#include <string>
#include <string_view>

#include "auth/token.h"
#include "base/assert.h"
#include "base/crc32c.h"

namespace {

using namespace hf;        // NOLINT: a fuzzer's main file
using namespace hf::auth;  // NOLINT

void check(std::string_view text) {
  const Result<JoinToken> token = decode_token(text);
  if (!token.ok()) {
    HF_ASSERT(
        token.code() == ErrorCode::kInvalidArgument || token.code() == ErrorCode::kNewerFormat,
        "{}", token.error().to_string());
    return;
  }
  const std::string again = encode_token(*token);
  const Result<JoinToken> twice = decode_token(again);
  HF_ASSERT(twice.ok() && encode_token(*twice) == again && twice->addresses == token->addresses);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (!text.starts_with("r")) {
    check(text);
    return 0;
  }
  std::string raw(text.substr(1));
  const uint32_t crc = crc32c_extend(1, as_bytes(raw));
  raw.append(reinterpret_cast<const char*>(&crc), sizeof crc);
  check("hf1." + to_base32(as_bytes(raw)));
  return 0;
}
