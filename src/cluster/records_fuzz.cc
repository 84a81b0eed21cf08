// Arbitrary bytes as the records of the state store. First byte: the kind, then the record's text; 'r': the
// JSON behind a header that is made to fit, so that the fuzzer gets behind the checksum.
#include <cstdint>
#include <fmt/format.h>
#include <string>
#include <string_view>

#include "base/assert.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "cluster/records.h"

namespace {

using namespace hf;           // NOLINT: a fuzzer's main file
using namespace hf::cluster;  // NOLINT

template <typename Record>
void check(std::string_view text) {
  const Result<Record> record = decode_record<Record>("some/key", text);
  if (!record.ok()) {
    HF_ASSERT(record.code() == ErrorCode::kCorruption || record.code() == ErrorCode::kNewerFormat,
              "{}", record.error().to_string());
    HF_ASSERT(record.error().message().find("some/key") != std::string::npos, "{}",
              record.error().message());
    return;
  }
  const std::string again = encode_record(*record);
  const Result<Record> twice = decode_record<Record>("some/key", again);
  HF_ASSERT(twice.ok() && encode_record(*twice) == again, "{}", again);
}

template <typename Record>
void check_both(std::string_view text, bool framed) {
  if (!framed) return check<Record>(text);
  const std::string head = fmt::format("{} {}\n", Record::kKind, Record::kVersion);
  const std::string covered = head + std::string(text);
  const uint32_t crc = crc32c({reinterpret_cast<const std::byte*>(covered.data()), covered.size()});
  check<Record>(fmt::format("{} {} {:08x}\n{}", Record::kKind, Record::kVersion, crc, text));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  const bool framed = data[0] >= 'a';
  switch (data[0] % 7) {
    case 0: check_both<VolumeRecord>(text, framed); break;
    case 1: check_both<SnapshotRecord>(text, framed); break;
    case 2: check_both<AttachmentRecord>(text, framed); break;
    case 3: check_both<PoolRecord>(text, framed); break;
    case 5: check_both<ScrubRecord>(text, framed); break;
    case 4: check_both<NodeRecord>(text, framed); break;
    default: check_both<NameRecord>(text, framed); break;
  }
  return 0;
}
