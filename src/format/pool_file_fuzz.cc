// Arbitrary text as pool.json, as it is and with its checksum put right.
#include <string>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "format/pool_file.h"

namespace {

using namespace hf;  // NOLINT: a fuzzer's main file

void check(std::string_view text) {
  const Result<PoolFile> file = decode_pool_file(text);
  if (!file.ok()) {
    HF_ASSERT(file.code() == ErrorCode::kCorruption || file.code() == ErrorCode::kNewerFormat);
    return;
  }
  const Result<PoolFile> again = decode_pool_file(encode_pool_file(*file));
  HF_ASSERT(again.ok() && again->pool == file->pool && again->cluster == file->cluster &&
            again->node == file->node);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string text(reinterpret_cast<const char*>(data), size);
  check(text);
  constexpr std::string_view kPrefix = "crc32c:";
  const size_t at = text.find(kPrefix);
  if (at == std::string::npos || at + kPrefix.size() + 8 > text.size()) return 0;
  text.replace(at + kPrefix.size(), 8, "00000000");
  text.replace(at + kPrefix.size(), 8, fmt::format("{:08x}", crc32c(as_bytes(text))));
  check(text);
  return 0;
}
